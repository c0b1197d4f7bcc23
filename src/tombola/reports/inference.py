"""Inference: what a trained ticket costs an example, as counted and as measured.

records, latency.json -> [ grid, lines ] -> table, page
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tombola.evidence.comparisons import DENSE
from tombola.reports import aggregate
from tombola.reports.aggregate import Record
from tombola.reports.decisions import Asked
from tombola.reports.grids import Grid, percent


def inference_grid(records: Sequence[Record], asked: Asked) -> Grid:
    """Return what the dense network and each arm's sparsest tickets cost an example, as text.

    Args:
        records: Of the whole experiment; those of before FLOPs were counted have none.
        asked: Has what was measured.
    """
    measured = {row["arm"]: row for row in asked.latency.get("rows", ())}
    sizes: set[int] = set()  # of batches
    for row in measured.values():
        sizes |= {_size(key) for key in row if key.startswith("batch_")}
    rows = []
    has_numbers = False
    for arm, tickets in _sparsest(records).items():
        dense, sparse = [], []
        for record in tickets:
            if record.get("inference_flops"):
                flops, flops_sparse = record["inference_flops"]
                dense.append(flops)
                sparse.append(flops_sparse)
        of_arm = measured.get(arm, {})
        times = [_clock(of_arm.get(f"batch_{size}")) for size in sorted(sizes)]
        density = percent(statistics.fmean(aggregate.values(tickets, "density")))
        cells = [str(len(tickets)), _weights(tickets), _millions(dense), _millions(sparse)]
        rows.append([arm, density, *cells, *times])
        has_numbers = has_numbers or bool(dense) or any(times)
    heads = ["n", "weights", "MFLOP dense", "MFLOP sparse"]
    heads += [f"{size} example{'s' * (size > 1)}, ms" for size in sorted(sizes)]
    return Grid(
        title="Inference of the sparsest tickets",
        labels=["arm", "density %"],
        groups=[("", heads)],
        rows=rows if has_numbers else [],
    )


def inference_lines(records: Sequence[Record], asked: Asked) -> list[str]:
    """Say how that table is to be read; nothing where no time was measured.

    >>> inference_lines([], Asked())
    []
    """
    if not asked.latency or not inference_grid(records, asked).rows:
        return []
    threads = asked.latency["threads"]
    where = f"on {threads} thread{'s' * (threads > 1)}"
    if asked.latency["device"] == "cuda":
        where = "on a GPU"
    lines = [
        "FLOP of an example are counted, with all weights and with the kept ones alone. Times are "
        f"measured, the networks in turn {where}: median and, in brackets, the middle half. "
        "Masking alone gives no speed-up: tickets are timed as dense networks with zeroed weights."
    ]
    left_out = asked.latency.get("left_out")
    if left_out:
        batches = " and ".join(map(str, left_out))
        lines.append(f"Batches of {batches} would take minutes, and were not timed.")
    return lines


def _sparsest(records: Sequence[Record]) -> Mapping[str, list[Record]]:
    """Return the dense networks, and each arm's sparsest tickets that keep anything, one a
    replicate.
    """
    dense = aggregate.firsts([record for record in records if record["round"] == 0], 1.0)
    sparsest = {DENSE: dense} if dense else {}
    for arm in aggregate.arms(records):
        by_replicate: dict[int, Record] = {}
        for record in aggregate.of_arm(records, arm):
            if 0 < record["density"] < 1:
                best = by_replicate.setdefault(record["replicate"], record)
                if record["density"] < best["density"]:
                    by_replicate[record["replicate"]] = record
        if by_replicate:
            sparsest[arm] = list(by_replicate.values())
    return sparsest


def _weights(tickets: Sequence[Record]) -> str:
    """Return how many weights tickets have, those that cannot be pruned among them."""
    numbers = []
    for record in tickets:
        if "total" in record:
            numbers.append(record["total"] - record["prunable"] + record["kept"])
    return f"{statistics.fmean(numbers):,.0f}" if numbers else ""


def _size(key: str) -> int:
    return int(key.removeprefix("batch_"))


def _millions(flops: Sequence[int]) -> str:
    return _three_digits(statistics.fmean(flops) / 1e6) if flops else ""


def _clock(measured: Mapping[str, Any] | None) -> str:
    if not measured:
        return ""
    low, high = measured["quartiles"]
    return f"{_three_digits(measured['ms'])} [{_three_digits(low)}, {_three_digits(high)}]"


def _three_digits(value: float) -> str:
    """Write three digits, or all before the point.

    >>> _three_digits(0.0123456), _three_digits(178912.3)
    ('0.0123', '178,912')
    """
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
