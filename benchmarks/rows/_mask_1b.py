"""A global magnitude mask of 1.007 billion float32 weights in 24 layers: time and extra memory of
`tombola.prune`.

One process, torch's default threads, a fresh process each time. It needs 8 GB of free memory: 4 GB
are the weights.
"""

from __future__ import annotations

from typing import Any

from benchmarks.harness import Goal, Measured, Row, Settings, single
from benchmarks.masks import BILLION, in_fresh_process, need

ROW = Row(
    70,
    "Global mask of 1.007 billion weights",
    "",
    [Goal("time", "<", 6, "s"), Goal("extra memory", "<", 1.2, "GB")],
)


def measure(settings: Settings) -> Measured:
    shapes: list[Any] = [(100, 100)] * 10 if settings.quick else list(BILLION)
    if not settings.quick:
        need(8e9)
    seconds, extra = [], []
    for _ in range(settings.times(5)):
        call = in_fresh_process("ours", shapes, settings.seed)
        seconds.append(call["seconds"])
        extra.append(call["extra"] / 1e9)
    return Measured(
        [
            single("time", seconds, "s", seed=settings.seed),
            single("extra memory", extra, "GB", seed=settings.seed),
        ]
    )
