"""Printing: how results look on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tombola.commands.command import print_json

if TYPE_CHECKING:
    from rich.console import Console

    from tombola.experiments.reporting import Outcome


def console(width: int = 100) -> Console:
    """Make the console for results.

    Without a terminal it has ``width`` columns.
    """
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else width)


def print_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str] = ()
) -> None:
    """Print a table of plain text; columns whose heads are in ``right`` are aligned right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    # Folded where it is too long: half a path cannot be copied.
    for head in heads:
        table.add_column(head, justify="right" if head in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console(120).print(table)


def print_outcome(outcome: Outcome, name: str, as_json: bool) -> None:
    """Print the results of one run: its table, then the answer and the path of its page."""
    from tombola.reports.decisions import sentences

    if as_json:
        content = {
            "folder": str(outcome.folder),
            "complete": outcome.complete,
            "notes": outcome.notes,
            "files": [str(file) for file in outcome.files],
            "answer": sentences(outcome.records, outcome.asked),
            "records": list(outcome.records),
        }
        print_json(content)
        return
    from tombola.reports.table import terminal

    if outcome.records:
        terminal(name, outcome.records, outcome.notes, console(), outcome.asked)
    else:
        for note in outcome.notes:
            print(note)
    # The page, which contains everything.
    print(outcome.files[-1] if outcome.files else outcome.folder)


def print_together(
    folders: Sequence[Path],
    *,
    out: Path | None = None,
    as_json: bool = False,
    verdict: Mapping[str, Any] | None = None,
) -> None:
    """Report several runs together, and print the summary of their page.

    Args:
        folders: Of the runs.
        out: Folder for the page; beside the first run if not given.
        as_json: Print only the paths.
        verdict: Entries of ``verdict`` to use instead of the recipes'.
    """
    from tombola.commands import multi_run
    from tombola.folder.runs import Run

    # In memory alone: the runs themselves keep what their recipes say.
    runs = [Run(folder) for folder in folders]
    for run in runs:
        run.judge_by(verdict or {})
    files = multi_run.report(runs, out)
    if as_json:
        content = {
            "folders": [str(folder) for folder in folders],
            "files": [str(file) for file in files],
        }
        print_json(content)
        return
    from rich.markdown import Markdown

    console().print(Markdown(files[0].read_text(encoding="utf-8")))
    print(files[-1])
