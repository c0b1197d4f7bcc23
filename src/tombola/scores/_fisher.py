"""Fisher: how much the loss would change without a weight, by the empirical Fisher information."""

from __future__ import annotations

from torch import Tensor

from tombola.ground.types import Mask, State
from tombola.scores.context import Context
from tombola.scores.examples import OutputScoring, add_fisher_
from tombola.scores.gradients import Mode


def fisher(
    state: State,  # noqa: ARG001 - the problem's model holds it
    mask: Mask,
    context: Context,
    *,
    examples: int = 1000,
    mode: Mode = "eval",
) -> dict[str, Tensor]:
    """Score every weight by w^2 / 2 times the mean of g^2, the squared gradient of an example.

    Needs training data and the loss, which is taken for the mean over the examples of a batch; the
    outputs' first dimension is the examples. Costs a forward and a backward pass on ``examples``,
    in which a convolution makes a gradient for each example, a few at a time. Layers other than
    ``nn.Linear`` and ``nn.Conv2d``, shared weights, and batch norm in mode "train" take a backward
    pass of the whole batch for each example instead.

    It is `obd` with ``curvature: fisher``: the mean of g^2 stands for the curvature. Close to a
    minimum the two agree if the model's probabilities are right; far from it, as at
    initialisation, g^2 is larger by the squared residual.

    Args:
        state: The weights that are scored.
        mask: The weights to score; those that it has pruned are zero in the network.
        context: With the partition's model and data.
        examples: Training examples that are read; the last batch is not cut.
        mode: "eval" or "train": how batch norm and dropout act.

    Source:
        Theis et al. 2018, arXiv:1801.05787, section 2.1, for a single weight. They prune feature
        maps, whose gradients are summed over their places before squaring.

    >>> import torch
    >>> class Slopes:  # the losses of two examples are 1 w and -3 w, at w = 2
    ...     def model(self):
    ...         layer = torch.nn.Linear(1, 1, bias=False)
    ...         torch.nn.init.constant_(layer.weight, 2.0)
    ...         return layer
    ...     def batches(self, examples):
    ...         yield torch.tensor([[1.0], [-3.0]])
    ...     def loss(self, model, batch):
    ...         return model(batch).mean()
    >>> mask, context = {"weight": torch.tensor([[True]])}, Context({}, 0, problems=[Slopes()])
    >>> fisher({}, mask, context)["weight"].tolist()  # 2^2 / 2 * (1 + 9) / 2
    [[10.0]]
    """
    scoring = OutputScoring("fisher", context.problem, mask, examples=examples, mode=mode)
    add_fisher_(scoring)
    return scoring.saliency()


fisher.needs = "data"  # type: ignore[attr-defined]
