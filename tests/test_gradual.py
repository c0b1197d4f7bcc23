"""Gradual pruning: the schedule by hand, exact counts, what is held between cuts, and its arms."""

import itertools
from dataclasses import replace

import pytest
import torch
from tests.test_experiment import timeless

from tombola.evidence.ledger import to_reach
from tombola.experiments.experiment import run
from tombola.experiments.plans import make_task
from tombola.folder.runs import Run
from tombola.ground.errors import ConfigError
from tombola.ground.settings import Training
from tombola.masks.masks import count, ones, size
from tombola.masks.schedules import Gradual, PruningSchedule, densities
from tombola.masks.scopes import by_name
from tombola.models.flops import Flops
from tombola.records.records import costs_of
from tombola.reports import aggregate
from tombola.schema.recipe import parse
from tombola.scores.context import Context
from tombola.training.gradual import Pruner
from tombola.training.jobs import Job, Trained, run_job


# By hand: from sparsity 0 to 0.9 in four steps of 25: 1 - (1 - i / 4)^3 is 0, 37/64, 56/64, 63/64,
# 1.
def test_the_cubic_schedule_by_hand():
    found = densities(Gradual(0.1, PruningSchedule(begin=0.1, end=0.6, every=25)), 200)
    assert list(found) == [20, 45, 70, 95, 120]
    expected = [1, 1 - 0.9 * 37 / 64, 1 - 0.9 * 56 / 64, 1 - 0.9 * 63 / 64, 0.1]
    assert list(found.values()) == pytest.approx(expected)


def test_the_schedule_begins_where_it_is_told_and_falls_all_the_way():
    found = list(densities(Gradual(0.05, PruningSchedule(every=7, initial=0.6)), 500).values())
    assert found[0] == pytest.approx(0.6)
    assert found[-1] == pytest.approx(0.05)
    assert all(one > other for one, other in itertools.pairwise(found))


@pytest.mark.parametrize(
    ("gradual", "message"),
    [
        (
            Gradual(0.1, PruningSchedule(every=100)),
            "pace.every is 100, and there are 75 steps to prune in, from 0 to 75 of 100",
        ),
        (
            Gradual(0.5, PruningSchedule(every=10, initial=0.4)),
            "the density 0.5 is not below pace.initial, which is 0.4",
        ),
    ],
)
def test_a_schedule_that_cannot_be_is_told(gradual, message):
    with pytest.raises(ConfigError) as caught:
        densities(gradual, 100)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("pace", "message"),
    [
        ({"begin": 0.5, "end": 0.5}, "pace goes from 0.5 to 0.5"),
        ({"end": 1.5}, "pace goes from 0 to 1.5"),
        ({"every": 0}, "pace.every is 0"),
        ({"initial": 0.0}, "pace.initial is 0"),
    ],
)
def test_a_pace_that_cannot_be_is_told(pace, message):
    with pytest.raises(ConfigError) as caught:
        PruningSchedule(**pace)
    assert message in str(caught.value)


def recipe(**changes):
    whole = {
        "name": "gradual", "data": "digits", "model": {"name": "mlp", "hidden": [30, 20]},
        "training": {"lr": 0.05, "momentum": 0.9, "epochs": 4, "batch_size": 64}, "device": "cpu", "replicates": 2,
        "arms": {
            "gradual": {"method": "gradual", "densities": [0.5, 0.2], "pace": {"every": 10}, "scope": "per_layer"},
            "as-trained": {"method": "as_trained", "source": "gradual"},
            "reinitialised": {"method": "reinitialised", "source": "gradual"},
        },
    }  # fmt: skip
    return parse(whole | changes)


@pytest.fixture(scope="module")
def job_and_task():
    task = make_task(recipe(), None)
    training = Training(lr=0.05, momentum=0.9, epochs=4, batch_size=64)
    pace = Gradual(0.2, PruningSchedule(every=10), scope="per_layer")
    return Job(
        task.initial_state(), ones(task.model, head=task.head), training, seed=0, during=pace
    ), task


@pytest.fixture(scope="module")
def trained(job_and_task):
    return run_job(*job_and_task)


def test_every_layer_ends_with_exactly_its_share(trained, job_and_task):
    job, _ = job_and_task
    assert {name: int(keep.sum()) for name, keep in trained.mask.items()} == {
        name: round(0.2 * keep.numel()) for name, keep in job.mask.items()
    }
    for name, keep in trained.mask.items():
        assert torch.equal(trained.final[name] != 0, keep)  # what is kept has been trained


def test_cuts_are_where_the_schedule_has_them_and_only_take_away(trained, job_and_task):
    job, _ = job_and_task
    asked = densities(job.during, trained.steps)
    assert [step for step, _ in trained.cuts] == list(asked)
    for (_, kept), density in zip(trained.cuts, asked.values(), strict=True):
        assert kept == {name: round(density * keep.numel()) for name, keep in job.mask.items()}


def test_the_best_state_is_one_of_the_final_density(job_and_task):
    job, task = job_and_task
    trained = run_job(job, task)
    assert trained.early_step > max(step for step, _ in trained.cuts) - 1
    for name, keep in trained.mask.items():
        assert not trained.early[name][~keep].any()


def test_a_better_state_with_more_weights_does_not_count(job_and_task):
    job, task = job_and_task
    steep = Gradual(0.02, PruningSchedule(every=10, end=1.0), scope="per_layer")
    sparse = replace(job, during=steep, training=replace(job.training, evaluate_every=7))
    trained = run_job(sparse, task)
    last = trained.cuts[-1][0]
    losses = {entry["step"]: entry["valid_loss"] for entry in trained.history}
    assert min(losses, key=losses.get) < last  # it was better before so much was taken away
    assert trained.early_step >= last
    assert trained.early_step == min((step for step in losses if step >= last), key=losses.get)
    assert all(not trained.early[name][~keep].any() for name, keep in trained.mask.items())


def test_the_accuracy_is_looked_at_before_and_after_a_cut_that_falls_on_a_look(job_and_task):
    job, task = job_and_task
    both = run_job(replace(job, training=replace(job.training, evaluate_every=10)), task)
    twice = [entry["step"] for entry in both.history]
    assert [step for step in twice if twice.count(step) == 2] == [
        step for step, _ in both.cuts if step for _ in range(2)
    ]


def test_a_second_implementation_prunes_the_same(job_and_task, trained):
    """The same training by hand: torch's own modules and optimiser, the schedule, and a sort."""
    job, task = job_and_task
    model = task.build(job.start, job.part, job.seed)
    batches = task.batches(job.part, 64, job.seed)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, 0.9)
    keep = {
        name: torch.ones_like(value) for name, value in model.named_parameters() if name in job.mask
    }
    asked = densities(job.during, trained.steps)
    number = 0
    for epoch in range(4):
        for batch in batches.epoch(epoch):
            if number in asked:
                for name, value in model.named_parameters():
                    if name in keep:
                        flat = (value.detach().abs() * keep[name]).flatten()
                        left = torch.sort(flat, descending=True, stable=True).indices[
                            : round(asked[number] * len(flat))
                        ]
                        keep[name] = torch.zeros(len(flat)).index_fill(0, left, 1.0).view_as(value)
            with torch.no_grad():
                for name, value in model.named_parameters():
                    value.mul_(keep.get(name, 1.0))
            optimizer.zero_grad()
            task.loss(model, batch).backward()
            optimizer.step()
            number += 1
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.mul_(keep.get(name, 1.0))
    for name, value in model.named_parameters():
        assert torch.allclose(value, trained.final[name], atol=1e-5), name
    assert all(torch.equal(keep[name].bool(), trained.mask[name]) for name in keep)


def test_a_pruner_that_begins_late_cuts_what_is_due_at_once(job_and_task):
    job, task = job_and_task
    pruner = Pruner(
        job.during,
        task.model,
        task.head,
        job.mask,
        steps=60,
        first=25,
        context=Context(job.start, 0),
    )
    assert pruner.due(25)
    assert not pruner.due(20)
    asked = densities(job.during, 60)
    kept = pruner.cut(25, job.start)
    assert count(kept) == sum(round(asked[20] * keep.numel()) for keep in job.mask.values())


def test_jobs_without_it_keep_their_digests(job_and_task):
    job, _ = job_and_task
    plain = replace(job, during=None)
    assert plain.digest("task") != job.digest("task")
    assert "gradual" not in str(plain.digest("task"))


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return run(recipe(), runs=tmp_path_factory.mktemp("gradual"), workers=1)


def test_its_arms_are_the_ticket_the_network_itself_and_another_start(outcome):
    assert outcome.complete
    of = {(r["arm"], r["replicate"], r["round"]): r for r in outcome.records}
    for k in range(2):
        for index, density in ((1, 0.5), (2, 0.2)):
            three = [of[arm, k, index] for arm in ("gradual", "as-trained", "reinitialised")]
            assert len({record["mask_digest"] for record in three}) == 1
            assert three[0]["density"] == pytest.approx(density, abs=1e-3)
            assert len({record["training_digest"] for record in three}) == 3
            assert len({record["test_accuracy"] for record in three}) == 3
            # The network that is pruned is trained once, for the ticket and for itself.
            searched = [cost.training for cost in costs_of(three[0]) if cost.role == "search"]
            assert three[1]["training_digest"] in searched


def test_a_ticket_costs_its_own_training_alone(outcome):
    of = {(r["arm"], r["replicate"], r["round"]): r for r in outcome.records}
    dense = of["gradual", 0, 0]["samples_seen"]
    for index in (1, 2):
        assert of["gradual", 0, index]["samples_seen_search"] == dense
        assert of["gradual", 0, index]["samples_seen"] == 2 * dense
        assert of["as-trained", 0, index]["samples_seen"] == dense
    found = {
        (one.arm, one.density): one
        for density in (0.5, 0.2)
        for one in to_reach(outcome.records, density)
    }
    assert [found["gradual", density].search for density in (0.5, 0.2)] == [1, 1]
    assert [found["gradual", density].this_ticket for density in (0.5, 0.2)] == [2, 2]


def test_the_report_charges_controls_for_each_density_by_itself_too_and_has_no_rate_per_round(
    outcome,
):
    rows = aggregate.by_target(outcome.records, (0.5, 0.2), outcome.asked.made_of)
    trainings = {arm: [] for arm in aggregate.arms(outcome.records)}
    for row in rows:
        trainings[row.arm].append(row.trainings)
    assert trainings == {"gradual": [2, 2], "as-trained": [1, 1], "reinitialised": [2, 2]}
    assert aggregate.kept_per_round(outcome.records, outcome.asked.made_of) == {}
    assert "kept per round" not in (outcome.folder / "summary.md").read_text()


def test_dense_as_long_as_gradual_pruning_trains_twice_as_long(tmp_path):
    arms = {"gradual": {"method": "gradual", "densities": [0.5, 0.2], "pace": {"every": 10}},
            "dense-long": {"method": "dense", "as_long_as": "gradual"}}  # fmt: skip
    records = run(recipe(arms=arms, replicates=1), runs=tmp_path, workers=1).records
    long = [r for r in records if r["arm"] == "dense-long"]
    assert long[1]["samples_seen"] == 2 * long[0]["samples_seen"]


def test_what_its_training_costs_sparse_lies_between_its_densities(outcome):
    [record] = [
        r for r in outcome.records if (r["arm"], r["replicate"], r["round"]) == ("as-trained", 0, 2)
    ]
    [cost] = costs_of(record)
    assert 0.2 < cost.flops_sparse / cost.flops < 0.9
    plain = [
        r for r in outcome.records if (r["arm"], r["replicate"], r["round"]) == ("gradual", 0, 2)
    ]
    [ticket] = [cost for cost in costs_of(plain[0]) if cost.role == "evaluation"]
    assert ticket.flops_sparse < cost.flops_sparse


# By hand: 10 steps with all 4 weights, 20 with 2, 10 with 1: (10 * 24 + 20 * 12 + 10 * 6) / 40 =
# 13.5 an example.
def test_sparse_flops_are_added_up_cut_by_cut():
    from tombola.experiments.accounts import _sparse_flops

    mask = {"0.weight": torch.ones(2, 2, dtype=torch.bool)}
    trained = Trained(
        {},
        None,
        None,
        "last",
        [],
        400,
        1.0,
        steps=40,
        cuts=[(10, {"0.weight": 2}), (30, {"0.weight": 1})],
    )
    job = Job({}, mask, Training(epochs=1), 0)
    assert _sparse_flops({"0": Flops(8, 16)}, job, trained) == 400 * 13.5


def test_a_run_that_goes_on_has_the_records_of_one_that_went_through(tmp_path):
    one = recipe(
        arms={"gradual": {"method": "gradual", "densities": [0.5], "pace": {"every": 10}}},
        replicates=1,
    )
    run(one, runs=tmp_path, workers=1)
    arms = {"gradual": {"method": "gradual", "densities": [0.5], "pace": {"every": 10}},
            "as-trained": {"method": "as_trained", "source": "gradual"}}  # fmt: skip
    more = run(recipe(arms=arms, replicates=1), runs=tmp_path, workers=1)
    whole = run(recipe(arms=arms, replicates=1), runs=tmp_path / "whole", workers=1)
    assert timeless(more.records) == timeless(whole.records)
    assert Run(more.folder).finished("as-trained", 0)


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"method": "gradual"}, "arms.x needs densities"),
        (
            {"method": "gradual", "densities": [0.5], "rate": 0.2},
            "arms.x.rate has no meaning with method: gradual",
        ),
        (
            {"method": "gradual", "densities": [0.5], "pace": {"every": 1000}},
            "arm 'x': pace.every is 1000",
        ),
        (
            {
                "method": "gradual",
                "densities": [0.5],
                "pace": {"every": 10},
                "scope": "half_output",
            },
            "half_output",
        ),
        ({"method": "as_trained", "source": "lth"}, "as_trained needs an arm with method: gradual"),
    ],
)
def test_arms_that_cannot_be_are_told_in_one_line(arm, message, tmp_path):
    lth = {"method": "lth", "densities": [0.5]}
    with pytest.raises(ConfigError) as caught:
        run(recipe(arms={"x": arm, "lth": lth}), runs=tmp_path, workers=1)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_scopes_have_the_names_of_recipes():
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
    mask = ones(model, "all", head="1")
    assert list(by_name("per_layer", model)(mask)) == ["0.weight", "1.weight"]
    assert list(by_name("whole_model", model)(mask)) == ["model"]
    assert list(by_name("per_kind", model)(mask)) == ["linear"]
    assert by_name("half_output", model, "1")(mask)["1.weight"].factor == 0.5
    assert size(mask) == 18
