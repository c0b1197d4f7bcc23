"""Shuffled: another arm's tickets, their weights, masks or both shuffled within each layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from tombola.methods.cards import Card
from tombola.methods.following import Following

if TYPE_CHECKING:
    from tombola.methods.setting import Setting
    from tombola.training.jobs import Job


@dataclass(frozen=True, kw_only=True)
class Shuffled(Following):
    """Shuffle each ticket within its layers.

    Attributes:
        shuffle: What is shuffled within each layer: the values of the kept ``weights`` among the
            kept positions, the ``mask`` alone, or ``both`` together.
    """

    shuffle: Literal["both", "weights", "mask"] = "both"

    control: ClassVar[bool] = True
    written_out: ClassVar[bool] = True
    cards: ClassVar[tuple[Card, ...]] = (
        Card(
            "shuffled",
            "control",
            "weights and mask shuffled within each layer",
            "{method: shuffled, source: colt-2, shuffle: both}",
            what="the ticket shuffled within each layer: `weights` permutes the kept values among "
            "the kept positions, `mask` moves the mask alone, `both` moves each weight together "
            "with its mask entry",
            question="do the positions matter, the values, or which value is at which position?",
            source="Frankle et al. 2021, arXiv:2009.08576, section 4",
        ),
    )

    def ticket(self, setting: Setting, job: Job) -> Job:
        from tombola.masks.controls import shuffle

        start, mask = shuffle(job.start, job.mask, setting.seed, self.shuffle, setting.mask)
        return setting.ticket(mask, start, job.first)
