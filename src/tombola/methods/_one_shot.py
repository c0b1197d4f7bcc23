"""One-shot: the dense network cut once to each density."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from tombola.methods.cards import Card
from tombola.methods.searching import OwnTraining, Search

if TYPE_CHECKING:
    from tombola.methods.setting import Setting
    from tombola.search.rounds import Round
    from tombola.tickets import Ticket


@dataclass(frozen=True, kw_only=True)
class OneShot(Search, OwnTraining):
    """Train once, and cut the trained network to each density."""

    at_once: ClassVar[bool] = True
    written_out: ClassVar[bool] = True
    cards: ClassVar[tuple[Card, ...]] = (
        Card(
            "one-shot",
            "baseline",
            "the dense network cut once to each density",
            "{method: one_shot, densities: [0.5, 0.2, 0.1]}",
            what="the dense network cut once to each density. `match: ARM` cuts it to that "
            "arm's densities",
            question="is iterating worth its cost?",
            source="Frankle & Carbin 2019, section 2",
        ),
    )

    def rounds(self, setting: Setting, done: Sequence[Ticket]) -> Iterator[Round]:
        from tombola.search.rounds import find_at_once

        # Every round begins with the dense network.
        job = replace(setting.point, training=self.searching(setting.training))
        return find_at_once(job, self.trained_on(setting), **self.options_of_find(setting, done))
