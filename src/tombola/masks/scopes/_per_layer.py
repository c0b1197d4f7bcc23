"""Per layer: the weights of a layer compete."""

from __future__ import annotations

from tombola.ground.types import Mask
from tombola.masks.scopes.groups import Group


def per_layer(mask: Mask) -> dict[str, Group]:
    """Rank the weights of every layer separately, all at the same rate.

    >>> list(per_layer({"a": ..., "b": ...}))
    ['a', 'b']
    """
    return {name: Group((name,)) for name in mask}
