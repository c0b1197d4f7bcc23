"""GraSP: how much the gradients would lose of their flow without a weight."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tombola.ground.errors import ConfigError, InputError, shown
from tombola.ground.types import Mask, State
from tombola.scores.context import Context
from tombola.scores.gradients import Mode, Scoring


def grasp(
    state: State,  # noqa: ARG001 - the problem's model holds it
    mask: Mask,
    context: Context,
    *,
    examples: int = 1000,
    mode: Mode = "train",
    temperature: float = 200.0,
    absolute: bool = False,
) -> dict[str, Tensor]:
    """Score every weight by w * (H g): gradient and Hessian of the loss, over the kept weights.

    What is kept is what the squared norm of the gradient would suffer most from losing. A negative
    score means that the gradient would grow without the weight.

    Needs training data and a loss that can be differentiated twice. Costs about four forward and
    backward passes on ``examples``: the gradient of all batches first, then its product with the
    Hessian, batch by batch, which takes twice the memory of a training step.

    Args:
        state: The weights that are scored.
        mask: The weights to score. Those that it has pruned are zero in the network, and have no
            part in the gradient that the Hessian is multiplied with.
        context: With the partition's model and data.
        examples: Training examples that are read, twice; the last batch is not cut.
        mode: "train": batch norm uses the statistics of each batch, as in the authors' code, in
            both passes. "eval": its running statistics.
        temperature: The model's outputs are divided by it, as in the authors' code; it changes the
            ranking. 1 is the definition in the paper.
        absolute: Score by \\|w * (H g)\\| instead (Frankle et al. 2021, arXiv:2009.08576), so that
            weights of both signs are kept where they matter.

    Source:
        Wang et al. 2020, arXiv:2002.07376, equation 8. The paper scores by ``-w * (H g)`` and
        removes the highest. The authors' code scores a copy whose linear layers are drawn anew,
        with 10 examples of each class, and multiplies the Hessian of each half of them with the
        gradient of all; here it is the Hessian of all.

    >>> class Square:  # the loss is (2 w)^2 / 2 at w = 3: the gradient is 4 w, the Hessian 4
    ...     def model(self):
    ...         layer = torch.nn.Linear(1, 1, bias=False)
    ...         torch.nn.init.constant_(layer.weight, 3.0)
    ...         return layer
    ...     def batches(self, examples):
    ...         yield torch.tensor([[2.0]])
    ...     def loss(self, model, batch):
    ...         return model(batch).square().sum() / 2
    >>> mask, context = {"weight": torch.tensor([[True]])}, Context({}, 0, problems=[Square()])
    >>> grasp({}, mask, context, temperature=1)["weight"].tolist()  # 3 * (4 * 12)
    [[144.0]]
    """
    if temperature <= 0:
        raise ConfigError(f"grasp.temperature is {shown(temperature)}; it is a number above 0")
    scoring = Scoring("grasp", context.problem, mask, examples=examples, mode=mode)
    scoring.model.register_forward_hook(_dividing_by(temperature))
    gradient = scoring.summed_gradients()
    for name, keep in mask.items():
        gradient[name] *= keep.to(gradient[name].device)

    # The gradient of (g . constant) is the Hessian times that constant. A weight of several names
    # has one place in it.
    names = {weight: name for name, weight in scoring.weights.items()}.values()
    product = scoring.zeros()
    for loss in scoring.losses():
        own = scoring.gradients(loss, create_graph=True)
        terms = [(own[name] * gradient[name]).sum() for name in names]
        for name, second in scoring.gradients(torch.stack(terms).sum()).items():
            product[name] += second
    scores = {}
    for name, second in product.items():
        score = scoring.weights[name].detach() * second
        scores[name] = score.abs() if absolute else score
    return scoring.finished(scores)


grasp.needs = "data"  # type: ignore[attr-defined]
grasp.passes = 4  # type: ignore[attr-defined]


def _dividing_by(temperature: float) -> Any:
    """Return a forward hook that divides a model's outputs."""

    def divide(module: nn.Module, args: Any, output: Any) -> Tensor:  # noqa: ARG001
        if not isinstance(output, Tensor):
            raise InputError(
                "the score grasp divides the model's outputs by its temperature; "
                f"{type(module).__name__} gives a {type(output).__name__}, which is no tensor"
            )
        return output / temperature

    return divide
