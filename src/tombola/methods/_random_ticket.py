"""Random ticket: as many weights in each layer as another arm's tickets have, drawn at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from tombola.methods.cards import Card
from tombola.methods.following import Following

if TYPE_CHECKING:
    from tombola.methods.setting import Setting
    from tombola.training.jobs import Job


@dataclass(frozen=True, kw_only=True)
class RandomTicket(Following):
    """Draw a random mask with as many weights in each layer; it starts from the shared rewind
    point."""

    control: ClassVar[bool] = True
    starts: ClassVar[Literal["shared", "source", "own"]] = "shared"
    written_out: ClassVar[bool] = True
    cards: ClassVar[tuple[Card, ...]] = (
        Card(
            "random-ticket",
            "control",
            "a random mask with as many weights in each layer",
            "{method: random_ticket, source: colt-2}",
            what="a mask drawn at random with as many weights in each layer, from the same rewind "
            "point. As the source's tickets become sparser, the random masks are nested too",
            question="does it matter which weights of a layer are kept?",
            source="Su et al. 2020, arXiv:2009.11094, section 3; Frankle & Carbin 2019, figure 1",
        ),
    )

    def ticket(self, setting: Setting, job: Job) -> Job:
        from tombola.masks.controls import draw

        return setting.ticket(draw(job.mask, setting.seed, setting.mask))
