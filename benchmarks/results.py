"""Results: rows measured one after the other, kept as JSON with the machine they were measured on.

A run of some rows replaces these and keeps the others; where they come from another machine or
other software, the page says which.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import fresh, machine, rows
from benchmarks.harness import Line, Measured, NotRun, Row, Settings, verdict
from tombola.ground.files import write_whole

_SAME = ("processor", "cores", "memory_gb", "system", "python", "torch", "numpy")


@dataclass(frozen=True)
class Result:
    """What came of a row.

    Attributes:
        name: Of the row.
        measured: Its lines; ``None`` where it was not run.
        reason: Why it was not run.
        facts: The machine, when the row began.
        quick: Whether everything was as small as it works; such numbers mean nothing.
    """

    name: str
    measured: Measured | None
    reason: str
    facts: Mapping[str, Any]
    quick: bool = False

    def line(self, name: str) -> Line | None:
        """Return the line of that name, if it was measured."""
        for line in self.measured.lines if self.measured else ():
            if line.name == name:
                return line
        return None


@dataclass(frozen=True)
class Entry:
    """One line of the table: a line that was measured, or a goal that nothing was measured for."""

    row: str
    title: str
    line: str
    against: str
    goal: str
    measured: Line | None
    verdict: str


def run(
    names: Sequence[str],
    settings: Settings,
    *,
    begun: Callable[[str], None] = lambda _: None,
    done: Callable[[Result], None] = lambda _: None,
    call: Callable[..., Any] = fresh.call,
    facts: Callable[[], dict[str, Any]] = machine.facts,
) -> list[Result]:
    """Measure rows, each in a fresh process.

    Whatever goes wrong with a row is its reason for not being run.

    Args:
        names: The rows.
        settings: For all of them.
        begun: Called with the name of each row before it is measured.
        done: Called with each result.
        call: Calls a function in a fresh process.
        facts: Of the machine.
    """
    results = []
    options = dataclasses.asdict(settings)
    for name in names:
        begun(name)
        # The load when the row begins: what ran beside it cannot be seen later.
        measured, reason, now = None, "", facts()
        try:
            measured = Measured.of(call("benchmarks.rows:measure", name=name, settings=options))
        except NotRun as error:
            reason = str(error)
        result = Result(name, measured, reason, now, settings.quick)
        results.append(result)
        done(result)
    return results


def entries(result: Result, row: Row | None = None) -> list[Entry]:
    """Return a row's lines of the table: judged ones first, then the extra ones.

    Of a row that was not run these are its goals.
    """
    row = row or rows.get(result.name).ROW
    goals = {goal.line: goal for goal in row.goals}
    # Goals whose line was not measured are shown as well.
    names = list(goals)
    for line in result.measured.lines if result.measured else ():
        if line.name not in goals:
            names.append(line.name)

    entries = []
    for name in names or [""]:
        measured, goal = result.line(name), goals.get(name)
        word: str = verdict(goal, measured)
        if goal is None and result.measured is None:
            word = "not run"
        against = (measured.against if measured else "") or row.against
        shown_goal = "" if goal is None else str(goal)
        entries.append(Entry(result.name, row.title, name, against, shown_goal, measured, word))
    return entries


def write(results: Sequence[Result], path: Path) -> None:
    """Write results as JSON, one row after the other."""
    plain = [dataclasses.asdict(result) for result in results]
    write_whole(path, json.dumps(plain, indent=1) + "\n")


def read(path: Path) -> list[Result]:
    """Read results; none where there is no file."""
    if not path.exists():
        return []
    results = []
    for plain in json.loads(path.read_text(encoding="utf-8")):
        if plain["measured"]:
            plain["measured"] = Measured.of(plain["measured"])
        results.append(Result(**plain))
    return results


def merged(old: Sequence[Result], new: Sequence[Result], order: Sequence[str]) -> list[Result]:
    """Put new results over old ones, in the order of the table.

    A row that was not run this time does not replace one that was measured, and a quick run, which
    measures nothing, is never mixed with a real one.
    """
    if not new:
        return list(old)
    # Rows that were not run now stay as they were.
    by_name = {result.name: result for result in old if result.quick == new[0].quick}
    for result in new:
        earlier = by_name.get(result.name)
        if result.measured is not None or earlier is None or earlier.measured is None:
            by_name[result.name] = result
    return [by_name[name] for name in order if name in by_name]


def by_machine(results: Sequence[Result]) -> list[list[Result]]:
    """Put results of the same machine and software together, in their order."""
    groups: dict[tuple[Any, ...], list[Result]] = {}
    for result in results:
        same = tuple(result.facts.get(key) for key in _SAME)
        groups.setdefault(same, []).append(result)
    return list(groups.values())
