"""Together: what several runs say beside each other, such as the variants of one recipe.

    runs, each with a label -> [ panels, over variants, tables ] -> summary.md, figures, report.html

Each run keeps its own arms and its own dense network; nothing is pooled. Replicate k of two runs
begins from the same seed, so an arm is compared with itself in another run replicate by replicate,
where both are tested on the same examples: a difference between two data sets says nothing of an
arm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tombola.evidence.answers import Evidence, once
from tombola.evidence.comparisons import DENSE, Comparison, Value, compare_over, values_at
from tombola.ground.errors import ConfigError
from tombola.ground.metrics import Metric
from tombola.reports import across, aggregate, alive, class_values, drawing, table
from tombola.reports.aggregate import Record, Spread
from tombola.reports.answers import compared_in_words
from tombola.reports.grids import Grid, listed, percent, with_unit
from tombola.reports.layout import Layout, lay_out
from tombola.reports.section import Figure, Part, SeveralRuns
from tombola.reports.sheets import Format, write_files

__all__ = ["LAYOUT", "Part", "grids", "other_data", "question", "sentences", "write"]

_MOST_TOLD = 12  # sentences above the body
# entries of data that leave the test set
_SAME_TEST = ("valid", "subset", "augment", "skew", "download", "verify")


LAYOUT = Layout(
    of="several runs",
    first=("runs_answer", "runs_notes", "runs_metric", "runs_values"),
    folds={
        "Settings": ("runs_settings",),
        "Differences": ("runs_differences",),
        "Classes": ("runs_classes",),
        "Layers": ("runs_layers_alive",),
        "Training": ("runs_dense", "runs_early_stop", "runs_distance"),
        "Stability": ("runs_barrier",),
        "Each run": ("runs_each",),
    },
)


def write(
    folder: Path,
    title: str,
    parts: Sequence[Part],
    notes: Sequence[str],
    formats: Sequence[Format] = ("svg", "png"),
    sections: Sequence[str] = (),
) -> list[Path]:
    """Write what several runs say beside each other, and return the files, ``report.html`` last.

    Args:
        folder: Is made if it is missing.
        title: Plain text, as are the notes.
        parts: The runs, in the order of the panels.
        notes: What a reader must know before believing the numbers.
        formats: Of the figures' own files.
        sections: Of the user's own, each as ``package.module:Name``.
    """
    # Sections and summary ask for the same values and comparisons, which are worked out once.
    parts = [replace(part, records=Evidence.of(part.records)) for part in parts]
    evidence = SeveralRuns(parts, notes)
    sheet = lay_out(LAYOUT, evidence, arms_of(parts), own=sections)
    files = {"summary.md": _markdown(title, parts, grids(parts), notes).encode()}
    files |= sheet.files(formats)
    files["report.html"] = sheet.html(title, [question(parts)])
    return write_files(folder, files)


def question(parts: Sequence[Part]) -> str:
    """Say what is asked of several runs.

    >>> from tombola.reports.decisions import Asked
    >>> low = Part("low", [], Asked(), {"training.lr": 0.01})
    >>> high = Part("high", [], Asked(), {"training.lr": 0.1})
    >>> question([low, high])
    'What does training.lr change? Beside each other: low, high.'
    """
    names = list(parts[0].settings)
    what = "What do these runs say together?"
    if 0 < len(names) <= 3:
        what = f"What does {' with '.join(names)} change?"
    return f"{what} Beside each other: {', '.join(part.label for part in parts)}."


def sentences(parts: Sequence[Part]) -> list[str]:
    """Say how the dense network and each arm differ from the first run, at the lowest density that
    was asked for.

    Runs that are not paired with it are named first, with what their data differ in.
    """
    said = []
    unpaired, entries = [], dict[str, None]()  # entries in order, each once
    for part in parts[1:]:
        differing = other_data(parts[0], part)
        if differing:
            unpaired.append(part.label)
            entries |= dict.fromkeys(differing)
    if unpaired:
        said.append(
            f"{listed(unpaired)} {'is' if len(unpaired) == 1 else 'are'} not paired with "
            f"{parts[0].label}: other test data ({', '.join(entries)})."
        )
    for part in parts[1:]:
        for arm in (DENSE, *_searching(parts)):
            compared = _against_first(parts, part, arm)
            if compared:
                names = (f"{arm} of {part.label}", f"{arm} of {parts[0].label}")
                said.append(compared_in_words(compared[-1], *names))
    more = len(said) - _MOST_TOLD
    if more > 0:
        differences = "differences are" if more > 1 else "difference is"
        return [*said[:_MOST_TOLD], f"{more} more {differences} in the table."]
    return said


def other_data(part: Part, other: Part) -> list[str]:
    """Return the entries of the recipe by which two runs are tested on other examples, by their
    dotted names.

    >>> from tombola.reports.decisions import Asked
    >>> settings = {"data.name": "mnist", "data.skew.most": 0.3, "training.lr": 1}
    >>> part = Part("", [], Asked(), settings)
    >>> settings = {"data.name": "digits", "data.skew.most": None, "training.lr": 2}
    >>> other = Part("", [], Asked(), settings)
    >>> other_data(part, other)
    ['data.name']
    """
    names = []
    for name, value in other.settings.items():
        section, _, entry = name.partition(".")
        changes_test = section == "data" and entry.split(".")[0] not in _SAME_TEST
        if changes_test and value != part.settings.get(name):
            names.append(name)
    return names


def grids(parts: Sequence[Part]) -> list[Grid]:
    """Return the tables as text: the runs, what their arms reach, and how they differ; without
    those of no rows.
    """
    tables = [
        settings_grid(parts),
        metric_grid(parts),
        early_stop_grid(parts),
        distance_grid(parts),
        barrier_grid(parts),
        differences_grid(parts),
        layers_alive_grid(parts),
        classes_grid(parts),
    ]
    return [grid for grid in tables if grid.rows]


def metric_grid(parts: Sequence[Part]) -> Grid:
    """Return the headline metric on the test split, a column a run, as text."""
    metric = metric_of(parts)
    title = with_unit(f"Test {metric.title}", metric.shown_unit)
    return _values_grid(parts, title, metric.test, metric.scale, metric.digits)


def early_stop_grid(parts: Sequence[Part]) -> Grid:
    """Return the steps of the early stops, a column a run, as text."""
    return _values_grid(parts, "Early-stop step", "early_stop_step", 1, 0)


def distance_grid(parts: Sequence[Part]) -> Grid:
    """Return how far kept weights move in training, a column a run, as text."""
    title = "Distance of the kept weights from where they began (root mean square)"
    return _values_grid(parts, title, "distance", 1, 4)


def barrier_grid(parts: Sequence[Part]) -> Grid:
    """Return the barriers between two trainings of a ticket, a column a run, as text."""
    metric = metric_of(parts)
    title = with_unit("Barrier between two trainings of one ticket", metric.points)
    return _values_grid(parts, title, "barrier", metric.scale, metric.digits)


def tickets_over_runs(
    parts: Sequence[Part], key: str, factor: float, axis: str, caption: str
) -> Figure | None:
    """Draw a value of the dense network and of each arm's ticket over the runs, at the lowest
    density that every run reaches; ``None`` where no run has the value.

    Args:
        parts: The runs.
        key: The value's entry in the records.
        factor: What it is multiplied by to be shown.
        axis: Title of its axis.
        caption: Says what it is; the density and what is drawn are added.
    """
    density, arms = lowest_of(parts), arms_of(parts)
    along, places = places_of(parts)
    rows = []
    for part, place in zip(parts, places, strict=True):
        for arm in (DENSE, *arms):
            for replicate, value in _values(part, arm, density, key).items():
                row = {"place": place, "of": arm, "replicate": replicate}
                rows.append(row | {"value": factor * value.value})
    if not rows:
        return None
    with_values = {row["of"] for row in rows}
    names = [name for name in (DENSE, *arms) if name in with_values]
    chart = across.over_runs(rows, along, axis, names, drawing.colours(arms))
    drawn = f"at {percent(density)} % density. Points: replicates; lines: their means."
    return Figure(chart, f"{caption} {drawn}")


def _markdown(
    title: str, parts: Sequence[Part], tables: Sequence[Grid], notes: Sequence[str]
) -> str:
    lines = [f"# {table.escaped(title)}", table.escaped(question(parts))]
    lines += table.markdown_list(sentences(parts))
    for grid in tables:
        lines += [f"## {grid.title}", table.markdown_table(grid)]
    lines += table.markdown_list(notes)
    return "\n\n".join(lines) + "\n"


def metric_of(parts: Sequence[Part]) -> Metric:
    """Return what all runs are compared by."""
    return parts[0].asked.metric


def arms_of(parts: Iterable[Part]) -> list[str]:
    """List the arms of all runs, those of the first run before all others."""
    arms: dict[str, None] = {}
    for part in parts:
        arms |= dict.fromkeys(aggregate.arms(part.records))
    return list(arms)


def _searching(parts: Sequence[Part]) -> list[str]:
    drawn: set[str] = set()
    for part in parts:
        drawn |= part.asked.drawn
    return [arm for arm in arms_of(parts) if arm in drawn]


def _densities(parts: Sequence[Part]) -> list[float]:
    """Return what any run asks for, the highest density first."""
    densities: set[float] = set()
    for part in parts:
        densities |= set(part.asked.at)
    return sorted(densities, reverse=True)


def lowest_of(parts: Sequence[Part]) -> float:
    """Return the lowest density asked for at which an arm of every run has a value."""
    lowest = 1.0
    for density in _densities(parts):
        if all(_reaches(part, density, metric_of(parts)) for part in parts):
            lowest = density
    return lowest


def _reaches(part: Part, density: float, metric: Metric) -> bool:
    """Whether an arm of a run has a value at a density."""
    return any(_values(part, arm, density, metric.test) for arm in arms_of([part]))


def dense_of(part: Part) -> Sequence[Record]:
    """Return the record of the dense network of each replicate."""
    return _dense(part.records)


@once
def _dense(records: Sequence[Record]) -> Evidence:
    by_replicate: dict[int, Record] = {}
    for record in records:
        if record["round"] == 0:
            by_replicate.setdefault(record["replicate"], record)
    return Evidence({**record, "arm": DENSE} for _, record in sorted(by_replicate.items()))


def _values(part: Part, arm: str, density: float, key: str) -> Mapping[int, Value]:
    try:
        return values_at(dense_of(part) if arm == DENSE else part.records, arm, density, key)
    except ConfigError:  # an arm that this run has not
        return {}


def places_of(parts: Sequence[Part]) -> tuple[str, list[Any]]:
    """Return what the runs are drawn over: the one number in which they differ, or their labels."""
    if len(parts[0].settings) == 1:
        (name,) = parts[0].settings
        values = [_number(part.settings[name]) for part in parts]
        if all(value is not None for value in values):
            return name, values
    return "", [part.label for part in parts]


def _number(value: Any) -> float | None:
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else None


def _against_first(parts: Sequence[Part], part: Part, arm: str) -> list[Comparison]:
    """Compare an arm of a run with itself in the first run, at the densities that both have."""
    first, metric = parts[0], metric_of(parts)
    if other_data(first, part):
        return []
    records, first_records = part.records, first.records
    densities = []
    if arm == DENSE:
        densities = [1.0]
        records, first_records = dense_of(part), dense_of(first)
        if not records or not first_records:
            return []
    else:
        for density in _densities(parts):
            values = _values(part, arm, density, metric.test)
            if values.keys() & _values(first, arm, density, metric.test).keys():
                densities.append(density)
    if not densities:
        return []
    return compare_over(
        records,
        arm,
        arm,
        at=densities,
        metric=metric,
        margin=first.asked.margin,
        alpha=first.asked.alpha,
        beside=first_records,
    )


def settings_grid(parts: Sequence[Part]) -> Grid:
    """Return in what the runs differ: a row a run, or, where these are fewer than the settings,
    a column a run.
    """
    metric = metric_of(parts)
    labels, replicates, dense = [], [], []
    for part in parts:
        labels.append(part.label)
        replicates.append(str(aggregate.replicates(part.records)))
        spread = aggregate.dense(part.records, metric)
        dense.append(_mean_and_deviation(spread, metric.scale, metric.digits))
    columns = _settings(parts) | {"replicates": replicates, f"dense {metric.head}": dense}
    if len(columns) > len(parts):
        rows = [[name, *cells] for name, cells in columns.items()]
        return Grid("The runs", ["setting"], [("", labels)], rows)
    rows = [list(row) for row in zip(labels, *columns.values(), strict=True)]
    return Grid("The runs", ["run"], [("", list(columns))], rows)


def _settings(parts: Sequence[Part]) -> dict[str, list[str]]:
    """Return what each run is set to, as text; of an arm that some run has not, its method
    alone.
    """
    names = list(parts[0].settings)
    # Every arm has a method: where it has none, there is no such arm, and all its other entries
    # differ with it.
    lacking = []
    for name in names:
        is_method = name.startswith("arms.") and name.endswith(".method")
        if is_method and any(part.settings[name] is None for part in parts):
            lacking.append(name.removesuffix(".method"))
    settings: dict[str, list[str]] = {}
    for name in names:
        arm = next((arm for arm in lacking if name.startswith(f"{arm}.")), "")
        entry = f"{arm}.method" if arm else name
        settings[arm or name] = [_plain(part.settings[entry]) for part in parts]
    return settings


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return "" if value is None else str(value)


def layers_alive_grid(parts: Sequence[Part]) -> Grid:
    """Return in how many layers tickets keep any weight, a column a run, as text; nothing where no
    layer is nearly empty.
    """
    rows: list[list[str]] = []
    above = ""
    thin = any(alive.is_thin(record) for part in parts for record in part.records)
    for density in _densities(parts) if thin else ():
        for arm in arms_of(parts):
            cells = [alive.alive_in_words(part.records, arm, density) for part in parts]
            if any(cells):
                label = percent(density)
                rows.append(["" if label == above else label, arm, *cells])
                above = label
    labels = [part.label for part in parts]
    return Grid(alive.TITLE, ["density %", "arm"], [("", labels)], rows)


def classes_grid(parts: Sequence[Part]) -> Grid:
    """Return each class of the dense networks, and of tickets at the lowest density that every run
    reaches, a column a run, as text; nothing where nothing is measured by class.
    """
    metric, density = metric_of(parts), lowest_of(parts)
    rows: list[list[str]] = []
    names: dict[str, None] = {}
    for part in parts:
        names |= dict.fromkeys(class_values.classes_of(part.records))
    for arm in (DENSE, *arms_of(parts)) if names else ():
        of_parts = []
        for part in parts:
            tickets = class_values.tickets_by_class(part.records, density)
            dense = class_values.dense_by_class(part.records)
            of_parts.append(dense if arm == DENSE else tickets.get(arm, {}))
        label = arm
        for name in names:
            spreads = [by_class.get(name) for by_class in of_parts]
            cells = [_mean_and_deviation(spread, metric.scale, metric.digits) for spread in spreads]
            if any(cells):
                rows.append([label, name, *cells])
                label = ""
    kind = next(filter(None, (class_values.kind_of(part.records) for part in parts)), "")
    title = with_unit(
        f"Test {kind} of each class at {percent(density)} % density", metric.shown_unit
    )
    return Grid(title, ["arm", "class"], [("", [part.label for part in parts])], rows)


def _mean_and_deviation(spread: Spread | None, factor: float, digits: int) -> str:
    if spread is None:
        return ""
    mean = f"{factor * spread.mean:,.{digits}f}"
    if spread.deviation is None:
        return mean
    return f"{mean} ± {factor * spread.deviation:,.{digits}f}"


def _values_grid(parts: Sequence[Part], title: str, key: str, factor: float, digits: int) -> Grid:
    """Return a value of the dense network and of each arm at each density, a column a run."""
    rows: list[list[str]] = []
    above = ""
    for density in (1.0, *_densities(parts)):
        for arm in [DENSE] if density == 1.0 else arms_of(parts):
            cells = []
            for part in parts:
                values = _values(part, arm, density, key).values()
                spread = aggregate.known_spread(value.value for value in values)
                cells.append(_mean_and_deviation(spread, factor, digits))
            if any(cells):
                label = percent(density)
                rows.append(["" if label == above else label, arm, *cells])
                above = label
    return Grid(title, ["density %", "arm"], [("", [part.label for part in parts])], rows)


def differences_grid(parts: Sequence[Part]) -> Grid:
    """Return how each run differs from the first one, arm by arm, as text."""
    rows, metric = [], metric_of(parts)
    for part in parts[1:]:
        for arm in (DENSE, *arms_of(parts)):
            for comparison in _against_first(parts, part, arm):
                paired = comparison.paired
                rows.append(
                    [
                        f"{part.label} - {parts[0].label}",
                        arm,
                        f"{'~' if comparison.interpolated else ''}{percent(comparison.density)}",
                        str(len(comparison.values)),
                        metric.signed(paired.mean),
                        metric.interval(paired.low, paired.high),
                        comparison.verdict,
                    ]
                )
    alpha = parts[0].asked.alpha
    heads = ["density %", "n", "difference", f"{percent(1 - alpha)} % interval", "outcome"]
    title = with_unit(f"Differences between the runs in test {metric.title}", metric.points)
    return Grid(title, ["arms", "arm"], [("", heads)], rows)
