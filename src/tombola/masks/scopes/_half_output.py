"""Half output: per layer, the output layer at half the rate."""

from __future__ import annotations

from torch import nn

from tombola.ground.types import Mask
from tombola.masks.masks import head_weights
from tombola.masks.scopes.groups import Group, Scope


def half_output(model: nn.Module, head: str | None = None) -> Scope:
    """Rank the weights of every layer separately, those of the output layer at half the rate.

    Source:
        Frankle & Carbin 2019, arXiv:1803.03635, section 2: "connections to outputs are pruned at
        half the rate".

    >>> mlp = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    >>> half_output(mlp, head="1")({"0.weight": ..., "1.weight": ...})["1.weight"].factor
    0.5
    """
    outputs = head_weights(model, head)

    def scope(mask: Mask) -> dict[str, Group]:
        return {name: Group((name,), 0.5 if name in outputs else 1.0) for name in mask}

    return scope
