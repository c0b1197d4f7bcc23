"""Estimate: how many trainings a run needs and about how long they take, told before it starts."""

from __future__ import annotations

import itertools
import math
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from tombola.evaluation import evaluate_split
from tombola.jobs import alone
from tombola.masks import size
from tombola.partitions import WHOLE, Partition
from tombola.plans import Plans, replicate_seed
from tombola.recipe import Arm, Recipe
from tombola.training import Schedule, Step, Training, train

_MOST_ROUNDS = 200
_LEAST_STEPS, _MOST_STEPS, _SECONDS, _EXAMPLES = 3, 50, 2.0, 500


@dataclass(frozen=True)
class Estimate:
    """What a run is expected to take.

    Attributes:
        steps: Optimiser steps of all trainings together, each training counted once.
        trainings: Trainings on the full data and its partitions.
        seconds: Wall time on the run's workers, from a few measured steps of the dense network; NaN if they failed.
        bounded: Whether the number of rounds is known; an accuracy stop leaves it open.
        epochs: Length of one training.
    """

    steps: int
    trainings: int
    seconds: float
    bounded: bool
    epochs: float


def expected_rounds(arm: Arm, recipe: Recipe, most: float = 1.0) -> int:
    """Estimate the rounds of an arm with a method, N partitions removing as much as N independent cuts.

    Args:
        arm: The arm.
        recipe: For its stop.
        most: Prunable weights / all weights, for a stop at a total density.

    >>> from tombola.recipe import parse
    >>> arms = {"lth": {"method": "lth", "rate": 0.2}, "colt": {"method": "colt", "rate": 0.15}}
    >>> whole = {"name": "x", "training": {"epochs": 1}, "arms": arms, "until": {"density": 0.1}}
    >>> [expected_rounds(arm, parse(whole)) for arm in parse(whole).arms.values()]
    [11, 8]
    """
    until, rounds, kept = recipe.until, 0, 1.0
    rate = max(arm.rate.values()) if isinstance(arm.rate, dict) else arm.rate
    own = arm.reach.rounds if arm.reach else len(arm.densities) or _MOST_ROUNDS
    while rounds < min(own, until.rounds or _MOST_ROUNDS):
        rounds += 1
        if arm.densities:
            kept = arm.densities[rounds - 1]
        elif arm.reach:
            kept = arm.reach.density ** (rounds / arm.reach.rounds)
        else:
            kept *= (1 - (rate or 0.0)) ** arm.width
        if until.density is not None and kept <= until.density:
            break
        if until.density_total is not None and 1 - most * (1 - kept) <= until.density_total:
            break
    return rounds


def estimate(plans: Plans, todo: Mapping[tuple[str, int], int], workers: int) -> Estimate:
    """Count the trainings of the arms that are to be run, and time a few steps of one.

    Args:
        plans: What the arms work with.
        todo: Arms and replicates, and the rounds that each has done before.
        workers: Number of workers.
    """
    recipe, task = plans.recipe, plans.task
    most = size(plans.mask) / plans.total
    units, trainings = 0.0, 0  # a unit is one training on the full data
    for replicate in {k for _, k in todo}:
        own = {name: done for (name, k), done in todo.items() if k == replicate}
        dense = int(not all(own.values()))
        units, trainings = units + dense, trainings + dense
        for name, done in own.items():
            arm = recipe.arms[name]
            if not arm.searches:
                continue
            rounds = expected_rounds(recipe.arms[arm.match] if arm.match else arm, recipe, most) - done
            rounds = max(0, rounds)
            divided = arm.width > 1 and arm.by != "seeds"
            searches = rounds if divided else rounds * arm.width
            # With one partition the search of a round is the evaluation of the round before.
            units += rounds + searches if arm.width > 1 else rounds
            trainings += rounds * (arm.width + 1) if arm.width > 1 else rounds
    batches = task.steps_per_epoch(recipe.training.batch_size)
    schedule = Schedule.of(recipe.training, batches)
    try:
        per_step, per_example = _measure(plans)
    except Exception:  # whatever is wrong with a training belongs to the arm that meets it
        per_step = per_example = math.nan
    looked_at = schedule.steps / schedule.evaluate_every * len(task.splits.valid) + len(task.splits.train)
    seconds = units * (schedule.steps * per_step + looked_at * per_example) / workers
    bounded = recipe.until.accuracy_drop is None or recipe.until.rounds is not None
    return Estimate(round(units * schedule.steps), trainings, seconds, bounded, schedule.steps / batches)


def trial(plans: Plans, training: Training) -> tuple[nn.Module, Iterator[Step]]:
    """Begin a training that is only timed: what it learns is thrown away, and its steps have no end.

    Take its steps with its own threads and arithmetic, see `alone`. The first one yielded stands before any work, every
    later one has done one more step. It sees whole batches alone: a last, smaller one would be traced or compiled
    while the clock runs.

    Args:
        plans: What is trained, from its initial state and with no weight pruned.
        training: Its settings; the learning rate alone is another one.
    """
    task, seed = plans.task, replicate_seed(plans.recipe, 0)
    # A rate so small that nothing can diverge: that is for the run to find, where it has a name.
    settings = replace(training, lr=1e-12)
    model = task.build(task.initial_state(), WHOLE, seed)
    examples = len(task.splits.train)
    whole = examples - examples % settings.batch_size
    part = Partition(examples=tuple(range(whole))) if whole else WHOLE
    batches = task.batches(part, settings.batch_size, seed)
    return model, train(model, batches, settings, plans.mask, loss=task.loss, seed=seed, last=sys.maxsize)


def _measure(plans: Plans) -> tuple[float, float]:
    """Return the seconds of a training step and of evaluating one example; what is learnt here is thrown away."""
    task, settings = plans.task, plans.recipe.training
    with alone(settings, task):
        model, steps = trial(plans, settings)
        times: list[float] = []
        for _ in steps:
            times.append(time.perf_counter())
            if len(times) > _MOST_STEPS or (len(times) > _LEAST_STEPS and times[-1] - times[0] > _SECONDS):
                break
        few = task.resident(WHOLE, "train").take(
            torch.arange(min(_EXAMPLES, len(task.splits.train)), device=task.device)
        )
        for _ in range(2):  # the first one warms up
            began = time.perf_counter()
            evaluate_split(model, few, task.splits.mean, task.splits.std)
    # The median: the first steps cost more.
    per_step = statistics.median(after - before for before, after in itertools.pairwise(times))
    return per_step, (time.perf_counter() - began) / len(few)
