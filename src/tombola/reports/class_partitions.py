"""Class partitions: which examples and boxes they take where an example holds several classes.

    records with shares of partitions -> [ summed up by arm ] -> table, sentence

A picture belongs to every partition that has an object of its own classes, so partitions overlap,
and what becomes of the other objects on it depends on the arm's policy for ``others``.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from tombola.evidence.answers import once
from tombola.reports import aggregate
from tombola.reports.aggregate import Record
from tombola.reports.grids import Grid, listed

Shares = Mapping[str, float]  # of one partition, by what is counted

# By the names in records; what a task counts besides stands behind these.
_HEADS = {
    "pictures": "pictures",
    "shared_pictures": "with other classes",
    "own_boxes": "own boxes",
    "other_boxes": "other boxes",
    "lost_pictures": "lost pictures",
    "lost_boxes": "lost boxes",
}
_PARTS = {  # of what a count is shown as a share, too: the count itself and the rest of the whole
    "shared_pictures": ("shared_pictures", "pictures"),
    "other_boxes": ("other_boxes", "own_boxes"),
    "lost_pictures": ("lost_pictures", "pictures"),
    "lost_boxes": ("lost_boxes", "own_boxes"),
}


@once
def shares_by_arm(records: Sequence[Record]) -> dict[str, list[Shares]]:
    """Return what was counted of each partition of each replicate, by arm.

    A replicate's partitions are the same in every round, so they count once.
    """
    by_arm: dict[str, list[Shares]] = {}
    seen = set()
    for record in records:
        key = record["arm"], record["replicate"]
        shares = record.get("partition_shares")
        if shares and key not in seen:
            seen.add(key)
            by_arm.setdefault(record["arm"], []).extend(shares)
    return by_arm


def share_of(shares: Shares, name: str) -> float | None:
    """Return a count as a fraction of what it is a part of; ``None`` where there is no such whole.

    >>> share_of({"pictures": 40, "shared_pictures": 10}, "shared_pictures")
    0.25
    >>> share_of({"own_boxes": 60, "lost_boxes": 20}, "lost_boxes")
    0.25
    """
    if name not in _PARTS or not set(_PARTS[name]) <= shares.keys():
        return None
    part, rest = (shares[entry] for entry in _PARTS[name])
    # Shared pictures are among the pictures; all other parts are beside the rest.
    whole = rest if name == "shared_pictures" else part + rest
    return part / whole if whole else 0.0


def partition_grid(records: Sequence[Record]) -> Grid:
    """Return what a partition of each arm takes, as text: the mean of its partitions and
    replicates, the lowest and the highest.
    """
    by_arm = shares_by_arm(records)
    names = dict.fromkeys(name for name in _HEADS if _is_counted(name, by_arm))
    for shares in by_arm.values():
        for of_partition in shares:
            names |= dict.fromkeys(of_partition)
    heads = ["partitions"]
    for name in names:
        heads.append(_HEADS.get(name, name.replace("_", " ")))
        if name in _PARTS:
            heads.append("%")
    rows = []
    for arm in aggregate.arms(records):
        if arm in by_arm:
            cells = [arm, str(len(by_arm[arm]))]
            for name in names:
                cells += _cells(by_arm[arm], name)
            rows.append(cells)
    return Grid("What a partition of classes takes", ["arm"], [("", heads)], rows)


def _is_counted(name: str, by_arm: Mapping[str, Sequence[Shares]]) -> bool:
    return any(name in shares for of_arm in by_arm.values() for shares in of_arm)


def _cells(partitions: Sequence[Shares], name: str) -> list[str]:
    counted = [shares[name] for shares in partitions if name in shares]
    cells = [_with_range(counted)]
    if name in _PARTS:
        fractions = [share_of(shares, name) for shares in partitions]
        known = [100 * fraction for fraction in fractions if fraction is not None]
        cells.append(_with_range(known))
    return cells


def _with_range(values: Sequence[float]) -> str:
    """Return a mean with the lowest and the highest value, in whole numbers.

    >>> _with_range([10, 13]), _with_range([7, 7])
    ('12 (10 to 13)', '7')
    """
    if not values:
        return ""
    low, high = f"{min(values):,.0f}", f"{max(values):,.0f}"
    mean = f"{statistics.fmean(values):,.0f}"
    return mean if low == high else f"{mean} ({low} to {high})"


def partition_lines(records: Sequence[Record]) -> list[str]:
    """Say which share of a partition's pictures and boxes is concerned, a line each."""
    shared, foreign, lost = [], [], []
    for arm, partitions in shares_by_arm(records).items():
        of_pictures = _mean_share(partitions, "shared_pictures")
        of_boxes = _mean_share(partitions, "other_boxes")
        of_lost = _mean_share(partitions, "lost_boxes")
        if of_pictures is not None:
            shared.append(f"{of_pictures} in {arm}")
        if of_boxes is not None:
            foreign.append(f"{of_boxes} in {arm}")
        if of_lost is not None and any(shares["lost_boxes"] for shares in partitions):
            lost.append(f"{of_lost} in {arm}")
    lines = []
    if shared:
        lines.append(
            f"Pictures of a partition that show classes of other partitions, too: {listed(shared)}."
        )
    if foreign:
        lines.append(
            f"Boxes on a partition's pictures that are of other classes: {listed(foreign)}."
        )
    if lost:
        lines.append(f"Boxes of its own classes that a partition loses: {listed(lost)}.")
    return lines


def _mean_share(partitions: Sequence[Shares], name: str) -> str | None:
    fractions = [share_of(shares, name) for shares in partitions]
    known = [fraction for fraction in fractions if fraction is not None]
    return f"{100 * statistics.fmean(known):.0f} %" if known else None
