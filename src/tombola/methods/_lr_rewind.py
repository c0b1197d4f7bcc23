"""Learning-rate rewinding: the weights go on, the learning rate begins anew."""

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
    """Prune and train on from the weights that were learnt, with the recipe's training from its
    beginning.
    """

    starts: ClassVar[Literal["shared", "source", "own"]] = "own"
    written_out: ClassVar[bool] = True
    cards: ClassVar[tuple[Card, ...]] = (
        Card(
            "lr-rewind",
            "baseline",
            "trained on, not reset, the learning rate begins anew",
            "{method: lr_rewind, rate: 0.2}",
            what="the weights go on, the learning rate begins anew",
            question="is it the weights that must be rewound, or the schedule?",
            source="Renda et al. 2020, section 2",
        ),
    )

    def rewinding(self, setting: Setting) -> NextStart:
        from tombola.search.rounds import continue_from

        return continue_from(self.onward(setting))
