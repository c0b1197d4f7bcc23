"""Eager: the model's own forward pass, torch's autograd, the optimiser's fused kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tombola.ground import devices
from tombola.ground.errors import InputError
from tombola.ground.settings import Training
from tombola.kernels.protocol import Kernel, Loss, Program, described
from tombola.kernels.updates import masked
from tombola.masks import names
from tombola.masks.masks import MaskHandle


class Eager(Kernel):
    """Run a model as it is written, which works for every model.

    Parameters may be frozen and thawed, and anything else of the model may change between two
    steps.

    Raises:
        InputError: On a batch: a parameter that was trained has been replaced by another one, or
            the loss is no scalar.
    """

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
        """Prepare to call the model and the loss in every step."""
        first = names.parameters(model)
        autocast = devices.autocast(next(model.parameters()).device.type, training.precision)

        def gradients(batch: Any) -> Tensor:
            check_same(first, model)
            for parameter in model.parameters():
                parameter.grad = None
            reseed()
            with autocast():
                live = loss(model, batch)
            if not isinstance(live, Tensor) or live.numel() != 1:
                raise InputError(f"the loss of a batch is {described(live)}; a scalar is needed")
            live.backward()  # type: ignore[no-untyped-call]
            return live.detach()

        return Program(gradients, masked(optimizer, handle, training.clip))


def check_same(first: Mapping[str, nn.Parameter], model: nn.Module) -> None:
    """Refuse a model that lost a trained parameter: the optimiser would go on moving that one."""
    current = set(map(id, model.parameters()))
    for name, parameter in first.items():
        if id(parameter) not in current and parameter.requires_grad:
            raise InputError(
                f"the parameter '{name}' is no longer part of the model that trains, and the "
                "optimiser does not know another in its place; change its values in place (with "
                "torch.no_grad(): parameter.copy_(values)), or freeze it before it goes "
                "(requires_grad_(False))"
            )
