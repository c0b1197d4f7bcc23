"""Pruning before training, in one cut and in several, and tickets that are tested untrained."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.test_method_contracts import tickets
from tests.test_rehearsal import done_in

from tombola import Classification, Training, ones, serial, split
from tombola.data import synthetic
from tombola.data.partitions import WHOLE
from tombola.experiments.experiment import foresee, plan, run
from tombola.ground.errors import ConfigError
from tombola.masks.masks import count
from tombola.masks.pruning import prune
from tombola.masks.rates import Count, counts_on_the_way
from tombola.masks.scopes import whole_model
from tombola.schema.recipe import parse
from tombola.scores.context import Context
from tombola.scores.ranking import Ranking
from tombola.search.problems import JobProblem
from tombola.search.work import Cut
from tombola.training.jobs import Job, measure, run_job
from tombola.training.statistics import NewStatistics, untrained

RECIPE = {
    "name": "early",
    "data": {"name": "digits", "subset": 320},
    "model": {"name": "mlp", "hidden": [20, 10]},
    "training": {"lr": 0.05, "epochs": 1, "batch_size": 32},
    "densities": [0.5, 0.1],
    "rewind": 3,
}
ARMS = {
    "magnitude": {"method": "at_start", "score": "magnitude"},
    "lamp": {"method": "at_start", "score": "lamp", "cuts": 3},
    "as-it-is": {"method": "at_start", "score": "magnitude", "evaluate": "untrained"},
    "drawn": {"method": "random_ticket", "source": "lamp"},
    "moved": {"method": "shuffled", "source": "magnitude", "shuffle": "mask"},
    "anew": {"method": "reinitialised", "source": "magnitude"},
}


def recipe(arms=ARMS, **changes):
    return parse(RECIPE | {"arms": arms} | changes)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    outcome = run(recipe(), runs=tmp_path_factory.mktemp("early"), workers=1)
    assert outcome.complete, outcome.notes
    return outcome


def of(done, arm):
    return [record for record in done.records if record["arm"] == arm and record["round"]]


def test_the_network_is_pruned_at_the_step_that_tickets_are_rewound_to(done):
    [first, last] = tickets(done.folder)["magnitude"]
    start = first.rewind_point
    assert first.origin["rewind_step"] == 3
    mask = {name: torch.ones_like(keep) for name, keep in first.mask.items()}
    scores = {name: start[name].abs() for name in mask}
    for ticket, density in ((first, 0.5), (last, 0.1)):
        number = round(density * count(mask))
        expected = prune(scores, mask, count=number)
        assert all(torch.equal(keep, ticket.mask[name]) for name, keep in expected.items())


def test_no_step_is_trained_before_a_ticket_is_found(done):
    for record in of(done, "magnitude"):
        search = [cost for cost in record["costs"] if cost["role"] == "search"]
        assert sum(cost["steps"] + cost["samples"] for cost in search) == 0


def test_each_cut_takes_scores_anew_of_what_the_cut_before_has_left(done):
    ticket = tickets(done.folder)["lamp"][-1]
    mask = {name: torch.ones_like(keep) for name, keep in ticket.mask.items()}
    state, size = dict(ticket.rewind_point), count(mask)
    score = Ranking("lamp").score()
    for number in (1, 2, 3):
        keep = round(size * (round(0.1 * size) / size) ** (number / 3))
        mask = prune(score(state, mask, Context(ticket.rewind_point, 0)), mask, count=keep)
        state |= {name: state[name] * kept_here for name, kept_here in mask.items()}
    assert all(torch.equal(keep, ticket.mask[name]) for name, keep in mask.items())


def test_a_ticket_that_stays_untrained_is_tested_as_it_is(done):
    plans = plan(recipe())
    for record, ticket in zip(of(done, "as-it-is"), tickets(done.folder)["as-it-is"], strict=True):
        seed = ticket.origin["seeds"]["replicate"]
        job = Job(ticket.rewind_point, ticket.mask, plans.recipe.training, seed, first=3)
        asis = untrained(job, plans.task.model)
        trained = run_job(asis, plans.task)
        assert trained.steps == 0
        assert record["test_accuracy"] == measure(asis, trained, plans.task).test.values["accuracy"]
        assert record["untrained"] is True
        [cost] = [cost for cost in record["costs"] if cost["role"] == "evaluation"]
        assert (cost["steps"], cost["samples"]) == (0, 0)
    assert all("untrained" not in record for record in of(done, "magnitude"))


def test_controls_take_its_tickets(done):
    found = tickets(done.folder)
    for arm, source in (("drawn", "lamp"), ("moved", "magnitude"), ("anew", "magnitude")):
        for ticket, followed in zip(found[arm], found[source], strict=True):
            for name, keep in ticket.mask.items():
                assert keep.sum() == followed.mask[name].sum()


def test_a_rehearsal_tells_what_it_costs(done, tmp_path):
    told = foresee(plan(recipe()), runs=tmp_path)
    assert (told.trainings, told.steps, told.examples, told.flops) == done_in(done)


def test_cuts_on_the_way_shrink_each_group_by_the_same_share():
    counts = counts_on_the_way({"a": 16, "b": 81, "c": 5}, Count({"a": 1, "b": 1, "c": 0}), 4)
    assert [c.keep for c in counts] == [
        {"a": 8, "b": 27, "c": 3},
        {"a": 4, "b": 9, "c": 2},
        {"a": 2, "b": 3, "c": 1},
    ]
    assert counts_on_the_way({"a": 16}, Count({"a": 1}), 1) == ()


def test_a_cut_in_one_step_has_the_digest_that_it_had():
    job = Job({"w": torch.arange(9.0)}, {"w": torch.ones(9) > 0}, Training(epochs=1), seed=0)
    count = Count({"model": 5})
    once = Cut((job,), job.mask, count, (Ranking("magnitude"),), whole_model(job.mask))
    twice = replace(once, before=(Count({"model": 9}),))
    # Worked out at the commit before cuts had a `before`.
    assert once.digest("task") == OLD
    assert twice.digest("task") != OLD


OLD = "9d8998baef1fd9f61ed094baf8482f8ce1a0b197185eb8e18f9aa7ef83dad5a2"


def test_batch_norm_takes_its_statistics_anew():
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 10)
    )
    task = Classification(model, split(synthetic()), head="3")
    job = Job(task.initial_state(), ones(model, head="3"), Training(epochs=1), seed=0)
    asis = untrained(job, model)
    assert asis.during == NewStatistics()
    state = run_job(asis, task).final
    means = []
    for inputs, _ in task.batches(WHOLE, job.training.batch_size, 0).epoch(0):
        means.append(model[1](inputs.flatten(1)).mean(dim=0))
    assert torch.allclose(state["2.running_mean"], torch.stack(means).mean(dim=0), atol=1e-6)
    for name in ("1.weight", "2.weight", "3.weight"):
        assert torch.equal(state[name], job.start[name])
    # In a run it is the same, wherever it is done.
    [again] = serial(task)([asis])
    assert torch.equal(again.final["2.running_mean"], state["2.running_mean"])


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        ({"cuts": 0}, r"arms.a.cuts is 0; it is a number of cuts, from 1"),
        ({"scored": "last"}, r"arms.a.scored has no meaning with method: at_start"),
        ({"rate": 0.2}, r"arms.a.rate has no meaning with method: at_start"),
        ({"evaluate": "never"}, r"arms.a.evaluate is 'never'; it should be one of trained"),
    ],
)
def test_bad_options_are_told_in_one_line(arm, said):
    with pytest.raises(ConfigError, match=said) as told:
        recipe({"a": {"method": "at_start"} | arm})
    assert "\n" not in str(told.value)


def test_networks_that_were_trained_are_not_tested_untrained():
    arms = {
        "gradual": {"method": "gradual", "pace": {"every": 2}},
        "net": {"method": "as_trained", "source": "gradual", "evaluate": "untrained"},
    }
    with pytest.raises(ConfigError, match=r"arms.net.evaluate is untrained"):
        recipe(arms)
    with pytest.raises(ConfigError, match=r"arms.d.evaluate has no meaning"):
        recipe({"d": {"method": "dense", "evaluate": "untrained"}})


@pytest.mark.parametrize(("asked", "sizes"), [(1, [1]), (10, [10]), (64, [64]), (70, [64, 64])])
def test_fewer_examples_than_a_batch_are_a_smaller_batch_of_the_same_ones(asked, sizes):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    task = Classification(model, split(synthetic()), head="1")
    job = Job(task.initial_state(), ones(model, "all"), Training(epochs=1, batch_size=64), seed=0)
    problem = JobProblem(job, job.start, job.mask, task)
    given = list(problem.batches(asked))
    assert [len(labels) for _, labels in given] == sizes
    assert problem.examples(asked) == sum(sizes)
    [first, *_] = task.batches(WHOLE, 64, 0).epoch(0)
    assert torch.equal(given[0][0], first[0][: sizes[0]])


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        ({"score": {"name": "snip", "examples": 0}}, r"snip.examples is 0"),
        ({"score": {"name": "grasp", "temperature": -1}}, r"grasp.temperature is -1"),
        ({"method": "lth", "score": {"name": "obd", "curvature": "exact"}}, r"obd.curvature is"),
    ],
)
def test_scores_are_tried_before_anything_is_trained(arm, said):
    with pytest.raises(ConfigError, match=said):
        foresee(plan(recipe({"a": {"method": "at_start"} | arm})), runs=Path("nowhere"))


def looking(state, mask, context):
    """Score by magnitude, and refuse a state that still has what was pruned."""
    del context
    for name, keep in mask.items():
        assert not bool(state[name][~keep].any())
    return {name: state[name].abs() for name in mask}


def test_each_cut_sees_zeros_where_the_cuts_before_have_pruned():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    task = Classification(model, split(synthetic()), head="1")
    mask = ones(model, "all")
    job = Job(task.initial_state(), mask, Training(epochs=1), seed=0, last=0)
    ranking = Ranking("tests.test_at_start:looking")
    groups = whole_model(mask)
    work = Cut((job,), mask, Count(64), (ranking,), groups, before=(Count(320), Count(128)))
    pruned = work.do(task, [run_job(job, task)], lambda _done, _all: None)
    assert count(pruned.mask) == 64
    at_once = prune({"1.weight": job.start["1.weight"].abs()}, mask, count=64)
    assert torch.equal(pruned.mask["1.weight"], at_once["1.weight"])
