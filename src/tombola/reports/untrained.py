"""Untrained: what tickets reach that are tested as they were found, without training.

    records -> [ rows, grid, lines ] -> chart, table, sentence

Such a ticket says how much of the solution is in the mask alone. It is no trained network, so it is
neither judged nor compared with one (`tombola.evidence.verdicts`).
"""

from __future__ import annotations

from collections.abc import Sequence

from tombola.ground.metrics import Metric
from tombola.reports import aggregate
from tombola.reports.aggregate import Record, Spread, TargetRow
from tombola.reports.decisions import Asked
from tombola.reports.grids import Grid, listed, percent


def _reached(records: Sequence[Record], asked: Asked) -> list[tuple[TargetRow, Spread]]:
    """Return the first untrained ticket of each arm at or below each density asked for, and what
    it reaches.
    """
    shown = aggregate.untrained(records)
    reached = []
    for row in aggregate.by_target(records, asked.at, asked.made_of, asked.metric):
        if row.arm in shown and row.value is not None:
            reached.append((row, row.value))
    return reached


def untrained_grid(records: Sequence[Record], asked: Asked) -> Grid:
    """Return what untrained tickets reach, by density and arm, as text."""
    metric = asked.metric
    rows: list[list[str]] = []
    above = None
    for row, value in _reached(records, asked):
        low, high = value.interval or (None, None)
        cells = [
            "" if row.target == above else percent(row.target),
            row.arm,
            str(value.n),
            f"{100 * (row.density or 0.0):.2f}",
            metric.number(value.mean),
            "" if value.deviation is None else metric.number(value.deviation),
            "" if low is None or high is None else _interval(low, high, metric),
        ]
        if asked.chance is not None:
            cells.append(metric.signed(value.mean - asked.chance))
        rows.append(cells)
        above = row.target
    heads = ["n", "kept %", metric.head, "± seeds", "95 % interval"]
    if asked.chance is not None:
        heads.append("above chance")
    return Grid(
        title=f"Test {metric.title} of tickets without training",
        labels=["density %", "arm"],
        groups=[("", heads)],
        rows=rows,
        why={"± seeds": "needs two replicates", "95 % interval": "needs three replicates"},
    )


def _interval(low: float, high: float, metric: Metric) -> str:
    if metric.fraction:  # there is nothing below 0 % and above 100 %
        low, high = max(low, 0.0), min(high, 1.0)
    return f"{metric.number(low)} to {metric.number(high)}"


def untrained_lines(records: Sequence[Record], asked: Asked) -> list[str]:
    """Say what untrained tickets reach at the density at which they are best, one line; nothing
    where there are none.
    """
    metric = asked.metric
    best: dict[str, tuple[float, float]] = {}  # by arm: the mean, and where it is
    for row, value in _reached(records, asked):
        known = best.get(row.arm)
        if known is None or metric.sign * (value.mean - known[0]) > 0:
            best[row.arm] = value.mean, row.target
    if not best:
        return []
    parts = []
    for arm, (mean, density) in best.items():
        parts.append(f"{arm} {metric.shown(mean)} at {percent(density)} %")
    text = f"Without training, at the density at which each is best: {listed(parts)}."
    if asked.chance is not None:
        text += f" Guessing reaches {metric.shown(asked.chance)}."
    return [text]
