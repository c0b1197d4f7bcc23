"""Together: what several runs say beside each other, such as the variants of one recipe.

    runs, each with a label -> [ panels, over variants, tables ] -> summary.md, figures, report.html

Each run keeps its own arms and its own dense network; nothing is pooled. Replicate k of two runs
begins from the same seed, so an arm is compared with itself in another run replicate by replicate,
where both are tested on the same examples: a difference between two data sets says nothing of an
arm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tombola.evidence.comparisons import DENSE, compare_over, values_at
from tombola.ground.errors import ConfigError
from tombola.ground.metrics import Metric
from tombola.reports import across, aggregate, drawing, table
from tombola.reports.aggregate import Record, Spread
from tombola.reports.answers import compared_in_words
from tombola.reports.grids import Grid, listed, percent
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
    what = (
        f"What does {' with '.join(names)} change?"
        if 0 < len(names) <= 3
        else "What do these runs say together?"
    )
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
            found = _against_first(parts, part, arm)
            if found:
                names = (f"{arm} of {part.label}", f"{arm} of {parts[0].label}")
                said.append(compared_in_words(found[-1], *names))
    more = len(said) - _MOST_TOLD
    return said[:_MOST_TOLD] + (
        [f"{more} more difference{'s are' if more > 1 else ' is'} in the table."]
        if more > 0
        else []
    )


def other_data(one: Part, other: Part) -> list[str]:
    """Return the entries of the recipe by which two runs are tested on other examples, by their
    dotted names.

    >>> from tombola.reports.decisions import Asked
    >>> settings = {"data.name": "mnist", "data.skew.most": 0.3, "training.lr": 1}
    >>> one = Part("", [], Asked(), settings)
    >>> settings = {"data.name": "digits", "data.skew.most": None, "training.lr": 2}
    >>> other = Part("", [], Asked(), settings)
    >>> other_data(one, other)
    ['data.name']
    """
    names = []
    for name, value in other.settings.items():
        section, _, entry = name.partition(".")
        changes_test = section == "data" and entry.split(".")[0] not in _SAME_TEST
        if changes_test and value != one.settings.get(name):
            names.append(name)
    return names


def grids(parts: Sequence[Part]) -> list[Grid]:
    """Return the tables as text: the runs, what their arms reach, and how they differ; without
    those of no rows.
    """
    found = [
        settings_grid(parts),
        metric_grid(parts),
        early_stop_grid(parts),
        distance_grid(parts),
        barrier_grid(parts),
        differences_grid(parts),
    ]
    return [grid for grid in found if grid.rows]


def metric_grid(parts: Sequence[Part]) -> Grid:
    """Return the headline metric on the test split, a column a run, as text."""
    metric = metric_of(parts)
    title = ", ".join(filter(None, (f"Test {metric.title}", metric.shown_unit)))
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
    title = ", ".join(filter(None, ("Barrier between two trainings of one ticket", metric.points)))
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
    if said := sentences(parts):
        lines.append("\n".join(f"- {table.escaped(sentence)}" for sentence in said))
    for grid in tables:
        lines += [f"## {grid.title}", table.markdown_table(grid)]
    if notes:
        lines.append("\n".join(f"- {table.escaped(note)}" for note in notes))
    return "\n\n".join(lines) + "\n"


def metric_of(parts: Sequence[Part]) -> Metric:
    """Return what all runs are compared by."""
    return parts[0].asked.metric


def arms_of(parts: Iterable[Part]) -> list[str]:
    """List the arms of all runs, those of the first run before all others."""
    return list(dict.fromkeys(arm for part in parts for arm in aggregate.arms(part.records)))


def _searching(parts: Sequence[Part]) -> list[str]:
    drawn = frozenset[str]().union(*(part.asked.drawn for part in parts))
    return [arm for arm in arms_of(parts) if arm in drawn]


def _densities(parts: Sequence[Part]) -> list[float]:
    return sorted({density for part in parts for density in part.asked.at}, reverse=True)


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


def dense_of(part: Part) -> list[Record]:
    """Return the record of the dense network of each replicate."""
    found = {
        record["replicate"]: record for record in reversed(part.records) if record["round"] == 0
    }
    return [{**found[k], "arm": DENSE} for k in sorted(found)]


def _values(part: Part, arm: str, density: float, key: str) -> Mapping[int, Any]:
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


def _against_first(parts: Sequence[Part], part: Part, arm: str) -> list[Any]:
    first, metric = parts[0], metric_of(parts)
    if other_data(first, part):
        return []
    here: Sequence[Record]
    there: Sequence[Record]
    if arm == DENSE:
        densities = [1.0]
        here, there = dense_of(part), dense_of(first)
    else:
        densities = []  # those that both come to in some replicate
        for density in _densities(parts):
            values = _values(part, arm, density, metric.test)
            if values.keys() & _values(first, arm, density, metric.test).keys():
                densities.append(density)
        here, there = part.records, first.records
    if not densities or not here or not there:
        return []
    return compare_over(
        here,
        arm,
        arm,
        at=densities,
        metric=metric,
        margin=first.asked.margin,
        alpha=first.asked.alpha,
        beside=there,
    )


def settings_grid(parts: Sequence[Part]) -> Grid:
    """Return in what the runs differ: a row a run, or, where these are fewer than the settings,
    a column a run.
    """
    settings = _told_settings(parts)
    metric = metric_of(parts)
    dense = [aggregate.dense(part.records, metric) for part in parts]
    columns = settings | {
        "replicates": [str(aggregate.replicates(part.records)) for part in parts],
        f"dense {metric.head}": [
            "" if one is None else _mean_and_deviation(one, metric.scale, metric.digits)
            for one in dense
        ],
    }
    labels = [part.label for part in parts]
    if len(columns) > len(parts):
        rows = [[name, *cells] for name, cells in columns.items()]
        return Grid("The runs", ["setting"], [("", labels)], rows)
    rows = [list(row) for row in zip(labels, *columns.values(), strict=True)]
    return Grid("The runs", ["run"], [("", list(columns))], rows)


def _told_settings(parts: Sequence[Part]) -> dict[str, list[str]]:
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
            lacking.append(name)
    found: dict[str, list[str]] = {}
    for name in names:
        of_arm = next(
            (method for method in lacking if name.startswith(method.removesuffix("method"))), ""
        )
        values = [part.settings[of_arm or name] for part in parts]
        cells = ["" if value is None else _plain(value) for value in values]
        found[of_arm.removesuffix(".method") or name] = cells
    return found


def _plain(value: Any) -> str:
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value)


def _mean_and_deviation(of: Spread, factor: float = 100, digits: int = 2) -> str:
    spread = "" if of.deviation is None else f" ± {factor * of.deviation:,.{digits}f}"
    return f"{factor * of.mean:,.{digits}f}{spread}"


def _values_grid(parts: Sequence[Part], title: str, key: str, factor: float, digits: int) -> Grid:
    rows: list[list[str]] = []
    for density in (1.0, *_densities(parts)):
        for arm in [DENSE] if density == 1.0 else arms_of(parts):
            cells = []
            for part in parts:
                found = [value.value for value in _values(part, arm, density, key).values()]
                cells.append(
                    _mean_and_deviation(aggregate.spread(found), factor, digits) if found else ""
                )
            if any(cells):
                same = rows and percent(density) == next(row[0] for row in reversed(rows) if row[0])
                rows.append(["" if same else percent(density), arm, *cells])
    return Grid(title, ["density %", "arm"], [("", [part.label for part in parts])], rows)


def differences_grid(parts: Sequence[Part]) -> Grid:
    """Return how each run differs from the first one, arm by arm, as text."""
    rows, metric = [], metric_of(parts)
    for part in parts[1:]:
        for arm in (DENSE, *arms_of(parts)):
            for one in _against_first(parts, part, arm):
                paired = one.paired
                rows.append(
                    [
                        f"{part.label} - {parts[0].label}",
                        arm,
                        f"{'~' if one.interpolated else ''}{percent(one.density)}",
                        str(len(one.values)),
                        metric.signed(paired.mean),
                        metric.interval(paired.low, paired.high),
                        one.verdict,
                    ]
                )
    alpha = parts[0].asked.alpha
    heads = ["density %", "n", "difference", f"{percent(1 - alpha)} % interval", "outcome"]
    title = ", ".join(
        filter(None, (f"Differences between the runs in test {metric.title}", metric.points))
    )
    return Grid(title, ["arms", "arm"], [("", heads)], rows)
