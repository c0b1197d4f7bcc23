"""Weights: what scores of weights alone read, by the names of a mask."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tombola.ground.errors import InputError, near
from tombola.ground.types import Mask, State
from tombola.masks import names
from tombola.scores.context import Context


def trained_weights(state: State, mask: Mask) -> dict[str, Tensor]:
    """Return the trained weights that a mask names, without copying them.

    Raises:
        InputError: The state lacks one.

    >>> import torch
    >>> mask = {"w": torch.tensor([True])}
    >>> trained_weights({"w": torch.ones(1), "bias": torch.zeros(1)}, mask)
    {'w': tensor([1.])}
    """
    return _named_by(mask, state, "state")


def initial_weights(context: Context, state: State, mask: Mask) -> dict[str, Tensor]:
    """Return the weights that the round's training started from, where a mask names them.

    Args:
        context: Its rewind point is that start.
        state: The trained weights; the initial ones are returned on their device.
        mask: The weights to score.

    Raises:
        InputError: The rewind point lacks a weight, or has another shape.
    """
    trained = names.covering(state, mask)
    weights = _named_by(mask, context.rewind_point, "rewind point")
    for name, values in weights.items():
        if values.shape != mask[name].shape:
            raise InputError(
                f"'{name}' has the shape {tuple(values.shape)} in the rewind point and "
                f"{tuple(mask[name].shape)} in the mask"
            )
        if name in trained:
            weights[name] = values.to(trained[name].device)
    return weights


def _named_by(mask: Mask, state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    # The state may come from a wrapped model.
    weights = names.covering(state, mask)
    chosen = {}
    for name in mask:
        if name not in weights:
            raise InputError(f"the {where} has no '{name}'.{near(name, weights)}")
        chosen[name] = weights[name]
    return chosen
