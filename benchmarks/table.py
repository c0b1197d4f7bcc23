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
make bench                            # all rows
make bench ROWS=lenet5,mask           # some rows
make bench OPEN_LTH=/path/to/clone    # with the rows that need a clone of facebookresearch/open_lth
```

Every row runs in a process of its own. The two sides alternate, in an order drawn anew for each
repetition. A ratio is their median over our median, so above 1 tombola is better; brackets give its
95 % bootstrap interval, which resamples whole repetitions. A goal counts as met if the whole
interval meets it; a missed goal does not fail the run.
"""
_JUDGED = {"met": "**met**", "missed": "**missed**"}


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
    """Write the medians of both sides, empty texts where there is only one."""
    if not len(line.theirs):
        return "", ""
    ours, theirs = (number(statistics.median(values)) for values in (line.ours, line.theirs))
    return f"{ours} {line.each}".strip(), f"{theirs} {line.each}".strip()


def terminal(result: Result) -> str:
    """Write a row as some lines of text: goal and result of each of its lines."""
    # A row has one title and several lines.
    rows_ = entries(result)
    against = f", against {rows_[0].against}" if rows_[0].against else ""
    text = [f"{result.name}: {rows_[0].title}{against}"]
    if result.measured is None:
        goals = "; ".join(f"{entry.line} {entry.goal}" for entry in rows_ if entry.goal)
        goals = f" (goal: {goals})" if goals else ""
        return "\n".join([*text, f"    not run: {result.reason}{goals}"])
    for entry in rows_:
        value = with_interval(entry.measured) if entry.measured else ""
        goal = f"goal {entry.goal}" if entry.goal else ""
        text.append(f"    {entry.line:<32} {goal:<14} {value:<28} {entry.verdict}".rstrip())
        note = _note(entry)
        if note:
            text.append(f"        {note}")
    return "\n".join([*text, *(f"    {note}" for note in result.measured.notes)])


def _note(entry: Entry) -> str:
    if entry.measured is None:
        return ""
    ours, theirs = sides(entry.measured)
    medians = f"{ours} against {theirs}" if ours else ""
    return "; ".join(filter(None, [medians, entry.measured.note]))


def summary(results: Sequence[Result]) -> str:
    """Count the goals in one line."""
    verdicts: list[str] = []
    for result in results:
        verdicts += [entry.verdict for entry in entries(result) if entry.goal]
    counts = [f"{verdicts.count(word)} {word}" for word in ("met", "missed", "not run")]
    return f"{', '.join(counts)} of {len(verdicts)} goals"


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
    # Numbers of two machines in one table would be compared.
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
    commits = dict.fromkeys(result.facts["commit"] or "not known" for result in results)
    facts: dict[str, Any] = {
        "processor": f"{first['processor']}, {first['cores']} cores, {first['instructions']}",
        "memory": f"{first['memory_gb']} GB",
        "system": first["system"],
        "software": f"Python {first['python']}, torch {first['torch']}, numpy {first['numpy']}",
        "torch's default threads": first["threads"],
        "load average as rows began": f"{min(loads):g} to {max(loads):g}" if loads else "not known",
        "date": _span([result.facts["date"] for result in results]),
        "tombola's commit": ", ".join(commits),
    }
    lines = ["| | |", "|---|---|"]
    for name, value in facts.items():
        lines.append(f"| {name} | {_cell(str(value))} |")
    lines.append("")
    if "*" in facts["tombola's commit"]:
        lines.append("A star after a commit: files differed from it.\n")
    return "\n".join(lines)


def _span(dates: Sequence[str]) -> str:
    return min(dates) if min(dates) == max(dates) else f"{min(dates)} to {max(dates)}"


def _table(results: Sequence[Result]) -> str:
    lines = ["| row | what | against | goal | result | ours | theirs | |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for result in results:
        for index, entry in enumerate(entries(result)):
            lines.append(f"| {' | '.join(map(_cell, _cells(result, entry, index)))} |")
        for note in result.measured.notes if result.measured else ():
            lines.append(f"| | {_cell(note)} | | | | | | |")
    return "\n".join([*lines, ""])


def _cells(result: Result, entry: Entry, index: int) -> list[str]:
    """Return the cells of a row's line; its first line also has the row's name and title."""
    name = result.name if index == 0 else ""
    what = entry.line or entry.title
    if index == 0 and entry.line:
        what = f"{entry.title}: {entry.line}"
    value = ours = theirs = ""
    if entry.measured is not None:
        value, (ours, theirs) = with_interval(entry.measured), sides(entry.measured)
        if entry.measured.note:
            what += f" ({entry.measured.note})"
    word = _JUDGED.get(entry.verdict, "")
    if entry.verdict == "not run":
        word = f"not run: {result.reason}"
    return [name, what, entry.against, entry.goal, value, ours, theirs, word]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
