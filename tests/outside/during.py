"""What happens during a training, outside the package: a weight for a weight, halfway; a sum over
all gradients; a training of factors instead of weights.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from tombola.training.during import Driver


@dataclass(frozen=True)
class Swap:
    """Halfway, let the smallest weights of each layer go and as many pruned ones grow again,
    from zero.
    """

    number: int = 1

    name: ClassVar[str] = "swap"
    driver: ClassVar[str] = "tests.outside.during:Swapper"


class Swapper(Driver):
    def __init__(self, swap, model, head, mask, *, steps, first, context):
        self.number, self.mask, self.kept = swap.number, dict(mask), []
        self.middle = (first + steps) // 2

    @property
    def last(self):
        return self.middle

    def due(self, step):
        return step == self.middle

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


@dataclass(frozen=True)
class Tally:
    """Sum the gradients of all steps, and leave out the update of every ``skip``-th one."""

    skip: int = 0

    name: ClassVar[str] = "tally"
    driver: ClassVar[str] = "tests.outside.during:Taller"


class Taller(Driver):
    changes_mask = False
    listens = True

    def __init__(self, tally, model, head, mask, *, steps, first, context):
        self.skip, self.mask, self.kept = tally.skip, mask, []
        self.sums = {name: torch.zeros(keep.shape) for name, keep in mask.items()}

    def takes_gradients(self, step):
        return True

    def on_gradients(self, step, model, optimizer):
        for name, total in self.sums.items():
            total += model.get_parameter(name).grad
        return not self.skip or step % self.skip != 0

    @property
    def gathered(self):
        return self.sums


@dataclass(frozen=True)
class Factors:
    """Train a factor for each weight of the mask, and nothing else."""

    name: ClassVar[str] = "factors"
    driver: ClassVar[str] = "tests.outside.during:FactorTrainer"


class FactorTrainer(Driver):
    listens = True

    def __init__(self, factors, model, head, mask, *, steps, first, context):
        self.kept, self.steps = [], steps
        self.weights = {name: model.get_parameter(name).detach().clone() for name in mask}
        self.factors = {name: torch.ones_like(weight) for name, weight in self.weights.items()}

    @property
    def last(self):
        return self.steps

    def takes_gradients(self, step):
        return True

    @torch.no_grad()
    def on_gradients(self, step, model, optimizer):
        masks = self.settled()
        for name, factor in self.factors.items():
            parameter = model.get_parameter(name)
            factor -= optimizer.param_groups[0]["lr"] * parameter.grad * self.weights[name]
            parameter.copy_(self.weights[name] * factor * masks[name])
        return False

    def settled(self):
        return {name: torch.ones_like(factor) > 0 for name, factor in self.factors.items()}
