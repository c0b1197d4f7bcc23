"""Draw examples so that every class keeps its share."""

from __future__ import annotations

import torch
from torch import Tensor


def quotas(sizes: list[int], count: int) -> list[int]:
    """Divide ``count`` in proportion to the sizes, exactly, by the largest remainders.

    Ties are broken by position. ``count`` is at most the sum of the sizes; no quota is above its
    size.

    >>> quotas([50, 30, 20], 11)
    [6, 3, 2]
    >>> quotas([1, 1, 1], 2)
    [1, 1, 0]
    """
    total = sum(sizes)
    if count == 0:
        return [0] * len(sizes)
    shares = [count * size // total for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda index: -(count * sizes[index] % total))
    for index in by_remainder[: count - sum(shares)]:
        shares[index] += 1
    return shares


def draw(labels: Tensor, count: int, num_classes: int, generator: torch.Generator) -> Tensor:
    """Draw ``count`` of the examples, each class by its share (see ``quotas``).

    Args:
        labels: int64 [n], from 0 to ``num_classes`` - 1.
        count: 0 to n.
        num_classes: How many classes there are.
        generator: Where the draw comes from, on the CPU.

    Returns:
        Positions in ``labels``, int64 [count], ascending.

    >>> labels = torch.tensor([0, 0, 0, 0, 1, 1])
    >>> labels[draw(labels, 3, 2, torch.Generator().manual_seed(0))].tolist()
    [0, 0, 1]
    """
    order = torch.randperm(len(labels), generator=generator)
    shuffled = labels[order]
    sizes = torch.bincount(labels, minlength=num_classes).tolist()
    drawn = []
    for label, quota in enumerate(quotas(sizes, count)):
        drawn.append(order[shuffled == label][:quota])
    return torch.cat(drawn).sort().values
