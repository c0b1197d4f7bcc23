"""During: what changes the mask while a training runs, as plain data of a job, and its driver.

    Job(during=Gradual(0.1)) -> [ train: step, driver replaces the mask, step ... ] -> Trained.mask

The data has a name, which stands in the digest of its jobs, and names its driver. A training
without any has the digest that it always had. The loop knows nothing of either.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn

from tombola.ground import catalogue
from tombola.ground.types import Mask, State
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


@runtime_checkable
class Driver(Protocol):
    """Replaces the mask of a model while it trains: weights may be pruned, and may return.

    It is constructed with the data, the model, its head and the job's mask, and by keyword the
    ``steps`` of the full training, the ``first`` steps that were done before, and the ``context``
    of a score.

    Attributes:
        kept: What each change left of each layer: (steps done, kept weights by layer).
    """

    kept: list[tuple[int, dict[str, int]]]

    @property
    def last(self) -> int:
        """Steps done before the last change; no earlier state can be the result."""

    def due(self, step: int, /) -> bool:
        """Whether there is a change after this many steps."""

    def cut(self, step: int, state: State, /) -> dict[str, Tensor]:
        """Return the mask after this many steps, for a model's state on the CPU."""

    @staticmethod
    def end(
        during: Any, model: nn.Module, head: str | None, mask: Mask, learnt: State, /
    ) -> dict[str, Tensor]:
        """Return a mask that a training might end with, by untrained weights: for a rehearsal."""


def driver_class(during: During) -> Any:
    """Return the class of a driver.

    Raises:
        ConfigError: There is none.

    >>> from tombola.masks.schedules import Gradual
    >>> driver_class(Gradual(0.5)).__name__
    'Pruner'
    """
    return catalogue.own(during.driver)


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
    kind = driver_class(during)
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
