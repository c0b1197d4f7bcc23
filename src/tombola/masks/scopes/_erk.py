"""ERK: Erdos-Renyi with the kernel, as sparse training has it."""

from __future__ import annotations

from torch import nn

from tombola.ground.types import Mask
from tombola.masks.scopes.groups import Group, Scope
from tombola.masks.scopes.shapes import shape_in, shapes_of


def erk(model: nn.Module) -> Scope:
    """Rank the weights of every layer separately, its density by all lengths of its shape.

    A layer keeps eps * (sum of its shape) / (product of its shape) of its weights, with one eps for
    all layers; for linear layers that is `erdos_renyi`. Layers that would keep more than all are
    dense, and eps is solved again for the rest. The counts are exact, by largest remainder. It takes
    densities or counts, no rate. The shape is the weight's, [outputs, inputs per group, kernel], so
    that depthwise convolutions mostly stay dense.

    Source:
        Evci et al. 2020, arXiv:1911.11134, section 3, "Erdos-Renyi-Kernel".

    >>> conv = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 16, 3))
    >>> from tombola.masks.masks import ones
    >>> from tombola.masks.rates import counts_for
    >>> [count] = counts_for(ones(conv, "all"), [0.5], erk(conv))
    >>> count.keep
    {'0.weight': 366, '1.weight': 498}
    """
    shapes = shapes_of(model)

    def scope(mask: Mask) -> dict[str, Group]:
        return {name: Group((name,), budget=sum(shape_in(shapes, name))) for name in mask}

    return scope
