"""Alive: in how many layers tickets keep any weight, and which layers come near to none.

    records -> [ rows, grid, lines ] -> chart, table, sentence

Through a layer without weights nothing passes, so the network is a constant whatever the others
keep. It is told only where a layer is empty or nearly so.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from tombola.reports import aggregate
from tombola.reports.aggregate import Record
from tombola.reports.decisions import Asked
from tombola.reports.grids import Grid, listed, percent

FEW = 10  # weights; a layer that keeps fewer, and has more, is nearly empty
TITLE = "Layers that keep any weight"


def is_thin(record: Record) -> bool:
    """Whether a ticket has a layer that is empty or nearly so.

    >>> is_thin({"round": 1, "layers": {"a": [9, 100]}}), is_thin({"round": 1, "layers": {"a": [9, 9]}})
    (True, False)
    """
    layers = record.get("layers") or {}
    return record["round"] > 0 and any(kept < min(FEW, size) for kept, size in layers.values())


def _thinnest(record: Record) -> tuple[str, int]:
    """Return the layer of a ticket that keeps the fewest weights, and how many; one that keeps all
    of its few weights only if no other has lost any.
    """
    layers: Mapping[str, tuple[int, int]] = record["layers"]

    def thinness(name: str) -> tuple[bool, int]:
        kept, size = layers[name]
        return kept == size, kept

    name = min(layers, key=thinness)
    return name, layers[name][0]


def _firsts(records: Sequence[Record], arm: str, density: float) -> list[Record]:
    """Return each replicate's first ticket at or below a density, if its layers are known."""
    tickets = []
    for record in aggregate.of_arm(records, arm):
        if record["round"] and record.get("layers"):
            tickets.append(record)
    return aggregate.firsts(tickets, density)


def alive_in_words(records: Sequence[Record], arm: str, density: float) -> str:
    """Return how many layers of how many an arm's tickets keep weights in, mean over replicates;
    empty where it has none at or below a density.
    """
    counts, layers = [], 0
    for record in _firsts(records, arm, density):
        counts.append(sum(kept > 0 for kept, _ in record["layers"].values()))
        layers = len(record["layers"])
    if not counts:
        return ""
    return f"{statistics.fmean(counts):.1f}".removesuffix(".0") + f" of {layers}"


def alive_grid(records: Sequence[Record], asked: Asked) -> Grid:
    """Return how many layers are left alive and which is the thinnest, by density and arm, as text;
    nothing where no layer is nearly empty.
    """
    rows: list[list[str]] = []
    for density in asked.at if any(map(is_thin, records)) else ():
        first = True
        for arm in aggregate.arms(records):
            tickets = _firsts(records, arm, density)
            if not tickets or all(record["density"] == 1 for record in tickets):
                continue
            thinnest = list(map(_thinnest, tickets))
            names = dict.fromkeys(name for name, _ in thinnest)
            fewest = [kept for _, kept in thinnest]
            span = f"{min(fewest):,}"
            if max(fewest) > min(fewest):
                span += f" to {max(fewest):,}"
            label = percent(density) if first else ""
            alive = alive_in_words(records, arm, density)
            rows.append([label, arm, str(len(tickets)), alive, ", ".join(names), span])
            first = False
    return Grid(
        title=TITLE,
        labels=["density %", "arm"],
        groups=[("", ["n", "alive", "thinnest layer", "its weights"])],
        rows=rows,
    )


def alive_lines(records: Sequence[Record]) -> list[str]:
    """Say at which density arms first have a layer that is nearly empty, one line; nothing where
    none has.
    """
    densest: dict[str, Record] = {}
    for record in records:
        if is_thin(record):
            known = densest.get(record["arm"])
            if known is None or record["density"] > known["density"]:
                densest[record["arm"]] = record
    if not densest:
        return []
    parts = []
    for arm, record in densest.items():
        name, kept = _thinnest(record)
        parts.append(f"{arm} at {percent(record['density'])} % ({kept} in {name})")
    return [f"A layer keeps fewer than {FEW} weights from this density on: {listed(parts)}."]
