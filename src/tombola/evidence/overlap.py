"""Overlap: whether the cuts of the partitions agree, or the tickets of two arms, and what chance
alone would give.

    records          -> [ overlaps ]     -> common weights of each layer and round, against chance
    similarity.jsonl -> [ similarities ] -> the same of two arms' tickets

Masks that were drawn at random would agree too, and more so where a layer is pruned much: chance is
worked out in each layer from that layer's own counts, and summed. One rate for the whole model, (1
- p) ^ N, is too low, since layers are pruned at different rates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tombola.records.records import Record


@dataclass(frozen=True)
class Overlap:
    """What the candidates of a round, or two tickets, keep in common, in a layer or in all of them.

    Attributes:
        before: Weights that there were.
        kept: How many each of them keeps.
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
        """How many standard deviations the common weights are above chance; ``None`` where
        chance leaves no choice.
        """
        return (self.common - self.expected) / self.deviation if self.deviation > 0 else None

    @property
    def jaccard(self) -> float | None:
        """Of two: weights that both prune over weights that either prunes; ``None`` for other
        numbers.
        """
        return self._jaccard(self.common)

    @property
    def jaccard_by_chance(self) -> float | None:
        """The same if the common weights were those of chance."""
        return self._jaccard(self.expected)

    @property
    def jaccard_of_one_rate(self) -> float | None:
        """The same by chance if each had one rate in all layers."""
        return self._jaccard(self.before * math.prod(one / self.before for one in self.kept))

    @property
    def jaccard_at_most(self) -> float | None:
        """The most that arithmetic allows: the smaller cut lies within the larger one."""
        return self._jaccard(min(self.kept))

    @property
    def beyond_chance(self) -> float | None:
        """Where the common weights lie between chance, 0, and the most that is possible, 1;
        below 0 is below chance.
        """
        most = min(self.kept)
        return (
            (self.common - self.expected) / (most - self.expected) if most > self.expected else None
        )

    def _jaccard(self, common: float) -> float | None:
        if len(self.kept) != 2 or common == self.before:
            return None
        either = self.before - common
        both = self.before - sum(self.kept) + common
        return both / either


def by_chance(before: int, kept: Sequence[int]) -> tuple[float, float]:
    """Return mean and standard deviation of how many of ``before`` weights all keep who each keep
    so many at random.

    For two that is the hypergeometric distribution.

    >>> mean, deviation = by_chance(10, [5, 4])
    >>> round(mean, 4), round(deviation**2, 4)
    (2.0, 0.6667)
    """
    if before < 2:
        return float(min(kept)) if before and min(kept) == before else 0.0, 0.0
    mean = before * math.prod(one / before for one in kept)
    # Of two different weights: both are kept by all.
    pairs = (
        before * (before - 1) * math.prod(one * (one - 1) / (before * (before - 1)) for one in kept)
    )
    return mean, math.sqrt(max(0.0, pairs + mean - mean * mean))


def overlaps(before: Record | None, record: Record) -> dict[str, Overlap]:
    """Return the overlap of each layer's candidates in a round; nothing where there are not two or
    more.

    Args:
        before: The record of the round before; ``None`` for partitions that search apart, whose
            candidates are cuts of the dense network.
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
            found[name] = Overlap(
                number, tuple(kept), record["layers"][name][0], *by_chance(number, kept)
            )
    return found


def together(layers: Mapping[str, Overlap]) -> Overlap:
    """Return the overlap of all layers: counts and chance summed, since layers are independent of
    each other.

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


def similarities(line: Mapping[str, Any], *, by_start: int | None = None) -> dict[str, Overlap]:
    """Return the overlap of two arms' tickets in each layer, from a line of ``similarity.jsonl``.

    COLT (arXiv:2212.12770, Fig. 7) prints how similar the weights are that COLT and LTH prune, and
    not what is divided by what: 20 % at a sparsity of 28 %, 50 % at 48 %. As a part of all weights
    the second is more than there can be, as a part of the pruned ones the first is less than chance
    gives (28 %). Ours is Jaccard's, weights that both prune over weights that either prunes, by
    which both can be: chance gives 16 and 32 %.

    Args:
        line: Of two tickets, see `tombola.folder.similarity`.
        by_start: Instead, the overlap of the first (0) or second (1) ticket with the mask that has
            the other's counts in each layer and keeps the weights that were largest to begin with:
            what needs no training to be known.

    >>> line = {"layers": {"w": [10, 5, 4, 3, 2, 2]}}
    >>> found = similarities(line)["w"]
    >>> found.common, found.expected, similarities(line, by_start=0)["w"].common
    (3, 2.0, 2)
    """
    found = {}
    for name, (before, one, other, *common) in line["layers"].items():
        together = common[0] if by_start is None else common[1 + by_start]
        found[name] = Overlap(before, (one, other), together, *by_chance(before, (one, other)))
    return found
