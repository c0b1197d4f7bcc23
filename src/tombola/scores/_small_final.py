"""Small final: the smallest trained weights are kept, a check on magnitude."""

from __future__ import annotations

from torch import Tensor

from tombola.ground.types import Mask, State
from tombola.masks.selection import Elementwise
from tombola.scores.context import Context
from tombola.scores.weights import trained_weights


def small_final(state: State, mask: Mask, context: Context) -> Elementwise:  # noqa: ARG001
    """Score every weight by its negative absolute value: the opposite of magnitude.

    Needs the trained weights alone, and costs one pass over them.

    Source:
        Zhou et al. 2019, arXiv:1905.01067, section 2: the criterion "small final".

    >>> import torch
    >>> state, mask = {"w": torch.tensor([-2.0, 1.0])}, {"w": torch.tensor([True, True])}
    >>> small_final(state, mask, Context(state, seed=0))["w"].tolist()
    [-2.0, -1.0]
    """
    return Elementwise(_negative_magnitude, trained_weights(state, mask))


def _negative_magnitude(trained: Tensor) -> Tensor:
    return -trained.abs()
