"""Updates: an optimiser's step below Python's overhead, with the mask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn

from tombola.masks.masks import MaskHandle


def masked(
    optimizer: torch.optim.Optimizer, handle: MaskHandle, clip: float | None
) -> Callable[[], None]:
    """Make the function that takes an optimiser's step and leaves pruned weights at zero.

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
            moved = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(moved, clip)
        move()
        # After the step: a pruned weight has a gradient and momentum of its own, and must not move.
        # (It may become minus zero, which is zero too.)
        handle.mask_weights()

    return step


def update(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Make the function that takes an optimiser's step, quicker than ``optimizer.step()`` and with
    the same bits.

    State and settings stay the optimiser's own: it may be looked at, saved, and given another
    learning rate or more parameters. Hooks on its step are not called. A parameter without a
    gradient stays as it is, and so does its state; with momentum it may have its first gradient
    later than others (torch's own fused SGD fails there).

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
    given = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    mixed = len({(parameter.dtype, parameter.device) for parameter in given}) > 1
    move = _move_sgd if isinstance(optimizer, torch.optim.SGD) else _move_adam

    @torch.no_grad()
    def step() -> None:
        for group in optimizer.param_groups:
            live = [parameter for parameter in group["params"] if parameter.grad is not None]
            for alike in _of_one_type(live) if mixed else [live]:
                if alike:
                    move(optimizer, group, alike)

    return step


def _of_one_type(parameters: Sequence[Tensor]) -> list[list[Tensor]]:
    """Divide parameters so that a kernel can take each part: it works on one kind of numbers
    and one device.
    """
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
        new = [parameter for parameter, buffer in zip(live, buffers, strict=True) if buffer is None]
        made = [torch.empty_like(grad) for grad in _grads(new)]
        _sgd_kernel(group, new, made, first=True)
        for parameter, buffer in zip(new, made, strict=True):
            optimizer.state[parameter]["momentum_buffer"] = buffer
        known = [(p, buffer) for p, buffer in zip(live, buffers, strict=True) if buffer is not None]
        live, buffers = [p for p, _ in known], [buffer for _, buffer in known]
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
    return [parameter.grad for parameter in live]  # type: ignore[misc]  # those that live have one


def _move_adam(
    optimizer: torch.optim.Optimizer, group: Mapping[str, Any], live: list[Tensor]
) -> None:
    states = [optimizer.state[parameter] for parameter in live]
    if not all(states):
        for parameter, state in zip(live, states, strict=True):
            if not state:  # as torch sets it up
                averages = ("exp_avg", "exp_avg_sq", *["max_exp_avg_sq"] * group["amsgrad"])
                state |= {"step": torch.zeros((), dtype=torch.float32, device=parameter.device)}
                state |= {name: torch.zeros_like(parameter) for name in averages}
    counts = [state["step"] for state in states]
    torch._foreach_add_(counts, 1)
    kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
    kernel(
        live,
        _grads(live),
        [state["exp_avg"] for state in states],
        [state["exp_avg_sq"] for state in states],
        [state["max_exp_avg_sq"] for state in states] if group["amsgrad"] else [],
        counts,
        lr=group["lr"],
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        amsgrad=group["amsgrad"],
        maximize=group["maximize"],
    )
