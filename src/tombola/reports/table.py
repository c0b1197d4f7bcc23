"""Tables: what the arms reached, as Markdown and in a terminal.

records -> [ aggregate, decisions ] -> grids of text -> [ markdown, terminal, page ]
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from tombola.evidence import ledger
from tombola.evidence.answers import Evidence
from tombola.ground.metrics import ACCURACY, Metric
from tombola.reports import (
    aggregate,
    alive,
    decisions,
    equal_cost,
    inference,
    masks,
    scoring,
    untrained,
)
from tombola.reports.aggregate import Record, RoundRow, Spread, TargetRow
from tombola.reports.decisions import NOTHING, Asked
from tombola.reports.grids import Grid, filled, in_words, percent

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_MARKDOWN_ACTS_ON = re.compile(r"([\\`*\[\]<>&|~$#]|(?<!\w)_|_(?!\w))")


def markdown(
    title: str, records: Sequence[Record], notes: Sequence[str], asked: Asked = NOTHING
) -> str:
    r"""Return the report as GitHub Markdown: the dense network, both tables, how to read them, the
    notes.

    Titles, arms and notes may hold any text; what Markdown would act on is escaped.

    >>> print(markdown("digits *", [], ["lth, replicate 1: stopped"]), end="")
    # digits \*
    <BLANKLINE>
    No ticket has been evaluated.
    <BLANKLINE>
    - lth, replicate 1: stopped
    """
    records = Evidence.of(records)
    parts = [f"# {escaped(title)}", *markdown_list(decisions.sentences(records, asked))]
    parts += map(escaped, summary(records, asked))
    for grid in grids(records, asked):
        parts += [f"## {grid.title}", markdown_table(grid)]
    lines = [*masks.collapse_lines(records, asked), *inference.inference_lines(records, asked)]
    parts += [*map(escaped, lines), *legend(records, asked.metric), *markdown_list(notes)]
    return "\n\n".join(parts) + "\n"


def markdown_list(lines: Sequence[str]) -> list[str]:
    """Return lines of plain text as one list of GitHub Markdown, or as none."""
    return ["\n".join(f"- {escaped(line)}" for line in lines)] if lines else []


def terminal(
    title: str,
    records: Sequence[Record],
    notes: Sequence[str],
    console: Console | None = None,
    asked: Asked = NOTHING,
) -> None:
    """Print what a run found: one table of all arms at the densities that are asked for, what a
    reader must know, and the answer last.

    All other tables are on the page.

    Args:
        title: Printed as it is, like arms and notes: square brackets are no markup.
        records: Of the whole experiment.
        notes: One line each.
        console: A rich console; without one, standard output (plain text if that is no terminal).
        asked: What is to be decided.
    """
    from rich.console import Console
    from rich.text import Text

    console = console or Console()
    records = Evidence.of(records)
    console.print(Text(": ".join([title, *decisions.question(records, asked)]), style="bold"))
    basis = decisions.basis(records, asked)
    for line in [] if basis else summary(records, asked):
        console.print(Text(line))
    grid = _asked_grid(records, asked)
    if grid.rows:
        console.print(Text(f"\n{grid.title}", style="bold"))
        for index, table in enumerate(_fitting(filled(grid), console)):
            if index:
                console.print()
            console.print(table)
        for note in (*grid.notes, *basis):
            console.print(Text(note, style="dim"))
    console.print()
    for note in notes:
        console.print(Text(f"- {note}", style="yellow"))
    # What is printed last is what one reads first.
    answer, *others = decisions.sentences(records, asked) or [""]
    for line in others:
        console.print(Text(line))
    if answer:
        console.print(Text(f"\n{answer}", style="bold"))


def _asked_grid(records: Sequence[Record], asked: Asked) -> Grid:
    """Return all arms beside the dense network at the densities that are asked for, as the page
    begins; where none of them is reached, what was reached.
    """
    grid = decisions.against_dense_grid(records, asked)
    return _by_density(grid) if grid.rows else _target_grid(records, asked)


def _by_density(grid: Grid) -> Grid:
    """Give each density a group of its own, with its verdicts, so that a narrow terminal can stand
    them below each other.
    """
    [(_, heads)] = grid.groups
    groups: list[tuple[str, list[str]]] = []
    for head in heads:
        # A verdict has no head and belongs to the difference before it.
        if not head or (head == "search" and groups):
            groups[-1][1].append(head)
        else:
            groups.append(("", [head]))
    return replace(grid, groups=groups)


def summary(records: Sequence[Record], asked: Asked = NOTHING) -> list[str]:
    """Return what all arms are compared with, the dense network, and what is missing; one line
    each.

    >>> summary([{"arm": "dense", "replicate": 0, "round": 0, "test_accuracy": 0.9712}])
    ['Dense network: test accuracy 97.12 % (1 replicate).']
    """
    metric = asked.metric
    value = aggregate.dense(records, metric)
    lines = []
    if value is not None:
        many = f"mean of {value.n} replicates" if value.n > 1 else "1 replicate"
        mean = f"{spread(value, metric)} {metric.shown_unit}".strip()
        lines.append(f"Dense network: test {metric.title} {mean} ({many}).")
    if not records:
        lines.append("No ticket has been evaluated.")
    return lines + pace_lines(records, asked)


def pace_lines(records: Sequence[Record], asked: Asked = NOTHING) -> list[str]:
    """Say how fast each arm prunes, and whether none has come anywhere yet; one line each."""
    lines = []
    kept = []
    for arm, fraction in aggregate.kept_per_round(records, asked.made_of).items():
        kept.append(f"{arm} {spread(fraction)}")
    if kept:
        lines.append(f"Weights kept per round: {', '.join(kept)} %.")
    if aggregate.arms(records) and not aggregate.by_target(records):
        lines.append(f"No arm has reached a density of {percent(max(aggregate.TARGETS))} % yet.")
    return lines


def grids(records: Sequence[Record], asked: Asked = NOTHING) -> list[Grid]:
    """Return the tables as text, without those that would have no rows."""
    tables = [
        *recorded_grids(records, asked),
        decisions.verdict_grid(records, asked),
        *equal_cost.equal_cost_grids(records, asked),
        decisions.comparison_grid(records, asked),
        untrained.untrained_grid(records, asked),
        decisions.paper_grid(records, asked),
        decisions.cost_grid(records, asked),
        decisions.budget_grid(records, asked),
        scoring.scoring_grid(records, asked),
        decisions.overlap_grid(records, asked),
        decisions.barrier_grid(records, asked.metric),
        masks.similarity_grid(records, asked),
        masks.collapse_grid(records, asked),
        alive.alive_grid(records, asked),
        inference.inference_grid(records, asked),
        stop_grid(records, asked.at, asked.metric),
    ]
    return [grid for grid in tables if grid.rows]


def legend(records: Sequence[Record], metric: Metric = ACCURACY) -> list[str]:
    """Return how to read the tables, one line each; nothing where there is no table."""
    return [
        *recorded_legend(records, metric),
        *barrier_legend(records, metric),
        *checks_lines(records),
        *cost_legend(records),
    ]


def recorded_grids(records: Sequence[Record], asked: Asked = NOTHING) -> list[Grid]:
    """Return the results round by round, and those of the first round at or below each density."""
    return [_round_grid(records, asked.metric), _target_grid(records, asked)]


def recorded_legend(records: Sequence[Record], metric: Metric = ACCURACY) -> list[str]:
    """Return how to read the tables of results, one line each."""
    lines = []
    total = aggregate.replicates(records)
    if total == 1:
        lines.append("One replicate: no standard deviation.")
    elif total > 1:
        lines.append(
            f"± is the sample standard deviation over n = {total} replicates; "
            "a smaller n stands in brackets or under reached."
        )
    if any(record[metric.test] is None for record in records):
        lines.append("Tickets without a value were not evaluated (evaluate_at).")
    return lines


def barrier_legend(records: Sequence[Record], metric: Metric = ACCURACY) -> list[str]:
    """Say what a barrier is, one line; nothing where there is none."""
    if not decisions.connected(records):
        return []
    beyond = "below" if metric.worst == "lowest" else "above"
    stable = ""
    if metric.fraction:
        limit = percent(decisions.STABLE)
        stable = f"; a ticket is stable where it is below {limit} points"
    return [
        f"The barrier is the {metric.worst} test {metric.error_title} on the straight line between two "
        f"trainings of one ticket, in two orders of the data, {beyond} the mean "
        f"{metric.error_title} of the two{stable}."
    ]


def checks_lines(records: Sequence[Record]) -> list[str]:
    """Say how long the checks of the invariants took, one line; nothing where there were none."""
    checks = sum(record.get("invariant_seconds") or 0.0 for record in records)
    if not checks:
        return []
    return [f"Checking the invariants after every round took {checks:.1f} s in all."]


def cost_legend(records: Sequence[Record]) -> list[str]:
    """Say what costs are, one line; nothing where no density is reached."""
    if not aggregate.by_target(records):
        return []
    alone = ""
    if ledger.independent_arms(records):
        alone = "; where densities know nothing of each other, those of that density"
    return [
        "Costs are cumulative: all trainings that the arm needed up to there, as if it ran alone"
        f"{alone}. Seconds are those of the trainings, one after the other; one full-data training "
        "is what the dense network saw in round 0."
    ]


def _round_grid(records: Sequence[Record], metric: Metric) -> Grid:
    arms, replicates = aggregate.arms(records), aggregate.replicates(records)
    by_round: dict[int, dict[str, list[str]]] = {}
    for row in aggregate.by_round(records, metric):
        cells = _round_cells(row, replicates, metric)
        by_round.setdefault(row.round, {})[row.arm] = cells
    rows = []
    for index, of_round in sorted(by_round.items()):
        line = [str(index)]
        for arm in arms:
            line += of_round.get(arm, ["", ""])
        rows.append(line)
    return Grid(
        title=f"Test {metric.title} by round",
        labels=["round"],
        groups=[(arm, ["density %", metric.head]) for arm in arms],
        rows=rows,
    )


def stop_grid(
    records: Sequence[Record], targets: Sequence[float], metric: Metric = ACCURACY
) -> Grid:
    """Return where the first tickets at or below each density stop early, and how training is above
    test, as text.

    Args:
        records: Of the whole experiment; without validation data there is no early stop, and no
            row.
        targets: Densities, beyond four thinned out.
        metric: What is told of them.
    """
    dense = [record for record in records if record["round"] == 0]
    groups = [("100", aggregate.DENSE, aggregate.firsts(dense, 1.0))]
    for target in aggregate.few(targets):
        for arm in aggregate.arms(records):
            tickets = [record for record in aggregate.of_arm(records, arm) if record["round"]]
            groups.append((percent(target), arm, aggregate.firsts(tickets, target)))
    rows: list[list[str]] = []
    above = None
    for density, arm, tickets in groups:
        numbers = _stop_numbers(tickets, metric)
        if numbers:
            rows.append(["" if density == above else density, arm, str(len(tickets)), *numbers])
            above = density
    heads = [
        "n",
        metric.head,
        f"at early stop {metric.shown_unit}".strip(),
        "early-stop step",
        "train - test",
        "train - validation",
    ]
    title = metric.axis("Early stopping and generalisation gap", differences=True)
    return Grid(title=title, labels=["density %", "arm"], groups=[("", heads)], rows=rows)


def _stop_numbers(tickets: Sequence[Record], metric: Metric) -> list[str]:
    """Return the numbers of a row of `stop_grid`; none where no ticket has an early stop."""
    at_end, early, above_test, above_valid = [], [], [], []
    for record in tickets:
        at_end.append(aggregate.scaled(record[metric.test], metric))
        early.append(aggregate.early_value(record, metric))
        above_test.append(aggregate.above_test(record, metric))
        above_valid.append(aggregate.above_valid(record, metric))
    if aggregate.known_spread(early) is None:
        return []
    steps = _in_digits(aggregate.values(tickets, "early_stop_step"), 0)
    return [
        _in_digits(at_end),
        _in_digits(early),
        steps,
        _in_digits(above_test),
        _in_digits(above_valid),
    ]


def _in_digits(values: Sequence[float | None], digits: int = 2) -> str:
    known = aggregate.known_spread(values)
    if known is None:
        return ""
    mean = f"{known.mean:,.{digits}f}"
    return mean if known.deviation is None else f"{mean} ± {known.deviation:,.{digits}f}"


def _round_cells(row: RoundRow, replicates: int, metric: Metric) -> list[str]:
    value = "" if row.value is None else spread(row.value, metric, replicates)
    return [f"{100 * row.density:.2f}", value]


def _target_grid(records: Sequence[Record], asked: Asked) -> Grid:
    rows: list[list[str]] = []
    above = None
    for row in aggregate.by_target(records, made_of=asked.made_of, metric=asked.metric):
        label = "" if row.target == above else percent(row.target)
        rows.append([label, *_target_cells(row, asked.metric)])
        above = row.target
    return Grid(
        title="First round at or below each density",
        labels=["target %", "arm"],
        groups=[
            ("", ["reached", "round", "density %", asked.metric.head]),
            ("", ["full-data trainings", "seconds"]),
        ],
        rows=rows,
    )


def _target_cells(row: TargetRow, metric: Metric) -> list[str]:
    reached = f"{row.reached} of {row.replicates}"
    if row.round is None or row.density is None or row.seconds is None:
        return [row.arm, reached, "", "", "", "", ""]
    return [
        row.arm,
        reached,
        f"{row.round:.0f}" if row.round.is_integer() else f"{row.round:.1f}",
        f"{100 * row.density:.2f}",
        "" if row.value is None else spread(row.value, metric),
        "" if row.trainings is None else f"{row.trainings:.1f}",
        f"{row.seconds:.1f}",
    ]


def spread(value: Spread, metric: Metric = ACCURACY, replicates: int | None = None) -> str:
    """Return the mean as it is shown, standard deviation where there is one, and n in brackets
    where some are missing.

    Args:
        value: Over replicates.
        metric: Says how a value is shown; fractions are in percent.
        replicates: How many there should be.
    """
    text = metric.number(value.mean)
    if value.deviation is not None:
        text += f" ± {metric.number(value.deviation)}"
    return text if replicates in (None, value.n) else f"{text} ({value.n})"


def markdown_table(grid: Grid) -> str:
    """Return a grid as a table of GitHub Markdown, its notes below."""
    grid = filled(grid)
    heads = list(grid.labels)
    for name, heads_of_group in grid.groups:
        heads += [f"{name}: {head}" if name else head for head in heads_of_group]
    rules = [":---" if in_words(head) else "---:" for head in heads]
    lines = [_markdown_line(map(escaped, heads)), _markdown_line(rules)]
    lines += [_markdown_line(map(escaped, row)) for row in grid.rows]
    return "\n\n".join(["\n".join(lines), *map(escaped, grid.notes)])


def _markdown_line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escaped(text: str) -> str:
    """Return plain text so that Markdown shows it as it is, in one line."""
    return _MARKDOWN_ACTS_ON.sub(r"\\\1", " ".join(text.split()))


def _fitting(grid: Grid, console: Console) -> list[Table]:
    """Return the grid as one table, or below each other as many as it takes to fit the console;
    a group is never divided.
    """
    tables: list[list[int]] = [[]]
    for group in range(len(grid.groups)):
        if tables[-1] and not _fits(_rich_table(grid, [*tables[-1], group]), console):
            tables.append([])
        tables[-1].append(group)
    return [_rich_table(grid, groups) for groups in tables]


def _fits(table: Table, console: Console) -> bool:
    from rich.measure import Measurement

    wide = console.options.update(width=10_000)
    return Measurement.get(console, wide, table).maximum <= console.width


def _rich_table(grid: Grid, chosen: Sequence[int]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))

    def add_column(head: str, text: str) -> None:
        justify: Literal["left", "right"] = "left" if in_words(head) else "right"
        table.add_column(Text(text), justify=justify, overflow="fold")

    for label in grid.labels:
        add_column(label, f"\n{label}")
    columns = list(range(len(grid.labels)))
    named = any(name for name, _ in grid.groups)
    start = len(grid.labels)
    for index, (name, heads) in enumerate(grid.groups):
        if index in chosen:
            columns += range(start, start + len(heads))
            for offset, head in enumerate(heads):
                above = "" if offset else name
                add_column(head, f"{above}\n{head}" if named else _in_two_lines(head))
        start += len(heads)
    for row in grid.rows:
        cells = [row[column] for column in columns]
        # Of arms below each other, each has the rounds that it reached.
        if not named or any(cells[len(grid.labels) :]):
            table.add_row(*map(Text, cells))
    return table


def _in_two_lines(head: str) -> str:
    """Break a long head at the space that makes it narrowest, never behind a minus sign."""
    if len(head) <= 12:
        return f"\n{head}"
    words = head.split(" ")
    broken = []
    for number in range(1, len(words)):
        if words[number - 1] != "-":
            broken.append(f"{' '.join(words[:number])}\n{' '.join(words[number:])}")
    return min(broken, key=lambda text: max(map(len, text.split("\n"))))
