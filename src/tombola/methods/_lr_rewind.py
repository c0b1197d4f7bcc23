"""Learning-rate rewinding: the weights stay as trained, the learning rate is rewound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from tombola.methods.cards import Card
from tombola.methods.searching import Rounds

if TYPE_CHECKING:
    from tombola.methods.setting import Setting
    from tombola.search.rounds import NextStart


@dataclass(frozen=True, kw_only=True)
class LrRewind(Rounds):
    """Prune and continue from the trained weights, with the recipe's schedule from its start."""

    starts: ClassVar[Literal["shared", "source", "own"]] = "own"
    written_out: ClassVar[bool] = True
    cards: ClassVar[tuple[Card, ...]] = (
        Card(
            "lr-rewind",
            "baseline",
            "the weights stay as trained; the learning rate is rewound",
            "{method: lr_rewind, rate: 0.2}",
            what="the weights stay as trained; only the learning rate schedule is rewound",
            question="do the weights have to be rewound, or only the schedule?",
            source="Renda et al. 2020, section 2",
        ),
    )

    def rewinding(self, setting: Setting) -> NextStart:
        from tombola.search.rounds import continue_from

        return continue_from(self.onward(setting))
