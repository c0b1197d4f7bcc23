"""Scopes: which weights compete with each other when some are pruned.

A scope is a function from a mask to named groups. `whole_model` and `per_layer` need the mask
alone; `per_kind` and `half_output` must know the layers and are made from a model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from torch import nn

from tombola.ground.errors import InputError, shown
from tombola.ground.types import Mask
from tombola.masks.masks import head_weight, kinds, part_of


@dataclass(frozen=True)
class Group:
    """Parameters whose weights are ranked together, and a factor on their rate."""

    names: tuple[str, ...]
    factor: float = 1.0


Scope: TypeAlias = Callable[[Mask], Mapping[str, Group]]


def by_group(
    count_weights: Callable[[Mask], int], mask: Mask, groups: Mapping[str, Group]
) -> dict[str, int]:
    """Count the weights of every group.

    Args:
        count_weights: `masks.count` for those kept, `masks.size` for all of them.
        mask: The prunable weights.
        groups: A scope's groups of them.

    >>> by_group(len, {"a": ..., "b": ...}, {"model": Group(("a", "b"))})
    {'model': 2}
    """
    counts = {}
    for group_name, group in groups.items():
        counts[group_name] = count_weights(part_of(mask, group.names))
    return counts


def check_groups(groups: object, mask: Mask) -> None:
    """Refuse the groups of a user's own scope where they do not divide a mask's parameters.

    Raises:
        InputError: It is no mapping from names to groups, or a parameter is unknown or in two
            groups.

    >>> check_groups({"model": Group(("a",))}, {"a": ...})
    """

    def is_group(value: object) -> bool:
        return isinstance(value, Group)

    if not isinstance(groups, Mapping) or not all(map(is_group, groups.values())):
        raise InputError(
            f"the scope gives {shown(groups)}; it gives a mapping from names to "
            "tombola.masks.scopes.Group"
        )
    seen = set[str]()
    for group_name, group in groups.items():
        if isinstance(group.names, str) or not 0 <= group.factor < math.inf:
            raise InputError(
                f"the scope's group {shown(group_name)} is {shown(group)}; it has names and a "
                "factor of 0 or more"
            )
        # A weight in two groups would be pruned twice, one in none not at all.
        for name in group.names:
            if name not in mask or name in seen:
                fault = "is in two groups" if name in seen else "has no mask"
                raise InputError(
                    f"{shown(name)}, which the scope's group {shown(group_name)} names, {fault}"
                )
            seen.add(name)


def whole_model(mask: Mask) -> dict[str, Group]:
    """Rank all weights together: global magnitude pruning, as COLT does.

    >>> whole_model({"a": ..., "b": ...})
    {'model': Group(names=('a', 'b'), factor=1.0)}
    """
    return {"model": Group(tuple(mask))}


def per_layer(mask: Mask) -> dict[str, Group]:
    """Rank the weights of every layer separately, all at the same rate.

    >>> list(per_layer({"a": ..., "b": ...}))
    ['a', 'b']
    """
    return {name: Group((name,)) for name in mask}


def by_name(name: str, model: nn.Module, head: str | None = None) -> Scope:
    """Return the scope that a recipe names, made for a model where it must know the layers.

    >>> by_name("per_layer", nn.Linear(2, 2)) is per_layer
    True
    """
    if name == "per_kind":
        return per_kind(model)
    if name == "half_output":
        return half_output(model, head)
    return {"whole_model": whole_model, "per_layer": per_layer}[name]


def per_kind(model: nn.Module) -> Scope:
    """Make the scope that ranks convolutions together and linear layers together.

    Its groups are "conv" and "linear". Rates may then differ by kind: ``{"conv": 0.15, "linear":
    0.20}``, as in COLT's detector (section IV-G).

    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 2))
    >>> per_kind(net)({"0.weight": ..., "2.weight": ...})["linear"].names
    ('2.weight',)
    """
    kind = kinds(model)

    def scope(mask: Mask) -> dict[str, Group]:
        names: dict[str, list[str]] = {"conv": [], "linear": []}
        for name in mask:
            if kind.get(name) not in names:
                raise InputError(f"per_kind: '{name}' belongs to no convolution or linear layer")
            names[kind[name]].append(name)
        # A kind that the model lacks has no group, and so needs no rate.
        return {group_name: Group(tuple(group)) for group_name, group in names.items() if group}

    return scope


def half_output(model: nn.Module, head: str | None = None) -> Scope:
    """Make the scope of the lottery ticket paper: per layer, the output layer at half the rate.

    Source:
        Frankle & Carbin 2019, arXiv:1803.03635, section 2: "connections to outputs are pruned at
        half the rate".

    >>> mlp = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    >>> half_output(mlp, head="1")({"0.weight": ..., "1.weight": ...})["1.weight"].factor
    0.5
    """
    output = head_weight(model, head)

    def scope(mask: Mask) -> dict[str, Group]:
        return {name: Group((name,), 0.5 if name == output else 1.0) for name in mask}

    return scope
