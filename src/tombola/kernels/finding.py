"""Finding a kernel: by its name, or the one that is preferred where a recipe names none."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from tombola.ground import catalogue
from tombola.ground.contracts import CONTRACTS
from tombola.ground.errors import ConfigError, shown
from tombola.ground.settings import Training
from tombola.kernels.protocol import Kernel, Program, described
from tombola.masks.masks import MaskHandle


def named(name: str) -> Kernel:
    """Make the kernel of that name: an entry of `tombola.kernels` or ``package.module:Name``.

    Raises:
        ConfigError: There is none, or the user's own is no kernel.

    >>> named("eager").tolerance
    0.0
    """
    if catalogue.is_own(name):
        return _Own(name)
    kernel: Kernel = catalogue.entry("tombola.kernels", name)()
    return kernel


def preferred(model: nn.Module, training: Training, kind: str) -> str:
    """Return the name of the kernel that runs a model by default.

    Args:
        model: The model to train.
        training: Its settings.
        kind: Of the device: "cpu" or "cuda".

    >>> preferred(nn.Linear(4, 2), Training(epochs=1), "cpu")
    'traced'
    >>> preferred(nn.BatchNorm1d(2), Training(epochs=1), "cpu")
    'eager'
    """
    best, highest = "eager", 0
    for name in catalogue.entries("tombola.kernels"):
        kernel = named(name)
        rank = kernel.preferred.get(kind, 0)
        if rank > highest and not kernel.refusal(model, training, kind):
            best, highest = name, rank
    return best


class _Own(Kernel):
    """A user's own kernel: any breach of the protocol becomes one line that names it."""

    def __init__(self, name: str) -> None:
        self._name = name
        with self._code():
            kernel = catalogue.own(name)()
        if not isinstance(kernel, Kernel):
            raise self._error(f"gives a {type(kernel).__name__}")
        self._kernel = kernel

    def refusal(self, model: nn.Module, training: Training, kind: str) -> str:
        with self._code():
            return str(self._kernel.refusal(model, training, kind) or "")

    def prepare(
        self, model: nn.Module, handle: MaskHandle, training: Training, **parts: Any
    ) -> Program:
        # Every function of the program is wrapped, as each may fail in any step.
        with self._code():
            program = self._kernel.prepare(model, handle, training, **parts)
        if not isinstance(program, Program) or not all(callable(part) for part in program):
            raise self._error(
                f"prepares a {type(program).__name__}; a Program of functions is needed"
            )
        gradients = self._guarded(program.gradients)

        def checked(batch: Any) -> Tensor:
            value = gradients(batch)
            if isinstance(value, Tensor) and value.ndim == 0 and not value.requires_grad:
                return value
            raise self._error(
                f"gives {described(value)} as the loss of a batch; a detached scalar is needed"
            )

        return Program(checked, *map(self._guarded, program[1:]))

    def inference(self, model: nn.Module) -> nn.Module:
        with self._code():
            running = self._kernel.inference(model)
        if not isinstance(running, nn.Module):
            raise self._error(
                f"gives {described(running)} for inference; a torch.nn.Module is needed"
            )
        return running

    def _code(self) -> contextlib.AbstractContextManager[None]:
        return catalogue.own_code(self._name, "kernels")

    def _guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*batch: Any) -> Any:
            with self._code():
                return function(*batch)

        return call

    def _error(self, what: str) -> ConfigError:
        return ConfigError(
            f"{shown(self._name)} {what}; {CONTRACTS['kernels'].in_words()} (tombola list kernels)"
        )
