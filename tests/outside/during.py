"""What happens during a training, outside the package: a weight for a weight, halfway."""

from dataclasses import dataclass
from typing import ClassVar

import torch


@dataclass(frozen=True)
class Swap:
    """Halfway, let the smallest weights of each layer go and as many pruned ones grow again,
    from zero.
    """

    number: int = 1

    name: ClassVar[str] = "swap"
    driver: ClassVar[str] = "tests.outside.during:Swapper"


class Swapper:
    def __init__(self, swap, model, head, mask, *, steps, first, context):
        self.number, self.mask, self.kept = swap.number, dict(mask), []
        self.last = (first + steps) // 2

    def due(self, step):
        return step == self.last

    def cut(self, step, state):
        self.mask = {name: self._swapped(state[name], keep) for name, keep in self.mask.items()}
        self.kept.append(
            (step, {name: int(keep.count_nonzero()) for name, keep in self.mask.items()})
        )
        return self.mask

    def _swapped(self, weight, keep):
        keep, pruned = keep.clone().flatten(), torch.nonzero(~keep.flatten()).flatten()
        size = torch.where(keep, weight.flatten().abs(), torch.inf)
        keep[size.topk(self.number, largest=False).indices] = False
        keep[pruned[: self.number]] = True
        return keep.view(weight.shape)

    @staticmethod
    def end(swap, model, head, mask, learnt):  # noqa: ARG004
        return dict(mask)
