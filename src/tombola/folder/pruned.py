"""Pruned: which weights of the trained dense network the tickets prune, as counts to draw.

trainings, tickets -> [ histogram ] -> report

It takes trained weights and masks, so a packed run has none, and its report leaves the figure out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tombola.folder.runs import Run
from tombola.ground.types import Mask, State
from tombola.records.records import Record

_BINS = 60
_WIDE = 0.999  # of the weights lie within the outer bins' bounds, which hold the rest too


def histogram(
    run: Run, arms: Sequence[str], tell: Callable[[str], None] = lambda _: None
) -> list[dict[str, Any]]:
    """Count the trained dense network's weights by value, those that each arm's ticket keeps and
    those that it prunes.

    Of the first replicate that has all there is to count, of its largest layer, and of the tickets
    that are nearest to the lowest density that all of the arms come to.

    Args:
        run: The folder.
        arms: Whose tickets; those without any are left out.
        tell: Told where the dense network's training is there and is not what was written.

    Returns:
        By arm and bin: arm, layer, round, density of the layer (a fraction), from, to, kept,
        pruned. Nothing where the dense network's training or the tickets are not there.
    """
    for replicate in sorted({record["replicate"] for record in run.records.all()}):
        tickets = {
            arm: [r for r in run.records.of(arm, replicate) if r["round"] and 0 < r["density"] < 1]
            for arm in arms
        }
        lowest = max((min(r["density"] for r in of) for of in tickets.values() if of), default=0.0)
        chosen = [
            min(of, key=lambda r: abs(math.log(r["density"] / lowest)))
            for of in tickets.values()
            if of
        ]
        state = _dense(run, replicate, tell)
        if chosen and state is not None and all(_path(run, record).exists() for record in chosen):
            return [
                row for record in chosen for row in _of_ticket(record, _mask(run, record), state)
            ]
    return []


def _path(run: Run, record: Record) -> Path:
    return run.ticket_path(record["arm"], record["replicate"], record["round"])


def _mask(run: Run, record: Record) -> Mask:
    return run.mask(record["arm"], record["replicate"], record["round"])


def _dense(run: Run, replicate: int, tell: Callable[[str], None]) -> State | None:
    """Return the trained weights of the dense network, if they are kept."""
    for record in run.records.all():
        if (
            record["replicate"] == replicate
            and record["round"] == 0
            and record.get("training_digest")
        ):
            store = run.store(lambda text: tell(f"{text}: what tickets prune is not drawn"))
            trained = store.trained(record["training_digest"])
            return None if trained is None else trained.state
    return None


def _of_ticket(record: Record, mask: Mask, state: State) -> list[dict[str, Any]]:
    layer = max(mask, key=lambda name: state[name].numel())
    keep, weights = mask[layer].numpy().ravel(), state[layer].detach().float().cpu().numpy().ravel()
    bound = float(np.quantile(np.abs(weights), _WIDE))
    edges = np.linspace(-bound, bound, _BINS + 1)
    inside = np.clip(weights, edges[0], edges[-1])
    kept, pruned = (np.histogram(inside[which], edges)[0] for which in (keep, ~keep))
    return [
        {
            "arm": record["arm"], "layer": layer, "round": record["round"], "density": float(keep.mean()),
            "from": float(low), "to": float(high), "kept": int(one), "pruned": int(other),
        }
        for low, high, one, other in zip(edges[:-1], edges[1:], kept, pruned, strict=True)
    ]  # fmt: skip
