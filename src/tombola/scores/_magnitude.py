"""Magnitude: a weight counts as much as its absolute value."""

from __future__ import annotations

from torch import Tensor

from tombola.scores.context import Context
from tombola.types import Mask, State


def magnitude(state: State, mask: Mask, context: Context | None = None) -> dict[str, Tensor]:  # noqa: ARG001
    """Score every weight by its absolute value.

    Args:
        state: The trained weights, a ``state_dict``.
        mask: Names what is scored.
        context: Not needed.

    Source:
        Han et al. 2015, arXiv:1506.02626; Frankle & Carbin 2019, arXiv:1803.03635, section 1.

    >>> import torch
    >>> magnitude({"w": torch.tensor([-2.0, 1.0])}, {"w": torch.tensor([True, True])})["w"].tolist()
    [2.0, 1.0]
    """
    return {name: state[name].abs() for name in mask}
