"""OBD, optimal brain damage: how much the loss would grow without a weight, to second order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from tombola.ground.errors import InputError
from tombola.ground.types import Mask, State
from tombola.scores.context import Context
from tombola.scores.examples import Outputs, OutputScoring, add_fisher_
from tombola.scores.gradients import Mode
from tombola.scores.lecun import add_lecun_

Curvature: TypeAlias = Literal["ggn", "lecun", "fisher"]

_MOST_OUTPUTS = 4096  # of an example, whose Hessian is taken as a whole


def obd(
    state: State,  # noqa: ARG001 - the problem's model holds it
    mask: Mask,
    context: Context,
    *,
    examples: int = 1000,
    mode: Mode = "eval",
    curvature: Curvature = "ggn",
) -> dict[str, Tensor]:
    """Score every weight by h w^2 / 2, where h is the second derivative of the loss by the weight.

    The network is taken to be trained, so that its gradient is zero.

    Needs training data and the loss, which is taken for the mean over the examples of a batch; the
    outputs' first dimension is the examples. With C outputs, ``ggn`` costs a forward and up to C
    backward passes on ``examples``, ``lecun`` about two of each, and ``fisher`` one of each.
    Gradients of single examples are made a few at a time, within a fixed memory. Layers other than
    ``nn.Linear`` and ``nn.Conv2d``, shared weights, and batch norm in mode "train" take each
    backward pass of ``ggn`` and ``fisher`` once for every example.

    Args:
        state: The weights that are scored.
        mask: The weights to score; those that it has pruned are zero in the network.
        context: With the partition's model and data.
        examples: Training examples that are read; the last batch is not cut.
        mode: "eval" or "train": how batch norm and dropout act. In "train", batch norm makes the
            outputs curved in every weight, and ``ggn`` is an approximation.
        curvature: How h is found, the mean over the examples.

            - "ggn": the diagonal of the generalised Gauss-Newton matrix, J' H J, with the Hessian
              of the loss by the outputs. It is the Hessian's own diagonal where the outputs are
              linear in every single weight: with linear layers, convolutions, ReLU, max pooling,
              and batch norm in mode "eval", whatever the depth.
            - "lecun": the paper's recursion, which drops the terms between the units of a layer.
              Exact for one hidden layer and an error without terms between outputs.
            - "fisher": the squared gradient of each example, see `fisher`.

    Source:
        LeCun et al. 1990, "Optimal brain damage", equations 5 and 7 to 10. The Gauss-Newton
        diagonal in place of the recursion is ours.

    >>> class Square:  # the loss is (2 w)^2 / 2 at w = 3: its second derivative is 4
    ...     def model(self):
    ...         layer = torch.nn.Linear(1, 1, bias=False)
    ...         torch.nn.init.constant_(layer.weight, 3.0)
    ...         return layer
    ...     def batches(self, examples):
    ...         yield torch.tensor([[2.0]])
    ...     def loss(self, model, batch):
    ...         return model(batch).square().sum() / 2
    >>> mask, context = {"weight": torch.tensor([[True]])}, Context({}, 0, problems=[Square()])
    >>> obd({}, mask, context)["weight"].tolist()  # 4 * 3^2 / 2
    [[18.0]]
    """
    scoring = OutputScoring("obd", context.problem, mask, examples=examples, mode=mode)
    if curvature == "fisher":
        add_fisher_(scoring)
    elif curvature == "lecun":
        add_lecun_(scoring)
    else:
        for outputs in scoring.outputs():
            _add_gauss_newton_(scoring, outputs)
    return scoring.saliency()


def _passes(options: Mapping[str, Any], outputs: int) -> int:
    """Count forward and backward passes, a backward pass being twice a forward one."""
    curvature = options.get("curvature", "ggn")
    if curvature == "ggn":
        return -(-(1 + 2 * max(1, outputs)) // 3)
    return 2 if curvature == "lecun" else 1


obd.needs = "data"  # type: ignore[attr-defined]
obd.passes = _passes  # type: ignore[attr-defined]


def _add_gauss_newton_(scoring: OutputScoring, outputs: Outputs) -> None:
    """Add the curvature of each example along the eigenvectors of its loss by the outputs."""
    number = outputs.leaf[0].numel()
    if number > _MOST_OUTPUTS:
        raise InputError(
            f"obd.curvature ggn takes a backward pass for each output of an example, of which this "
            f"model has {number:,}; more than {_MOST_OUTPUTS:,} are too many: curvature: lecun or "
            "fisher"
        )
    hessian = outputs.hessian()
    if not hessian.isfinite().all():
        # It has no eigenvectors. The first layer is named where all scores are checked.
        for total in scoring.total.values():
            total.fill_(math.nan)
        return
    values, vectors = torch.linalg.eigh(hessian)
    # Of a softmax one eigenvalue is zero but for rounding, and takes no backward pass.
    least = values.abs().max() * number * torch.finfo(values.dtype).eps
    for place in range(number):
        if values[:, place].abs().max() > least:
            vector = vectors[:, :, place].reshape(outputs.leaf.shape)
            scoring.add(outputs, vector, values[:, place])
