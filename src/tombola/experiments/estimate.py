"""Estimate: how long a run takes, from a few measured steps and what a rehearsal has counted."""

from __future__ import annotations

import itertools
import math
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from torch import nn

from tombola.data.partitions import WHOLE, Partition
from tombola.experiments.plans import Plans
from tombola.ground.settings import Training
from tombola.training.jobs import alone
from tombola.training.loop import Step, train

# What is measured: so many steps, and no further ones after so many seconds; so many examples,
# or as many as take as long.
_LEAST_STEPS, _MOST_STEPS, _SECONDS, _LONGEST = 3, 50, 2.0, 20.0
_FEWEST_EXAMPLES, _EXAMPLES = 4, 500


@dataclass(frozen=True)
class Estimate:
    """What a run is expected to take.

    Attributes:
        steps: Optimiser steps of all trainings together, each training counted once.
        trainings: Trainings on the full data and its partitions.
        fewest, most: Trainings, where the agreement of partitions decides how many rounds there
            are.
        seconds: Wall time on the run's workers, from a few measured steps; NaN if they failed.
        bounded: Whether the number of rounds is known; an accuracy stop leaves it open.
        cut_short: Whether there is more to do than is counted: the rehearsal took too long, or an
            arm failed in it.
        epochs: Length of one training.
        bytes: Of the run folder when the run is complete.
        rounds: Of every arm with something left to do, the number of rounds and the last density.
        waits: Whether a training may end early, by its patience.
        examples: Training examples, with repetitions, and those that scores go through.
        flops: Of all trainings, with all weights.
    """

    steps: int
    trainings: int
    fewest: int
    most: int
    seconds: float
    bounded: bool
    epochs: float
    bytes: int
    rounds: Mapping[str, tuple[int, float | None]] = field(default_factory=dict)
    waits: bool = False
    cut_short: bool = False
    examples: int = 0
    flops: int = 0

    @property
    def counted(self) -> str:
        """The trainings and steps in words, with what leaves their number open."""
        text = f"{self.trainings:,} training{'s' * (self.trainings != 1)}"
        if self.fewest != self.most:
            text += f" ({self.fewest:,} to {self.most:,}, as partitions agree on what they prune)"
        return f"{text}, {self.steps:,} steps{' or fewer, by patience' * self.waits}"


@dataclass(frozen=True)
class Measure:
    """Seconds of a training step and of evaluating an example; NaN where neither was measured."""

    step: float
    example: float

    @classmethod
    def of(cls, plans: Plans) -> Measure:
        """Measure a few steps; what they learn is thrown away."""
        try:
            return cls(*_measure(plans))
        except Exception:  # whatever is wrong with a training belongs to the arm that meets it
            return cls(math.nan, math.nan)


def trial(plans: Plans, training: Training) -> tuple[nn.Module, Iterator[Step]]:
    """Begin a training that is only timed: what it learns is thrown away, and its steps have no
    end.

    Take its steps with its own threads and arithmetic, see `alone`. The first one yielded stands
    before any work, every later one has done one more step. It sees whole batches alone: a last,
    smaller one would be traced or compiled while the clock runs.

    Args:
        plans: What is trained, from its initial state and with no weight pruned.
        training: Its settings; the learning rate alone is another one.
    """
    task, seed = plans.task, plans.seed(0)
    # A rate so small that nothing can diverge: that is for the run to find, where it has a name.
    settings = replace(training, lr=1e-12, lr_end=None)
    model = task.build(task.initial_state(), WHOLE, seed)
    part = plans.full_partition(0)
    examples = part.examples or range(task.size(WHOLE, "train"))
    in_whole_batches = len(examples) - len(examples) % settings.batch_size
    if in_whole_batches:
        part = Partition(examples=tuple(examples[:in_whole_batches]))
    batches = task.batches(part, settings.batch_size, seed)
    return model, train(
        model,
        batches,
        settings,
        plans.mask,
        loss=task.loss,
        seed=seed,
        last=sys.maxsize,
        visited=lambda _: False,  # as in a run: nobody touches the model between evaluations
    )


def _measure(plans: Plans) -> tuple[float, float]:
    """Return the seconds of a training step and of evaluating one example."""
    task, settings = plans.task, plans.recipe.training
    with alone(settings, task):
        model, steps = trial(plans, settings)
        times: list[float] = []
        for _ in steps:
            times.append(time.perf_counter())
            taken = times[-1] - times[0]
            enough = len(times) > _LEAST_STEPS and taken > _SECONDS
            # Steps of a large model may take most of a minute each.
            if enough or len(times) > _MOST_STEPS or taken > _LONGEST:
                break
        per_example = _per_example(plans, model)
    # The median: the first steps cost more.
    per_step = statistics.median(after - before for before, after in itertools.pairwise(times))
    return per_step, per_example


def _per_example(plans: Plans, model: nn.Module) -> float:
    """Return the seconds of evaluating one example."""
    task = plans.task
    examples = plans.full_partition(0).examples or range(task.size(WHOLE, "train"))

    def seconds(number: int) -> float:
        few = Partition(examples=tuple(examples[:number]))
        began = time.perf_counter()
        task.measure(model, few, "train")
        return (time.perf_counter() - began) / len(few.examples or ())

    # The first ones warm up, and say how many are measured in time.
    first = seconds(_FEWEST_EXAMPLES)
    if first * _FEWEST_EXAMPLES > _SECONDS:
        return first
    return seconds(min(_EXAMPLES, max(_FEWEST_EXAMPLES, int(_SECONDS / first))))
