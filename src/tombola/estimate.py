"""Estimate: how many trainings a run needs and about how long they take, told before it starts."""

from __future__ import annotations

import itertools
import math
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from tombola.arms import Arm, leading, starting
from tombola.connectivity import POINTS
from tombola.evaluation import evaluate_split
from tombola.jobs import alone
from tombola.masks import size
from tombola.partitions import WHOLE, Partition
from tombola.plans import Plans, replicate_seed
from tombola.recipe import Recipe
from tombola.training import Schedule, Step, Training, train

_MOST_ROUNDS = 200
_NEARLY = 1e-6  # 0.8 * 0.8 * 0.8 is a little more than 0.512 to a computer
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
        bytes: Of the run folder when the run is complete; masks, rewind points, predictions, trained weights.
    """

    steps: int
    trainings: int
    seconds: float
    bounded: bool
    epochs: float
    bytes: int


def expected_rounds(arm: Arm, recipe: Recipe, most: float = 1.0) -> list[float]:
    """Estimate the density after each round of an arm, N partitions removing as much as N independent cuts.

    Args:
        arm: The arm; one that follows another has that one's rounds.
        recipe: For its stop and the other arms.
        most: Prunable weights / all weights, for a stop at a total density.

    >>> from tombola.recipe import parse
    >>> arms = {"lth": {"method": "lth", "rate": 0.2}, "colt": {"method": "colt", "rate": 0.15}}
    >>> whole = {"name": "x", "training": {"epochs": 1}, "arms": arms, "until": {"density": 0.1}}
    >>> [len(expected_rounds(arm, parse(whole))) for arm in parse(whole).arms.values()]
    [11, 8]
    """
    arm = leading(arm, recipe.arms)
    until, kept, found = recipe.until, 1.0, list[float]()
    rate = max(arm.rate.values()) if isinstance(arm.rate, dict) else arm.rate
    own = arm.reach.rounds if arm.reach else len(arm.densities) or _MOST_ROUNDS
    while len(found) < min(own, until.rounds or _MOST_ROUNDS):
        if arm.densities:
            kept = arm.densities[len(found)]
        elif arm.reach:
            kept = arm.reach.density ** ((len(found) + 1) / arm.reach.rounds)
        elif arm.combine == "any":
            kept *= 1 - (rate or 0.0) ** arm.width
        else:
            kept *= (1 - (rate or 0.0)) ** arm.width
        found.append(kept)
        lowest = kept * (1 - 1e-9)  # 0.8 * 0.8 is a little more than 0.64 to a computer
        if until.density is not None and lowest <= until.density:
            break
        if until.density_total is not None and 1 - most * (1 - lowest) <= until.density_total:
            break
    return found


def estimate(plans: Plans, todo: Mapping[tuple[str, int], int], workers: int) -> Estimate:
    """Count the trainings of the arms that are to be run, and time a few steps of one.

    Args:
        plans: What the arms work with.
        todo: Arms and replicates, and the rounds that each has done before.
        workers: Number of workers.
    """
    recipe, task = plans.recipe, plans.task
    units, trainings, tickets, evaluations, lines = 0.0, 0, 0, 0, 0  # a unit is one training on the full data
    for replicate in {k for _, k in todo}:
        own = {name: done for (name, k), done in todo.items() if k == replicate}
        whole = plans.whole(replicate)
        first = {_key(recipe.training, whole, 0.0): _share(plans, whole)}
        dense: dict[object, float] = {} if all(own.values()) else first
        for name, done in own.items():
            arm = recipe.arms[name]
            cost = _cost(plans, arm, replicate, done)
            dense |= cost.dense
            units, trainings = units + cost.units, trainings + cost.trainings
            if arm.method == "reordered":
                again = len(_alone(plans, arm, replicate, done, own.get(arm.of or "")))
                units, trainings = units + again * (1 - _behind(plans, arm)) * _share(plans, whole), trainings + again
                lines += cost.evaluated + (not done)
            tickets, evaluations = tickets + cost.rounds, evaluations + cost.evaluated
        units, trainings = units + sum(dense.values()), trainings + len(dense)
    batches = task.steps_per_epoch(recipe.training.batch_size)
    schedule = Schedule.of(recipe.training, batches)
    try:
        per_step, per_example = _measure(plans)
    except Exception:  # whatever is wrong with a training belongs to the arm that meets it
        per_step = per_example = math.nan
    looked_at = schedule.steps / schedule.evaluate_every * len(task.splits.valid) + len(task.splits.train)
    between = lines * POINTS * len(task.splits.test)
    seconds = (units * (schedule.steps * per_step + looked_at * per_example) + between * per_example) / workers
    bounded = recipe.until.accuracy_drop is None or recipe.until.rounds is not None
    return Estimate(
        round(units * schedule.steps),
        trainings,
        seconds,
        bounded,
        schedule.steps / batches,
        _bytes(plans, list(todo), tickets, evaluations),
    )


@dataclass(frozen=True)
class _Cost:
    """What an arm of one replicate still needs.

    Attributes:
        dense: Units of the trainings of the unpruned network that it needs, which other arms may need too.
        units: Of all its others.
        trainings: Their number.
        rounds: Tickets.
        evaluated: How many of these are evaluated.
    """

    dense: Mapping[object, float]
    units: float
    trainings: int
    rounds: int
    evaluated: int


def _cost(plans: Plans, arm: Arm, replicate: int, done: int) -> _Cost:
    recipe = plans.recipe
    densities = expected_rounds(arm, recipe, size(plans.mask) / plans.total)
    if arm.method == "dense":
        if arm.as_long_as is None:
            return _Cost({}, 0.0, 0, 0, 0)
        source = recipe.arms[arm.as_long_as]
        searched = sum(_lengths(plans, source, replicate).values()) if source.searches else 0.0
        times = 1 if source.method == "one_shot" else len(densities)
        return _Cost({}, _share(plans, plans.whole(replicate)) + searched * times, 1, 0, 1)
    behind, whole = _behind(plans, arm), plans.whole(replicate)
    full = _share(plans, whole)
    dense: dict[object, float] = {"rewind point": behind * full} if behind and arm.method != "shuffled" else {}
    if arm.method == "reordered" and not done:  # the unpruned network is trained once more, too
        again = (1 - behind) * full
        dense |= {_key(recipe.training, whole, behind): again, ("reordered", behind): again}
    rounds = range(done + 1, len(densities) + 1)
    evaluated = _evaluated(arm, densities) & {*rounds}
    own = 0 if arm.method == "as_trained" else len(evaluated)  # that network is trained already
    units, trainings = (1 - behind) * full * own, own
    if arm.searches and rounds:
        lengths = _lengths(plans, arm, replicate)
        training = plans.search_training(arm)
        if not done or arm.method == "one_shot":
            dense |= {_key(training, part, behind): length for part, length in lengths.items()}
        later = [] if arm.method == "one_shot" else [i for i in rounds if i > 1]
        if arm.method == "gradual":  # each is a training of its own, from the dense network on
            dense, later = {}, list(rounds)
        for part, length in lengths.items():
            # On the full data the search of a round is the evaluation of the round before.
            shared = part == whole and _shares(arm)
            more = [i for i in later if not (shared and (i - 1 in evaluated or i - 1 == done))]
            units, trainings = units + length * len(more), trainings + len(more)
    return _Cost(dense, units, trainings, len(rounds), len(evaluated))


def _share(plans: Plans, part: Partition) -> float:
    """Return how long a training on a partition is, in trainings on the full training split."""
    size = plans.recipe.training.batch_size
    return plans.task.steps_per_epoch(size, part) / plans.task.steps_per_epoch(size)


def _evaluated(arm: Arm, densities: Sequence[float]) -> set[int]:
    """Return the rounds that an arm evaluates: those on both sides of a density, or the one that meets it."""
    if not arm.evaluate_at:
        return {*range(1, len(densities) + 1)}
    found = set[int]()
    for index, (above, below) in enumerate(itertools.pairwise([1.0, *densities]), 1):
        crossed = [target for target in arm.evaluate_at if below * (1 - _NEARLY) <= target < above * (1 - _NEARLY)]
        if crossed:
            found |= {index - 1, index} if any(target > below * (1 + _NEARLY) for target in crossed) else {index}
    return found - {0}


def _shares(arm: Arm) -> bool:
    """Whether a search on the full data is the evaluation of the round before."""
    return not arm.training and arm.method not in ("gradual", "one_shot")


def _alone(plans: Plans, arm: Arm, replicate: int, done: int, source_done: int | None) -> set[int]:
    """Return the rounds whose tickets are trained for their lines alone: the source does not train them any more.

    Args:
        plans: What the arms work with.
        arm: One that trains another arm's tickets once more.
        replicate: Of which replicate.
        done: Rounds that it has done.
        source_done: Those that its source has; ``None`` if that one is finished.
    """
    source = plans.recipe.arms[arm.of or ""]
    densities = expected_rounds(arm, plans.recipe, size(plans.mask) / plans.total)
    needed = {i for i in _evaluated(arm, densities) if i > done}
    if source_done is None:
        return needed
    trained = _evaluated(source, densities)
    if source.searches and _shares(source) and plans.whole(replicate) in plans.partitions(source, replicate):
        trained |= {*range(1, len(densities))}
    return {i for i in needed if i <= source_done or i not in trained}


def _key(training: Training, part: Partition, behind: float) -> object:
    """Tell trainings of the unpruned network of a replicate apart."""
    return training, part, behind


def _behind(plans: Plans, arm: Arm) -> float:
    """Return which part of a training the tickets of an arm have behind them when they start."""
    training = plans.recipe.training
    steps = Schedule.of(training, plans.task.steps_per_epoch(training.batch_size)).steps
    return plans.recipe.rewind / steps if starting(arm, plans.recipe.arms).rewinds else 0.0


def _lengths(plans: Plans, arm: Arm, replicate: int) -> dict[Partition, float]:
    """Return the partitions that an arm trains on in a round, each with its length in trainings on the full data."""
    recipe, length = plans.recipe, plans.search_training(arm)
    longer = (length.epochs or length.steps or 1) / (recipe.training.epochs or recipe.training.steps or 1)
    parts = plans.division(arm, replicate)
    share = _share(plans, plans.searched(replicate)) / (len(parts) if arm.divides else 1)
    return dict.fromkeys(plans.partitions(arm, replicate), share * (longer - _behind(plans, arm)))


def _bytes(plans: Plans, keys: Sequence[tuple[str, int]], tickets: int, evaluations: int) -> int:
    """Estimate the bytes of a run folder when the run is complete."""
    recipe, task = plans.recipe, plans.task
    state = sum(value.nbytes for value in task.model.state_dict().values())
    trained = state * (2 if task.splits.has_valid else 1)  # the last and the early-stop state
    replicates = {k for _, k in keys}
    searching = [key for key in keys if recipe.arms[key[0]].method != "dense"]
    kept = {"all": evaluations, "last": len(searching), "none": 0}[recipe.keep] + len(replicates)
    own = sum(1 for name, _ in searching if not recipe.arms[name].rewinds)
    masks = tickets * size(plans.mask) / 8
    candidates = masks * statistics.mean([recipe.arms[name].width for name, _ in searching] or [0])
    points = (len(replicates) + own) * state
    return int(masks + candidates + points + kept * trained + evaluations * len(task.splits.test))


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
    part = plans.whole(0)
    there = part.examples or range(len(task.splits.train))
    if whole := len(there) - len(there) % settings.batch_size:
        part = Partition(examples=tuple(there[:whole]))
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
        few = task.resident(plans.whole(0), "train")
        few = few.take(torch.arange(min(_EXAMPLES, len(few)), device=task.device))
        for _ in range(2):  # the first one warms up
            began = time.perf_counter()
            evaluate_split(model, few, task.splits.mean, task.splits.std)
    # The median: the first steps cost more.
    per_step = statistics.median(after - before for before, after in itertools.pairwise(times))
    return per_step, (time.perf_counter() - began) / len(few)
