"""Per kind: convolutions compete with each other, and so do linear layers."""

from __future__ import annotations

from torch import nn

from tombola.ground.errors import InputError
from tombola.ground.types import Mask
from tombola.masks.masks import kinds
from tombola.masks.scopes.groups import Group, Scope


def per_kind(model: nn.Module) -> Scope:
    """Rank convolutions together and linear layers together.

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
