"""Magnitude increase, same sign: growth, but weights that changed their sign go first."""

from __future__ import annotations

import math

from torch import Tensor

from tombola.ground.types import Mask, State
from tombola.masks.selection import Elementwise
from tombola.scores.context import Context
from tombola.scores.weights import initial_weights, trained_weights


def magnitude_increase_same_sign(state: State, mask: Mask, context: Context) -> Elementwise:
    """Score every weight by its growth in training, below all others if its sign changed.

    Needs the trained weights and the rewind point, and costs one pass over both. Where a sign changed
    the score is minus infinity, so these weights go first, in the order of their positions.

    Source:
        Zhou et al. 2019, arXiv:1905.01067, section 5. The authors' code gives such weights the
        score 0, which is above that of every weight that shrank; ours removes them first, as the
        criterion means.

    >>> import torch
    >>> start, mask = {"w": torch.tensor([0.5, -1.0])}, {"w": torch.tensor([True, True])}
    >>> state = {"w": torch.tensor([-2.0, -0.5])}
    >>> magnitude_increase_same_sign(state, mask, Context(start, seed=0))["w"].tolist()
    [-inf, -0.5]
    """
    return Elementwise(
        _increase_unless_flipped,
        trained_weights(state, mask),
        initial_weights(context, state, mask),
    )


def _increase_unless_flipped(trained: Tensor, initial: Tensor) -> Tensor:
    # Signs are multiplied, not weights: the product of two small weights may round to zero.
    flipped = trained.sign() * initial.sign() < 0
    return (trained.abs() - initial.abs()).masked_fill(flipped, -math.inf)
