"""Shapes: those of a model's own weights, for scopes that are made of them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from tombola.ground.errors import InputError, near
from tombola.masks import names


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
