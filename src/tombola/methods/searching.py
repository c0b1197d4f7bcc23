"""Searching: the options that searches share, and how much each round is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from tombola import catalogue
from tombola.errors import ConfigError, shown
from tombola.methods.method import MOST_ROUNDS, Match, Method, Reach, falling
from tombola.paces import ScopeName

_AMOUNTS = ("rate", "reach", "densities", "match")


@dataclass(frozen=True, kw_only=True)
class Scoring(Method):
    """A method that scores and prunes.

    Attributes:
        scope: Which weights compete: "whole_model", "per_layer", "per_kind" or "half_output".
        allow_collapse: Go on when a layer has no weight left.
    """

    scope: ScopeName = "whole_model"
    allow_collapse: bool = False

    @property
    def scores(self) -> tuple[str, ...]:
        """What weights are ranked by: one score for all candidates, or one for each."""
        return ("magnitude",)

    @property
    def own_code(self) -> set[str]:
        return super().own_code | {name for name in self.scores if catalogue.is_own(name)}

    def given(self) -> list[str]:
        """Name the entries that say how much is pruned."""
        return [name for name in _AMOUNTS if getattr(self, name, None)]

    def check(self, where: str) -> None:
        super().check(where)
        fitting = [name for name in _AMOUNTS if name in self.options()]
        given = self.given()
        if len(given) != 1:
            needed = " or ".join(filter(None, [", ".join(fitting[:-1]), fitting[-1]]))
            raise ConfigError(f"{where} needs {needed}{', exactly one of them' if len(fitting) > 1 else ''}"
                              + (f"; it has {' and '.join(given)}" if given else ""))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Search(Scoring):
    """A search in rounds, or at once.

    Attributes:
        densities: The density after each round, by exact counts.
        match: Instead, keep exactly as many weights after every round as another arm.
        score: What weights are ranked by: an entry of ``tombola.scores`` or ``package.module:function``; of several,
            one for each candidate.
        scored: Which weights of a training are scored: those it "selected", the "last", or "selected_then_last", the
            selected in round 1 and the last from then on.
    """

    densities: tuple[float, ...] = ()
    match: Match | None = None
    score: str | tuple[str, ...] = "magnitude"
    scored: Literal["selected", "last", "selected_then_last"] = "selected"

    @property
    def scores(self) -> tuple[str, ...]:
        return (self.score,) if isinstance(self.score, str) else self.score

    @property
    def followed(self) -> tuple[str, str] | None:
        return None if self.match is None else ("match", self.match.arm)

    def with_common(self, densities: tuple[float, ...], evaluate_at: tuple[float, ...]) -> Method:
        chosen = self if self.given() else replace(self, densities=densities)
        return super(Search, chosen).with_common(densities, evaluate_at)

    def check(self, where: str) -> None:
        if self.match is not None and self.scope != Search.scope:
            raise ConfigError(f"{where}.scope has no meaning with match: {shown(self.match.arm)}, whose scope it has")
        if not falling(self.densities):
            raise ConfigError(f"{where}.densities is {shown(list(self.densities))}; densities fall, from below 1 to "
                              "above 0")  # fmt: skip
        if not isinstance(self.score, str) and len(self.score) != self.width:
            raise ConfigError(f"{where}.score names {len(self.score)} scores for {self.width} candidates; one each, "
                              "or one")  # fmt: skip
        super().check(where)


@dataclass(frozen=True, kw_only=True)
class Rounds(Search):
    """A search that prunes a little in every round.

    Attributes:
        rate: Fraction of the kept weights that each partition removes in a round; one, or one per group of the scope.
        reach: Instead, a density to reach in a number of rounds.
        exact: With ``reach``: exact counts instead of a rate.
    """

    rate: float | dict[str, float] | None = None
    reach: Reach | None = None
    exact: bool = False

    @property
    def endless(self) -> bool:
        return self.rate is not None

    def check(self, where: str) -> None:
        from tombola.pruning import check_rate

        if self.exact and self.reach is None:
            raise ConfigError(f"{where}.exact has no meaning without reach")
        if self.rate == 0:
            raise ConfigError(f"{where}.rate is 0; a round would prune nothing")
        super().check(where)
        for group, rate in self.rate.items() if isinstance(self.rate, dict) else [("", self.rate or 0)]:
            dotted = f"{where}.rate{group and '.' + group}"
            check_rate(rate, dotted)
            # A group that is pruned away whole is somebody's wish where collapse is allowed; the whole model is
            # nobody's.
            if rate == 1 and not (group and self.allow_collapse):
                raise ConfigError(f"{dotted} is 1; a round would prune every weight there is, so 20 % is 0.2")
        if self.reach is None:
            return
        if not (0 < self.reach.density < 1 and 1 <= self.reach.rounds <= MOST_ROUNDS):
            raise ConfigError(f"{where}.reach is density {self.reach.density:g} in {shown(self.reach.rounds)} rounds; "
                              f"a density is between 0 and 1, and rounds are from 1 to {MOST_ROUNDS:,}")  # fmt: skip
        if self.width > 1 and not self.exact:
            raise ConfigError(f"{where}: what {self.width} partitions leave is not known beforehand; "
                              "reach a density with exact: true")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class OwnTraining(Method):
    """A method whose search may train in a way of its own.

    Attributes:
        training: What is other in the trainings of the search; evaluations never differ between arms.
    """

    training: dict[str, Any] = field(default_factory=dict)

    def search_changes(self) -> Mapping[str, Any]:
        return self.training


@dataclass(frozen=True, kw_only=True)
class Following(Method):
    """A method that takes the tickets of another arm and changes them, or does something with them.

    Attributes:
        of: The arm whose tickets it takes.
    """

    of: str | None = None

    searches: ClassVar[bool] = False
    starts: ClassVar[Literal["shared", "source", "own"]] = "source"

    @property
    def followed(self) -> tuple[str, str] | None:
        return None if self.of is None else ("of", self.of)

    def check(self, where: str) -> None:
        if self.of is None:
            raise ConfigError(f"{where} needs of: ARM, the arm whose tickets it takes")
        super().check(where)
