"""Reordered: another arm's tickets trained again in a different data order, and the line between
the two trainings.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from tombola.ground.errors import ConfigError
from tombola.methods.cards import Card
from tombola.methods.following import Following
from tombola.methods.method import Method

if TYPE_CHECKING:
    from tombola.ground.settings import Training
    from tombola.methods.setting import Ground, Setting
    from tombola.training.jobs import Job


@dataclass(frozen=True, kw_only=True)
class Reordered(Following):
    """Train each evaluated ticket again, and test networks between the two trainings."""

    retrains: ClassVar[bool] = True
    compared: ClassVar[bool] = False  # two trainings of a ticket differ only by chance
    written_out: ClassVar[bool] = True
    cards: ClassVar[tuple[Card, ...]] = (
        Card(
            "reordered",
            "stability",
            "another arm's tickets in a different data order, and the line between the two",
            "{method: reordered, source: lth}",
            what="train each evaluated ticket of the other arm again, with the same start and mask "
            "but a different data order (and different augmentation and dropout), and test "
            "networks on the straight line between the two trainings. Round 0 is the dense network "
            "as in every arm; its line is between two trainings from the state that tickets start "
            "from",
            question="do both trainings end in the same basin, so that the error does not rise on "
            "the line between them?",
            source="Frankle et al. 2020, arXiv:1912.05671",
        ),
    )

    def followers(self) -> str:
        return (
            f"which has no tickets of its own; name the arm whose tickets it takes, '{self.source}'"
        )

    def check_source(self, where: str, source: Method) -> None:
        if source.network:
            raise ConfigError(
                f"{where} is '{self.source}', whose networks are pruned while they train, so two "
                f"trainings end with different masks; name its source, '{source.source}'"
            )

    def ticket(self, setting: Setting, job: Job) -> Job:
        return replace(
            setting.ticket(job.mask, job.start, job.first), training=self.onward(setting)
        )

    def evaluation(self, setting: Setting, index: int, job: Job) -> Job:
        from tombola.ground.seeds import derive

        # The order of the data follows from the seed, and so do augmentation and dropout.
        return replace(job, seed=derive(setting.seed, "reordered"))

    def line(self, setting: Setting, index: int, job: Job) -> tuple[Job, Job] | None:
        # Round 0 is the dense network, as in every arm; its line is between two trainings from
        # where tickets start.
        first = replace(job, seed=setting.seed) if index else setting.point
        return first, self.evaluation(setting, index, first)

    def onward(self, ground: Ground) -> Training:
        return ground.training if ground.source is None else ground.source.onward(ground)
