"""Equal cost: tickets of cheap searches, trained as long as a dear search has cost.

    records -> accounts, comparisons -> [ grids ] -> tables

Elsewhere every ticket has the recipe's training, and what its search cost stands beside it. Here
search and evaluation together cost the same, as far as the limits of the arms allow.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from tombola.evidence import ledger
from tombola.evidence.comparisons import Comparison
from tombola.reports import aggregate
from tombola.reports.aggregate import Record
from tombola.reports.decisions import Asked, comparisons
from tombola.reports.grids import Grid, capitalised, percent

_Key = tuple[str, int, int]  # arm, replicate, round


def equal_cost_grids(records: Sequence[Record], asked: Asked) -> list[Grid]:
    """Return what arms reach at the total cost of another one, a table for each of these, as text;
    none where no tickets are trained longer.
    """
    arms_of: dict[str, list[str]] = {}
    for arm, dear in asked.equal_cost.items():
        arms_of.setdefault(dear, []).append(arm)
    return [_grid(records, asked, dear, arms) for dear, arms in arms_of.items()]


def _grid(records: Sequence[Record], asked: Asked, dear: str, arms: Sequence[str]) -> Grid:
    """Return the table of one arm and those that cost as much."""
    metric = asked.metric
    costs = _costs(records, asked)
    compared: dict[tuple[str, float], Comparison] = {}
    for comparison in comparisons(records, asked):
        if comparison.other == dear:
            compared[comparison.arm, comparison.density] = comparison

    rows: list[list[str]] = []
    limited = False
    for density in asked.at:
        label = percent(density)
        for arm in (dear, *arms):
            tickets = _first_tickets(records, arm, density)
            value = aggregate.known_spread(record[metric.test] for record in tickets)
            if value is None:
                continue
            deviation = "" if value.deviation is None else f" ± {metric.number(value.deviation)}"
            length, at_limit = _length(tickets)
            limited = limited or at_limit
            row = [label, arm, str(value.n), _mean_cost(tickets, costs), length]
            row.append(f"{metric.number(value.mean)}{deviation}")
            row += _difference(compared.get((arm, density)))
            rows.append(row)
            label = ""
    notes = []
    if rows:
        notes.append(
            f"Cost: search and own evaluation of a ticket, in full-data trainings; those of {dear} "
            "are what the others are trained up to. Length: of the evaluation, in trainings of the "
            "recipe."
        )
    if limited:
        notes.append(
            "* an equal cost would take another length: an arm's most was reached, or its search "
            "alone costs more."
        )
    title = capitalised(metric.title)
    heads = ["n", "cost", "length", metric.head, f"from {dear}", "outcome"]
    return Grid(
        title=f"{title} at equal total cost: trained as long as {dear} costs with its search",
        labels=["density %", "arm"],
        groups=[("", heads)],
        rows=rows,
        notes=tuple(notes),
        why={"outcome": "needs two arms at one density"},
    )


def _first_tickets(records: Sequence[Record], arm: str, density: float) -> list[Record]:
    """Return each replicate's first ticket at or below a density."""
    tickets = [record for record in aggregate.of_arm(records, arm) if record["round"]]
    return aggregate.firsts(tickets, density)


def _costs(records: Sequence[Record], asked: Asked) -> Mapping[_Key, float]:
    """Return what each ticket cost with its search, in full-data trainings, where that is known."""
    costs = {}
    for account in ledger.accounts(records, asked.made_of):
        record = account.record
        trainings = account.trainings(account.this_ticket)
        if trainings is not None:
            costs[record["arm"], record["replicate"], record["round"]] = trainings
    return costs


def _mean_cost(tickets: Sequence[Record], costs: Mapping[_Key, float]) -> str:
    known = []
    for record in tickets:
        cost = costs.get((record["arm"], record["replicate"], record["round"]))
        if cost is not None:
            known.append(cost)
    return f"{statistics.fmean(known):.2f}" if known else ""


def _length(tickets: Sequence[Record]) -> tuple[str, bool]:
    """Return the mean length of the evaluations, with a mark where a limit was met, and whether
    that is so.
    """
    lengths, at_limit = [], False
    for record in tickets:
        trained, equal = record.get("length") or (1.0, 1.0)
        lengths.append(trained)
        at_limit = at_limit or trained != equal
    return f"{'* ' if at_limit else ''}{statistics.fmean(lengths):.2f}", at_limit


def _difference(comparison: Comparison | None) -> list[str]:
    if comparison is None:
        return ["", ""]
    metric, paired = comparison.metric, comparison.paired
    between = "~" if comparison.interpolated else ""
    interval = metric.interval(paired.low, paired.high)
    return [f"{between}{metric.signed(paired.mean)} {interval}".rstrip(), comparison.verdict]
