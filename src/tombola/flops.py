"""FLOPs: what one example costs a model, layer by layer, forward and backward.

    model -> [ per_example ] -> FLOPs of each layer -> [ cost ] -> of a training, dense and at its mask's density

Two to a multiplication with its addition, as torch's counter has it; matrix products and convolutions are counted, what
is done to single values is not. What a mask saves is what arithmetic needs not do: no kernel here leaves it out.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tombola.types import Mask

OTHER = ""  # what belongs to no layer of torch's own, such as a product in the model's own forward


@dataclass(frozen=True)
class Flops:
    """FLOPs of a layer for one example.

    Attributes:
        forward: Of its output.
        backward: Of the gradients of its weights and, unless it is the first layer, of its input.
    """

    forward: int
    backward: int

    @property
    def training(self) -> int:
        """Forward and backward together."""
        return self.forward + self.backward


def per_example(model: nn.Module, inputs: Tensor) -> dict[str, Flops]:
    """Count what an example costs each layer, by the layer's name; ``""`` holds what is in no layer.

    Args:
        model: Any model; it stays as it is.
        inputs: A batch of two examples or more, as batch norm needs them: float, shape [examples, ...].

    >>> found = per_example(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), torch.zeros(2, 4))
    >>> found["0"], found["2"]
    (Flops(forward=24, backward=24), Flops(forward=12, backward=24))
    """
    model = copy.deepcopy(model).train()
    with FlopCounterMode(display=False) as both:
        output = model(inputs)
        output.sum().backward()
    with FlopCounterMode(display=False) as once, torch.no_grad():
        model(inputs)
    whole, forward = _by_layer(model, both), _by_layer(model, once)
    groups = {name: getattr(module, "groups", 1) for name, module in model.named_modules()}
    found = {}
    for name, flops in whole.items():
        ahead = forward.get(name, 0)
        back = flops - ahead
        # torch's counter takes the gradient of a grouped convolution's weights for that of an ungrouped one.
        if groups.get(name, 1) > 1 and back > 2 * ahead:
            back -= (groups[name] - 1) * ahead
        found[name] = Flops(ahead // len(inputs), back // len(inputs))
    return found


def _by_layer(model: nn.Module, counter: FlopCounterMode) -> dict[str, int]:
    counts: Mapping[str, Mapping[Any, int]] = counter.get_flop_counts()
    # The counter names a module by the model's class and its path.
    found = {name.partition(".")[2]: sum(ops.values()) for name, ops in counts.items() if "." in name}
    leaves = {name for name, module in model.named_modules() if name and not any(module.children())}
    layers = {name: flops for name, flops in found.items() if name in leaves}
    rest = sum(counts.get("Global", {}).values()) - sum(layers.values())
    return layers | ({OTHER: rest} if rest else {})


def training(flops: Mapping[str, Flops], mask: Mask | None = None) -> int:
    """Return the FLOPs of training on one example; with a mask, those that the kept weights alone would need.

    >>> mask = {"0.weight": torch.tensor([[True, False], [False, False]])}
    >>> training({"0": Flops(8, 16)}), training({"0": Flops(8, 16)}, mask)
    (24, 6)
    """
    return training_at(flops, _counts(mask))


def training_at(flops: Mapping[str, Flops], kept: Mapping[str, tuple[int, int]]) -> int:
    """Return what `training` does, of numbers: kept weights and all weights of each masked parameter.

    >>> training_at({"0": Flops(8, 16)}, {"0.weight": (1, 4)})
    6
    """
    return _total({name: one.training for name, one in flops.items()}, kept)


def inference(flops: Mapping[str, Flops], mask: Mask | None = None) -> int:
    """Return the FLOPs of one prediction; with a mask, those that the kept weights alone would need."""
    return _total({name: one.forward for name, one in flops.items()}, _counts(mask))


def _counts(mask: Mask | None) -> dict[str, tuple[int, int]]:
    return {name: (int(torch.count_nonzero(keep)), keep.numel()) for name, keep in (mask or {}).items()}


def _total(flops: Mapping[str, int], counts: Mapping[str, tuple[int, int]]) -> int:
    kept = {name.rpartition(".")[0]: of for name, of in counts.items()}
    # Whole numbers throughout: a sum of products of floats would hang on the order of the layers.
    return sum(one * kept[name][0] // kept[name][1] if name in kept else one for name, one in flops.items())
