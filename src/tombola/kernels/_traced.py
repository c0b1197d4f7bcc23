"""Traced: a recording of forward and backward in place of modules and autograd."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tombola.ground.settings import Training
from tombola.kernels._eager import Eager, check_same
from tombola.kernels.anatomy import Anatomy, traceable
from tombola.kernels.protocol import Loss, Program
from tombola.kernels.recording import Trace, declared, is_special, key_of, trace_of
from tombola.masks import names
from tombola.masks.masks import MaskHandle


class Traced(Eager):
    """Repeat the recorded operations of one step, without the overhead of modules and autograd.

    It takes models of torch's own layers without batch norm, hooks and anything of the user's own,
    in float32, and has the bits of `eager`. A recording must freeze nothing that can change.
    Tensors (every parameter, trained or frozen, and the batch) are its inputs. What torch's own
    layers read besides (their settings, their mode, which weights are tied) is in its key, and is
    compared again whenever the model may have been changed. Anything else makes a step run as
    `eager` runs it: a loss that is not declared `recordable`, a batch that is no tuple of tensors,
    a hook that was added later.
    """

    preferred: ClassVar[Mapping[str, int]] = {"cpu": 1}

    def refusal(self, model: nn.Module, training: Training, kind: str) -> str:  # noqa: ARG002
        """Say what a recording cannot take."""
        if traceable(model) and training.precision == "float32" and not training.compile:
            return ""
        return (
            "that needs a model of torch's own layers without batch norm, hooks and anything else "
            "of one's own, float32 and no compile; take eager"
        )

    def prepare(
        self,
        model: nn.Module,
        handle: MaskHandle,
        training: Training,
        *,
        loss: Loss,
        optimizer: torch.optim.Optimizer,
        reseed: Callable[[], None],
    ) -> Program:
        """Prepare to record the first batch of each shape."""
        eager = super().prepare(
            model, handle, training, loss=loss, optimizer=optimizer, reseed=reseed
        )
        function = declared(loss)
        if function is None:
            return eager
        recorded = _Recorded(model, loss, function, eager.gradients)
        return eager._replace(gradients=recorded.gradients, upkeep=recorded.upkeep)


class _Recorded:
    """Gradients by a recording where one fits the model as it is, else by the eager step."""

    def __init__(
        self, model: nn.Module, loss: Loss, declared: FunctionType, eager: Callable[[Any], Tensor]
    ) -> None:
        self._model, self._loss, self._declared, self._eager = model, loss, declared, eager
        self._first = names.parameters(model)
        self._anatomy: Anatomy | None = None
        self._settings: object = None
        # By the batch alone: the rest of the key stays until the upkeep finds it changed.
        self._traces: dict[object, Trace | None] = {}

    def upkeep(self) -> None:
        """Check whether the recordings still fit; forget them if they do not."""
        if self._anatomy is None or not self._anatomy.unchanged():
            check_same(self._first, self._model)
            self._anatomy = Anatomy.of(self._model)
            self._traces.clear()
        self._special = is_special()
        settings = torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled()
        if settings != self._settings:
            self._settings = settings
            self._traces.clear()

    def gradients(self, batch: Any) -> Tensor:
        trace = self._trace_for(batch)
        if trace is None:
            return self._eager(batch)
        assert self._anatomy is not None
        parameters = self._anatomy.parameters
        # Freed before the new ones are computed, so that memory holds one set of gradients.
        for parameter in parameters:
            parameter.grad = None
        with torch.no_grad():
            value, *grads = trace(*parameters, *batch)
        for parameter, grad in zip(self._anatomy.trained, grads, strict=True):
            parameter.grad = grad
        assert value is not None
        return value

    def _trace_for(self, batch: Any) -> Trace | None:
        if self._anatomy is None or self._special or type(batch) is not tuple:
            return None
        key = key_of(batch)
        if key not in self._traces:
            shared = self._anatomy.key, self._declared, self._settings, key
            self._traces[key] = trace_of(shared, self._anatomy, self._model, self._loss, batch)
        return self._traces[key]
