"""Regrowth: dynamic sparse training, in which weights are exchanged while a training runs.

    train: step, step, [ drop the smallest weights -> grow as many others from zero ], step, ...

Every layer keeps as many weights as it began with. The network that a training ends with is the
result of these methods; its mask can be a ticket.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tombola.ground import seeds
from tombola.ground.errors import TrainingError
from tombola.ground.types import Mask, State
from tombola.masks import names
from tombola.masks.controls import draw
from tombola.masks.masks import count, places_of
from tombola.masks.schedules import RegrowAtRandom, RegrowByGradient, exchanges
from tombola.masks.selection import highest
from tombola.scores.context import Context
from tombola.training.during import Driver


def exchanged(keep: Tensor, weight: Tensor, growth: Tensor, number: int) -> Tensor:
    """Drop the smallest weights of a layer and grow as many others.

    What was dropped may grow again at once; then nothing happens to it. Of equal weights the first
    are dropped, of equal values of growth the last are grown.

    Args:
        keep: The layer's mask, boolean; it is not changed.
        weight: Its weights.
        growth: A number per weight, 0 or more; the largest grow, of those that are not kept after
            the drop.
        number: How many to exchange, at most as many as are kept.

    Raises:
        TrainingError: A value is NaN.

    >>> keep = torch.tensor([True, True, True, False, False, False])
    >>> weight = torch.tensor([0.5, -0.1, 0.3, 0, 0, 0])
    >>> growth = torch.tensor([0.1, 0.1, 0.2, 0.7, 0.2, 0.4])
    >>> exchanged(keep, weight, growth, 1).tolist()
    [True, False, True, True, False, False]
    """
    # Only what is kept is ranked: in a vector of the whole layer most values would be zero, and
    # equal values are what a selection is slow with.
    places = places_of(keep)
    sizes = weight.detach().flatten().index_select(0, places).abs()
    candidates = growth.detach().flatten().abs()
    # NaN is in no order; it is what the largest value is then.
    if bool(torch.isnan(sizes.max() + candidates.max())):
        raise TrainingError("a weight or a gradient is NaN; a lower learning rate may help")
    stays = highest(sizes, len(places) - number)
    after = keep.flatten().clone()
    after.index_fill_(0, places.index_select(0, places_of(~stays)), False)
    # Below all that may grow.
    candidates.index_fill_(0, places.index_select(0, places_of(stays)), -1.0)
    after |= highest(candidates, number)
    return after.view(keep.shape)


class _Regrower(Driver):
    """Exchanges weights while a training runs.

    Args:
        regrow: When, and how many.
        model: The model that is trained.
        head: Its output layer.
        mask: The weights that are kept at its beginning.
        steps: Of the full training.
        first: Steps done before the training begins.
        context: With the seed of the replicate.

    Attributes:
        mask: The weights that are kept now.
        kept: What each exchange left of each layer: (steps done, kept weights by layer).
    """

    constant_counts: ClassVar[bool] = True

    def __init__(
        self,
        regrow: RegrowAtRandom | RegrowByGradient,
        model: nn.Module,
        head: str | None,  # noqa: ARG002
        mask: Mask,
        *,
        steps: int,
        first: int,
        context: Context,
    ) -> None:
        self._fractions = exchanges(regrow.pace, first, steps)
        self._parameters = names.parameters(model)
        self._seed = context.seed
        self.mask: dict[str, Tensor] = dict(mask)
        self.kept: list[tuple[int, dict[str, int]]] = []

    @staticmethod
    def end(
        regrow: RegrowAtRandom | RegrowByGradient,
        model: nn.Module,  # noqa: ARG004
        head: str | None,  # noqa: ARG004
        mask: Mask,
        learnt: State,
    ) -> dict[str, Tensor]:
        """Return a mask of the same counts, drawn anew for each training: no two end alike."""
        fingerprint = [float(learnt[name].double().sum()) for name in mask]
        return draw(mask, 0, address=(regrow.name, fingerprint))

    @abstractmethod
    def _growth(self, step: int, name: str, weight: Tensor) -> Tensor:
        """Return a number for each weight of a layer; the largest grow."""

    def _exchange(self, step: int, weights: Mapping[str, Any]) -> None:
        """Exchange weights of every layer.

        Args:
            step: Steps done before, which decides how many.
            weights: At least those of the mask.
        """
        for name, keep in self.mask.items():
            kept = count({name: keep})
            number = int(self._fractions[step] * kept)
            # In a dense layer there is nothing else that could grow, and a frozen layer would keep
            # what grows at zero.
            if not number or kept == keep.numel() or not self._parameters[name].requires_grad:
                continue
            weight = weights[name]
            growth = self._growth(step, name, weight)
            try:
                after = exchanged(keep.to(weight.device), weight, growth, number)
            except TrainingError as error:
                raise TrainingError(f"step {step}, '{name}': {error}") from error
            self.mask[name] = after.to(keep.device)

    def _note(self, step: int) -> dict[str, Tensor]:
        """Note what each layer keeps from this step on, and return the mask."""
        kept = {name: count({name: keep}) for name, keep in self.mask.items()}
        self.kept.append((step, kept))
        return dict(self.mask)


class RandomRegrower(_Regrower):
    """Grows weights at random: SET. The steps before and after an exchange are ordinary ones."""

    @property
    def last(self) -> int:
        """Steps done before the last exchange."""
        return max(self._fractions)

    def due(self, step: int) -> bool:
        """Whether weights are exchanged after this many steps."""
        return step in self._fractions

    def cut(self, step: int, state: State) -> dict[str, Tensor]:
        """Exchange weights, and return the new mask."""
        self._exchange(step, state)
        return self._note(step)

    def _growth(self, step: int, name: str, weight: Tensor) -> Tensor:
        generator = seeds.generator(self._seed, "regrowth", step, name)
        return torch.rand(weight.shape, generator=generator)


class GradientRegrower(_Regrower):
    """Grows the weights with the largest gradients: RigL.

    The step whose gradients are read updates no weight.
    """

    listens: ClassVar[bool] = True
    dense_gradients: ClassVar[bool] = True
    reads_state: ClassVar[bool] = False

    @property
    def last(self) -> int:
        """Steps done before the mask of the last exchange."""
        return max(self._fractions) + 1

    def takes_gradients(self, step: int) -> bool:
        """Whether weights are exchanged in the step that follows after this many."""
        return step in self._fractions

    def on_gradients(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> bool:  # noqa: ARG002
        """Exchange weights by the gradients of a step, instead of its update."""
        self._exchange(step, self._parameters)
        return False

    def due(self, step: int) -> bool:
        """Whether weights were exchanged in the step before."""
        return step - 1 in self._fractions

    def cut(self, step: int, state: State) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the mask that the gradients of the step before led to."""
        return self._note(step)

    def _growth(self, step: int, name: str, weight: Tensor) -> Tensor:  # noqa: ARG002
        # A weight that the loss did not come to has no gradient.
        return torch.zeros_like(weight) if weight.grad is None else weight.grad
