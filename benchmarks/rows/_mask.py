"""A global magnitude mask of 138 M weights, those of VGG-16: `tombola.prune` against
torch.nn.utils.prune.

20 % of random normal weights are pruned, all layers together, with torch's default threads. Time
and extra memory of one call, each in a fresh process.
"""

from __future__ import annotations

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
    found: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}

    def side(name: str) -> float:
        found[name].append(in_fresh_process(name, shapes, settings.seed))
        return found[name][-1]["seconds"]

    interleave(
        {name: lambda name=name: side(name) for name in found},
        settings.times(9),
        settings.seed,
        warm=0,
    )
    seconds = {name: [one["seconds"] for one in found[name]] for name in found}
    extra = {name: [max(one["extra"], 4096.0) / 1e6 for one in found[name]] for name in found}
    against, seed = "torch.nn.utils.prune", settings.seed
    lines = [
        ratio("time", seconds["ours"], seconds["theirs"], seed=seed, against=against),
        ratio(
            "extra memory", extra["ours"], extra["theirs"], seed=seed, each="MB", against=against
        ),
    ]
    kept = {name: {one["kept"] for one in found[name]} for name in found}
    same = kept["ours"] == kept["theirs"]
    return Measured(
        lines, notes=[] if same else [f"the two keep different numbers of weights: {kept}"]
    )
