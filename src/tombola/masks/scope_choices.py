"""Scope choices: what a recipe may say about a scope, as plain data. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from tombola.ground.checking import take_own_numbers_
from tombola.ground.errors import ConfigError, shown

ScopeName = Literal["whole_model", "per_layer", "per_kind", "half_output", "erdos_renyi", "erk"]
_LONGEST = 1024  # inputs that are pruned together


@dataclass(frozen=True)
class NOfM:
    """The scope `n_of_m`, which says how much is pruned as well.

    Attributes:
        n_of_m: How many of how many consecutive inputs are kept, ``[2, 4]``.

    >>> NOfM((2, 4)).density
    0.5
    """

    n_of_m: tuple[int, int]

    def __post_init__(self) -> None:
        take_own_numbers_(self)
        kept, length = self.n_of_m
        if not 1 <= kept < length <= _LONGEST:
            raise ConfigError(
                f"n_of_m is {shown(list(self.n_of_m))}; it keeps n of every m inputs, with n from 1 "
                f"to below m and m up to {_LONGEST}, such as [2, 4]"
            )

    @property
    def density(self) -> float:
        """What it leaves of every layer that it prunes."""
        kept, length = self.n_of_m
        return kept / length


ScopeChoice: TypeAlias = ScopeName | NOfM
