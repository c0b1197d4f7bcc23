"""Connectivity: lines known by hand, their laws, and the arm that trains another arm's tickets
once more.
"""

import copy
import functools
import math
import random
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.test_arms import go, kept
from tests.test_decisions import record
from tests.test_executors import TASK, equal, job, make_task
from tests.test_experiment import timeless
from torch import nn

from tombola import Classification
from tombola.data.dataset import from_tensors
from tombola.data.partitions import WHOLE
from tombola.data.splits import split
from tombola.evidence.ledger import to_reach
from tombola.executors import Pool
from tombola.experiments.driver import ArmRun
from tombola.experiments.experiment import foresee, plan
from tombola.experiments.reporting import asked
from tombola.folder.run_folder import RunFolder
from tombola.folder.runs import Run
from tombola.ground import seeds
from tombola.ground.errors import ConfigError, TrainingError
from tombola.ground.metrics import Metric
from tombola.ground.settings import Training
from tombola.masks.masks import ones
from tombola.records.records import costs_of
from tombola.records.storage import Store
from tombola.reports import aggregate, decisions, figures, page, table
from tombola.reports.decisions import STABLE, Asked
from tombola.reports.section import OneRun
from tombola.reports.sections._stability import Stability
from tombola.schema.recipe import parse
from tombola.search import connectivity
from tombola.search.connectivity import POINTS, Line, between, connect
from tombola.search.work import Connect
from tombola.training.jobs import Job, Trained, first_batches, measure, run_job
from tombola.training.statistics import learn_statistics_

PATIENCE = 600  # seconds: worker processes take long to start on a busy machine

# ---- by hand

EYE, SWAPPED = torch.eye(2), torch.eye(2).flip(0)


def trained(state) -> Trained:
    return Trained(state, None, None, "last", [], 0, 0.0)


@pytest.fixture(scope="module")
def by_hand():
    """Two pictures of two pixels, one of each class, and two hidden units that may change
    places.
    """
    images, labels = torch.eye(2).view(2, 1, 1, 2), torch.tensor([0, 1])
    layers = [nn.Linear(2, 2, bias=False) for _ in range(2)]
    model = nn.Sequential(nn.Flatten(), layers[0], nn.ReLU(), layers[1])
    return Classification(
        model, split(from_tensors(images, labels, images, labels, 2), valid=0), head="3"
    )


def of(task, *weights):
    return trained(dict(zip(("1.weight", "3.weight"), weights, strict=True))), Job(
        task.initial_state(), ones(task.model, "all"), Training(epochs=1), seed=0
    )


# Pixels are 1 and -1 once they are normalised. At a, the hidden unit of the picture's class has 1 -
# 2a and the outputs differ by (1 - 2a)^2, up to the middle, where both are alike and the first
# class is taken.
def test_two_networks_whose_hidden_units_have_changed_places_have_a_barrier_in_the_middle(by_hand):
    one, each = of(by_hand, EYE, EYE)
    other, _ = of(by_hand, SWAPPED, SWAPPED)
    line = connect(each, one, other, by_hand)
    assert line.at == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert line.headline == [1.0] * 5 + [0.5] + [1.0] * 5
    assert line.loss == pytest.approx(
        [math.log(1 + math.exp(-((1 - 2 * a) ** 2))) for a in line.at], abs=1e-6
    )
    assert line.barrier == 0.5


def test_the_barrier_is_above_the_mean_of_both_ends(by_hand):
    one, each = of(by_hand, EYE, EYE)
    other, _ = of(by_hand, EYE, SWAPPED)  # wrong everywhere
    line = connect(each, one, other, by_hand, points=3)
    assert line.headline == [1.0, 0.5, 0.0]
    assert line.barrier == 0.5  # the end itself is the highest
    assert Line([0.0, 1.0], [0.75, 0.25], [0.0, 0.0]).barrier == 0.25
    assert Line([0.0, 0.5, 1.0], [0.75, 0.875, 0.75], [0.0] * 3).barrier == 0.0
    perplexity = Metric("perplexity", fraction=False, higher=False)
    assert Line([0.0, 0.5, 1.0], [10.0, 14.0, 12.0], [0.0] * 3, perplexity).barrier == 3.0
    assert Line([0.0, 0.5, 1.0], [12.0, 10.0, 12.0], [0.0] * 3, perplexity).barrier == 0.0


def test_a_loss_that_is_no_number_is_told_with_its_place(by_hand):
    one, each = of(by_hand, EYE, EYE)
    other, _ = of(by_hand, EYE * 1e38, EYE * 1e38)
    with pytest.raises(
        TrainingError, match=r"the test loss is (nan|inf) at 0.5 of the line between two trainings"
    ):
        connect(each, one, other, by_hand, points=3)


def test_a_line_has_the_bits_of_its_ends_and_keeps_what_is_equal_in_both():
    draw = torch.Generator().manual_seed(0)
    one, other = (
        {"w": torch.randn(1000, generator=draw), "n": torch.tensor(3 + i)} for i in range(2)
    )
    one["w"][::3] = other["w"][::3] = 0.0
    assert equal(between(one, other, 0.0), one)
    assert torch.equal(between(one, other, 1.0)["w"], other["w"])
    for index in range(POINTS):
        middle = between(one, other, index / (POINTS - 1))
        assert not middle["w"][::3].any()
        assert middle["n"] == 3
        assert equal(between(one, one, index / (POINTS - 1)), one)


# ---- with batch norm and dropout


def small_network(dropout=0.2):
    model = copy.deepcopy(TASK.model)
    model.dropout.p = dropout
    return model


@pytest.fixture(scope="module")
def pair():
    """Two trainings of a network with batch norm and dropout, in two orders."""
    jobs = job(epochs=3), job(seed=1, epochs=3)
    return jobs, [run_job(each, TASK) for each in jobs]


def test_the_ends_are_the_networks_as_they_were_tested(pair):
    (one, other), ends = pair
    line = connect(one, *ends, TASK)
    for each, end, place in ((one, ends[0], 0), (other, ends[1], -1)):
        test = measure(each, end, TASK).test
        assert (line.headline[place], line.loss[place]) == (test.values["accuracy"], test.loss)


def test_between_the_ends_batch_norm_has_the_statistics_of_the_network_there(pair):
    (one, _), ends = pair
    seen = {}
    honest = TASK.measure

    class Looking(Classification):
        def measure(self, model, part, which):
            seen[len(seen)] = model.state_dict()
            return honest(model, part, which)

    connect(one, *ends, Looking(TASK.model, TASK.splits, TASK.head), points=3)
    # By hand: what the norm gets of each training batch, its mean and variance, and the mean of
    # these.
    middle = between(ends[0].state, ends[1].state, 0.5)
    conv = nn.Conv2d(1, 4, 3, padding=1)
    conv.load_state_dict({"weight": middle["conv.weight"], "bias": middle["conv.bias"]})
    with torch.no_grad():
        given = [conv(images) for images, _ in TASK.batches(one.part, 16, one.seed).epoch(0)]
    means = torch.stack([each.mean((0, 2, 3)) for each in given]).mean(0)
    variances = torch.stack([each.transpose(0, 1).flatten(1).var(1) for each in given]).mean(0)
    assert torch.allclose(seen[1]["norm.running_mean"], means, atol=1e-6)
    assert torch.allclose(seen[1]["norm.running_var"], variances, atol=1e-6)
    assert not torch.allclose(seen[1]["norm.running_var"], middle["norm.running_var"], rtol=0.01)
    for place, end in ((0, ends[0]), (2, ends[1])):
        assert torch.equal(seen[place]["norm.running_mean"], end.state["norm.running_mean"])


def test_no_more_training_examples_are_looked_at_than_statistics_need(pair, monkeypatch):
    (one, _), ends = pair
    seen = []

    class Looking(Classification):
        def loss(self, model, batch):
            seen.append(len(batch[1]))
            return super().loss(model, batch)

    task = Looking(TASK.model, TASK.splits, TASK.head)
    for most, batches in ((connectivity.EXAMPLES, [16, 16, 16]), (20, [16, 16])):
        monkeypatch.setattr(connectivity, "EXAMPLES", most)
        seen.clear()
        connect(one, *ends, task, points=3)
        assert seen == batches


def test_a_line_is_the_same_again_and_leaves_the_random_state_alone(pair):
    (one, _), ends = pair
    before = torch.get_rng_state()
    assert connect(one, *ends, TASK) == connect(one, *ends, TASK)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_drawn_on_a_line_hangs_on_the_job_and_not_on_what_was_drawn_before():
    """Dropout while batch norm learns its statistics anew, and what a model draws while it is
    tested.
    """

    class Drawing(nn.Module):
        def forward(self, images):
            # In both modes, and before batch norm, whose statistics then hang on it.
            return nn.functional.dropout(
                images * np.random.uniform(0.5, 1) * random.uniform(0.5, 1), 0.2
            )

    model = nn.Sequential(Drawing(), *small_network(dropout=0.5))
    task = Classification(model, TASK.splits, "6")
    jobs = [replace(job(seed=seed), start=task.initial_state(), mask={}) for seed in (0, 1)]
    ends = [run_job(each, task) for each in jobs]
    lines, seen = [], []

    class Looking(Classification):
        def measure(self, model, part, which):
            seen.append(model[2].running_mean.clone())
            return task.measure(model, part, which)

    for seed in (3, 4):
        torch.manual_seed(seed)
        seeds.reseed_python(seed)
        before = random.getstate(), np.random.get_state()[1].tolist()
        lines.append(connect(jobs[0], *ends, Looking(model, TASK.splits, "6"), points=3))
        assert before == (random.getstate(), np.random.get_state()[1].tolist())
    assert lines[0] == lines[1]
    assert lines[0].loss[0] == measure(jobs[0], ends[0], task).test.loss
    middle = task.build(between(ends[0].state, ends[1].state, 0.5), jobs[0].part, 0)
    with seeds.seeded(jobs[0].seed, "line"):
        learn_statistics_(middle, task.loss, first_batches(jobs[0], task, connectivity.EXAMPLES))
    assert torch.allclose(middle[2].running_mean, seen[1], atol=1e-6)


def test_a_batch_norm_that_is_frozen_keeps_its_statistics_on_a_line():
    model = small_network()
    model.norm.eval()
    model.norm.running_mean.fill_(0.2)
    task = Classification(model, TASK.splits, TASK.head)
    jobs = [replace(job(seed=seed), start=task.initial_state()) for seed in (0, 1)]
    ends = [run_job(each, task) for each in jobs]
    assert torch.equal(ends[0].final["norm.running_mean"], model.norm.running_mean)
    seen = []

    class Looking(Classification):
        def measure(self, model, part, which):
            seen.append(model.norm.running_mean.clone())
            return task.measure(model, part, which)

    connect(jobs[0], *ends, Looking(model, TASK.splits, TASK.head), points=3)
    assert all(torch.equal(mean, model.norm.running_mean) for mean in seen)


def test_one_and_two_workers_give_the_same_line(pair, tmp_path):
    jobs, ends = pair
    for workers in (1, 2):
        pool = Pool(TASK, tmp_path / str(workers), workers=workers, make_task=make_task)
        one, other, line = pool.connect(*jobs).result(PATIENCE)
        pool.close()
        assert line == connect(jobs[0], *ends, TASK)
        assert equal(one.final, ends[0].final)
        assert equal(other.final, ends[1].final)


def test_a_line_that_is_in_the_store_is_not_measured_again(pair, tmp_path, monkeypatch):
    jobs, _ = pair
    make = functools.partial(Pool, TASK, tmp_path, workers=1, make_task=make_task)
    pool = make()
    first = pool.connect(*jobs).result(PATIENCE)[2]
    pool.close()
    monkeypatch.setattr("tombola.search.work.connect", None)
    again = make()
    assert again.connect(*jobs).result(PATIENCE)[2] == first
    again.close()


def test_a_line_comes_back_bit_for_bit_and_goes_when_trainings_go(tmp_path):
    store, line = (
        Store(tmp_path / "s"),
        Line([0.0, 1 / 3, 1.0], [0.1 + 0.2, 1 / 3, 1.0], [1e-300, 2.0, 0.1]),
    )
    store.keep(Connect, "ab", line)
    assert store.read(Connect, "ab") == line
    assert store.read(Connect, "cd") is None
    store.keep_only(())
    assert store.read(Connect, "ab") is None


# ---- the arm

ARMS = {"lth": {"method": "lth", "rate": 0.4}, "again": {"method": "reordered", "source": "lth"}}


def recipe(arms=ARMS, **changes):
    whole = {
        "name": "line", "data": {"name": "digits", "subset": 400}, "model": {"name": "mlp", "hidden": [20]},
        "training": {"lr": 0.1, "momentum": 0.9, "epochs": 2, "batch_size": 32}, "until": {"rounds": 3},
        "device": "cpu", "arms": arms,
    }  # fmt: skip
    return parse(whole | changes)


STEPS = 26  # of one training: 400 examples in batches of 32, twice


@pytest.fixture(scope="module", params=[0, 9], ids=["from the start", "from step 9"])
def done(request, tmp_path_factory):
    return go(tmp_path_factory.mktemp("line"), recipe(rewind=request.param, keep="all"))


def test_the_line_goes_from_the_sources_result_to_its_own(done):
    for index in range(1, 4):
        source, own = done.record("lth", index), done.record("again", index)
        assert own["mask_digest"] == source["mask_digest"]
        assert own["rewind_digest"] == source["rewind_digest"]
        assert own["training_digest"] != source["training_digest"]
        assert own["line"]["at"] == [place / (POINTS - 1) for place in range(POINTS)]
        for key in ("accuracy", "loss"):
            assert own["line"][key][0] == source[f"test_{key}"]
            assert own["line"][key][-1] == own[f"test_{key}"]
        assert own["barrier"] == Line(*own["line"].values()).barrier >= 0
    assert "line" not in done.record("lth", 1)


def test_round_0_is_the_dense_network_with_the_line_from_where_tickets_start(done):
    source, own = done.record("lth", 0), done.record("again", 0)
    assert own["training_digest"] == source["training_digest"]
    jobs = {each.digest(dense_task().digest): each for each in done.jobs}
    first = Run(done.folder).recipe.rewind
    roles = [cost for cost in costs_of(own) if cost.role == "evaluation"]
    assert roles[0].training == source["training_digest"]
    one, other = (jobs[cost.training] for cost in roles[-2:])
    assert (one.first, other.first) == (first, first)
    assert (one.start_digest, one.mask_digest) == (other.start_digest, other.mask_digest)
    assert one.seed != other.seed
    # From the very start, the first end is the dense network itself; else it is the search's own
    # first training.
    assert (own["line"]["accuracy"][0] == source["test_accuracy"]) or first
    searched = {cost.training for cost in costs_of(done.record("lth", 1 if first else 0))}
    assert one.digest(dense_task().digest) in searched


@functools.cache
def dense_task():
    from tombola.experiments.plans import make_task

    return make_task(recipe(), None)


def test_a_line_costs_both_of_its_trainings(done):
    first = Run(done.folder).recipe.rewind
    one = done.record("lth", 0)["samples_seen"]
    rest = one - 32 * first
    assert done.record("again", 0)["samples_seen"] == one + rest * (2 if first else 1)
    for index in (1, 2, 3):
        own = [cost for cost in costs_of(done.record("again", index)) if cost.role == "evaluation"]
        assert [cost.samples for cost in own] == [rest, rest]
        assert own[1].training == done.record("lth", index)["training_digest"]
    [found] = [each for each in to_reach(done.outcome.records, 0.4) if each.arm == "again"]
    # two for the search of its source
    assert found.this_ticket == pytest.approx((4 * rest + 32 * first) / one)


def test_the_trainings_told_are_those_that_are_done(done):
    assert (
        done.told.trainings
        == len(done.jobs)
        == len({each.digest(dense_task().digest) for each in done.jobs})
    )
    steps = sum((each.last or STEPS) - each.first for each in done.jobs)
    assert done.told.steps == pytest.approx(steps, rel=0.01)


def test_a_run_that_goes_on_has_the_records_of_one_that_went_through(done, tmp_path):
    made = Run(done.folder).recipe
    go(tmp_path, replace(made, arms={"lth": made.arms["lth"]}))
    go(tmp_path, replace(made, until=replace(made.until, rounds=2)))
    went = go(tmp_path, made)
    assert timeless(went.outcome.records) == timeless(done.outcome.records)
    assert Run(went.folder).finished("again", 0)
    assert kept(went) == {r["training_digest"] for r in done.outcome.records if r["evaluated"]}
    assert go(tmp_path, made).jobs == []


def test_a_run_stopped_between_a_training_and_its_line_does_no_training_again(
    done, tmp_path, monkeypatch
):
    made, honest, lines = Run(done.folder).recipe, connect, []

    def stops(*rest):
        if len(lines) == 2:
            raise KeyboardInterrupt
        lines.append(honest(*rest))
        return lines[-1]

    monkeypatch.setattr("tombola.search.work.connect", stops)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, made)
    for thread in threading.enumerate():
        if thread.name.startswith("tombola-"):
            # an interrupted run does not wait for what is under way, and that is counted, too
            thread.join()
    monkeypatch.setattr(
        "tombola.search.work.connect", lambda *rest: lines.append(1) or honest(*rest)
    )
    went = go(tmp_path, made)
    assert timeless(went.outcome.records) == timeless(done.outcome.records)
    assert len(lines) == 4  # each once, over both
    there = {each.digest(dense_task().digest) for each in went.jobs}
    assert not there & {r["training_digest"] for r in went.of("again")[:2]}


def lives(tmp_path, made):
    """Run a recipe whose trainings are not cleared at its end: what is left is what nobody let
    go.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "clear_trainings", lambda _: None)
        return go(tmp_path, made)


@pytest.mark.parametrize(("at", "rounds"), [([], [1, 2, 3, 4]), ([0.3], [2, 3]), ([0.36], [2])])
def test_trainings_are_held_for_the_line_and_let_go_behind_it(tmp_path, at, rounds):
    made = recipe(keep="none", evaluate_at=at, until={"rounds": 4})
    done = lives(tmp_path, made)
    assert (
        done.told.trainings
        == len(done.jobs)
        == len({each.digest(dense_task().digest) for each in done.jobs})
    )
    assert [r["round"] for r in done.of("again") if r["barrier"] is not None] == [0, *rounds]
    assert [r["round"] for r in done.of("again") if r["line"] is None] == [
        i for i in (1, 2, 3, 4) if i not in rounds
    ]
    left = {path.stem for path in (done.folder / "machine/trainings").glob("*.training")}
    dense = {cost.training for arm in ARMS for cost in costs_of(done.record(arm, 0))}
    last = {done.record(arm, 4)["training_digest"] for arm in ARMS}
    # those of the dense mask stay, and the last round's, which no next one lets go
    assert left <= dense | last
    straight = go(tmp_path / "all", recipe(until={"rounds": 4}))
    for one in done.of("again"):
        other = straight.record("again", one["round"])
        assert one["mask_digest"] == other["mask_digest"]
        assert one["line"] in (None, other["line"])


def test_what_the_source_learnt_waits_for_an_arm_that_comes_late(tmp_path, monkeypatch):
    honest = ArmRun._offered

    def late(arm):
        real = isinstance(arm.folder, RunFolder)  # and not the rehearsal's
        while (
            real and arm.arm.method == "reordered" and arm.folder.ending("lth", 0).state == "open"
        ):
            time.sleep(0.01)
        yield from honest(arm)

    monkeypatch.setattr(ArmRun, "_offered", late)
    done = lives(tmp_path, recipe(keep="none", evaluate_at=[0.3], until={"rounds": 4}))
    assert done.told.trainings == len(done.jobs)
    left = {path.stem for path in (done.folder / "machine/trainings").glob("*.training")}
    assert not left & {
        done.record(arm, index)["training_digest"] for arm in ARMS for index in (2, 3)
    }


def test_a_line_that_is_asked_for_later_is_that_of_a_run_at_once(tmp_path):
    arms = {"lth": ARMS["lth"], "again": ARMS["again"] | {"evaluate_at": [0.6]}}
    go(tmp_path, recipe(arms, keep="none"))
    went = go(tmp_path, recipe(keep="none"))
    assert len(went.jobs) == 4  # rounds 2 and 3, each in two orders
    assert timeless(went.outcome.records) == timeless(
        go(tmp_path / "at once", recipe(keep="none")).outcome.records
    )


@pytest.mark.parametrize("rewind", [0, 9])
def test_tickets_that_start_elsewhere_are_trained_once_more_from_there(tmp_path, rewind):
    arms = {
        "lth": ARMS["lth"],
        "on": {"method": "fine_tune", "rate": 0.4},
        "shuffled": {"method": "shuffled", "source": "lth"},
        "anew": {"method": "reinitialised", "source": "lth"},
        "gradual": {"method": "gradual", "densities": [0.5, 0.2], "pace": {"every": 5}},
        "longer": {"method": "lth", "rate": 0.4, "training": {"epochs": 3}},
        "colt": {"method": "colt", "rate": 0.3},
    }
    again = {f"again-{name}": {"method": "reordered", "source": name} for name in arms}
    done = go(tmp_path, recipe(arms | again, rewind=rewind, until={"rounds": 2}))
    assert done.outcome.complete, done.outcome.notes
    assert done.told.trainings == len(done.jobs)
    of = {each.digest(dense_task().digest): each for each in done.jobs}
    for name in arms:
        for index in (1, 2):
            source, own = done.record(name, index), done.record(f"again-{name}", index)
            assert own["line"]["accuracy"][0] == source["test_accuracy"], name
            one, other = of[source["training_digest"]], of[own["training_digest"]]
            assert replace(other, seed=one.seed).digest("") == one.digest("")
        first = 0 if name in ("on", "anew") else rewind
        assert of[done.record(f"again-{name}", 2)["training_digest"]].first == first
        pair = [
            cost.training
            for cost in costs_of(done.record(f"again-{name}", 0))
            if cost.role == "evaluation"
        ][-2:]
        assert [of[digest].first for digest in pair] == [first, first]


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        (
            {"a": {"method": "reordered"}},
            "arms.a needs source: ARM, the arm whose tickets it takes",
        ),
        (
            {"a": {"method": "reordered", "source": "d"}, "d": {"method": "dense"}},
            "arms.a.source is 'd', which only trains",
        ),
        (
            {"a": {"method": "reordered", "source": "again"}},
            "arms.a.source is 'again', which has no tickets of its own; name "
            "the arm whose tickets it takes, 'lth'",
        ),
        ({"a": {"match": "again"}}, "arms.a.match is 'again', which has no tickets of its own"),
        (
            {
                "a": {"method": "reordered", "source": "b"},
                "b": {"method": "as_trained", "source": "g"},
                "g": {"method": "gradual", "densities": [0.5]},
            },
            "arms.a.source is 'b', whose networks are pruned while they train, so two trainings end "
            "with different masks; name its source, 'g'",
        ),
        (
            {"a": {"method": "reordered", "source": "lth", "rate": 0.2}},
            "arms.a.rate has no meaning with method: reordered",
        ),
    ],
)
def test_what_cannot_be_trained_once_more_is_told_in_one_line(arms, message):
    with pytest.raises(ConfigError) as caught:
        recipe(ARMS | arms)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_time_told_counts_what_is_tested_along_the_lines(monkeypatch, tmp_path):
    monkeypatch.setattr("tombola.experiments.estimate._measure", lambda _plans: (0.0, 0.001))
    made = recipe(
        training={"epochs": 2, "batch_size": 32, "evaluate_every": 1000},
        data={"name": "digits", "valid": 0},
    )
    plans = plan(replace(made, arms={name: made.arms[name] for name in ("lth", "again")}))
    told = foresee(plans, runs=tmp_path, workers=1)
    train, test = (plans.task.size(WHOLE, which) for which in ("train", "test"))
    assert told.trainings == 8
    # One end of the line of round 0 is trained for that line alone; the seven others are tested on
    # all data, too.
    assert told.seconds == pytest.approx(0.001 * (7 * (train + test) + 4 * POINTS * test))


# ---- what it is for


def test_the_barrier_of_the_dense_network_falls_when_training_begins_later(tmp_path):
    """On digits at a high rate two orders from the very start end apart, from a quarter of the
    training on together.
    """
    whole = {
        "model": {"name": "mlp", "hidden": [60] * 4}, "data": {"name": "digits", "valid": 0}, "until": {"rounds": 1},
        "training": {"lr": 0.1, "momentum": 0.9, "epochs": 8, "batch_size": 32, "schedule": "cosine"},
    }  # fmt: skip
    barriers = [
        go(tmp_path, recipe(rewind=k, **whole)).record("again", 0)["barrier"] for k in (0, 90)
    ]
    assert barriers[0] > STABLE > barriers[1]


# ---- what the report says of it


def result(arm, k, index, density, errors=None):
    line = errors and {
        "at": [0.0, 0.5, 1.0],
        "accuracy": [1 - error for error in errors],
        "loss": [1.0] * 3,
    }
    return record(arm, k, index, density, 0.9) | (
        {"line": line, "barrier": line and Line(*line.values()).barrier} if arm == "again" else {}
    )


# By hand: the barriers are 1 and 2 points, 1.5 in the mean; then 10 and 20, 15 in the mean.
TOLD = [
    *(
        result("lth", k, index, density)
        for k in (0, 1)
        for index, density in enumerate((1.0, 0.5, 0.2))
    ),
    *(result("again", k, 0, 1.0, [0.10, 0.12 + k / 100, 0.12]) for k in (0, 1)),
    *(result("again", k, 1, 0.5, [0.10, 0.21 + k / 10, 0.12]) for k in (0, 1)),
    *(result("again", k, 2, 0.2) for k in (0, 1)),
]
ASKED = Asked(at=(0.5, 0.2))


def test_the_report_says_where_tickets_are_stable_and_where_not():
    assert decisions.sentences(TOLD, ASKED) == [
        "again, in another order of the data: stable at 100 % (barrier at most 1.50 points), not "
        "stable at 50 % (15.00 points)."
    ]
    assert decisions.barrier_grid(TOLD).rows == [
        ["again", "100", "2", "11.00", "12.50", "1.50 ± 0.71", "yes"],
        ["", "50", "2", "11.00", "26.00", "15.00 ± 7.07", "no"],
    ]
    assert decisions.barrier_grid([one for one in TOLD if one["arm"] == "lth"]).rows == []
    text = table.markdown("t", TOLD, [], ASKED)
    assert "## Between two trainings of a ticket" in text
    assert "a ticket is stable where it is below 2 points." in text


def test_a_barrier_of_a_mean_average_precision_is_told_of_itself_and_not_of_an_error():
    metric = Metric("map50", title="mAP@0.5")
    told = []
    for found in TOLD:
        line = found.get("line")
        told.append(found | ({"line": line | {"map50": line["accuracy"]}} if line else {}))
    grid = decisions.barrier_grid(told, metric)
    assert grid.groups[0][1][1:3] == ["mAP@0.5 at the ends %", "lowest mAP@0.5 %"]
    # The same barriers as those of the accuracies above, which are shown as errors.
    assert grid.rows == [
        ["again", "100", "2", "89.00", "87.50", "1.50 ± 0.71", "yes"],
        ["", "50", "2", "89.00", "74.00", "15.00 ± 7.07", "no"],
    ]
    asked = replace(ASKED, metric=metric)
    charts = Stability().chart(OneRun(records=told, asked=asked))
    texts = [figure.caption for figure in charts.values()] + table.barrier_legend(told, metric)
    assert not [text for text in texts if "error" in text]
    below = "the lowest mAP@0.5 on that line below the mean of its ends"
    assert [below in figure.caption for figure in charts.values()] == [False, True]


def test_lines_are_drawn_for_the_dense_network_and_the_asked_densities_as_means():
    rows = decisions.line_rows(TOLD, "again", ASKED)
    assert [(row["density"], row["at"]) for row in rows] == [
        (d, a) for d in ("100 %", "50 %") for a in (0.0, 0.5, 1.0)
    ]
    assert [row["error"] for row in rows] == pytest.approx([10, 12.5, 12, 10, 26, 12])
    drawn = figures.line(rows).to_dict()
    assert drawn["layer"][0]["encoding"]["color"]["scale"]["domain"] == ["100 %", "50 %"]
    spec = figures.barrier(TOLD, 0.02).to_dict()
    found = {
        layer["mark"]["type"]: spec["datasets"][layer["data"]["name"]] for layer in spec["layer"]
    }
    assert found["rule"] == [{"barrier": 2.0}]
    assert [p["density"] for p in found["line"]] == [100, 50]
    assert [p["barrier"] for p in found["line"]] == pytest.approx([1.5, 15.0])


def test_the_page_shows_the_line_and_the_barrier_with_their_captions(tmp_path, with_charts):
    files = page.write(tmp_path, "t", TOLD, [], {}, ASKED, formats=("svg",))
    assert {"line-again.svg", "barrier.svg"} <= {file.name for file in files}
    text = files[-1].read_text(encoding="utf-8")
    assert (
        "two trainings of one ticket, in two orders of the data: those of again, and the dense "
        "network" in text
    )
    assert "Stable where it is below 2 points (dashed)" in text
    assert "Between two trainings of a ticket" in text


def test_a_line_does_not_change_the_unit_of_costs():
    more = [
        one | ({"samples_seen": 2000} if (one["arm"], one["round"]) == ("again", 0) else {})
        for one in TOLD
    ]
    rows = {(row.arm, row.target): row.trainings for row in aggregate.by_target(more)}
    assert rows["again", 0.5] == rows["lth", 0.5] == 2.0


def test_two_trainings_of_one_ticket_are_not_compared_as_arms():
    found = asked(recipe(ARMS | {"random": {"method": "random_ticket", "source": "lth"}}))
    assert found.pairs == (
        ("lth", "dense"),
        ("again", "dense"),
        ("random", "dense"),
        ("lth", "random"),
    )
    assert found.controls == {"lth": ("random",)}
