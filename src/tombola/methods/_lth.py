"""LTH: iterative magnitude pruning, rewound after every round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tombola.methods.cards import Card
from tombola.methods.searching import OwnTraining, Rounds


@dataclass(frozen=True, kw_only=True)
class Lth(Rounds, OwnTraining):
    """Train, remove the weights of lowest score, rewind, repeat."""

    written_out: ClassVar[bool] = True
    cards: ClassVar[tuple[Card, ...]] = (
        Card(
            "lth",
            "search",
            "iterative magnitude pruning, rewound",
            "{method: lth, rate: 0.2}",
            what="iterative magnitude pruning (IMP): train, remove 20 % of the remaining "
            "weights, rewind, repeat",
            question="does the network contain a winning ticket?",
            source="Frankle & Carbin 2019, arXiv:1803.03635, section 1",
        ),
        Card(
            "matched",
            "control",
            "IMP with another arm's counts, round by round",
            "{match: colt-2}",
            what="IMP that keeps exactly as many weights after each round as the other arm, in "
            "each group of its scope",
            question="does the overlap matter, or only that each round prunes more?",
            source="introduced here; the COLT paper does not make this comparison",
        ),
        Card(
            "matched-per-layer",
            "control",
            "IMP with another arm's counts in every layer",
            "{match: {arm: colt-2, per: layer}}",
            what="as `matched`, but with equal counts in every layer: the arms differ only in "
            "which weights of a layer they keep",
            question="does it matter how many weights each layer keeps, or which ones?",
            source="introduced here, after Su et al. 2020, arXiv:2009.11094, section 3",
        ),
    )
