"""Random: a baseline that ignores the weights."""

from __future__ import annotations

import torch
from torch import Tensor

from tombola.ground import seeds
from tombola.ground.types import Mask, State
from tombola.scores.context import Context


def random(state: State, mask: Mask, context: Context) -> dict[str, Tensor]:
    """Score every weight by a uniform draw, equal in all rounds and different in each partition.

    The draw depends only on the replicate's seed, the partition and the parameter's name, so masks
    of several rounds are nested and a replicate can be reproduced.

    >>> import torch
    >>> context = Context(rewind_point={}, seed=0)
    >>> a = random({}, {"w": torch.ones(3, dtype=torch.bool)}, context)["w"]
    >>> b = random({}, {"w": torch.ones(3, dtype=torch.bool)}, context)["w"]
    >>> torch.equal(a, b)
    True
    """
    del state
    scores = {}
    for name, keep in mask.items():
        generator = seeds.generator(context.seed, "random score", context.partition, name)
        scores[name] = torch.rand(keep.shape, generator=generator).to(keep.device)
    return scores
