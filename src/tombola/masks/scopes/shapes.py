"""Shapes: those of a model's own weights, for scopes that are made of them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd

from tombola.ground.errors import InputError, near
from tombola.masks import names
from tombola.masks.weights import is_conv1d, weight_parameter


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter, by the names that masks have.

    They are the model's, not a mask's: where a run is estimated, masks are thinned to vectors.

    >>> shapes_of(nn.Linear(3, 2))
    {'weight': (2, 3), 'bias': (2,)}
    """
    shapes = {}
    for name, parameter in names.parameters(model).items():
        shapes[name] = tuple(parameter.shape)
    return shapes


def shape_in(shapes: Mapping[str, tuple[int, ...]], name: str) -> tuple[int, ...]:
    """Return the shape of a weight that a mask names.

    Raises:
        InputError: The model has no such weight.
    """
    if name not in shapes:
        raise InputError(
            f"the scope was made from a model that has no '{name}'.{near(name, shapes)}"
        )
    return shapes[name]


def inputs_first(model: nn.Module) -> set[str]:
    """Name the weights that have inputs in dimension 0 and outputs in dimension 1.

    Those are transposed convolutions, and the linear layers of some libraries (``Conv1D``).

    >>> inputs_first(nn.Sequential(nn.ConvTranspose2d(4, 8, 3), nn.Linear(2, 2)))
    {'0.weight'}
    """
    by_identity = names.by_identity(model)
    turned = set()
    for module in names.modules(model).values():
        if isinstance(module, _ConvTransposeNd) or is_conv1d(module):
            weight = weight_parameter(module)
            if weight is not None and id(weight[0]) in by_identity:
                turned.add(by_identity[id(weight[0])])
    return turned
