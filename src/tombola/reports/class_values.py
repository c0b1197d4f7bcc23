"""Class values: the headline metric of each class, of the dense network and of the arms' tickets.

    records with values by class -> [ values at a density ] -> dot plot, table, sentence

A task that measures its headline class by class, such as a detector's average precision, reports
the parts under names of their own (``ap_cat``) beside it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from tombola.evidence.answers import once
from tombola.ground.metrics import Metric
from tombola.reports import aggregate
from tombola.reports.aggregate import DENSE, Record, Spread
from tombola.reports.decisions import Asked
from tombola.reports.grids import Grid, listed, percent

# How names of values by class begin, and what the values are.
KINDS = {"ap_": "average precision", "iou_": "intersection over union"}
_MEASURED = "test_more"  # the entry of a record with values that are no declared metric

ByClass = Mapping[str, Spread]  # over the replicates, by class


def values_by_class(record: Record) -> dict[str, float]:
    """Return what a record has of each class, as fractions.

    >>> values_by_class({"test_more": {"ap_cat": 0.5, "loss_classifier": 0.1}})
    {'cat': 0.5}
    """
    values = {}
    for name, value in (record.get(_MEASURED) or {}).items():
        for prefix in KINDS:
            if name.startswith(prefix) and value is not None:
                values[name.removeprefix(prefix)] = float(value)
    return values


def kind_of(records: Sequence[Record]) -> str:
    """Say what is measured of each class; empty where nothing is."""
    for record in records:
        for name in record.get(_MEASURED) or {}:
            for prefix, kind in KINDS.items():
                if name.startswith(prefix):
                    return kind
    return ""


@once
def dense_by_class(records: Sequence[Record]) -> ByClass:
    """Summarise each class of the dense network over the replicates, the best class first."""
    first = [record for record in records if record["round"] == 0]
    by_replicate: dict[int, Record] = {}
    for record in aggregate.of_arm(first, DENSE) or first:
        if values_by_class(record):
            by_replicate.setdefault(record["replicate"], record)
    spreads = _spreads(list(by_replicate.values()))
    order = sorted(spreads, key=lambda name: (-spreads[name].mean, name))
    return {name: spreads[name] for name in order}


@once
def tickets_by_class(records: Sequence[Record], density: float) -> Mapping[str, ByClass]:
    """Summarise each class of the arms' first tickets at or below a density, by arm.

    Arms without such a ticket, or whose ticket there was not measured, are left out.
    """
    by_arm = {}
    for arm in aggregate.arms(records):
        tickets = [record for record in aggregate.of_arm(records, arm) if record["round"]]
        spreads = _spreads(aggregate.firsts(tickets, density))
        if spreads:
            by_arm[arm] = spreads
    return by_arm


def _spreads(records: Sequence[Record]) -> dict[str, Spread]:
    values: dict[str, list[float]] = {}
    for record in records:
        for name, value in values_by_class(record).items():
            values.setdefault(name, []).append(value)
    return {name: aggregate.spread(of_class) for name, of_class in values.items()}


def classes_of(records: Sequence[Record]) -> list[str]:
    """List the classes, the one on which the dense network is best first."""
    names = dict.fromkeys(dense_by_class(records))
    for record in records:
        names |= dict.fromkeys(values_by_class(record))
    return list(names)


def shown_density(records: Sequence[Record], asked: Asked) -> float | None:
    """Return the density that is drawn: the lowest one asked for at which tickets were measured."""
    for density in sorted(asked.at):
        if tickets_by_class(records, density):
            return density
    return None


def class_grid(records: Sequence[Record], asked: Asked) -> Grid:
    """Return each class of the dense network and of the arms' tickets, by density, as text."""
    classes, metric = classes_of(records), asked.metric
    rows = []
    dense = dense_by_class(records)
    if dense:
        rows.append(["100", DENSE, *_cells(dense, classes, metric)])
    for density in asked.at:
        label = percent(density)
        for arm, by_class in tickets_by_class(records, density).items():
            rows.append([label, arm, *_cells(by_class, classes, metric)])
            label = ""
    return Grid(
        title=f"Test {kind_of(records)} of each class",
        labels=["density %", "arm"],
        groups=[("", ["n", *classes])],
        rows=rows,
    )


def paper_classes_grid(records: Sequence[Record], asked: Asked) -> Grid:
    """Return what the paper prints of each class beside what the same arm has here at that density,
    as text; nothing where it prints none, or here nothing is measured by class.
    """
    printed = asked.printed.by_class if asked.printed else {}
    columns: list[Mapping[str, float]] = []
    groups = []
    for arm, of_arm in printed.items() if classes_of(records) else ():
        if arm == DENSE:
            ours: ByClass = dense_by_class(records)
            title = "dense network"
        else:
            ours = tickets_by_class(records, of_arm.density).get(arm, {})
            title = f"{arm} at {percent(of_arm.density)} %"
        columns += [of_arm.values, {name: spread.mean for name, spread in ours.items()}]
        groups.append((title, ["printed", "ours"]))
    rows = []
    classes = dict.fromkeys(name for values in columns for name in values)
    for name in classes:
        row = [name]
        for values in columns:
            row.append(f"{100 * values[name]:.1f}" if name in values else "")
        rows.append(row)
    if rows:
        row = ["mean"]
        for values in columns:
            # A mean over other classes would be another number.
            is_complete = values.keys() == classes.keys()
            row.append(f"{100 * statistics.fmean(values.values()):.1f}" if is_complete else "")
        rows.append(row)
    return Grid(
        f"Class by class beside the paper, {asked.metric.shown_unit}", ["class"], groups, rows
    )


def _cells(by_class: ByClass, classes: Sequence[str], metric: Metric) -> list[str]:
    replicates = max(spread.n for spread in by_class.values())
    cells = [str(replicates)]
    for name in classes:
        spread = by_class.get(name)
        cells.append("" if spread is None else metric.number(spread.mean))
    return cells


def change_lines(records: Sequence[Record], asked: Asked) -> list[str]:
    """Say in which class each arm's ticket is furthest below the dense network, and above it, one
    line; nothing where there is no ticket to compare.
    """
    density, metric = shown_density(records, asked), asked.metric
    dense = dense_by_class(records)
    if density is None or not dense:
        return []
    parts = []
    for arm, by_class in tickets_by_class(records, density).items():
        changes = {}
        for name, spread in by_class.items():
            if name in dense:
                changes[name] = spread.mean - dense[name].mean
        if not changes:
            continue
        lowest, highest = (
            min(changes, key=changes.__getitem__),
            max(changes, key=changes.__getitem__),
        )
        ends = [f"{metric.signed(changes[lowest])} in {lowest}"]
        if highest != lowest:
            ends.append(f"{metric.signed(changes[highest])} in {highest}")
        parts.append(f"{arm} from {' to '.join(ends)}")
    if not parts:
        return []
    unit = f", in {metric.points}" if metric.points else ""
    return [
        f"Change of a class against the dense network at {percent(density)} % density{unit}: "
        f"{listed(parts)}."
    ]
