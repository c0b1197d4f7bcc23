"""What happens during a training, outside the package: a weight for a weight, halfway; a sum over
all gradients; a training of factors instead of weights.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

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

    def on_gradients(self, step, model):
        for name, total in self.sums.items():
            total += model.get_parameter(name).grad
        return dict(self.mask) if self.skip and step % self.skip == 0 else None

    @property
    def gathered(self):
        return self.sums


@dataclass(frozen=True)
class Factors:
    """Train a factor for each weight of the mask, and nothing else; small ones are pruned."""

    name: ClassVar[str] = "factors"
    driver: ClassVar[str] = "tests.outside.during:FactorTrainer"


class Factored(nn.Module):
    """A model whose weights are multiplied by factors; the factors are all that is trained."""

    def __init__(self, model, names):
        super().__init__()
        self.model, self.names = model.requires_grad_(False), list(names)
        weights = [model.get_parameter(name).detach().clone() for name in self.names]
        self.weights = weights
        self.factors = nn.ParameterList([torch.ones_like(weight) for weight in weights])

    def values(self):
        pairs = zip(self.names, self.weights, self.factors, strict=True)
        return {name: weight * factor for name, weight, factor in pairs}

    def forward(self, inputs):
        return torch.func.functional_call(self.model, self.values(), (inputs,))


class FactorTrainer(Driver):
    def __init__(self, factors, model, head, mask, *, steps, first, context):
        self.names, self.kept, self.steps = list(mask), [], steps

    @property
    def last(self):
        return self.steps

    def trainee(self, model):
        self.module = Factored(model, self.names)
        return self.module

    @torch.no_grad()
    def settle(self, model):
        masks = {}
        for name, value in self.module.values().items():
            masks[name] = value.abs() > 0.05
            model.get_parameter(name).copy_(value * masks[name])
        return masks
