"""SET: sparse training whose weights are exchanged for others at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tombola.methods.cards import Card
from tombola.methods.regrowing import Regrowing

if TYPE_CHECKING:
    from tombola.training.during import During


@dataclass(frozen=True, kw_only=True)
class Set(Regrowing):
    """Train a sparse network, dropping small weights and growing others at random.

    Every ``pace.every`` steps each layer drops the smallest of its weights and grows as many others,
    drawn from all that it does not keep then; what was dropped may return. Grown weights are 0, and
    so is their momentum. The paper exchanges once an epoch, always the same fraction, and drops the
    smallest positive and the largest negative weights; as in RigL's comparison it is done here by
    |w|, every so many steps, with a fraction that falls to 0.
    """

    cards: ClassVar[tuple[Card, ...]] = (
        Card(
            "set",
            "search",
            "sparse from the start; the smallest weights make room for others at random",
            "{method: set, densities: [0.2, 0.1], scope: erk}",
            what="a sparse network is trained, once for each density, from a random mask whose "
            "layers have the densities of `scope`. Every `pace.every` steps each layer drops its "
            "smallest weights and grows as many others at random. The mask that it ends with is "
            "the ticket; the network itself is tested by `as_trained`. Its baseline, the random "
            "mask that stays as it is: `{method: at_start, score: random, scope: erk}`",
            question="does it help to move weights at random while a sparse network trains?",
            source="Mocanu et al. 2018, arXiv:1707.04780; Evci et al. 2020, arXiv:1911.11134",
        ),
    )

    def during(self) -> During:
        from tombola.masks.schedules import RegrowAtRandom

        return RegrowAtRandom(self.paced)
