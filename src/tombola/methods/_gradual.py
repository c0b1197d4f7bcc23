"""Gradual: the network is pruned while it trains, once to each density."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from tombola.ground.errors import ConfigError, shown
from tombola.masks import schedules
from tombola.masks.schedules import PruningSchedule
from tombola.methods.cards import Card
from tombola.methods.in_training import InTraining

if TYPE_CHECKING:
    from tombola.methods.setting import Ground, Setting
    from tombola.scores.ranking import Ranking
    from tombola.training.jobs import Job


@dataclass(frozen=True, kw_only=True)
class Gradual(InTraining):
    """Prune while training, along a cubic schedule; the mask that a training ends with is a ticket.

    Attributes:
        pace: When the mask changes during training.
        score: What weights are ranked by: an entry of `tombola.scores`, or your own function,
            ``package.module:function``.
    """

    pace: PruningSchedule | None = None
    score: str = "magnitude"

    written_out: ClassVar[bool] = True
    cards: ClassVar[tuple[Card, ...]] = (
        Card(
            "gradual",
            "search",
            "pruned while it trains, along a cubic schedule, once to each density",
            "{method: gradual, densities: [0.5, 0.2, 0.1], scope: per_layer}",
            what="the network is pruned while it trains, along a cubic schedule (`pace`), once to "
            "each density; the mask that it ends with is a ticket like any other, independent of "
            "the other densities",
            question="is a mask that was found in one training good enough?",
            source="Zhu & Gupta 2017, arXiv:1710.01878; Havinga & Sawhney",
        ),
    )

    @property
    def rankings(self) -> tuple[Ranking, ...]:
        from tombola.scores.ranking import Ranking

        return (Ranking(self.score),)

    def schedules(self) -> list[schedules.Gradual]:
        """Return how it prunes, once to each density."""
        pace = self.pace or PruningSchedule()
        return [
            schedules.Gradual(density, pace, self.score, self.scope)
            for density in self.asked_densities
        ]

    def trainings(self, setting: Setting) -> list[Job]:
        job = self.search_job(setting)
        return [replace(job, during=schedule) for schedule in self.schedules()]

    def check_ground(self, ground: Ground) -> None:
        [ranking] = self.rankings
        if ranking.needs != "weights":
            raise ConfigError(
                f"the score {shown(ranking.name)} needs {ranking.needs}; gradual pruning can only "
                "use a score of the weights alone"
            )
        super().check_ground(ground)

    def check_replicate(self, ground: Ground) -> None:
        from tombola.training.jobs import schedule_of

        steps = schedule_of(self.searching(ground.training), ground.task, ground.searched).steps
        for schedule in self.schedules():
            schedules.densities(schedule, steps)
        super().check_replicate(ground)
