"""Harness: sides measured in turn, ratios of medians with their intervals, goals.

interleave -> { side: seconds } -> [ ratio | single ] -> Line -> judged by its Goal
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000


class NotRun(Exception):  # noqa: N818 - it is no error: the row says in one line why it was not run
    """A row cannot be measured here: a peer, data or memory is missing."""


@dataclass(frozen=True)
class Goal:
    """What a line of a row is to reach.

    Attributes:
        line: Name of the line that it judges.
        sign: ">=" judges the lower end of the interval; "<" and "<=" the upper end.
        value: In ``unit``.
        unit: "x" for a ratio.
    """

    line: str
    sign: Literal[">=", "<", "<="]
    value: float
    unit: str = "x"

    def met(self, low: float, high: float) -> bool:
        """Whether the whole interval is on the good side.

        >>> Goal("step", ">=", 8).met(7.9, 9.0), Goal("time", "<", 6, "s").met(4.0, 5.9)
        (False, True)
        """
        if self.sign == ">=":
            return low >= self.value
        return high < self.value if self.sign == "<" else high <= self.value

    def __str__(self) -> str:
        return f"{self.sign} {self.value:g}{' ' + self.unit if self.unit else ''}"


@dataclass(frozen=True)
class Line:
    """One number of a row, with its interval.

    Attributes:
        name: Names it within its row; a goal finds it by this.
        value: In ``unit``.
        low: Lower end of the 95 % interval.
        high: Upper end.
        unit: "x" where it is a ratio: theirs / ours, above 1 is better for us.
        ours: What was measured, one number a repetition, in ``each``.
        theirs: The other side, paired with ``ours``; empty for a single number.
        each: Unit of what was measured.
        against: Who the other side is.
        note: What a reader must know.
    """

    name: str
    value: float
    low: float
    high: float
    unit: str = "x"
    ours: Sequence[float] = ()
    theirs: Sequence[float] = ()
    each: str = "s"
    against: str = ""
    note: str = ""


@dataclass(frozen=True)
class Series:
    """What a row draws: a number over another one, with the range of its repetitions.

    Attributes:
        title: Of the figure.
        x: Title of the horizontal axis.
        y: Title of the vertical axis.
        points: ``{"x": ..., "y": ..., "low": ..., "high": ..., "name": ...}``, one curve a name.
        log: Whether both axes are logarithmic.
    """

    title: str
    x: str
    y: str
    points: Sequence[Mapping[str, Any]]
    log: bool = False


@dataclass(frozen=True)
class Measured:
    """What measuring a row gave."""

    lines: Sequence[Line]
    series: Sequence[Series] = ()
    notes: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Measured:
        """Read it from JSON data."""
        lines = [Line(**line) for line in plain["lines"]]
        series = [Series(**drawn) for drawn in plain["series"]]
        return cls(lines, series, list(plain["notes"]))


@dataclass(frozen=True)
class Settings:
    """How rows are measured.

    Attributes:
        repeats: Repetitions of each row; its own number if not given.
        quick: Everything as small as it works: to see that a row runs, never to measure.
        seed: Of the order of the sides, the data and the bootstrap.
        data_root: Root of the data sets; tombola's default if not given.
        open_lth: A clone of open_lth.
    """

    repeats: int | None = None
    quick: bool = False
    seed: int = 0
    data_root: str | None = None
    open_lth: str | None = None

    def times(self, default: int) -> int:
        """Return the repetitions of a row.

        >>> Settings().times(20), Settings(quick=True).times(20), Settings(repeats=3).times(20)
        (20, 2, 3)
        """
        return self.repeats or (2 if self.quick else default)

    def scaled(self, full: int, quick: int) -> int:
        """Return the full size, or the quick one."""
        return quick if self.quick else full

    @property
    def root(self) -> Path | None:
        """The data root as a path."""
        return None if self.data_root is None else Path(self.data_root)


@dataclass(frozen=True)
class Row:
    """What is known of a row before it is measured.

    Attributes:
        place: Rows are run and shown in this order.
        title: What is measured, in a few words.
        against: Who is on the other side; empty for a row of ours alone.
        goals: What its lines are to reach.
    """

    place: int
    title: str
    against: str = ""
    goals: Sequence[Goal] = field(default_factory=tuple)


def interleave(
    sides: Mapping[str, Callable[[], float]], repeats: int, seed: int, *, warm: int = 1
) -> dict[str, list[float]]:
    """Measure the sides in turn and return the numbers of each.

    The order is drawn anew in each repetition: a slow spell of the machine then meets all sides of
    a repetition, and none always comes after the other.

    Args:
        sides: Each measures itself once and returns its number.
        repeats: How often, after the warm-up.
        seed: Of the order.
        warm: Repetitions that are thrown away.

    >>> interleave({"a": lambda: 1.0, "b": lambda: 2.0}, 2, seed=0)
    {'a': [1.0, 1.0], 'b': [2.0, 2.0]}
    """
    order, names = random.Random(seed), list(sides)
    numbers: dict[str, list[float]] = {name: [] for name in names}
    for repetition in range(-warm, repeats):
        order.shuffle(names)
        for name in names:
            number = sides[name]()
            if repetition >= 0:
                numbers[name].append(number)
    return numbers


def ratio(
    name: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    seed: int = 0,
    each: str = "s",
    **facts: str,
) -> Line:
    """Divide the median of theirs by the median of ours; above 1, ours is smaller.

    The interval is the 95 % percentile bootstrap of this ratio. Whole repetitions are drawn again,
    and not each side by itself: the sides were measured one after the other and share what the
    machine did meanwhile.

    >>> line = ratio("step", [1.0, 1.0, 1.0], [8.0, 8.0, 8.0])
    >>> line.value, line.low, line.high
    (8.0, 8.0, 8.0)
    """
    ours_, theirs_ = np.asarray(ours, float), np.asarray(theirs, float)
    if len(ours_) != len(theirs_) or not len(ours_):
        raise ValueError(
            f"{len(ours_)} numbers of ours and {len(theirs_)} of theirs; repetitions are paired"
        )
    drawn = _drawn(len(ours_), seed)
    low, high = _interval(_medians(theirs_[drawn]) / _medians(ours_[drawn]))
    value = float(np.median(theirs_) / np.median(ours_))
    return Line(name, value, low, high, "x", list(ours), list(theirs), each, **facts)


def single(name: str, numbers: Sequence[float], unit: str, *, seed: int = 0, **facts: str) -> Line:
    """Take the median of numbers, with its 95 % percentile bootstrap interval.

    >>> line = single("help", [0.1, 0.2, 0.2], "s")
    >>> line.value, line.low, line.high
    (0.2, 0.1, 0.2)
    """
    values = np.asarray(numbers, float)
    low, high = _interval(_medians(values[_drawn(len(values), seed)]))
    median = float(np.median(values))
    return Line(name, median, low, high, unit, list(numbers), each=unit, **facts)


def difference(
    name: str,
    more: Sequence[float],
    less: Sequence[float],
    unit: str,
    *,
    seed: int = 0,
    note: str = "",
) -> Line:
    """Subtract the median of ``less`` from that of ``more``, with the paired bootstrap interval."""
    more_, less_ = np.asarray(more, float), np.asarray(less, float)
    drawn = _drawn(len(more_), seed)
    low, high = _interval(_medians(more_[drawn]) - _medians(less_[drawn]))
    value = float(np.median(more_) - np.median(less_))
    return Line(name, value, low, high, unit, list(more), list(less), unit, note=note)


def exact(name: str, number: float, unit: str = "", note: str = "") -> Line:
    """Give a number that was counted and not measured: it has no interval."""
    return Line(name, number, number, number, unit, [number], each=unit, note=note)


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Fit a straight line by least squares and return how steep it is.

    >>> round(slope([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]), 6)
    2.0
    """
    return float(np.polyfit(x, y, 1)[0])


def verdict(goal: Goal | None, line: Line | None) -> str:
    """Say "met", "missed" or "not run"; an empty text where there is no goal.

    >>> verdict(Goal("step", ">=", 8), ratio("step", [1.0], [9.0]))
    'met'
    """
    if goal is None:
        return ""
    if line is None or not math.isfinite(line.value):
        return "not run"
    return "met" if goal.met(line.low, line.high) else "missed"


def _drawn(number: int, seed: int) -> NDArray[np.int64]:
    """Draw repetitions again, many times over."""
    return np.random.default_rng(seed).integers(0, number, (RESAMPLES, number))


def _medians(resampled: NDArray[np.float64]) -> NDArray[np.float64]:
    medians: NDArray[np.float64] = np.median(resampled, axis=1)
    return medians


def _interval(numbers: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(numbers, [0.025, 0.975])
    return float(low), float(high)
