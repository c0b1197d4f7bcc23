"""One-shot: the dense network cut once to each density."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tombola.methods.cards import Card
from tombola.methods.searching import OwnTraining, Search


@dataclass(frozen=True, kw_only=True)
class OneShot(Search, OwnTraining):
    """Train once, and cut that training to each density."""

    written_out: ClassVar[bool] = True
    cards: ClassVar[tuple[Card, ...]] = (
        Card(
            "one-shot",
            "baseline",
            "the dense network cut once to each density",
            "{method: one_shot, densities: [0.5, 0.2, 0.1]}",
            what="the dense network cut once to each density. `match: ARM` cuts it to that arm's",
            question="are rounds worth their cost?",
            source="Frankle & Carbin 2019, section 2",
        ),
    )
