"""Controls: tickets made from a found one, which it must beat to mean anything.

    found ticket -> [ draw | shuffle ] -> control ticket -> train on all data -> record

All draws have addresses of their own, so a control is the same in every run, and its masks nest as
its source's do.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tombola.ground import seeds
from tombola.ground.types import Mask, State
from tombola.masks.masks import count
from tombola.masks.pruning import prune
from tombola.masks.scopes import per_layer


def draw(mask: Mask, seed: int, within: Mask | None = None) -> dict[str, Tensor]:
    """Draw a random ticket: in every layer as many weights as the mask keeps there, at random
    places.

    Each weight has one priority for good, so that of two masks of which one lies within the other
    the draws do too.

    Args:
        mask: The found ticket's.
        seed: Of the draw.
        within: Keep none but these, which hold the mask: what the search began with; all weights if
            not given.

    Source:
        Su et al. 2020, arXiv:2009.11094, section 3: only the number of weights in each layer is
        kept of the ticket.

    >>> drawn = draw({"w": torch.tensor([True, False, False, True])}, seed=0)
    >>> int(drawn["w"].sum())
    2
    """
    whole = {
        name: torch.ones_like(keep) if within is None else within[name]
        for name, keep in mask.items()
    }
    scores = {
        name: torch.rand(keep.shape, generator=seeds.generator(seed, "random ticket", name))
        for name, keep in mask.items()
    }
    kept = {name: count({name: keep}) for name, keep in mask.items()}
    return prune(scores, whole, scope=per_layer, count=kept)


def shuffle(
    start: State,
    mask: Mask,
    seed: int,
    what: Literal["both", "weights", "mask"] = "both",
    within: Mask | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Shuffle a ticket within each layer.

    Args:
        start: The state that the ticket starts from.
        mask: Its mask.
        seed: Of the shuffling.
        what: "both" moves each weight together with its place in the mask: the kept values stay,
            where they stand does not. "weights" deals the kept values out among the kept places.
            "mask" moves the mask alone.
        within: Move among these places alone, which hold the mask: what the search began with; all
            if not given.

    Returns:
        The new start and the new mask; neither argument is changed.

    Source:
        Frankle et al. 2021, arXiv:2009.08576, section 4; Su et al. 2020, arXiv:2009.11094.

    >>> start, mask = {"w": torch.tensor([1.0, 2, 3, 4])}, {"w": torch.tensor([True, True, False, False])}
    >>> values, kept = shuffle(start, mask, seed=0)
    >>> sorted(values["w"][kept["w"]].tolist())
    [1.0, 2.0]
    """
    values, masks = dict(start), dict(mask)
    for name, keep in mask.items():
        generator = seeds.generator(seed, "shuffle", name)
        if what == "weights":
            kept = start[name][keep]
            values[name] = start[name].clone()
            values[name][keep] = kept[torch.randperm(len(kept), generator=generator)]
            continue
        there = (
            torch.arange(keep.numel())
            if within is None
            else within[name].flatten().nonzero().flatten()
        )
        places = torch.arange(keep.numel())
        places[there] = there[torch.randperm(len(there), generator=generator)]
        masks[name] = keep.flatten()[places].reshape(keep.shape)
        if what == "both":
            values[name] = start[name].flatten()[places].reshape(keep.shape)
    return values, masks
