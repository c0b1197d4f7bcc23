"""Magnitude: the score of a weight is its absolute value."""

from __future__ import annotations

import torch

from tombola.ground.types import Mask, State
from tombola.masks.selection import Elementwise
from tombola.scores.context import Context
from tombola.scores.weights import trained_weights


def magnitude(state: State, mask: Mask, context: Context | None = None) -> Elementwise:  # noqa: ARG001
    """Score every weight by its absolute value.

    Zhou et al. 2019, arXiv:1905.01067, call this criterion "large final". The scores are computed
    when they are read and hold no copy of the weights: prune before the weights change, or keep
    ``dict(scores)``.

    Args:
        state: The trained weights, a ``state_dict``.
        mask: The weights to score.
        context: Not used.

    Raises:
        InputError: The state lacks a weight that the mask names.

    Source:
        Han et al. 2015, arXiv:1506.02626; Frankle & Carbin 2019, arXiv:1803.03635, section 1.

    >>> state, mask = {"w": torch.tensor([-2.0, 1.0])}, {"w": torch.tensor([True, True])}
    >>> magnitude(state, mask)["w"].tolist()
    [2.0, 1.0]
    """
    return Elementwise(torch.abs, trained_weights(state, mask))
