"""A global magnitude mask of 138 M weights, those of VGG-16: `tombola.prune` against
torch.nn.utils.prune.

20 % of random normal weights are pruned, all layers together, with torch's default threads. Time
and extra memory of one call, each in a fresh process.
"""

from __future__ import annotations

import functools
from typing import Any

from benchmarks.harness import Goal, Measured, Row, Settings, interleave, ratio
from benchmarks.masks import VGG16, in_fresh_process, need

ROW = Row(
    60,
    "Global mask of 138 M weights",
    "torch.nn.utils.prune",
    [Goal("time", ">=", 30), Goal("extra memory", ">=", 40)],
)


def measure(settings: Settings) -> Measured:
    shapes: list[Any] = [(100, 100)] * 10 if settings.quick else list(VGG16)
    if not settings.quick:
        need(8e9)
    calls: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}

    def side(name: str) -> float:
        calls[name].append(in_fresh_process(name, shapes, settings.seed))
        return calls[name][-1]["seconds"]

    sides = {name: functools.partial(side, name) for name in calls}
    seconds = interleave(sides, settings.times(9), settings.seed, warm=0)
    extra, kept = {}, {}
    for name in calls:
        kept[name] = {call["kept"] for call in calls[name]}
        # A page at least: less cannot be seen.
        extra[name] = [max(call["extra"], 4096.0) / 1e6 for call in calls[name]]
    facts = {"seed": settings.seed, "against": "torch.nn.utils.prune"}
    lines = [
        ratio("time", seconds["ours"], seconds["theirs"], **facts),
        ratio("extra memory", extra["ours"], extra["theirs"], each="MB", **facts),
    ]
    if kept["ours"] == kept["theirs"]:
        return Measured(lines)
    return Measured(lines, notes=[f"the two keep different numbers of weights: {kept}"])
