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
            what="iterative magnitude pruning (IMP): train, remove 20 % of the weights that are "
            "left, rewind, repeat",
            question="is there a ticket?",
            source="Frankle & Carbin 2019, arXiv:1803.03635, section 1",
        ),
        Card(
            "matched",
            "control",
            "IMP at another arm's counts, round by round",
            "{match: colt-2}",
            what="IMP with exactly as many weights after each round as the other arm, in each "
            "group of its scope",
            question="does the overlap do anything, or is it that more is pruned in a round?",
            source="introduced here; the comparison that the COLT paper leaves out",
        ),
        Card(
            "matched-per-layer",
            "control",
            "the same in every layer: how many where, against which",
            "{match: {arm: colt-2, per: layer}}",
            what="the same in every layer, so that only the choice within a layer is left to "
            "differ",
            question="is it *how many where*, or *which*?",
            source="introduced here, after Su et al. 2020, arXiv:2009.11094, section 3",
        ),
    )
