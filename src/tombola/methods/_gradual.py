"""Gradual: the network is pruned while it trains, once to each density."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from tombola.ground.errors import ConfigError, shown
from tombola.masks import schedules
from tombola.masks.schedules import PruningSchedule
from tombola.methods.cards import Card
from tombola.methods.searching import OwnTraining, Scoring

if TYPE_CHECKING:
    from tombola.methods.setting import Ground, Setting
    from tombola.scores.ranking import Ranking
    from tombola.search.rounds import Round
    from tombola.tickets import Ticket
    from tombola.training.jobs import Job


@dataclass(frozen=True, kw_only=True)
class Gradual(Scoring, OwnTraining):
    """Prune while training, along a cubic schedule; the mask that a training ends with is a ticket.

    Attributes:
        pace: When weights are pruned during training.
        score: What weights are ranked by: an entry of `tombola.scores`, or your own function,
            ``package.module:function``.
    """

    pace: PruningSchedule | None = None
    score: str = "magnitude"

    at_once: ClassVar[bool] = True
    independent_tickets: ClassVar[bool] = True
    not_nested: ClassVar[str] = "each density has its own training, which learns different weights"
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
        """Return the trainings that prune, one a density."""
        training = self.searching(setting.training)
        job = replace(setting.point, training=training, part=setting.searched)
        return [replace(job, during=schedule) for schedule in self.schedules()]

    def rounds(self, setting: Setting, done: Sequence[Ticket]) -> Iterator[Round]:
        from tombola.search.rounds import find_gradually

        return find_gradually(
            replace(setting.point, training=self.searching(setting.training)),
            self.schedules()[len(done) :],
            run_all=setting.run_all,
            part=setting.searched,
            first=len(done) + 1,
            allow_collapse=self.allow_collapse,
        )

    def check_ground(self, ground: Ground) -> None:
        from tombola.masks.masks import count, size

        if count(ground.mask) < size(ground.mask):
            raise ConfigError(
                "gradual pruning begins with all weights, so it cannot be combined with model.mask"
            )
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
