"""Magnitude: a weight counts as much as its absolute value."""

from __future__ import annotations

import torch

from tombola.ground.errors import InputError, near
from tombola.ground.types import Mask, State
from tombola.masks import names
from tombola.masks.selection import Elementwise
from tombola.scores.context import Context


def magnitude(state: State, mask: Mask, context: Context | None = None) -> Elementwise:  # noqa: ARG001
    """Score every weight by its absolute value.

    The scores are computed when they are read and hold no copy of the weights: prune before the
    weights change, or keep ``dict(scores)``.

    Args:
        state: The trained weights, a ``state_dict``.
        mask: The weights to score.
        context: Not needed.

    Raises:
        InputError: The state lacks a weight that the mask names.

    Source:
        Han et al. 2015, arXiv:1506.02626; Frankle & Carbin 2019, arXiv:1803.03635, section 1.

    >>> state, mask = {"w": torch.tensor([-2.0, 1.0])}, {"w": torch.tensor([True, True])}
    >>> magnitude(state, mask)["w"].tolist()
    [2.0, 1.0]
    """
    weights = names.covering(state, mask)
    for name in mask:
        if name not in weights:
            raise InputError(f"the state has no '{name}'.{near(name, weights)}")
    return Elementwise(torch.abs, {name: weights[name] for name in mask})
