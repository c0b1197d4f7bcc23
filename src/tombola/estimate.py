"""Estimate: how many trainings a run needs and about how long they take, told before it starts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tombola.jobs import Job, run_job
from tombola.masks import size
from tombola.plans import Plans, replicate_seed
from tombola.recipe import Arm, Recipe
from tombola.task import Classification
from tombola.training import Plan

_MOST_ROUNDS = 200
_FEW_STEPS, _MORE_STEPS = 10, 50


@dataclass(frozen=True)
class Estimate:
    """What a run is expected to take.

    Attributes:
        steps: Optimiser steps of all trainings together, each training counted once.
        trainings: Trainings on the full data and its partitions.
        seconds: Wall time on the run's workers, from a few measured steps of the dense network.
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
            kept *= (1 - (rate or 0.0)) ** arm.models
        if until.density is not None and kept <= until.density:
            break
        if until.density_total is not None and 1 - most * (1 - kept) <= until.density_total:
            break
    return rounds


def estimate(plans: Plans, todo: Sequence[tuple[str, int]], workers: int) -> Estimate:
    """Count the trainings of the arms that are to be run, and time a few steps of one.

    Args:
        plans: What the arms work with.
        todo: Arms and replicates.
        workers: Number of workers.
    """
    recipe, task = plans.recipe, plans.task
    most = size(plans.mask) / plans.total
    units, trainings = 0.0, 0  # a unit is one training on the full data
    for replicate in {k for _, k in todo}:
        units, trainings = units + 1, trainings + 1
        for name in (name for name, k in todo if k == replicate):
            arm = recipe.arms[name]
            if not arm.searches:
                continue
            rounds = expected_rounds(recipe.arms[arm.match] if arm.match else arm, recipe, most)
            divided = arm.models > 1 and arm.by != "seeds"
            searches = rounds if divided else rounds * arm.models
            # With one partition the search of a round is the evaluation of the round before.
            units += rounds + searches if arm.models > 1 else rounds
            trainings += rounds * (arm.models + 1) if arm.models > 1 else rounds
    per_step, steps = _seconds_per_step(plans)
    bounded = recipe.until.accuracy_drop is None or recipe.until.rounds is not None
    validation = 1 + len(task.splits.valid) / len(task.splits.train) / 3
    seconds = units * steps * per_step * validation / workers
    epochs = steps / task.steps_per_epoch(recipe.training.batch_size)
    return Estimate(round(units * steps), trainings, seconds, bounded, epochs)


def _seconds_per_step(plans: Plans) -> tuple[float, int]:
    """Time a short training, and count the steps of a whole one; what it learns is thrown away."""
    recipe, task = plans.recipe, plans.task
    # A rate so small that nothing can diverge: that is for the run to find, where it has a name.
    settings = replace(recipe.training, lr=1e-12, evaluate_every=10**9, select="last")
    job = Job(task.initial_state(), plans.mask, settings, replicate_seed(recipe, 0))
    lengths = (_FEW_STEPS, _FEW_STEPS, _MORE_STEPS)  # the first one warms up
    _, few, more = (_seconds_of(replace(job, last=length), task) for length in lengths)
    per_epoch = task.steps_per_epoch(recipe.training.batch_size)
    # The difference leaves out what a training costs once; on a machine so busy that it is none, take the whole.
    per_step = (more - few) / (_MORE_STEPS - _FEW_STEPS) if more > few else more / _MORE_STEPS
    return per_step, Plan.of(recipe.training, per_epoch).steps


def _seconds_of(job: Job, task: Classification) -> float:
    began = time.perf_counter()
    run_job(job, task)
    return time.perf_counter() - began
