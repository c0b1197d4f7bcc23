"""At start: pruning at initialisation, or at the step that tickets are rewound to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tombola.ground.errors import ConfigError, shown
from tombola.methods.cards import Card
from tombola.methods.searching import Search

if TYPE_CHECKING:
    from tombola.ground.settings import Training
    from tombola.ground.types import Mask
    from tombola.masks.rates import Amount
    from tombola.methods.setting import Ground, Setting
    from tombola.search.rounds import Round
    from tombola.tickets import Ticket

_MOST_CUTS = 10_000


@dataclass(frozen=True, kw_only=True)
class AtStart(Search):
    """Score the untrained network and prune it to each density, before any training.

    With ``rewind: k`` it is pruned at step k of the dense training. Each density is scored by
    itself. What the scores cost stands in the records as the cost of the search.

    Attributes:
        cuts: In how many cuts a density is reached, each by scores taken anew; of the weights left
            by the cut before, each keeps the same share.
    """

    cuts: int = 1

    at_once: ClassVar[bool] = True
    independent_tickets: ClassVar[bool] = True
    not_nested: ClassVar[str] = (
        "each density is scored by itself, on the way to it in cuts of its own"
    )
    cards: ClassVar[tuple[Card, ...]] = (
        Card(
            "at-start",
            "search",
            "pruned before training, by a score of the untrained network",
            "{method: at_start, score: {name: snip, examples: 1000}, densities: [0.5, 0.2]}",
            what="the untrained network is scored and pruned to each density, with no training "
            "before it: by `snip`, `grasp`, `magnitude`, or by `synflow` with `cuts: 100`. With "
            "`rewind: k` it is pruned at step k. The search costs what the scores cost",
            question="does a ticket need the trained weights to be found?",
            source="Lee et al. 2019, arXiv:1810.02340; Frankle et al. 2021, arXiv:2009.08576",
        ),
    )

    def weights_scored(self, training: Training) -> tuple[str, ...]:
        del training
        return ()

    @property
    def rescores(self) -> bool:
        return self.cuts > 1

    def amounts_before(self, setting: Setting, mask: Mask, amount: Amount) -> tuple[Amount, ...]:
        from tombola.masks.rates import Count, counts_on_the_way, kept_by_group

        assert isinstance(amount, Count)
        kept = kept_by_group(mask, setting.scope)
        return counts_on_the_way(kept, amount, self.cuts, setting.scope(mask))

    def rounds(self, setting: Setting, done: Sequence[Ticket]) -> Iterator[Round]:
        from tombola.search.rounds import find_at_once

        options = self.options_of_find(setting, done) | {"untrained": True}
        return find_at_once(setting.point, self.trained_on(setting), **options)

    def check(self, where: str) -> None:
        if not 1 <= self.cuts <= _MOST_CUTS:
            raise ConfigError(
                f"{where}.cuts is {shown(self.cuts)}; it is a number of cuts, from 1 to "
                f"{_MOST_CUTS:,}"
            )
        if self.scored != Search.scored:
            raise ConfigError(
                f"{where}.scored has no meaning with method: {self.method}, which scores the "
                "weights before training"
            )
        super().check(where)

    def check_ground(self, ground: Ground) -> None:
        needing = [ranking.name for ranking in self.rankings if ranking.needs == "history"]
        if needing:
            raise ConfigError(
                f"the score {shown(needing[0])} needs the history of a training, and before it "
                "there is none"
            )
        super().check_ground(ground)
