"""Gradients: what scores that need data have in common.

    problem -> [ masked model in one mode, its weights ] -> a gradient per batch -> score

A score reads the first training batches of the partition's first epoch, as its training would read
them, and never the validation or the test split. Its model is a fresh one, so nothing that happens
to it here reaches the training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from tombola.ground.errors import ConfigError, ScoreError, shown
from tombola.ground.types import Mask
from tombola.masks.masks import masked_parameters
from tombola.scores.context import Problem

# Whether layers such as batch norm and dropout act as in an evaluation or as in a training.
Mode: TypeAlias = Literal["eval", "train"]


class Scoring:
    """A partition's masked model, and the batches by which its weights are scored.

    Weights that the model's owner froze are scored as all others: whether a weight is kept is
    another question than whether it is trained.

    Attributes:
        name: The score, for messages.
        problem: The partition's model and data.
        mask: The weights that are kept.
        model: Fresh and masked, in its mode.
        weights: The model's parameters that the mask names, in the mask's order; a parameter
            of several names stands under each of them.
    """

    def __init__(
        self, name: str, problem: Problem, mask: Mask, *, examples: int, mode: Mode
    ) -> None:
        if examples < 1:
            raise ConfigError(
                f"{name}.examples is {shown(examples)}; it is a whole number of at least 1"
            )
        self.name, self.problem, self.mask = name, problem, mask
        self._examples = examples
        self.model = problem.model()
        set_mode_(self.model, mode)
        parameters = [parameter for parameter, _ in masked_parameters(self.model, mask)]
        self.weights = dict(zip(mask, parameters, strict=True))
        # Gradients of anything else, such as biases, would be computed for nothing.
        self.model.requires_grad_(False)
        for weight in parameters:
            weight.requires_grad_(True)

    def batches(self) -> Iterator[Any]:
        """Return the batches; the same ones every time."""
        return self.problem.batches(self._examples)

    def losses(self) -> Iterator[Tensor]:
        """Yield the loss of each batch, with its graph."""
        for batch in self.batches():
            yield self.problem.loss(self.model, batch)

    def gradients(self, of: Tensor, *, create_graph: bool = False) -> dict[str, Tensor]:
        """Return the gradients of a scalar by the weights; zero where it does not depend on one."""
        if not of.requires_grad:
            return {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        # Names that share a parameter share its gradient, and autograd takes a parameter once.
        distinct = list(dict.fromkeys(self.weights.values()))
        found = torch.autograd.grad(
            of, distinct, create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
        gradient_of = dict(zip(distinct, found, strict=True))
        return {name: gradient_of[weight] for name, weight in self.weights.items()}

    def zeros(self) -> dict[str, Tensor]:
        """Return a zero for every weight, to sum into."""
        return {name: torch.zeros_like(weight) for name, weight in self.weights.items()}

    def summed_gradients(self) -> dict[str, Tensor]:
        """Return the gradients of the batches' losses, summed."""
        total = self.zeros()
        for loss in self.losses():
            for name, gradient in self.gradients(loss).items():
                total[name] += gradient
        return total

    def finished(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return scores as they leave: without a graph, where the mask is, and all finite."""
        return finished(scores, self.mask)


def set_mode_(model: nn.Module, mode: Mode) -> None:
    """Put a model into a mode, as a training does: layers that its owner froze stay frozen."""
    if mode == "eval":
        model.eval()
    elif not model.training:
        model.train()


def finished(scores: Mapping[str, Tensor], mask: Mask) -> dict[str, Tensor]:
    """Return scores without a graph, on the device of the mask.

    Raises:
        ScoreError: The score of a kept weight is not finite.
    """
    result = {}
    for name, keep in mask.items():
        values = scores[name].detach().to(keep.device)
        number = int(torch.count_nonzero(~values.isfinite() & keep))
        if number:
            raise ScoreError(
                f"{number:,} scores of '{name}' are not finite: the network that is scored "
                "overflows, or its weights are no numbers"
            )
        result[name] = values
    return result
