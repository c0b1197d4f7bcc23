"""Inference: what a trained ticket costs an image, as counted and as measured.

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
    """Return what the dense network and each arm's sparsest tickets cost an image, as text.

    Args:
        records: Of the whole experiment; those of before FLOPs were counted have none.
        asked: Has what was measured.
    """
    measured = {row["arm"]: row for row in asked.latency.get("rows", ())}
    batches = sorted(
        {_size(key) for row in measured.values() for key in row if key.startswith("batch_")}
    )
    rows = []
    for arm, own in _sparsest(records).items():
        flops = [record["inference_flops"] for record in own if record.get("inference_flops")]
        rows.append(
            [
                arm,
                percent(statistics.fmean(record["density"] for record in own)),
                str(len(own)),
                _weights(own),
                _millions([dense for dense, _ in flops]),
                _millions([sparse for _, sparse in flops]),
                *(_clock(measured.get(arm, {}).get(f"batch_{size}")) for size in batches),
            ]
        )
    heads = ["n", "weights", "MFLOP dense", "MFLOP sparse"]
    heads += [f"{size} image{'s' * (size > 1)}, ms" for size in batches]
    return Grid(
        title="Inference of the sparsest tickets",
        labels=["arm", "density %"],
        groups=[("", heads)],
        rows=rows if any(row[4] or any(row[6:]) for row in rows) else [],
    )


def inference_lines(records: Sequence[Record], asked: Asked) -> list[str]:
    """Say how that table is to be read, one line; nothing where no time was measured.

    >>> inference_lines([], Asked())
    []
    """
    if not asked.latency or not inference_grid(records, asked).rows:
        return []
    threads = asked.latency["threads"]
    where = (
        "on a GPU"
        if asked.latency["device"] == "cuda"
        else f"on {threads} thread{'s' * (threads > 1)}"
    )
    return [
        "FLOP of an image are counted, with all weights and with the kept ones alone. Times are "
        f"measured, the networks in turn {where}: median and, in brackets, the middle half. "
        "Masking alone gives no speed-up: tickets are timed as dense networks with zeroed weights."
    ]


def _sparsest(records: Sequence[Record]) -> Mapping[str, list[Record]]:
    """Return the dense networks, and each arm's sparsest tickets that keep anything, one a
    replicate.
    """
    found: dict[str, dict[int, Record]] = {DENSE: {}}
    for record in records:
        if record["round"] == 0:
            found[DENSE].setdefault(record["replicate"], record)
    for arm in aggregate.arms(records):
        for record in records:
            if record["arm"] == arm and 0 < record["density"] < 1:
                best = found.setdefault(arm, {}).setdefault(record["replicate"], record)
                if record["density"] < best["density"]:
                    found[arm][record["replicate"]] = record
    return {arm: list(of.values()) for arm, of in found.items() if of}


def _weights(own: Sequence[Record]) -> str:
    """Return how many weights tickets have, those that cannot be pruned among them."""
    known = [
        record["total"] - record["prunable"] + record["kept"] for record in own if "total" in record
    ]
    return f"{statistics.fmean(known):,.0f}" if known else ""


def _size(key: str) -> int:
    return int(key.removeprefix("batch_"))


def _millions(flops: Sequence[int]) -> str:
    return f"{statistics.fmean(flops) / 1e6:,.3g}" if flops else ""


def _clock(measured: Mapping[str, Any] | None) -> str:
    if not measured:
        return ""
    low, high = measured["quartiles"]
    return f"{measured['ms']:.3g} [{low:.3g}, {high:.3g}]"
