"""Gathering: what a training adds up in every step, for scores that need its history.

    train: [ gradients -> add - gradient x weight to a sum -> update ], ... -> Trained.gathered

It changes no bit of the training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from tombola.ground.types import Mask
from tombola.masks import names
from tombola.scores.context import Context
from tombola.training.during import Driver


@dataclass(frozen=True)
class Gather:
    """Gather how far each weight has moved away from zero, as plain data of a job."""

    name: ClassVar[str] = "gather"
    driver: ClassVar[str] = "tombola.training.gathering:Gatherer"


class Gatherer(Driver):
    """Adds up - gradient x weight over all steps, for every weight of the mask.

    The gradients are those of the loss, before they are clipped.
    """

    changes_mask: ClassVar[bool] = False
    listens: ClassVar[bool] = True

    def __init__(
        self,
        gather: Gather,  # noqa: ARG002
        model: nn.Module,
        head: str | None,  # noqa: ARG002
        mask: Mask,
        *,
        steps: int,  # noqa: ARG002
        first: int,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> None:
        self.kept: list[tuple[int, dict[str, int]]] = []
        parameters = names.parameters(model)
        self._weights: dict[str, Tensor] = {name: parameters[name] for name in mask}
        self._sums: dict[str, Tensor] = {}
        for name, weight in self._weights.items():
            self._sums[name] = torch.zeros_like(weight, requires_grad=False)

    def takes_gradients(self, step: int) -> bool:  # noqa: ARG002
        """Take those of every step."""
        return True

    @torch.no_grad()
    def on_gradients(
        self,
        step: int,  # noqa: ARG002
        model: nn.Module,  # noqa: ARG002
        optimizer: torch.optim.Optimizer,  # noqa: ARG002
    ) -> bool:
        """Add a step's; the weights are those that the gradients belong to."""
        sums: list[Tensor] = []
        weights: list[Tensor] = []
        gradients: list[Tensor] = []
        for name, weight in self._weights.items():
            # A frozen weight has none.
            if weight.grad is not None:
                sums.append(self._sums[name])
                weights.append(weight)
                gradients.append(weight.grad)
        if sums:
            torch._foreach_addcmul_(sums, weights, gradients, value=-1)
        return True

    @property
    def gathered(self) -> dict[str, Tensor]:
        """The sums, on the CPU."""
        return {name: total.cpu().contiguous() for name, total in self._sums.items()}
