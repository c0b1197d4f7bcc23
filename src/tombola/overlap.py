"""Overlap: whether the cuts of the partitions agree, and with what chance alone would give.

    records -> [ overlaps ] -> common weights of each layer and round, against chance

Candidates that were drawn at random would agree too, and more so where a layer is pruned much: chance is worked out in
each layer from that layer's own counts, and summed. One rate for the whole model, (1 - p) ^ N, is too low, since layers
are pruned at different rates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tombola.records import Record


@dataclass(frozen=True)
class Overlap:
    """What the candidates of a round keep in common, in a layer or in all of them.

    Attributes:
        before: Weights that there were.
        kept: How many each candidate keeps.
        common: How many all keep.
        expected: How many all would keep by chance, each keeping as many as it does.
        deviation: Standard deviation of that number by chance.
    """

    before: int
    kept: tuple[int, ...]
    common: int
    expected: float
    deviation: float

    @property
    def fraction(self) -> float:
        """Kept by all, as a fraction."""
        return self.common / self.before

    @property
    def z(self) -> float | None:
        """How many standard deviations the common weights are above chance; ``None`` where chance leaves no choice."""
        return (self.common - self.expected) / self.deviation if self.deviation > 0 else None

    @property
    def jaccard(self) -> float | None:
        """Of two candidates: weights that both prune over weights that either prunes; ``None`` for other numbers."""
        return self._jaccard(self.common)

    @property
    def jaccard_by_chance(self) -> float | None:
        """The same if the common weights were those of chance."""
        return self._jaccard(self.expected)

    def _jaccard(self, common: float) -> float | None:
        if len(self.kept) != 2 or common == self.before:
            return None
        either = self.before - common
        both = self.before - sum(self.kept) + common
        return both / either


def by_chance(before: int, kept: Sequence[int]) -> tuple[float, float]:
    """Return mean and standard deviation of how many of ``before`` weights all keep who each keep so many at random.

    For two that is the hypergeometric distribution.

    >>> mean, deviation = by_chance(10, [5, 4])
    >>> round(mean, 4), round(deviation**2, 4)
    (2.0, 0.6667)
    """
    if before < 2:
        return float(min(kept)) if before and min(kept) == before else 0.0, 0.0
    mean = before * math.prod(one / before for one in kept)
    # Of two different weights: both are kept by all.
    pairs = before * (before - 1) * math.prod(one * (one - 1) / (before * (before - 1)) for one in kept)
    return mean, math.sqrt(max(0.0, pairs + mean - mean * mean))


def overlaps(before: Record | None, record: Record) -> dict[str, Overlap]:
    """Return the overlap of each layer's candidates in a round; nothing where there are not two or more.

    Args:
        before: The record of the round before; ``None`` for partitions that search apart, whose candidates are cuts of
            the dense network.
        record: The round's.

    >>> found = overlaps({"layers": {"w": [10, 10]}},
    ...                  {"layers": {"w": [3, 10]}, "candidate_layers": {"w": [5, 4]}})["w"]
    >>> found.common, found.expected, round(found.jaccard, 4), round(found.jaccard_by_chance, 4)
    (3, 2.0, 0.5714, 0.375)
    """
    candidates: Mapping[str, Sequence[int]] = record.get("candidate_layers") or {}
    found = {}
    for name, kept in candidates.items():
        if len(kept) < 2:
            return {}
        number = record["layers"][name][1] if before is None else before["layers"][name][0]
        if number:
            found[name] = Overlap(number, tuple(kept), record["layers"][name][0], *by_chance(number, kept))
    return found


def together(layers: Mapping[str, Overlap]) -> Overlap:
    """Return the overlap of all layers: counts and chance summed, since layers are independent of each other.

    >>> one = Overlap(10, (5, 4), 3, 2.0, 3.0)
    >>> together({"a": one, "b": Overlap(10, (5, 4), 2, 2.0, 4.0)})
    Overlap(before=20, kept=(10, 8), common=5, expected=4.0, deviation=5.0)
    """
    each = list(layers.values())
    return Overlap(
        before=sum(one.before for one in each),
        kept=tuple(map(sum, zip(*(one.kept for one in each), strict=True))),
        common=sum(one.common for one in each),
        expected=sum(one.expected for one in each),
        deviation=math.sqrt(sum(one.deviation**2 for one in each)),
    )
