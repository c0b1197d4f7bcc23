"""Overlap: whether the cuts of the partitions agree, or the tickets of two arms, beyond chance.

    records          -> [ overlaps ]     -> common weights of each layer and round, against chance
    similarity.jsonl -> [ similarities ] -> the same of two arms' tickets

Masks drawn at random would agree too, and more so where a layer is pruned much. So chance is worked
out in each layer from that layer's own counts, and summed. One rate for the whole model,
(1 - p) ^ N, would be too low, since layers are pruned at different rates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tombola.records.records import Record


@dataclass(frozen=True)
class Overlap:
    """What the candidates of a round, or two tickets, keep in common, in one layer or in all.

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
        """Standard deviations of ``common`` above chance; ``None`` where chance has none."""
        return (self.common - self.expected) / self.deviation if self.deviation > 0 else None

    @property
    def jaccard(self) -> float | None:
        """Weights that both prune / weights that either prunes; ``None`` unless there are two."""
        return self._jaccard(self.common)

    @property
    def jaccard_by_chance(self) -> float | None:
        """The same if the common weights were those of chance."""
        return self._jaccard(self.expected)

    @property
    def jaccard_of_one_rate(self) -> float | None:
        """The same by chance if each had one rate in all layers."""
        common = self.before * math.prod(kept / self.before for kept in self.kept)
        return self._jaccard(common)

    @property
    def jaccard_at_most(self) -> float | None:
        """The most that arithmetic allows: the smaller cut lies within the larger one."""
        return self._jaccard(min(self.kept))

    @property
    def beyond_chance(self) -> float | None:
        """Where the common weights lie between chance, 0, and the maximum, 1; below 0 is below
        chance.
        """
        most = min(self.kept)
        if most <= self.expected:
            return None
        return (self.common - self.expected) / (most - self.expected)

    def _jaccard(self, common: float) -> float | None:
        if len(self.kept) != 2 or common == self.before:
            return None
        either = self.before - common
        both = self.before - sum(self.kept) + common
        return both / either


def by_chance(before: int, kept: Sequence[int]) -> tuple[float, float]:
    """Return mean and standard deviation of how many weights are kept by all, by chance.

    For two that is the hypergeometric distribution.

    Args:
        before: Weights that there are.
        kept: How many of them each keeps, at random.

    >>> mean, deviation = by_chance(10, [5, 4])
    >>> round(mean, 4), round(deviation**2, 4)
    (2.0, 0.6667)
    """
    if before < 2:
        return float(min(kept)) if before and min(kept) == before else 0.0, 0.0
    mean = before * math.prod(number / before for number in kept)
    # The expected number of ordered pairs of different weights that are both kept by all.
    pairs = before * (before - 1)
    kept_pairs = pairs * math.prod(number * (number - 1) / pairs for number in kept)
    return mean, math.sqrt(max(0.0, kept_pairs + mean - mean * mean))


def overlaps(before: Record | None, record: Record) -> dict[str, Overlap]:
    """Return the overlap of each layer's candidates in a round; nothing of fewer than two.

    Args:
        before: The record of the round before; ``None`` for partitions that search independently,
            whose candidates are cuts of the dense network.
        record: The round's.

    >>> record = {"layers": {"w": [3, 10]}, "candidate_layers": {"w": [5, 4]}}
    >>> overlap = overlaps({"layers": {"w": [10, 10]}}, record)["w"]
    >>> overlap.common, overlap.expected
    (3, 2.0)
    >>> round(overlap.jaccard, 4), round(overlap.jaccard_by_chance, 4)
    (0.5714, 0.375)
    """
    candidates: Mapping[str, Sequence[int]] = record.get("candidate_layers") or {}
    by_layer = {}
    for name, kept in candidates.items():
        if len(kept) < 2:
            return {}
        common, size = record["layers"][name]
        weights_before = size if before is None else before["layers"][name][0]
        if weights_before:
            chance = by_chance(weights_before, kept)
            by_layer[name] = Overlap(weights_before, tuple(kept), common, *chance)
    return by_layer


def together(layers: Mapping[str, Overlap]) -> Overlap:
    """Return the overlap of all layers: counts and chance summed, since layers are independent.

    >>> one = Overlap(10, (5, 4), 3, 2.0, 3.0)
    >>> together({"a": one, "b": Overlap(10, (5, 4), 2, 2.0, 4.0)})
    Overlap(before=20, kept=(10, 8), common=5, expected=4.0, deviation=5.0)
    """
    overlaps = layers.values()
    kept_by_layer = [overlap.kept for overlap in overlaps]
    return Overlap(
        before=sum(overlap.before for overlap in overlaps),
        kept=tuple(map(sum, zip(*kept_by_layer, strict=True))),
        common=sum(overlap.common for overlap in overlaps),
        expected=sum(overlap.expected for overlap in overlaps),
        deviation=math.sqrt(sum(overlap.deviation**2 for overlap in overlaps)),
    )


def similarities(line: Mapping[str, Any], *, by_start: int | None = None) -> dict[str, Overlap]:
    """Return the overlap of two arms' tickets in each layer, from a line of ``similarity.jsonl``.

    Similarity is Jaccard's: weights that both prune over weights that either prunes. COLT
    (arXiv:2212.12770, Fig. 7) prints how similar the weights are that COLT and LTH prune, 20 % at a
    sparsity of 28 % and 50 % at 48 %, but not what is divided by what. As a part of all weights the
    second is more than there can be; as a part of the pruned ones the first is less than chance
    gives (28 %). By Jaccard's both are possible: chance gives 16 and 32 %.

    Args:
        line: Of two tickets, see `tombola.folder.similarity`.
        by_start: Instead, the overlap of the first (0) or second (1) ticket with the mask that has
            the other's counts in each layer and keeps the weights that were largest to begin with:
            what needs no training to be known.

    >>> line = {"layers": {"w": [10, 5, 4, 3, 2, 2]}}
    >>> overlap = similarities(line)["w"]
    >>> overlap.common, overlap.expected, similarities(line, by_start=0)["w"].common
    (3, 2.0, 2)
    """
    by_layer = {}
    for name, (before, first, second, *commons) in line["layers"].items():
        common = commons[0] if by_start is None else commons[1 + by_start]
        chance = by_chance(before, (first, second))
        by_layer[name] = Overlap(before, (first, second), common, *chance)
    return by_layer
