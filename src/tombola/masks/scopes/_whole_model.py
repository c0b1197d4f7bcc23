"""Whole model: all weights compete."""

from __future__ import annotations

from tombola.ground.types import Mask
from tombola.masks.scopes.groups import Group


def whole_model(mask: Mask) -> dict[str, Group]:
    """Rank all weights together: global pruning, as COLT does.

    >>> list(whole_model({"a": ..., "b": ...}))
    ['model']
    """
    return {"model": Group(tuple(mask))}
