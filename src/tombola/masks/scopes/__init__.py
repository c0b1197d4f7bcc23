"""Scopes: which weights compete with each other when some are pruned, and what each group keeps.

One private file per scope. A scope is a function from a mask to named groups. Some need the mask
alone (`whole_model`, `per_layer`); the others must know the layers and are made from a model.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from tombola.ground import catalogue
from tombola.masks.scope_choices import ScopeChoice
from tombola.masks.scopes._erdos_renyi import erdos_renyi as erdos_renyi
from tombola.masks.scopes._erk import erk as erk
from tombola.masks.scopes._half_output import half_output as half_output
from tombola.masks.scopes._n_of_m import n_of_m as n_of_m
from tombola.masks.scopes._per_kind import per_kind as per_kind
from tombola.masks.scopes._per_layer import per_layer as per_layer
from tombola.masks.scopes._whole_model import whole_model as whole_model
from tombola.masks.scopes.groups import Group as Group
from tombola.masks.scopes.groups import Scope as Scope
from tombola.masks.scopes.groups import by_group as by_group
from tombola.masks.scopes.groups import check_groups as check_groups

if TYPE_CHECKING:
    from torch import nn

    from tombola.ground.types import Mask


def by_name(name: str, model: nn.Module, head: str | None = None, **options: Any) -> Scope:
    """Return the scope that a recipe names, made for a model where it must know the layers.

    Args:
        name: An entry of this catalogue.
        model: The model, with its output layer ``head``.
        head: Its dotted name; ``None`` takes the attribute ``head``.
        options: The entry's own.

    >>> from torch import nn
    >>> by_name("per_layer", nn.Linear(2, 2)) is per_layer
    True
    """
    entry = catalogue.entry("tombola.masks.scopes", name)
    parameters = inspect.signature(entry).parameters
    # A scope itself, that needs no model.
    if next(iter(parameters)) == "mask":
        return entry
    if "head" in parameters:
        entry = functools.partial(entry, head=head)
    scope: Scope = entry(model, **options)
    return scope


def chosen(choice: ScopeChoice, model: nn.Module, head: str | None = None) -> Scope:
    """Return the scope that a recipe says: by its name, or by a mapping where it has options.

    >>> from torch import nn
    >>> from tombola.masks.scope_choices import NOfM
    >>> list(chosen(NOfM((2, 4)), nn.Linear(8, 2))({"weight": nn.Linear(8, 2).weight > 0}))
    ['weight']
    """
    if isinstance(choice, str):
        return by_name(choice, model, head)
    n, m = choice.n_of_m
    return by_name("n_of_m", model, head, n=n, m=m)


def never_pruned(scope: Scope, mask: Mask) -> list[str]:
    """Name the parameters of a mask that are in no group of a scope, and so stay as they are.

    >>> never_pruned(whole_model, {"a": ..., "b": ...})
    []
    """
    grouped = set[str]()
    for group in scope(mask).values():
        grouped.update(group.names)
    return [name for name in mask if name not in grouped]
