"""Schedules of what changes a mask during a training, as plain data and arithmetic.

Gradual pruning removes weights; dynamic sparse training exchanges them. Needs no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from tombola.ground.checking import take_own_numbers_
from tombola.ground.errors import ConfigError, shown
from tombola.masks.scope_choices import ScopeChoice

_MOST_CUTS = 100_000  # of one training, and exchanges of weights


@dataclass(frozen=True)
class PruningSchedule:
    """When gradual pruning removes weights.

    Attributes:
        begin: The first cut, as a fraction of the training's steps.
        end: The last cut, likewise; the training continues to its end with what is left.
        every: Steps between two cuts.
        initial: Density that the first cut leaves.
    """

    begin: float = 0.0
    end: float = 0.75
    every: int = 100
    initial: float = 1.0

    def __post_init__(self) -> None:
        # Numbers of numpy would not be digested as Python's are.
        take_own_numbers_(self)
        if not 0 <= self.begin < self.end <= 1:
            raise ConfigError(
                f"pace goes from {self.begin:g} to {self.end:g}; they are fractions of the "
                "training, begin before end"
            )
        if self.every < 1:
            raise ConfigError(
                f"pace.every is {shown(self.every)}; it is a number of steps, 1 or more"
            )
        if not 0 < self.initial <= 1:
            raise ConfigError(
                f"pace.initial is {self.initial:g}; a density is above 0 and at most 1"
            )


@dataclass(frozen=True)
class Gradual:
    """Gradual pruning to one density, as plain data of a job.

    Attributes:
        density: What the last cut leaves of the prunable weights, in every group of the scope.
        pace: When weights are removed.
        score: What weights are ranked by.
        scope: Which weights compete.
    """

    density: float
    pace: PruningSchedule = field(default_factory=PruningSchedule)
    score: str = "magnitude"
    scope: ScopeChoice = "whole_model"

    name: ClassVar[str] = "gradual"
    driver: ClassVar[str] = "tombola.training.gradual:Pruner"

    def __post_init__(self) -> None:
        take_own_numbers_(self)


def densities(gradual: Gradual, steps: int) -> dict[int, float]:
    """Return the density that each cut leaves, by the number of steps before it.

    In sparsity s: s(t) = s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3, with a first cut at t_0, n
    more every dt steps.

    Args:
        gradual: The density and the schedule.
        steps: Of the full training.

    Raises:
        ConfigError: The training is too short for a second cut.

    Source:
        Zhu & Gupta 2017, arXiv:1710.01878, equation 1.

    >>> gradual = Gradual(0.1, PruningSchedule(begin=0.0, end=1.0, every=50))
    >>> {step: round(density, 4) for step, density in densities(gradual, 100).items()}
    {0: 1.0, 50: 0.2125, 100: 0.1}
    """
    pace = gradual.pace
    first, last = round(pace.begin * steps), round(pace.end * steps)
    cuts = (last - first) // pace.every  # n, beside the first one
    # With a single cut there is nothing gradual, and the formula divides by n.
    if cuts < 1:
        raise ConfigError(
            f"pace.every is {pace.every}, and there are {last - first} steps to prune in, from "
            f"{first} to {last} of {steps}; it must be less"
        )
    if cuts > _MOST_CUTS:
        raise ConfigError(
            f"pace.every is {pace.every}, which makes {cuts:,} cuts in the {last - first:,} steps "
            f"from {first:,} to {last:,}; take more, such as {1 + (last - first) // 1000:,}"
        )
    # The equation in densities: 1 - s on both sides.
    change = gradual.density - pace.initial
    if change >= 0:
        raise ConfigError(
            f"the density {gradual.density:g} is not below pace.initial, which is {pace.initial:g}"
        )
    schedule = {}
    for index in range(cuts + 1):
        step = first + index * pace.every
        schedule[step] = gradual.density - change * (1 - index / cuts) ** 3
    return schedule


@dataclass(frozen=True)
class RegrowthSchedule:
    """When dynamic sparse training exchanges weights.

    Attributes:
        every: Steps between two exchanges.
        fraction: Fraction of each layer's kept weights that is exchanged, at the beginning; it
            falls to 0 along half a cosine.
        end: Where it has fallen to 0, as a fraction of the training's steps.
    """

    every: int = 100
    fraction: float = 0.3
    end: float = 0.75

    def __post_init__(self) -> None:
        take_own_numbers_(self)
        if self.every < 1:
            raise ConfigError(
                f"pace.every is {shown(self.every)}; it is a number of steps, 1 or more"
            )
        if not 0 < self.fraction < 1:
            raise ConfigError(
                f"pace.fraction is {self.fraction:g}; it is a fraction of each layer's kept "
                "weights, between 0 and 1"
            )
        if not 0 < self.end <= 1:
            raise ConfigError(
                f"pace.end is {self.end:g}; it is a fraction of the training, above 0 and at most 1"
            )


@dataclass(frozen=True)
class RegrowAtRandom:
    """Exchange weights for others at random while a training runs, as plain data of a job.

    Attributes:
        pace: When weights are exchanged, and how many.
    """

    pace: RegrowthSchedule = field(default_factory=RegrowthSchedule)

    name: ClassVar[str] = "regrow_at_random"
    driver: ClassVar[str] = "tombola.training.regrowth:RandomRegrower"


@dataclass(frozen=True)
class RegrowByGradient:
    """Exchange weights for those with the largest gradients, as plain data of a job.

    Attributes:
        pace: When weights are exchanged, and how many.
    """

    pace: RegrowthSchedule = field(default_factory=RegrowthSchedule)

    name: ClassVar[str] = "regrow_by_gradient"
    driver: ClassVar[str] = "tombola.training.regrowth:GradientRegrower"


def exchanges(pace: RegrowthSchedule, first: int, steps: int) -> dict[int, float]:
    """Return the fraction that each exchange replaces, by the number of steps before it.

    f(t) = fraction / 2 * (1 + cos(pi t / T_end)). Here t counts from the beginning of this
    training, also where it begins at a rewind point; the authors' code counts from step 0 even
    where updates begin later. The first exchange is after ``every`` steps.

    Args:
        pace: The schedule.
        first: Steps done before this training.
        steps: Of the full training.

    Raises:
        ConfigError: The training is too short for an exchange, or has too many of them.

    Source:
        Evci et al. 2020, arXiv:1911.11134, section 3 (2).

    >>> pace = RegrowthSchedule(every=25, fraction=0.3, end=1.0)
    >>> {step: round(fraction, 4) for step, fraction in exchanges(pace, 0, 100).items()}
    {25: 0.2561, 50: 0.15, 75: 0.0439}
    """
    end = round(pace.end * steps)
    if pace.every >= end - first:
        raise ConfigError(
            f"pace.every is {pace.every}, and there are {max(0, end - first)} steps to exchange "
            f"weights in, from {first} to {end} of {steps}; it must be less"
        )
    if (end - first) // pace.every > _MOST_CUTS:
        raise ConfigError(
            f"pace.every is {pace.every}, which makes {(end - first) // pace.every:,} exchanges of "
            f"weights; take more, such as {1 + (end - first) // 1000:,}"
        )
    fractions = {}
    for step in range(first + pace.every, end, pace.every):
        passed = (step - first) / (end - first)
        fractions[step] = pace.fraction / 2 * (1 + math.cos(math.pi * passed))
    return fractions
