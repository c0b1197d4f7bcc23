"""Movement: whether a weight has moved away from zero while it was trained."""

from __future__ import annotations

from torch import Tensor

from tombola.ground.types import Mask, State
from tombola.scores.context import Context


def movement(state: State, mask: Mask, context: Context) -> dict[str, Tensor]:
    """Score every weight by how far gradients have moved it away from zero, with its sign.

    S = - sum over all steps of gradient x weight: above zero for a weight that has grown, below for
    one that has shrunk, whatever its size. Needs a training that gathers its history, which the
    search's trainings then do; it costs one pass over the weights in each step, and no data. The
    steps are all of the training, also where its best state is the result. A training that gathers
    is another one than that of the dense network, so the two are not shared. Of pruning before
    training and of gradual pruning there is no history.

    Sanh et al. train the weights and a top-k mask of S together, which grows back what has been
    masked; here S is a score like any other, taken at the end of each training. Their gradient is
    that of the masked network, and so is ours. Gradients are taken before they are clipped, and
    without weight decay. For the criterion that Zhou et al. call movement see `distance`.

    Source:
        Sanh et al. 2020, arXiv:2005.07683, section 3, equation 3, without the learning rate.

    >>> import torch
    >>> mask = {"w": torch.tensor([True, True])}
    >>> history = {"w": torch.tensor([0.45, -0.2])}
    >>> [round(value, 2) for value in movement({}, mask, Context({}, 0, histories=[history]))["w"].tolist()]
    [0.45, -0.2]
    """
    del state
    history = context.history
    return {name: history[name] for name in mask}


movement.needs = "history"  # type: ignore[attr-defined]
