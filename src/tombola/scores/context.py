"""What a score may look at besides the weights and the mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from tombola.types import Mask, Scores, State


@dataclass(frozen=True)
class Context:
    """The surroundings of one score: a score takes what it needs.

    Attributes:
        rewind_point: The state that the round's training started from.
        seed: The replicate's seed, for scores that draw.
        partition: Index of the partition whose model is scored, from 0.
    """

    rewind_point: State
    seed: int
    partition: int = 0


Score: TypeAlias = Callable[[State, Mask, Context], Scores]
