"""Taylor: how much the loss of a batch would change without a weight, to first order."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from tombola.ground.types import Mask, State
from tombola.scores.context import Context
from tombola.scores.gradients import Mode, Scoring


def taylor(
    state: State,  # noqa: ARG001 - the problem's model holds it
    mask: Mask,
    context: Context,
    *,
    examples: int = 1000,
    mode: Mode = "eval",
    change: Literal["squared", "absolute"] = "squared",
) -> dict[str, Tensor]:
    """Score every weight by (g w)^2, where g is the gradient of a batch, averaged over batches.

    Needs training data and the loss. Costs a forward and a backward pass on ``examples``. Unlike
    `snip`, which adds up the gradients first, changes of opposite sign in two batches do not cancel.

    Args:
        state: The weights that are scored.
        mask: The weights to score; those that it has pruned are zero in the network.
        context: With the partition's model and data.
        examples: Training examples that are read, in batches of the training's size; the last batch
            is not cut.
        mode: "eval" or "train": how batch norm and dropout act. The authors gather the gradients
            while they fine-tune, which is "train".
        change: "squared", or "absolute" for the average of |g w|.

    Source:
        Molchanov et al. 2019, arXiv:1906.10771, equation 8. There the products of all weights of a
        filter are added up before squaring; here a weight stands for itself.

    >>> import torch
    >>> class Slopes:  # the loss is 2 w in one batch and -2 w in the other, at w = 1
    ...     def model(self):
    ...         layer = torch.nn.Linear(1, 1, bias=False)
    ...         torch.nn.init.constant_(layer.weight, 1.0)
    ...         return layer
    ...     def batches(self, examples):
    ...         yield from torch.tensor([[[2.0]], [[-2.0]]])
    ...     def loss(self, model, batch):
    ...         return model(batch).sum()
    >>> mask, context = {"weight": torch.tensor([[True]])}, Context({}, 0, problems=[Slopes()])
    >>> taylor({}, mask, context)["weight"].tolist()
    [[4.0]]
    """
    scoring = Scoring("taylor", context.problem, mask, examples=examples, mode=mode)
    total = scoring.zeros()
    number = 0
    for loss in scoring.losses():
        number += 1
        for name, gradient in scoring.gradients(loss).items():
            if change == "squared":
                total[name].addcmul_(gradient, gradient)
            else:
                total[name] += gradient.abs()
    # The weights are the same in every batch, so they are multiplied with once.
    scores = {}
    for name, weight in scoring.weights.items():
        size = weight.detach().square() if change == "squared" else weight.detach().abs()
        scores[name] = total[name] / number * size
    return scoring.finished(scores)


taylor.needs = "data"  # type: ignore[attr-defined]
