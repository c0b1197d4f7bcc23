"""Gradual: the network is pruned while it trains, once to each density."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from tombola.errors import ConfigError, shown
from tombola.methods.cards import Card
from tombola.methods.method import Method, falling
from tombola.methods.searching import OwnTraining, Scoring
from tombola.paces import Pace


@dataclass(frozen=True, kw_only=True)
class Gradual(Scoring, OwnTraining):
    """Prune while training, along a cubic schedule; the mask that a training ends with is a ticket.

    Attributes:
        densities: What each of its trainings ends with.
        pace: When weights go.
        score: What weights are ranked by: an entry of ``tombola.scores`` or ``package.module:function``.
    """

    densities: tuple[float, ...] = ()
    pace: Pace | None = None
    score: str = "magnitude"

    by_itself: ClassVar[bool] = True
    written_out: ClassVar[bool] = True
    cards: ClassVar[tuple[Card, ...]] = (
        Card(
            "gradual",
            "search",
            "pruned while it trains, along a cubic schedule, once to each density",
            "{method: gradual, densities: [0.5, 0.2, 0.1], scope: per_layer}",
            what="the network is pruned while it trains, along a cubic schedule (`pace`), once to each density; the "
            "mask it ends with is a ticket like any other, each by itself",
            question="does a mask found in one training do?",
            source="Zhu & Gupta 2017, arXiv:1710.01878; Havinga & Sawhney",
        ),
    )

    @property
    def scores(self) -> tuple[str, ...]:
        return (self.score,)

    def with_common(self, densities: tuple[float, ...], evaluate_at: tuple[float, ...]) -> Method:
        chosen = self if self.densities else replace(self, densities=densities)
        return super(Gradual, chosen).with_common(densities, evaluate_at)

    def check(self, where: str) -> None:
        if not falling(self.densities):
            raise ConfigError(f"{where}.densities is {shown(list(self.densities))}; densities fall, from below 1 to "
                              "above 0")  # fmt: skip
        super().check(where)
