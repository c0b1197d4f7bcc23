"""Large init: the weights that started largest are kept, whatever training made of them."""

from __future__ import annotations

import torch

from tombola.ground.types import Mask, State
from tombola.masks.selection import Elementwise
from tombola.scores.context import Context
from tombola.scores.weights import initial_weights


def large_init(state: State, mask: Mask, context: Context) -> Elementwise:
    """Score every weight by the absolute value that it had before training.

    Needs the rewind point alone, and costs one pass over it. In every round it is the start of that
    round's training, so with rewinding all rounds rank by the same weights.

    Source:
        Zhou et al. 2019, arXiv:1905.01067, section 2: the criterion "large init".

    >>> start, mask = {"w": torch.tensor([0.5, -1.0])}, {"w": torch.tensor([True, True])}
    >>> large_init({"w": torch.zeros(2)}, mask, Context(start, seed=0))["w"].tolist()
    [0.5, 1.0]
    """
    return Elementwise(torch.abs, initial_weights(context, state, mask))
