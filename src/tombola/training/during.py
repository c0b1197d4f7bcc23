"""During: what happens while a training runs, as plain data of its job, and the driver that acts.

    Job(during=Gradual(0.1)) -> [ train: step, driver replaces the mask, step ... ] -> Trained.mask

The data has a name, which stands in the digest of its jobs, and names its driver. A training
without any has the digest that it always had. A driver is asked between two steps, and within a
step once the gradients are there; then it may also train other tensors than the weights. The loop
knows nothing of any particular one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from tombola.ground import catalogue
from tombola.ground.errors import ConfigError, shown
from tombola.ground.types import Mask, State
from tombola.masks import names
from tombola.masks.masks import places_of
from tombola.scores.context import Context


@runtime_checkable
class During(Protocol):
    """A frozen dataclass of plain data.

    Attributes:
        name: Its name in a job's digest.
        driver: The class that acts on it, ``package.module:Class``, see `Driver`.
    """

    name: ClassVar[str]
    driver: ClassVar[str]


class Driver:
    """What acts on a model while it trains; a driver derives from it and says what it does.

    It is constructed with the data, the model, its head and the job's mask, and by keyword the
    ``steps`` of the full training, the ``first`` steps that were done before, and the ``context``
    of a score.

    Attributes:
        changes_mask: Whether the training ends with another mask than it began with.
        listens: Whether it takes the gradients of some steps.
        constant_counts: Whether every layer keeps as many weights as it began with, which is then
            checked at every change of the mask.
        dense_gradients: Whether each change of the mask needs the gradients of all weights, pruned
            ones, too, which is charged.
        reads_state: Whether `cut` needs the model's state; it is empty otherwise.
        kept: What each change of the mask left of each layer: (steps done, kept weights by layer).
    """

    changes_mask: ClassVar[bool] = True
    listens: ClassVar[bool] = False
    constant_counts: ClassVar[bool] = False
    dense_gradients: ClassVar[bool] = False
    reads_state: ClassVar[bool] = True
    kept: list[tuple[int, dict[str, int]]]

    @property
    def last(self) -> int:
        """Steps done before the last change of the mask; no earlier state can be the result."""
        return 0

    def begin(
        self,
        model: nn.Module,
        batches: Callable[[int], Iterator[Any]],
        loss: Callable[[nn.Module, Any], Tensor],
        /,
    ) -> None:
        """Prepare the model before its first step.

        Args:
            model: The model at its rewind point; its weights stay as they are.
            batches: From a number of examples to the first training batches that hold so many.
            loss: From a model and a batch to a scalar.
        """

    def due(self, step: int, /) -> bool:
        """Whether the mask is changed after this many steps."""
        del step
        return False

    def cut(self, step: int, state: State, /) -> dict[str, Tensor]:
        """Return the mask after this many steps, for a model's state on the CPU."""
        raise NotImplementedError(f"{type(self).__name__} is never due")

    def takes_gradients(self, step: int, /) -> bool:
        """Whether `on_gradients` is called in the step that follows after this many."""
        del step
        return False

    def on_gradients(
        self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, /
    ) -> bool:
        """Act on the gradients of a step, before they are clipped and the weights updated.

        The gradients of pruned weights are there, too. A mask that they lead to is returned by
        `cut`, which may be due after this step.

        Args:
            step: Steps done before this one.
            model: The model, with ``.grad`` of every weight that is trained.
            optimizer: With the learning rates of this step.

        Returns:
            Whether the optimiser updates the weights. The step counts in any case, and a driver may
            change the weights itself.
        """
        del step, model, optimizer
        return True

    def settled(self) -> dict[str, Tensor] | None:
        """Return the mask that the model has now, where it changes in every step.

        Called before the model is evaluated and when the training ends; ``None`` where the mask is
        what `cut` returned last.
        """
        return None

    def resume(self) -> None:
        """Go on after an evaluation, where `settled` has changed the model."""

    @property
    def gathered(self) -> dict[str, Tensor]:
        """What was gathered during the training, for scores: tensors by the weights' names."""
        return {}

    @staticmethod
    def end(
        during: Any, model: nn.Module, head: str | None, mask: Mask, learnt: State, /
    ) -> dict[str, Tensor]:
        """Return a mask that a training might end with, by untrained weights: for a rehearsal."""
        del during, model, head, learnt
        return dict(mask)


def driver_class(during: During) -> type[Driver]:
    """Return the class of a driver.

    Raises:
        ConfigError: There is none, or it does not derive from `Driver`.

    >>> from tombola.masks.schedules import Gradual
    >>> driver_class(Gradual(0.5)).__name__
    'Pruner'
    """
    kind = catalogue.own(during.driver)
    if not (isinstance(kind, type) and issubclass(kind, Driver)):
        raise ConfigError(
            f"{shown(during.driver)} is no driver of a training; it is a class that derives from "
            "tombola.training.during.Driver"
        )
    return kind


def driver_of(
    during: During,
    model: nn.Module,
    head: str | None,
    mask: Mask,
    *,
    steps: int,
    first: int,
    context: Context,
) -> Driver:
    """Make the driver of a training, see `Driver`."""
    kind: Any = driver_class(during)
    driver: Driver = kind(during, model, head, mask, steps=steps, first=first, context=context)
    return driver


def entries_of_digest(during: During | None) -> dict[str, Any]:
    """Return the entries that it adds to a job's digest: none where nothing happens.

    >>> from tombola.masks.schedules import Gradual
    >>> entries_of_digest(None), list(entries_of_digest(Gradual(0.5)))
    ({}, ['gradual'])
    """
    if during is None:
        return {}
    return {during.name: dataclasses.asdict(during)}  # type: ignore[call-overload]


@torch.no_grad()
def forget_grown_(
    optimizer: torch.optim.Optimizer, model: nn.Module, before: Mask, mask: Mask
) -> None:
    """Set an optimiser's state to zero where a weight has come back: what it had is of other times.

    Without it, momentum from before it was pruned would move the weight.

    Args:
        optimizer: Trains the model.
        model: Has the weights.
        before: The mask until now.
        mask: The mask from now on.

    Source:
        Evci et al. 2020, arXiv:1911.11134, section 3 (4): new connections start at zero.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> sgd = torch.optim.SGD(layer.parameters(), 0.1, momentum=0.9)
    >>> layer(torch.ones(1, 2)).sum().backward()
    >>> sgd.step()
    >>> before, mask = torch.tensor([[True, False]]), torch.tensor([[True, True]])
    >>> forget_grown_(sgd, layer, {"weight": before}, {"weight": mask})
    >>> sgd.state[layer.weight]["momentum_buffer"].tolist()
    [[1.0, 0.0]]
    """
    parameters = names.parameters(model)
    for name, keep in mask.items():
        # True is more than false.
        grown = places_of(keep > before[name])
        if not len(grown):
            continue
        parameter = parameters[name]
        for value in optimizer.state.get(parameter, {}).values():
            # Counts of steps have no place for each weight.
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                places = grown.to(value.device)
                if value.is_contiguous():
                    value.view(-1)[places] = 0
                else:
                    value[torch.unravel_index(places, value.shape)] = 0
