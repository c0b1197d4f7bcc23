"""Stopping: when a search has reached what its recipe asks for."""

from __future__ import annotations

from collections.abc import Callable

from tombola.evidence.comparisons import reaches
from tombola.ground.endings import End
from tombola.ground.metrics import Metric
from tombola.ground.types import Mask
from tombola.masks.masks import density, size
from tombola.schema.recipe import Until


class Stop:
    """Says after each round whether the search goes on.

    Args:
        until: What the recipe asks for.
        total: All weights of the model, for a density of them.
        headline: The metric by which tickets are compared.

    Attributes:
        valid: The headline on validation data, by round; 0 is the dense network.
    """

    def __init__(self, until: Until, total: int, headline: Metric) -> None:
        self._until, self._total, self._headline = until, total, headline
        self.valid: dict[int, float] = {}

    def after(self, index: int, mask: Mask, wait: Callable[[int], None]) -> End | None:
        """Return why the search stops after a round, ``None`` to go on; an empty end is a goal that
        was reached.

        Args:
            index: The round.
            mask: What it left.
            wait: Waits for the evaluations up to a round, so that they stand in ``valid``.
        """
        until = self._until
        if until.accuracy_drop is not None:
            wait(index)
            if not self.passes(index):
                return self._worse(index, until.accuracy_drop)
        if until.rounds is not None and index >= until.rounds:
            return End()
        goals = []
        if until.density is not None:
            goals.append(until.density)
        if until.density_total is not None:
            goals.append(1 - (1 - until.density_total) * self._total / size(mask))
        facts = {"density": density(mask), "prunable": size(mask), "layers": mask}
        return End() if any(reaches(facts, goal) for goal in goals) else None

    def passes(self, index: int) -> bool | None:
        """Whether a ticket is as accurate as the recipe asks, on validation data; ``None``
        where it does not ask.
        """
        if self._until.accuracy_drop is None:
            return None
        # Differences of counts: without the little more, 0.97 would be more than 0.01 below 0.98.
        drop = self._headline.sign * (self.valid[0] - self.valid[index])
        return drop <= self._until.accuracy_drop + 1e-9

    def _worse(self, index: int, drop: float) -> End:
        """Say that a ticket is worse than the recipe allows, and which one is the result."""
        metric = self._headline
        ticket, dense = self._shown(self.valid[index]), self._shown(self.valid[0])
        side = "below" if metric.higher else "above"
        reason = (
            f"validation {metric.title} {ticket} in round {index} is more than "
            f"{self._shown(drop)} {side} dense ({dense})"
        )
        result = f"round {index - 1} is the result" if index > 1 else "no ticket passes"
        return End("worse", f"{reason}: {result}", index)

    def _shown(self, value: float) -> str:
        return f"{value:.2%}" if self._headline.fraction else self._headline.shown(value)
