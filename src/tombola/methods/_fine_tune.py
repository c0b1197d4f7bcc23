"""Fine-tuning: pruned and trained on, not reset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from tombola.errors import ConfigError
from tombola.methods.cards import Card
from tombola.methods.searching import Rounds


@dataclass(frozen=True, kw_only=True)
class FineTune(Rounds):
    """Prune and train on from the weights that were learnt, at a low learning rate.

    Attributes:
        lr: The rate the training ended with ("last"), "decayed" from it to zero, or a number.
    """

    lr: Literal["last", "decayed"] | float = "last"

    starts: ClassVar[Literal["shared", "source", "own"]] = "own"
    written_out: ClassVar[bool] = True
    cards: ClassVar[tuple[Card, ...]] = (
        Card(
            "fine-tune",
            "baseline",
            "pruned and trained on, not reset, at the last learning rate",
            "{method: fine_tune, lr: last, match: lth}",
            what="pruned and trained on, not reset, as long as the recipe's training and without warmup: at the rate "
            "that training ended with (`last`), from it down to zero (`decayed`), or at a number",
            question="is the reset worth anything?",
            source="Han et al. 2015, arXiv:1506.02626; Renda et al. 2020, arXiv:2003.02389, section 2",
        ),
    )

    def check(self, where: str) -> None:
        if isinstance(self.lr, float | int) and not self.lr > 0:
            raise ConfigError(f"{where}.lr is {self.lr}; it must be above 0")
        super().check(where)
