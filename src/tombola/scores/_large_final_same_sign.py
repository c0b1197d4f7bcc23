"""Large final, same sign: magnitude, but weights that changed their sign count for nothing."""

from __future__ import annotations

from torch import Tensor

from tombola.ground.types import Mask, State
from tombola.masks.selection import Elementwise
from tombola.scores.context import Context
from tombola.scores.weights import initial_weights, trained_weights


def large_final_same_sign(state: State, mask: Mask, context: Context) -> Elementwise:
    """Score every weight by its absolute value, or 0 if training changed its sign.

    Needs the trained weights and the rewind point, and costs one pass over both. Masks of this score
    are those that work without training the weights. A weight that started at zero scores 0, too.

    Source:
        Zhou et al. 2019, arXiv:1905.01067, section 5: the criterion "large final, same sign".

    >>> import torch
    >>> start, mask = {"w": torch.tensor([0.5, -1.0])}, {"w": torch.tensor([True, True])}
    >>> state = {"w": torch.tensor([-2.0, -0.5])}
    >>> large_final_same_sign(state, mask, Context(start, seed=0))["w"].tolist()
    [0.0, 0.5]
    """
    return Elementwise(
        _along_its_sign, trained_weights(state, mask), initial_weights(context, state, mask)
    )


def _along_its_sign(trained: Tensor, initial: Tensor) -> Tensor:
    return (trained * initial.sign()).clamp(min=0)
