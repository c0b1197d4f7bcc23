"""Gradual pruning: weights are removed during a training, and the remaining ones train on.

    train: step, step, [ score -> prune -> hold the new mask ], step, ...

The network is not reset between cuts. Its final mask can be a ticket; the network itself is what
pruning methods without tickets are compared with.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tombola.ground.types import Mask, State
from tombola.masks import rates
from tombola.masks.pruning import prune
from tombola.masks.schedules import Gradual, densities
from tombola.masks.scopes import Scope, chosen
from tombola.scores.context import Context
from tombola.scores.ranking import Ranking, naming
from tombola.training.during import Driver


class Pruner(Driver):
    """Prunes a model while it trains.

    Args:
        gradual: The density to reach, and when to prune.
        model: The model that is trained, for scopes that must know its layers.
        head: Its output layer.
        mask: The weights that may be pruned.
        steps: Of the full training.
        first: Steps done before the training begins; earlier cuts are made up for at once.

    Attributes:
        mask: The weights kept so far.
        kept: What each cut left of each layer: (steps done, kept weights by layer).
    """

    def __init__(
        self,
        gradual: Gradual,
        model: nn.Module,
        head: str | None,
        mask: Mask,
        *,
        steps: int,
        first: int,
        context: Context,
    ) -> None:
        self._score = Ranking(gradual.score).score()
        self._scope: Scope = chosen(gradual.scope, model, head)
        self._context = context
        schedule = densities(gradual, steps)
        # All at once: no count may be above that of the cut before.
        counts = rates.counts_for(mask, schedule.values(), self._scope)
        self._count_at: dict[int, rates.Count] = {}
        for step, count in zip(schedule, counts, strict=True):
            # The schedule is in order of steps, so of those before the training the last one stays.
            self._count_at[max(step, first)] = count
        self.mask: dict[str, Tensor] = dict(mask)
        self.kept: list[tuple[int, dict[str, int]]] = []

    @staticmethod
    def end(
        gradual: Gradual, model: nn.Module, head: str | None, mask: Mask, learnt: State
    ) -> dict[str, Tensor]:
        """Return the mask at the end of a training, by untrained weights."""
        scope = chosen(gradual.scope, model, head)
        [kept] = rates.counts_for(mask, [gradual.density], scope)
        return prune(learnt, mask, scope=scope, count=kept.keep)

    @property
    def last(self) -> int:
        """Steps done before the last cut."""
        return max(self._count_at)

    def due(self, step: int) -> bool:
        """Whether there is a cut after this many steps."""
        return step in self._count_at

    def cut(self, step: int, state: State) -> dict[str, Tensor]:
        """Prune to the density that is due after this many steps, and return the new mask.

        Args:
            step: Steps done.
            state: The model's state, on the CPU.
        """
        with naming(self._score):
            scores = self._score(state, self.mask, self._context)
            self.mask = prune(scores, self.mask, scope=self._scope, count=self._count_at[step].keep)
        kept = {name: int(torch.count_nonzero(keep)) for name, keep in self.mask.items()}
        self.kept.append((step, kept))
        return self.mask
