"""Weight histograms: which weights of the trained dense network the tickets prune, as counts to
draw.

    trainings, tickets -> [ histogram ] -> report

It takes trained weights and masks, so a packed run has none, and its report leaves the figure out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tombola.folder.runs import Run
from tombola.ground.types import Mask, State
from tombola.records.records import Record

_BINS = 60
# This share of the weights sets the range of the bins; the outer bins hold the rest too.
_IN_RANGE = 0.999


def histogram(
    run: Run, arms: Sequence[str], tell: Callable[[str], None] = lambda _: None
) -> list[dict[str, Any]]:
    """Count the trained dense network's weights by value, those that each arm's ticket keeps and
    those that it prunes.

    Counted are the weights of the largest layer, in the first replicate that has all there is to
    count, for the tickets nearest to the lowest density that every arm comes to.

    Args:
        run: The folder.
        arms: Whose tickets; those without any are left out.
        tell: Told where the dense network's training is there and is not what was written.

    Returns:
        By arm and bin: arm, layer, round, density of the layer (a fraction), from, to, kept,
        pruned. Nothing where the dense network's training or the tickets are not there.
    """
    for replicate in sorted({record["replicate"] for record in run.records.all()}):
        tickets = _comparable_tickets(run, arms, replicate)
        state = _dense_weights(run, replicate, tell)
        if not tickets or state is None:
            continue
        files = [run.ticket_path(*_place(record)) for record in tickets]
        if all(file.exists() for file in files):
            rows = []
            for record in tickets:
                rows += _count(record, run.mask(*_place(record)), state)
            return rows
    return []


def _comparable_tickets(run: Run, arms: Sequence[str], replicate: int) -> list[Record]:
    """Return one ticket per arm, all near the lowest density that every arm comes to."""
    by_arm = []
    for arm in arms:
        tickets = []
        for record in run.records.of(arm, replicate):
            if record["round"] and 0 < record["density"] < 1:
                tickets.append(record)
        if tickets:
            by_arm.append(tickets)
    if not by_arm:
        return []
    # The arm that comes least far sets what all of them come to.
    lowest = max(_lowest_density(tickets) for tickets in by_arm)

    def distance(record: Record) -> float:
        return abs(math.log(record["density"] / lowest))

    return [min(tickets, key=distance) for tickets in by_arm]


def _lowest_density(tickets: Sequence[Record]) -> float:
    return min(float(record["density"]) for record in tickets)


def _place(record: Record) -> tuple[str, int, int]:
    return record["arm"], record["replicate"], record["round"]


def _dense_weights(run: Run, replicate: int, tell: Callable[[str], None]) -> State | None:
    """Return the trained weights of the dense network, if they are kept."""
    for record in run.records.all():
        is_dense = record["replicate"] == replicate and record["round"] == 0
        if is_dense and record.get("training_digest"):
            store = run.store(lambda text: tell(f"{text}: what tickets prune is not drawn"))
            trained = store.trained(record["training_digest"])
            return None if trained is None else trained.state
    return None


def _count(record: Record, mask: Mask, state: State) -> list[dict[str, Any]]:
    """Count the weights of the largest layer, a row per bin."""
    layer = max(mask, key=lambda name: state[name].numel())
    keep = mask[layer].numpy().ravel()
    weights = state[layer].detach().float().cpu().numpy().ravel()
    bound = float(np.quantile(np.abs(weights), _IN_RANGE))
    edges = np.linspace(-bound, bound, _BINS + 1)
    inside = np.clip(weights, edges[0], edges[-1])
    kept, _ = np.histogram(inside[keep], edges)
    pruned, _ = np.histogram(inside[~keep], edges)
    rows = []
    for index in range(_BINS):
        rows.append(
            {
                "arm": record["arm"],
                "layer": layer,
                "round": record["round"],
                "density": float(keep.mean()),
                "from": float(edges[index]),
                "to": float(edges[index + 1]),
                "kept": int(kept[index]),
                "pruned": int(pruned[index]),
            }
        )
    return rows
