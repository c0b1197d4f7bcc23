"""Memory of a run's own process over the number of partitions: COLT with 2, 8 and 24 of them, on
two workers.

A perceptron of 4.1 M weights (16.5 MB) on the digits, three steps a training, one round. What
partitions learn comes back through files, and is to be read one at a time: the process that drives
the run must not hold them all.
"""

from __future__ import annotations

import tempfile

from benchmarks import fresh, machine
from benchmarks.curves import points
from benchmarks.harness import Goal, Measured, NotRun, Row, Series, Settings, exact
from benchmarks.masks import need
from tombola.experiments.experiment import run
from tombola.schema.recipe import parse

_GROWTH = "24 partitions / 2"

ROW = Row(224, "Memory of a run over its partitions", "", [Goal(_GROWTH, "<=", 1.1)])
_PARTITIONS = (2, 8, 24)


def measure(settings: Settings) -> Measured:
    need(1e9 if settings.quick else 6e9)
    hidden = settings.scaled(2000, 20)
    target = "benchmarks.rows._partitions_memory:drive"
    # In processes of their own: a peak is that of everything that ran before, too.
    lines, peaks = [], {}
    for number in _PARTITIONS[:2] if settings.quick else _PARTITIONS:
        peaks[number] = fresh.call(target, partitions=number, hidden=hidden) / 1e6
        lines.append(exact(f"{number} partitions", peaks[number], "MB"))
    if _PARTITIONS[-1] in peaks:
        lines.append(exact(_GROWTH, peaks[_PARTITIONS[-1]] / peaks[_PARTITIONS[0]], "x"))
    curve = points({number: [peak] for number, peak in peaks.items()})
    series = Series("Memory of a run over its partitions", "Partitions", "MB", curve)
    return Measured(lines, [series])


def drive(partitions: int, hidden: int) -> float:
    """Drive a run in this process; the most bytes that it held."""
    colt = {"method": "colt", "partitions": partitions, "split_by": "examples", "rate": 0.1}
    recipe = parse(
        {
            "name": "memory",
            "data": {"name": "digits", "valid": 0.15},
            "model": {"name": "mlp", "hidden": [hidden, hidden]},
            "training": {"lr": 0.01, "momentum": 0.9, "steps": 3, "batch_size": 20},
            "arms": {"colt": colt},
            "until": {"rounds": 1},
            "keep": "none",
        }
    )
    try:
        machine.forget_peak()
    except OSError as error:
        raise NotRun("the peak of memory can only be read on Linux") from error
    with tempfile.TemporaryDirectory(prefix="tombola-bench-") as folder:
        outcome = run(recipe, runs=folder, workers=2)
    if not outcome.complete:
        raise NotRun(f"the run did not complete: {'; '.join(outcome.notes)}")
    return machine.peak()
