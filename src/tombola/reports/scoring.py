"""Scoring: what scores that need data cost, beside the trainings of the search and the evaluation.

records -> accounts -> [ grid, lines ] -> table, sentence
"""

from __future__ import annotations

from collections.abc import Sequence

from tombola.evidence import ledger
from tombola.evidence.ledger import Scored, Work
from tombola.reports.aggregate import Record
from tombola.reports.decisions import Asked
from tombola.reports.grids import Grid, percent

_UNITS = {"TFLOP": 1e12, "GFLOP": 1e9, "MFLOP": 1e6}


def _scored(records: Sequence[Record], asked: Asked) -> list[Scored]:
    found = []
    for density in asked.at:
        found += ledger.scored(records, density)
    return found


def scoring_grid(records: Sequence[Record], asked: Asked) -> Grid:
    """Return what scoring costs, by density and arm, as text; no rows where no score needs data."""
    found = _scored(records, asked)
    unit = _unit([part for ticket in found for part in _parts(ticket)])
    rows: list[list[str]] = []
    above = None
    for ticket in found:
        label = "" if ticket.density == above else percent(ticket.density)
        row = [label, ticket.arm, str(ticket.replicates), f"{100 * _share(ticket):.1f}"]
        for part in _parts(ticket):
            row += _cells(part, unit)
        rows.append(row)
        above = ticket.density
    heads = ["examples", unit, "s"]
    return Grid(
        title="Cost of scoring",
        labels=["density %", "arm"],
        groups=[
            ("", ["n", "share %"]),
            ("scoring", heads),
            ("trainings of the search", heads),
            ("evaluation", heads),
        ],
        rows=rows,
        notes=(
            "Of one ticket, mean over replicates. An example counts once for each forward and "
            "backward pass of a score; FLOPs are with all weights. Share: scoring of all three, in "
            "examples.",
        )
        if rows
        else (),
    )


def _parts(ticket: Scored) -> tuple[Work, Work, Work]:
    return ticket.scoring, ticket.search, ticket.evaluation


def _share(ticket: Scored) -> float:
    """Return scoring's share of all examples that a ticket cost."""
    seen = [part.samples for part in _parts(ticket)]
    return seen[0] / sum(seen) if sum(seen) else 0.0


def _unit(parts: Sequence[Work]) -> str:
    """Return the largest unit in which the most expensive part is at least one."""
    most = max((part.flops or 0.0 for part in parts), default=0.0)
    for unit, size in _UNITS.items():
        if most >= size:
            return unit
    return "MFLOP"


def _cells(part: Work, unit: str) -> list[str]:
    flops = "" if part.flops is None else f"{part.flops / _UNITS[unit]:,.2f}"
    return [f"{part.samples:,.0f}", flops, f"{part.seconds:,.2f}"]


def scoring_lines(records: Sequence[Record], asked: Asked) -> list[str]:
    """Say how much of what a ticket costs is its scoring, one line; nothing where no score needs
    data.
    """
    found = _scored(records, asked)
    if not found:
        return []
    most = max(found, key=_share)
    return [
        f"Scoring takes at most {100 * _share(most):.1f} % of the examples that a ticket costs with "
        f"its search and evaluation ({most.arm} at {percent(most.density)} %: "
        f"{most.scoring.samples:,.0f} examples)."
    ]
