"""In training: methods whose tickets are the masks that trainings end with, one for each density."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from tombola.ground.errors import ConfigError
from tombola.methods.searching import OwnTraining, Scoring

if TYPE_CHECKING:
    from tombola.methods.setting import Ground, Setting
    from tombola.search.rounds import Round
    from tombola.tickets import Ticket
    from tombola.training.jobs import Job


@dataclass(frozen=True, kw_only=True)
class InTraining(Scoring, OwnTraining):
    """A method that changes the mask while it trains, in one training for each density.

    The mask that a training ends with, rewound, is the ticket. The network that it leaves is what
    `as_trained` tests.
    """

    at_once: ClassVar[bool] = True
    independent_tickets: ClassVar[bool] = True
    not_nested: ClassVar[str] = "each density has its own training, which learns different weights"
    leaves_networks: ClassVar[bool] = True

    def trainings(self, setting: Setting) -> list[Job]:
        """Return the trainings that change their masks, one a density."""
        raise NotImplementedError(f"{self.method} has no trainings")

    def search_job(self, setting: Setting) -> Job:
        """Return the training from the rewind point as the search trains."""
        training = self.searching(setting.training)
        return replace(setting.point, training=training, part=setting.searched)

    def rounds(self, setting: Setting, done: Sequence[Ticket]) -> Iterator[Round]:
        from tombola.search.rounds import find_in_trainings

        return find_in_trainings(
            replace(setting.point, training=self.searching(setting.training)),
            self.trainings(setting)[len(done) :],
            run_all=setting.run_all,
            first=len(done) + 1,
            allow_collapse=self.allow_collapse,
        )

    def check_ground(self, ground: Ground) -> None:
        from tombola.masks.masks import count, size

        if count(ground.mask) < size(ground.mask):
            raise ConfigError(
                f"{self.method} begins with all weights, so it cannot be combined with model.mask"
            )
        super().check_ground(ground)
