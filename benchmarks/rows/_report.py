"""A report over the number of its results: tables, charts and page of packed runs of about 100,
1,000 and 5,000.

One replicate of ten arms and ten rounds is really run, the others are made from it
(`benchmarks.crowd`). What is timed is reading the folder and writing its report, figures inside the
page alone, in a process that has imported what it needs.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.crowd import A_REPLICATE, crowd
from benchmarks.curves import points
from benchmarks.harness import Goal, Measured, Row, Series, Settings, interleave, ratio, single
from tombola.experiments.reporting import report
from tombola.folder.runs import Run

_REPLICATES = (1, 10, 45)
_MOST = f"{_REPLICATES[-1] * A_REPLICATE:,} results"
_GROWTH = "growth over 4.5 times the results"

ROW = Row(
    230, "A report over its results", "", [Goal(_MOST, "<", 10, "s"), Goal(_GROWTH, "<=", 4.5)]
)


def measure(settings: Settings) -> Measured:
    replicates = _REPLICATES[:2] if settings.quick else _REPLICATES
    with tempfile.TemporaryDirectory(prefix="tombola-bench-") as folder:
        sides = {}
        for number in replicates:
            packed = crowd(Path(folder, str(number), "run"), number)
            sides[f"{number * A_REPLICATE:,} results"] = _reporting(packed.path)
        times = interleave(sides, settings.times(3), settings.seed)
    lines = [single(name, seconds, "s", seed=settings.seed) for name, seconds in times.items()]
    # More than linear growth would make a large study unreadable.
    if _MOST in times:
        fewer = times[f"{_REPLICATES[-2] * A_REPLICATE:,} results"]
        lines.append(ratio(_GROWTH, fewer, times[_MOST], seed=settings.seed))
    results = [number * A_REPLICATE for number in replicates]
    curve = points(dict(zip(results, times.values(), strict=True)))
    series = Series("A report over its results", "Results", "Seconds", curve, log=True)
    return Measured(lines, [series])


def _reporting(folder: Path) -> Callable[[], float]:
    def seconds() -> float:
        began = time.perf_counter()
        report(Run(folder), formats=())
        return time.perf_counter() - began

    return seconds
