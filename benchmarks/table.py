"""Tables: the results as text for a terminal, and as the Markdown of ``docs/benchmarks.md``."""

from __future__ import annotations

import inspect
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import rows
from benchmarks.harness import Line
from benchmarks.results import Entry, Result, by_machine, entries

_HEAD = """# Benchmarks

Written by `make bench`, which anyone can run. The code is in `benchmarks/`, the raw numbers are in
[benchmarks/results.json](benchmarks/results.json).

```
make bench                              # all rows
make bench ROWS=lenet5,mask             # some rows
make bench OPEN_LTH=/path/to/clone      # with the rows that need a clone of facebookresearch/open_lth
```

Every row runs in a process of its own. The two sides alternate, in an order drawn anew for each repetition. A ratio is
their median over our median, so above 1 tombola is better; brackets give its 95 % bootstrap interval, which resamples
whole repetitions. A goal counts as met if the whole interval meets it; a missed goal does not fail the run.
"""


def number(value: float) -> str:
    """Write a number with three digits that count.

    >>> number(0.012345), number(5.678), number(1234.5)
    ('0.0123', '5.68', '1234')
    """
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")


def with_interval(line: Line) -> str:
    """Write a line's number with its interval.

    >>> with_interval(Line("time", 5.0, 4.5, 5.25))
    '5.00 x [4.50, 5.25]'
    """
    unit = f" {line.unit}" if line.unit else ""
    if line.low == line.high == line.value:
        return f"{number(line.value)}{unit}"
    return f"{number(line.value)}{unit} [{number(line.low)}, {number(line.high)}]"


def sides(line: Line) -> tuple[str, str]:
    """Write the medians of both sides, an empty text for a side that is not there."""

    def one(values: Sequence[float]) -> str:
        return f"{number(statistics.median(values))} {line.each}".strip() if len(values) else ""

    return (one(line.ours), one(line.theirs)) if len(line.theirs) else ("", "")


def terminal(result: Result) -> str:
    """Write a row as some lines of text: goal and result of each of its lines."""
    shown = entries(result)
    against = f", against {shown[0].against}" if shown[0].against else ""
    text = [f"{result.name}: {shown[0].title}{against}"]
    if result.measured is None:
        goals = "; ".join(f"{e.line} {e.goal}" for e in shown if e.goal)
        return "\n".join(
            [*text, f"    not run: {result.reason}" + (f" (goal: {goals})" if goals else "")]
        )
    for entry in shown:
        found = with_interval(entry.found) if entry.found else ""
        goal = f"goal {entry.goal}" if entry.goal else ""
        text.append(f"    {entry.line:<32} {goal:<14} {found:<28} {entry.verdict}".rstrip())
        note = _note(entry)
        text += [f"        {note}"] if note else []
    return "\n".join([*text, *(f"    {note}" for note in result.measured.notes)])


def _note(entry: Entry) -> str:
    if entry.found is None:
        return ""
    ours, theirs = sides(entry.found)
    return "; ".join(filter(None, [f"{ours} against {theirs}" if ours else "", entry.found.note]))


def summary(results: Sequence[Result]) -> str:
    """Count the goals in one line."""
    said = [entry.verdict for result in results for entry in entries(result) if entry.goal]
    return (
        ", ".join(f"{said.count(which)} {which}" for which in ("met", "missed", "not run"))
        + f" of {len(said)} goals"
    )


def markdown(results: Sequence[Result], figures: Mapping[str, str]) -> str:
    """Write the whole page.

    Args:
        results: In the order of the table.
        figures: Titles by the file's name, relative to the page.
    """
    parts = [_HEAD]
    if any(result.quick for result in results):
        parts.append(
            "**These are quick runs, to see that the rows work. The numbers mean nothing.**\n"
        )
    parts.append(f"Result: {summary(results)}.\n")
    groups = by_machine(results)
    if len(groups) > 1:
        parts.append(
            "The rows were measured on several machines, or with several versions of the software; "
            "each table says on which.\n"
        )
    for group in groups:
        parts += [machine(group), _table(group)]
    parts += [f"![{title}]({file})\n" for file, title in figures.items()]
    parts.append("## What the rows measure\n")
    for result in results:
        text = inspect.cleandoc(rows.get(result.name).__doc__ or "")
        parts.append(f"**{result.name}.** {text}\n")
    return "\n".join(parts)


def machine(results: Sequence[Result]) -> str:
    """Write what the numbers depend on; load and date are those of the rows' beginnings."""
    first = results[0].facts
    loads = [result.facts["load"] for result in results if result.facts.get("load") is not None]
    said: dict[str, Any] = {
        "processor": f"{first['processor']}, {first['cores']} cores, {first['instructions']}",
        "memory": f"{first['memory_gb']} GB",
        "system": first["system"],
        "software": f"Python {first['python']}, torch {first['torch']}, numpy {first['numpy']}",
        "torch's default threads": first["threads"],
        "load average as rows began": f"{min(loads):g} to {max(loads):g}" if loads else "not known",
        "date": _span([result.facts["date"] for result in results]),
        "tombola's commit": ", ".join(
            dict.fromkeys(result.facts["commit"] or "not known" for result in results)
        ),
    }
    text = [
        "| | |",
        "|---|---|",
        *(f"| {key} | {_cell(str(value))} |" for key, value in said.items()),
        "",
    ]
    star = (
        ["A star behind a commit: files differed from it.\n"]
        if "*" in said["tombola's commit"]
        else []
    )
    return "\n".join([*text, *star])


def _span(dates: Sequence[str]) -> str:
    return min(dates) if min(dates) == max(dates) else f"{min(dates)} to {max(dates)}"


def _table(results: Sequence[Result]) -> str:
    text = [
        "| row | what | against | goal | result | ours | theirs | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        for index, entry in enumerate(entries(result)):
            name = result.name if index == 0 else ""
            what = (
                f"{entry.title}: {entry.line}"
                if index == 0 and entry.line
                else entry.line or entry.title
            )
            against = entry.against
            found, ours, theirs = "", "", ""
            if entry.found is not None:
                found, (ours, theirs) = with_interval(entry.found), sides(entry.found)
                what += f" ({entry.found.note})" if entry.found.note else ""
            said = {
                "met": "**met**",
                "missed": "**missed**",
                "not run": f"not run: {result.reason}",
            }
            cells = [
                name,
                what,
                against,
                entry.goal,
                found,
                ours,
                theirs,
                said.get(entry.verdict, ""),
            ]
            text.append(f"| {' | '.join(map(_cell, cells))} |")
        text += [
            f"| | {_cell(note)} | | | | | | |"
            for note in (result.measured.notes if result.measured else ())
        ]
    return "\n".join([*text, ""])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
