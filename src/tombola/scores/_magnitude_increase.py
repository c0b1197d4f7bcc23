"""Magnitude increase: the weights that grew most in training are kept."""

from __future__ import annotations

from torch import Tensor

from tombola.ground.types import Mask, State
from tombola.masks.selection import Elementwise
from tombola.scores.context import Context
from tombola.scores.weights import initial_weights, trained_weights


def magnitude_increase(state: State, mask: Mask, context: Context) -> Elementwise:
    """Score every weight by how much its absolute value grew in training.

    Needs the trained weights and the rewind point, and costs one pass over both. The growth is that
    of the round's training, from the state it started from. Weights that shrank score below zero.

    Source:
        Zhou et al. 2019, arXiv:1905.01067, section 2: the criterion "magnitude increase".

    >>> import torch
    >>> start, mask = {"w": torch.tensor([0.5, -1.0])}, {"w": torch.tensor([True, True])}
    >>> state = {"w": torch.tensor([-2.0, -0.5])}
    >>> magnitude_increase(state, mask, Context(start, seed=0))["w"].tolist()
    [1.5, -0.5]
    """
    return Elementwise(
        _increase, trained_weights(state, mask), initial_weights(context, state, mask)
    )


def _increase(trained: Tensor, initial: Tensor) -> Tensor:
    return trained.abs() - initial.abs()
