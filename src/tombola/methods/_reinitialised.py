"""Reinitialised: another arm's masks on newly drawn initial weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from tombola.methods.cards import Card
from tombola.methods.following import Following

if TYPE_CHECKING:
    from tombola.methods.setting import Setting
    from tombola.training.jobs import Job


@dataclass(frozen=True, kw_only=True)
class Reinitialised(Following):
    """Keep each ticket's mask and draw new initial weights."""

    control: ClassVar[bool] = True
    draws_anew: ClassVar[bool] = True
    starts: ClassVar[Literal["shared", "source", "own"]] = "own"
    written_out: ClassVar[bool] = True
    cards: ClassVar[tuple[Card, ...]] = (
        Card(
            "reinitialised",
            "control",
            "the same mask, new initial weights",
            "{method: reinitialised, source: colt-2}",
            what="the same mask, with newly drawn initial weights",
            question="does the ticket need its own initial weights?",
            source="Frankle & Carbin 2019, section 2",
        ),
    )

    def ticket(self, setting: Setting, job: Job) -> Job:
        return setting.ticket(job.mask, setting.drawn_anew)
