"""Erdos-Renyi: layers with many inputs and outputs are pruned more."""

from __future__ import annotations

from torch import nn

from tombola.ground.types import Mask
from tombola.masks.scopes.groups import Group, Scope
from tombola.masks.scopes.shapes import shape_in, shapes_of


def erdos_renyi(model: nn.Module) -> Scope:
    """Rank the weights of every layer separately, its density in proportion to 1/inputs + 1/outputs.

    A layer that n inputs and m outputs connect keeps eps * (n + m) / (n * m) of its weights, with
    one eps for all layers. Layers that would keep more than all are dense, and eps is solved again
    for the rest. The counts are exact: they are rounded by largest remainder. A convolution's kernel
    has no influence on its density; `erk` counts it. It takes densities or counts, no rate.

    Source:
        Mocanu et al. 2018, arXiv:1707.04780, equation 3: the number of connections of an
        Erdos-Renyi random graph. The public codes draw each weight or round down, so they miss the
        total.

    >>> mlp = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    >>> from tombola.masks.masks import ones
    >>> from tombola.masks.rates import counts_for
    >>> [count] = counts_for(ones(mlp, "all"), [0.5], erdos_renyi(mlp))
    >>> count.keep
    {'0.weight': 5, '1.weight': 4}
    """
    shapes = shapes_of(model)

    def scope(mask: Mask) -> dict[str, Group]:
        groups = {}
        for name in mask:
            outputs, inputs, *kernel = shape_in(shapes, name)
            places = 1
            for length in kernel:
                places *= length
            groups[name] = Group((name,), budget=(outputs + inputs) * places)
        return groups

    return scope
