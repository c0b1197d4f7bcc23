"""Reading: which weights a model reads without calling the layer that holds them.

torch's pruning masks a weight when the forward of its layer is called. An attention reads the
weight of its output layer itself, and so may a user's own module.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tombola.ground import seeds
from tombola.ground.types import Mask
from tombola.masks.masks import masked_parameters
from tombola.masks.weights import copied


def read_elsewhere(model: nn.Module, mask: Mask, loss: Callable[[nn.Module], Tensor]) -> list[str]:
    """Name the masked weights that a model reads without the forward of their layer, by one pass.

    A weight is read where it gets a gradient. A layer that is not called at all and gets none is
    not named.

    Args:
        model: Tried as a copy, in training; it stays as it is, and so does torch's global
            generator.
        mask: Names the weights.
        loss: Runs the model as a training step does, on two examples or more, and returns a
            scalar.

    Returns:
        Their names in the mask's order.

    >>> model, keep = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.ones(2, 4) > 0
    >>> read_elsewhere(model, {"1.weight": keep}, lambda net: net(torch.ones(2, 1, 2, 2)).sum())
    []
    """
    model = copied(model).train()
    called: set[int] = set()
    for module in model.modules():
        module.register_forward_pre_hook(lambda module, _: called.add(id(module)))
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    weights = [weight for weight, _ in masked_parameters(model, mask)]
    with seeds.seeded(0, "read elsewhere"), torch.enable_grad():
        loss(model).backward()  # type: ignore[no-untyped-call]

    # A weight that several layers share is masked where any of them is called.
    masked_when_called = set()
    for module in model.modules():
        if id(module) in called:
            masked_when_called |= {id(weight) for weight in module.parameters(recurse=False)}
    names = []
    for name, weight in zip(mask, weights, strict=True):
        if weight.grad is not None and id(weight) not in masked_when_called:
            names.append(name)
    return names
