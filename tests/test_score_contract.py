"""What every score keeps in a search: exact counts, ties by position, and errors that name it."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tombola import Classification, Training
from tombola.data.loading import load
from tombola.data.partitions import WHOLE, by_classes
from tombola.data.splits import split
from tombola.executors import serial
from tombola.ground import catalogue, seeds
from tombola.ground.errors import InputError
from tombola.masks.masks import count, intersect, ones
from tombola.masks.rates import Count
from tombola.masks.scopes import per_layer, whole_model
from tombola.scores.context import Context
from tombola.scores.ranking import Ranking
from tombola.search.cutting import keep_common
from tombola.search.problems import JobProblem
from tombola.search.rounds import find
from tombola.training.gathering import Gather
from tombola.training.jobs import Job

ENTRIES = catalogue.entries("tombola.scores")
PARTITIONS = {"one": [WHOLE], "two halves of the classes": by_classes(10, 2, seed=0)}


class Trained:
    """A small convolutional net, and what its partitions learn, trained once for all scores."""

    def __init__(self):
        with seeds.seeded(0, "init"):
            layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
            model = nn.Sequential(*layers, nn.Linear(36, 12), nn.ReLU(), nn.Linear(12, 10))
        self.task = Classification(model, split(load("digits"), valid=40, subset=210), head="6")
        self.mask = ones(model, head="6")
        training = Training(epochs=2, batch_size=50, lr=0.1, momentum=0.9)
        self.job = Job(self.task.initial_state(), self.mask, training, seed=0)
        self._results = {}

    def run_all(self, jobs):
        results = []
        for job in jobs:
            digest = job.digest(self.task.digest)
            if digest not in self._results:
                [self._results[digest]] = serial(self.task)([job])
            results.append(self._results[digest])
        return results

    def problems(self, jobs, results):
        problems = []
        for job, result in zip(jobs, results, strict=True):
            problems.append(JobProblem(job, result.state, job.mask, self.task))
        return problems

    def first_round(self, score, partitions, amount, scope=whole_model):
        """Search for one round, the scores worked out here whatever they need."""

        def cut_jobs(jobs, mask, amount, index):
            results = self.run_all(jobs)
            context = Context(
                self.job.start,
                0,
                problems=self.problems(jobs, results),
                histories=[result.gathered for result in results],
            )
            states = [result.state for result in results]
            return keep_common(score, scope)(mask, states, amount, context)

        rounds = find(
            self.job,
            partitions,
            [amount],
            run_all=self.run_all,
            scope=scope,
            cut_jobs=cut_jobs,
            during=Gather(),
            allow_collapse=True,
        )
        return next(rounds)


@pytest.fixture(scope="module")
def trained():
    return Trained()


def remembering(score, seen):
    """Do what a score does, and keep the values of every call."""

    def remembered(state, mask, context):
        values = {name: value.clone() for name, value in score(state, mask, context).items()}
        seen.append(values)
        return values

    return remembered


def without_first_lowest(scores, mask, rate):
    """Prune as a stable sort does, written down anew."""
    flat = torch.cat([scores[name].flatten().double() for name in mask])
    keep = torch.ones(len(flat), dtype=torch.bool)
    keep[flat.argsort(stable=True)[: round(rate * len(flat))]] = False
    parts = keep.split([mask[name].numel() for name in mask])
    return {name: part.view_as(mask[name]) for name, part in zip(mask, parts, strict=True)}


@pytest.mark.parametrize("partitions", PARTITIONS.values(), ids=PARTITIONS)
@pytest.mark.parametrize("name", ENTRIES)
def test_every_score_works_in_a_search_and_prunes_as_a_stable_sort_does(trained, name, partitions):
    seen = []
    score = remembering(Ranking(name).score(), seen)
    found = trained.first_round(score, partitions, 0.3)
    assert len(seen) == len(found.candidates) == len(partitions)
    for scores, candidate in zip(seen, found.candidates, strict=True):
        expected = without_first_lowest(scores, trained.mask, 0.3)
        assert all(torch.equal(candidate[layer], expected[layer]) for layer in trained.mask)
    common = intersect(found.candidates)
    assert all(torch.equal(found.mask[layer], common[layer]) for layer in trained.mask)


@pytest.mark.parametrize("partitions", PARTITIONS.values(), ids=PARTITIONS)
@pytest.mark.parametrize("name", ENTRIES)
def test_every_score_meets_counts_exactly(trained, name, partitions):
    asked = {"0.weight": 17, "4.weight": 100}
    score = Ranking(name).score()
    found = trained.first_round(score, partitions, Count(asked), per_layer)
    assert {layer: count({layer: keep}) for layer, keep in found.mask.items()} == asked
    found = trained.first_round(score, partitions, Count(200))
    assert count(found.mask) == 200


@pytest.mark.parametrize("name", [name for name in ENTRIES if name != "random"])
def test_a_score_that_is_not_a_number_is_one_line_that_names_the_score_and_the_layer(trained, name):
    broken = trained.job.start | {"4.weight": torch.full((12, 36), torch.nan)}
    job = replace(trained.job, start=broken)
    problem = JobProblem(job, broken, trained.mask, trained.task)
    context = Context(broken, 0, problems=[problem] * 2, histories=[broken] * 2)
    score = Ranking(name).score()
    # Of one partition at a rate, and of two at a count.
    for states, amount in (([broken], 0.3), ([broken] * 2, Count(200))):
        with pytest.raises(InputError) as raised:
            keep_common(score)(trained.mask, states, amount, context)
        message = str(raised.value)
        assert "\n" not in message
        assert f"'{name}'" in message
        assert "'4.weight'" in message or "'0.weight'" in message
