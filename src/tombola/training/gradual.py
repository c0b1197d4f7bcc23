"""Gradual pruning: weights go while a training runs, and what is left trains on.

    train: step, step, [ score -> prune -> hold the new mask ], step, ...

The network is not reset between cuts; the mask it ends with can be a ticket, and the network itself
is what pruning is compared with when it is not about tickets at all.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tombola.ground.types import Mask, State
from tombola.masks import rates
from tombola.masks.paces import Gradual, densities
from tombola.masks.pruning import prune
from tombola.masks.scopes import Scope, by_name
from tombola.scores.context import Context
from tombola.scores.ranking import Ranking


class Pruner:
    """Cuts a model while it trains.

    Args:
        gradual: What is asked for.
        model: The model that is trained, for scopes that must know its layers.
        head: Its output layer.
        mask: The weights that may be pruned.
        steps: Of the whole training.
        first: Steps done before the training begins; what was to be cut before is cut then.

    Attributes:
        mask: What is kept now.
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
        self._scope: Scope = by_name(gradual.scope, model, head)
        self._context = context
        asked = densities(gradual, steps)
        before = [step for step in asked if step <= first]
        self._asked = {first: asked[before[-1]]} if before else {}
        self._asked |= {step: density for step, density in asked.items() if step > first}
        self._whole = mask
        self.mask: dict[str, Tensor] = dict(mask)
        self.kept: list[tuple[int, dict[str, int]]] = []

    @staticmethod
    def end(
        gradual: Gradual, model: nn.Module, head: str | None, mask: Mask, learnt: State
    ) -> dict[str, Tensor]:
        """Return what is left of a mask at the end, by weights that nobody trained."""
        scope = by_name(gradual.scope, model, head)
        [kept] = rates.counts_for(mask, [gradual.density], scope)
        return prune(learnt, mask, scope=scope, count=kept.keep)

    @property
    def last(self) -> int:
        """Steps done before the last cut."""
        return max(self._asked)

    def due(self, step: int) -> bool:
        """Whether there is a cut after so many steps."""
        return step in self._asked

    def cut(self, step: int, state: State) -> dict[str, Tensor]:
        """Prune to what is asked for after so many steps, and return what is kept.

        Args:
            step: Steps done.
            state: The model's state, on the CPU.
        """
        [count] = rates.counts_for(self._whole, [self._asked[step]], self._scope)
        scores = self._score(state, self.mask, self._context)
        self.mask = prune(scores, self.mask, scope=self._scope, count=count.keep)
        self.kept.append(
            (step, {name: int(torch.count_nonzero(keep)) for name, keep in self.mask.items()})
        )
        return self.mask
