"""Distance: the weights that training moved furthest are kept."""

from __future__ import annotations

from torch import Tensor

from tombola.ground.types import Mask, State
from tombola.masks.selection import Elementwise
from tombola.scores.context import Context
from tombola.scores.weights import initial_weights, trained_weights


def distance(state: State, mask: Mask, context: Context) -> Elementwise:
    """Score every weight by how far it is from where the round's training started.

    Needs the trained weights and the rewind point, and costs one pass over both.

    Source:
        Zhou et al. 2019, arXiv:1905.01067, section 2, where the criterion is called "movement".
        That name belongs to Sanh et al. 2020, arXiv:2005.07683, whose score sums over the steps of
        a training.

    >>> import torch
    >>> start, mask = {"w": torch.tensor([0.5, -1.0])}, {"w": torch.tensor([True, True])}
    >>> state = {"w": torch.tensor([-2.0, -0.5])}
    >>> distance(state, mask, Context(start, seed=0))["w"].tolist()
    [2.5, 0.5]
    """
    return Elementwise(
        _distance, trained_weights(state, mask), initial_weights(context, state, mask)
    )


def _distance(trained: Tensor, initial: Tensor) -> Tensor:
    return (trained - initial).abs()
