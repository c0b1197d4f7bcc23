"""LAMP: a weight's share of the squared magnitude that its layer has left."""

from __future__ import annotations

import torch
from torch import Tensor

from tombola.ground.types import Mask, State
from tombola.scores.context import Context
from tombola.scores.weights import trained_weights


def lamp(state: State, mask: Mask, context: Context) -> dict[str, Tensor]:  # noqa: ARG001
    """Score every weight by its square over the sum of all squares not below it in its layer.

    Within a layer the order is that of magnitude. The largest kept weight of each layer scores 1, so
    no layer is emptied before every layer is down to one weight. It is made for ``scope:
    whole_model``, where it decides how many weights each layer keeps; within layers it prunes as
    magnitude does. Pruned weights score 0 and are not in the sums. Needs the trained weights alone,
    and sorts each layer.

    Source:
        Lee et al. 2021, arXiv:2010.07611, section 2. As there, of equal weights the later one counts
        as the larger.

    >>> state, mask = {"w": torch.tensor([3.0, -1.0])}, {"w": torch.tensor([True, True])}
    >>> lamp(state, mask, Context(state, seed=0))["w"].tolist()
    [1.0, 0.1]
    """
    weights = trained_weights(state, mask)
    scores = {}
    for name, keep in mask.items():
        scores[name] = torch.zeros(keep.shape, dtype=torch.float64, device=keep.device)
        scores[name][keep] = _shares(weights[name][keep])
    return scores


def _shares(weights: Tensor) -> Tensor:
    # In float64 two weights that differ have scores that differ, in the same order.
    squares = weights.double().square()
    order = torch.argsort(weights.abs(), stable=True)
    ascending = squares[order]
    # Each entry and all that are larger. Added from the largest on, as they are in the definition.
    sums = ascending.flip(0).cumsum(0).flip(0)
    all_zero = sums == 0
    ratios = (ascending / sums).masked_fill(all_zero, 0.0)
    # In a layer of zeros, too, the last weight stays until every layer has one left.
    ratios[-1:] = ratios[-1:].masked_fill(all_zero[-1:], 1.0)
    shares = torch.empty_like(squares)
    shares[order] = ratios
    return shares
