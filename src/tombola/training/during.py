"""During: what happens while a training runs, as plain data of a job, and who does it.

    Job(during=Gradual(0.1)) -> [ train: step, step, driver replaces the mask, step ... ] ->
    Trained.mask

The data names itself and its driver, so that a job's digest says what happens, and only then: a
training in which nothing happens has the digest that it always had. The loop knows nothing of
either.
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
        name: What it is called in a job's digest.
        driver: Who does it, ``package.module:Class``, see `Driver`.
    """

    name: ClassVar[str]
    driver: ClassVar[str]


@runtime_checkable
class Driver(Protocol):
    """Replaces the mask of a model while it trains: weights may go, and come back.

    It is made of the data, the model, its head, the job's mask, and by keyword ``steps`` of the
    whole training, ``first`` steps that were done before, and the ``context`` of a score.

    Attributes:
        kept: What each change left of each layer: (steps done, kept weights by layer).
    """

    kept: list[tuple[int, dict[str, int]]]

    @property
    def last(self) -> int:
        """Steps done before the last change; no state before is the result."""

    def due(self, step: int, /) -> bool:
        """Whether there is a change after so many steps."""

    def cut(self, step: int, state: State, /) -> dict[str, Tensor]:
        """Return the mask after so many steps, for a model's state on the CPU."""

    @staticmethod
    def end(
        during: Any, model: nn.Module, head: str | None, mask: Mask, learnt: State, /
    ) -> dict[str, Tensor]:
        """Return a mask such as a training might end with, by weights that nobody trained: for
        a rehearsal.
        """


def driver_class(during: During) -> Any:
    """Return the class of a driver.

    Raises:
        ConfigError: There is none.

    >>> from tombola.masks.paces import Gradual
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
    made: Driver = driver_class(during)(
        during, model, head, mask, steps=steps, first=first, context=context
    )
    return made


def plain(during: During | None) -> dict[str, Any]:
    """Return what stands in a job's digest: nothing where nothing happens.

    >>> from tombola.masks.paces import Gradual
    >>> plain(None), list(plain(Gradual(0.5)))
    ({}, ['gradual'])
    """
    return {} if during is None else {during.name: dataclasses.asdict(during)}  # type: ignore[call-overload]
