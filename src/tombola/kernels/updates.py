"""Updates: an optimiser's step with little overhead of Python, and the mask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from operator import is_, itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from tombola.masks.masks import MaskHandle


def masked(
    optimizer: torch.optim.Optimizer, handle: MaskHandle, clip: float | None
) -> Callable[[], None]:
    """Make a function that takes an optimiser's step and leaves pruned weights at zero.

    Args:
        optimizer: SGD, Adam or AdamW, fused.
        handle: Holds the mask.
        clip: Largest norm of all gradients together, pruned weights excluded; none if not given.
    """
    move = update(optimizer)

    def step() -> None:
        if clip is not None:
            # Before clipping: the gradients of pruned weights must not count in the norm. Otherwise
            # they need no mask: these optimisers treat every weight by itself.
            handle.mask_gradients()
            nn.utils.clip_grad_norm_(_parameters(optimizer), clip)
        move()
        # After the step: a pruned weight has a gradient and momentum of its own, and must not move.
        # (It may become minus zero, which is zero too.)
        handle.mask_weights()

    return step


def update(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Make a function that takes an optimiser's step, faster than ``optimizer.step()``.

    The bits are the same. State and settings stay the optimiser's own: it may be inspected, saved,
    and given another learning rate or more parameters. Hooks on its step are not called. A
    parameter without a gradient stays as it is, and so does its state; with momentum it may have
    its first gradient later than others (torch's own fused SGD fails there).

    Args:
        optimizer: SGD, Adam or AdamW, fused.

    >>> weight = nn.Parameter(torch.tensor([1.0]))
    >>> step = update(torch.optim.SGD([weight], lr=0.5, momentum=0.9, fused=True))
    >>> for _ in range(2):
    ...     weight.grad = torch.tensor([1.0])
    ...     step()
    >>> weight.tolist()
    [-0.44999998807907104]
    """
    # Decided once: dividing the parameters in every step would take longer than the step saves.
    mixed = len(_by_type(_parameters(optimizer))) > 1
    move = _move_sgd if isinstance(optimizer, torch.optim.SGD) else _move_adam

    @torch.no_grad()
    def step() -> None:
        for group in optimizer.param_groups:
            live = [parameter for parameter in group["params"] if parameter.grad is not None]
            for part in _by_type(live) if mixed else [live]:
                if part:
                    move(optimizer, group, part)

    return step


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _by_type(parameters: Sequence[Tensor]) -> list[list[Tensor]]:
    """Divide parameters by dtype and device: a fused kernel takes those of one."""
    parts: dict[object, list[Tensor]] = {}
    for parameter in parameters:
        parts.setdefault((parameter.dtype, parameter.device), []).append(parameter)
    return list(parts.values())


def _move_sgd(
    optimizer: torch.optim.Optimizer, group: Mapping[str, Any], live: list[Tensor]
) -> None:
    if not group["momentum"]:
        _sgd_kernel(group, live, [], first=False)
        return
    buffers = [optimizer.state[parameter].get("momentum_buffer") for parameter in live]
    if any(map(is_, buffers, repeat(None))):
        # The kernel treats all parameters as new or none, so the new ones take a call of their own.
        new, new_buffers = [], []
        old, old_buffers = [], []
        for parameter, buffer in zip(live, buffers, strict=True):
            if buffer is None:
                new.append(parameter)
                new_buffers.append(torch.empty_like(parameter.grad))  # type: ignore[arg-type]
            else:
                old.append(parameter)
                old_buffers.append(buffer)
        _sgd_kernel(group, new, new_buffers, first=True)
        for parameter, buffer in zip(new, new_buffers, strict=True):
            optimizer.state[parameter]["momentum_buffer"] = buffer
        live, buffers = old, old_buffers
    if live:
        _sgd_kernel(group, live, buffers, first=False)


def _sgd_kernel(
    group: Mapping[str, Any], live: list[Tensor], buffers: list[Any], *, first: bool
) -> None:
    torch._fused_sgd_(
        live,
        _grads(live),
        buffers,
        lr=group["lr"],
        momentum=group["momentum"],
        weight_decay=group["weight_decay"],
        dampening=group["dampening"],
        nesterov=group["nesterov"],
        maximize=group["maximize"],
        is_first_step=first,
    )


def _grads(live: Sequence[Tensor]) -> list[Tensor]:
    return [parameter.grad for parameter in live]  # type: ignore[misc]  # all of them have one


def _move_adam(
    optimizer: torch.optim.Optimizer, group: Mapping[str, Any], live: list[Tensor]
) -> None:
    states = [optimizer.state[parameter] for parameter in live]
    # A parameter has no state before its first step.
    if not all(states):
        for parameter, state in zip(live, states, strict=True):
            if not state:
                _initialise_adam_(state, parameter, amsgrad=group["amsgrad"])
    # The kernel expects the number of this step, and does not count itself.
    counts = _entries(states, "step")
    torch._foreach_add_(counts, 1)
    kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
    kernel(
        live,
        _grads(live),
        _entries(states, "exp_avg"),
        _entries(states, "exp_avg_sq"),
        _entries(states, "max_exp_avg_sq") if group["amsgrad"] else [],
        counts,
        lr=group["lr"],
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        amsgrad=group["amsgrad"],
        maximize=group["maximize"],
    )


def _entries(states: Sequence[Mapping[str, Tensor]], name: str) -> list[Tensor]:
    return list(map(itemgetter(name), states))


def _initialise_adam_(state: dict[str, Any], parameter: Tensor, *, amsgrad: bool) -> None:
    """Set up a parameter's state as torch does."""
    state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
    state["exp_avg"] = torch.zeros_like(parameter)
    state["exp_avg_sq"] = torch.zeros_like(parameter)
    if amsgrad:
        state["max_exp_avg_sq"] = torch.zeros_like(parameter)
