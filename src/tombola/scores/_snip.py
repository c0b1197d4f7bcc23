"""SNIP: how much the loss would change if a weight's connection were weakened."""

from __future__ import annotations

from torch import Tensor

from tombola.ground.types import Mask, State
from tombola.scores.context import Context
from tombola.scores.gradients import Mode, Scoring


def snip(
    state: State,  # noqa: ARG001 - the problem's model holds it
    mask: Mask,
    context: Context,
    *,
    examples: int = 1000,
    mode: Mode = "eval",
) -> dict[str, Tensor]:
    """Score every weight by |w * dL/dw|, its connection sensitivity.

    Needs training data and the loss. Costs a forward and a backward pass on ``examples``. The
    gradients of all batches are summed before the absolute value is taken, so it is the sensitivity
    of the loss of all examples together. The weights that are scored are those that are trained: at
    initialisation, ``reinitialised`` is the control for other ones.

    Args:
        state: The weights that are scored.
        mask: The weights to score; those that it has pruned are zero in the network.
        context: With the partition's model and data.
        examples: Training examples that are read; the last batch is not cut. They are augmented
            where the recipe augments.
        mode: "eval": batch norm uses its running statistics and dropout does nothing, as in the
            authors' code; at initialisation these statistics are mean 0 and variance 1. "train": the
            statistics of each batch, as in most ports.

    Source:
        Lee et al. 2019, arXiv:1810.02340, equation 6, without the normalisation, which changes no
        rank. The paper takes one batch (100 or 128 examples) and may score another draw of the
        initial weights than the one that is trained; we do not.

    >>> import torch
    >>> class Line:  # the loss is 3 w, at w = -2
    ...     def model(self):
    ...         layer = torch.nn.Linear(1, 1, bias=False)
    ...         torch.nn.init.constant_(layer.weight, -2.0)
    ...         return layer
    ...     def batches(self, examples):
    ...         yield torch.tensor([[3.0]])
    ...     def loss(self, model, batch):
    ...         return model(batch).sum()
    >>> mask = {"weight": torch.tensor([[True]])}
    >>> snip({}, mask, Context({}, 0, problems=[Line()]))["weight"].tolist()
    [[6.0]]
    """
    scoring = Scoring("snip", context.problem, mask, examples=examples, mode=mode)
    scores = {}
    for name, gradient in scoring.summed_gradients().items():
        scores[name] = (scoring.weights[name].detach() * gradient).abs()
    return scoring.finished(scores)


snip.needs = "data"  # type: ignore[attr-defined]
