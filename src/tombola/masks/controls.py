"""Controls: tickets made from a found one, which must beat them to mean anything.

    found ticket -> [ draw | shuffle ] -> control ticket -> train on all data -> record

Every draw is addressed by its seed, so a control is the same in every run, and its masks nest as
its source's do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from tombola.ground import seeds
from tombola.ground.types import Mask, State
from tombola.masks.masks import count
from tombola.masks.pruning import prune
from tombola.masks.rates import Count
from tombola.masks.scopes import Scope, per_layer


def draw(
    mask: Mask,
    seed: int,
    within: Mask | None = None,
    address: Sequence[object] = ("random ticket",),
) -> dict[str, Tensor]:
    """Draw a random ticket: as many weights in every layer as the mask keeps, at random places.

    Each weight has the same priority in every draw, so the draws of nested masks are nested, too.

    Args:
        mask: The found ticket's.
        seed: Of the draw.
        within: Keep only these, the mask that the search began with; all weights if not given.
        address: What it is for, see `draw_count`.

    Source:
        Su et al. 2020, arXiv:2009.11094, section 3: only the number of weights in each layer is
        kept of the ticket.

    >>> drawn = draw({"w": torch.tensor([True, False, False, True])}, seed=0)
    >>> int(drawn["w"].sum())
    2
    """
    allowed, kept = {}, {}
    for name, keep in mask.items():
        allowed[name] = torch.ones_like(keep) if within is None else within[name]
        kept[name] = count({name: keep})
    return draw_count(allowed, Count(kept), per_layer, seed, *address)


def draw_count(
    allowed: Mask, amount: Count, scope: Scope, seed: int, *address: object
) -> dict[str, Tensor]:
    """Draw a random mask of a count; draws of falling counts are nested.

    Args:
        allowed: Keep some of these.
        amount: How many, by group of the scope.
        scope: Which weights compete.
        seed: Of the draw.
        address: What it is for: draws with the same address keep the same weights first.

    >>> allowed = {"w": torch.tensor([True, True, True, False])}
    >>> int(draw_count(allowed, Count(2), per_layer, 0, "start")["w"].sum())
    2
    """
    scores = {}
    for name, keep in allowed.items():
        generator = seeds.generator(seed, *address, name)
        scores[name] = torch.rand(keep.shape, generator=generator)
    return prune(scores, allowed, scope=scope, count=amount.keep)


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
        what: "both" moves each weight together with its entry of the mask: the kept values stay the
            same, at other places. "weights" permutes the kept values among the kept places. "mask"
            permutes the mask alone.
        within: Permute only these places, the mask that the search began with; all if not given.

    Returns:
        The new start and the new mask; neither argument is changed.

    Source:
        Frankle et al. 2021, arXiv:2009.08576, section 4; Su et al. 2020, arXiv:2009.11094.

    >>> start = {"w": torch.tensor([1.0, 2, 3, 4])}
    >>> values, kept = shuffle(start, {"w": start["w"] < 2.5}, seed=0)
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
        if within is None:
            movable = torch.arange(keep.numel())
        else:
            movable = within[name].flatten().nonzero().flatten()
        # Where each entry comes from: what may not move comes from its own place.
        sources = torch.arange(keep.numel())
        sources[movable] = movable[torch.randperm(len(movable), generator=generator)]
        masks[name] = keep.flatten()[sources].reshape(keep.shape)
        if what == "both":
            values[name] = start[name].flatten()[sources].reshape(keep.shape)
    return values, masks


def signed_constants(
    start: State,
    mask: Mask,
    size: Literal["std", "kaiming"] = "std",
    density: float | Mapping[str, float] = 1.0,
) -> dict[str, Tensor]:
    """Replace the weights of a mask by constants: the sign of each, times one number a layer.

    Args:
        start: The state to start from.
        mask: Names the weights.
        size: The number: the standard deviation (``std``) of the layer's weights, or
            ``kaiming``, sqrt(2 / inputs).
        density: For ``kaiming``: the share of the inputs that counts; one, or one for each layer.

    Source:
        ``std``: Zhou et al. 2019, arXiv:1905.01067, section 5; ``kaiming``: Ramanujan et al. 2020,
        arXiv:1911.13299, section 4.3, the scaled form with a density below 1.

    >>> state, mask = {"w": torch.tensor([[3.0, -1.0]])}, {"w": torch.tensor([[True, True]])}
    >>> signed_constants(state, mask)["w"].tolist()
    [[2.0, -2.0]]
    >>> signed_constants(state, mask, "kaiming")["w"].tolist()
    [[1.0, -1.0]]
    """
    constant = dict(start)
    for name in mask:
        weight = start[name]
        if size == "std":
            number = float(weight.std(correction=0))
        else:
            share = density[name] if isinstance(density, Mapping) else density
            number = math.sqrt(2 / (weight[0].numel() * share))
        constant[name] = weight.sign() * number
    return constant
