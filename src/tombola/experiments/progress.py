"""Progress output of a run: bars on a terminal, plain lines elsewhere, in a notebook below its
cell.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column

from tombola.experiments.estimate import Estimate
from tombola.ground.metrics import ACCURACY
from tombola.ground.notebooks import in_notebook


class Display:
    """Shows estimate, trainings under way and results.

    Args:
        quiet: Say nothing at all.
        console: Where to; if not given standard error, so that standard output holds the result
            table alone, and in a notebook standard output, which is not shown in red there.
    """

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        self.quiet = quiet
        self.console = console or _console()
        self._bars: Progress | None = None
        self._lock = threading.Lock()
        self._labels: dict[str, str] = {}
        self._tasks: dict[str, TaskID] = {}
        self._done: dict[str, int] = {}
        # Dense networks that were shown, by replicate and training: all arms share them.
        self._dense: set[tuple[int, str]] = set()
        self._all: TaskID | None = None
        self._began = time.monotonic()
        self._estimate: Estimate | None = None
        self.metric = ACCURACY  # what is shown of a result

    def start(self, name: str, estimate: Estimate) -> None:
        """Say what is ahead, and begin."""
        about = f"about {duration(estimate.seconds)}"
        if not estimate.bounded:
            each = duration(estimate.seconds / max(1, estimate.trainings))
            self.say(
                f"{name}: the number of rounds is not known beforehand; about {each} a training"
            )
        else:
            size = f", {in_bytes(estimate.bytes)} on the disk" if estimate.bytes else ""
            self.say(f"{name}: {estimate.counted}, {about}{size}")
        self._began, self._estimate = time.monotonic(), estimate
        if self.quiet or not self.console.is_terminal:
            return
        # Where it is narrow, what a training is for is cut short, and bar, percent and time stay.
        percent, elapsed, left = (Column(no_wrap=True, min_width=width) for width in (4, 7, 0))
        self._bars = Progress(
            TextColumn(
                "{task.description}",
                table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
            ),
            BarColumn(bar_width=20 if self.console.width >= 100 else 8),
            TaskProgressColumn(table_column=percent),
            TimeElapsedColumn(table_column=elapsed),
            TextColumn("{task.fields[left]}", table_column=left),
            console=self.console,
            transient=True,
            expand=True,
        )
        self._all = self._bars.add_task(
            name, total=estimate.steps, left=f"{about} left" if estimate.bounded else ""
        )
        self._bars.start()

    def label(self, digest: str, text: str) -> None:
        """Say what a training is for; it may serve several arms."""
        with self._lock:
            self._labels.setdefault(digest, text)

    def progress(self, digest: str, done: int, steps: int) -> None:
        """Show how far a training is."""
        with self._lock:
            self._done[digest] = done
            if self._bars is None or self._all is None:
                return
            if digest not in self._tasks:
                self._tasks[digest] = self._bars.add_task("", total=steps, left="")
            assert self._estimate is not None
            epochs = math.ceil(self._estimate.epochs)
            epoch = f"epoch {math.ceil(done / steps * self._estimate.epochs)} of {epochs}"
            text = f"  {self._labels.get(digest, 'training')} · {epoch}"
            self._bars.update(self._tasks[digest], completed=done, description=text)
            if done >= steps:
                self._bars.remove_task(self._tasks.pop(digest))
            self._bars.update(self._all, completed=sum(self._done.values()), left=self._left())

    def _left(self) -> str:
        done = sum(self._done.values())
        if self._estimate is None or not self._estimate.bounded or not done:
            return ""
        # With more steps done than were foreseen, how many are left is not known.
        ahead = self._estimate.steps - done
        if ahead <= 0:
            return ""
        return f"{duration((time.monotonic() - self._began) * ahead / done)} left"

    def result(self, record: Mapping[str, Any]) -> None:
        """Show a result as one line; that of a dense network once, whichever arms share it."""
        with self._lock:
            left = self._left() if self._bars is None else ""
            if _is_shared(record):
                key = record["replicate"], record["training_digest"]
                if key in self._dense:
                    return
                self._dense.add(key)
        result = "not evaluated" if record[self.metric.test] is None else self._result(record)
        network = f"{record['arm']} · round {record['round']}"
        if _is_shared(record):
            network = "dense network"
        which = f"replicate {record['replicate']} · {network}"
        # As a rule they take no time that anybody would notice.
        checks = ""
        if record["invariant_seconds"] >= 0.1:
            checks = f", checks {record['invariant_seconds']:.1f} s"
        self.say(
            f"{clock(time.monotonic() - self._began)}  {which:<37} density "
            f"{record['density']:7.2%}   {result}   {record['round_seconds']:.1f} "
            f"s{checks}{'   ' * bool(left)}{left}"
        )

    def _result(self, record: Mapping[str, Any]) -> str:
        metric, value = self.metric, record[self.metric.test]
        return f"test {metric.title} {f'{value:.2%}' if metric.fraction else metric.shown(value)}"

    def say(self, text: str) -> None:
        """Show a line."""
        if not self.quiet:
            self.console.print(text, markup=False, soft_wrap=True)

    def stop(self) -> None:
        """Take the bars away."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None


def _console() -> Console:
    if in_notebook():
        # Bars would need a package of widgets there.
        return Console(file=sys.stdout, force_jupyter=False, force_terminal=False, highlight=False)
    return Console(stderr=True, highlight=False)


def _is_shared(record: Mapping[str, Any]) -> bool:
    """Whether a result is that of the dense network of a run, which is round 0 of every arm."""
    return record["round"] == 0 and "training_digest" in record and "found_on" not in record


def duration(seconds: float) -> str:
    """Say a time as people do.

    >>> duration(42), duration(190), duration(8000)
    ('42 s', '3 min', '2 h 13 min')
    """
    if not math.isfinite(seconds):
        return "an unknown time"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def in_bytes(number: int) -> str:
    """Say a size as people do.

    >>> in_bytes(900), in_bytes(1_500_000)
    ('1 kB', '1.5 MB')
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{math.ceil(number / 1000)} kB"


def clock(seconds: float) -> str:
    """Say a time as a clock does.

    >>> clock(75.4)
    '1:15'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
