"""Searching: the options that searches share, and how much each round removes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tombola.ground import catalogue
from tombola.ground.checking import check_rate
from tombola.ground.errors import ConfigError, shown
from tombola.masks.scope_choices import NOfM, ScopeChoice
from tombola.methods.method import MOST_ROUNDS, Match, Method, Reach, falling

if TYPE_CHECKING:
    from tombola.data.partitions import Partition
    from tombola.ground.settings import Training
    from tombola.ground.types import Mask, State
    from tombola.masks.rates import Amount
    from tombola.masks.scopes import Scope
    from tombola.methods.setting import Ground, Setting
    from tombola.scores.context import Score
    from tombola.scores.ranking import Ranking
    from tombola.search.rounds import CutJobs, NextStart, Round
    from tombola.tasks.protocol import Task
    from tombola.tickets import Ticket
    from tombola.training.during import During
    from tombola.training.jobs import Job, Trained

_AMOUNTS = ("rate", "reach", "densities", "match")


@dataclass(frozen=True, kw_only=True)
class Scoring(Method):
    """A method that scores and prunes, at least to given densities.

    Attributes:
        densities: The density after each round, by exact counts.
        scope: Which weights compete: those of the ``whole_model``, ``per_layer``, ``per_kind``
            (convolutions and linear layers separately), or ``half_output`` (per layer, with the
            output layer at half the rate). ``erdos_renyi`` and ``erk`` divide each density among
            the layers, by inputs and outputs or by the shape. ``{n_of_m: [2, 4]}`` keeps 2 of every
            4 consecutive inputs, which is all that it prunes: no rate or density stands beside it.
        allow_collapse: Continue when a layer has no weights left.
    """

    densities: tuple[float, ...] = ()
    scope: ScopeChoice = "whole_model"
    allow_collapse: bool = False

    # Whether each amount refers to the dense network, not to what the round before left.
    at_once: ClassVar[bool] = False

    @property
    def rankings(self) -> tuple[Ranking, ...]:
        """What weights are ranked by: one score for all candidates, or one for each."""
        from tombola.scores.ranking import Ranking

        return (Ranking("magnitude"),)

    @property
    def covering(self) -> bool:
        """Whether its partitions together hold all the data that they divide."""
        return True

    @property
    def own_code(self) -> set[str]:
        names = {ranking.name for ranking in self.rankings}
        return super().own_code | set(filter(catalogue.is_own, names))

    @property
    def goals(self) -> Mapping[str, tuple[float, ...]]:
        goals = {"scope": self.fixed, "densities": self.densities}
        return {entry: densities for entry, densities in goals.items() if densities}

    @property
    def fixed(self) -> tuple[float, ...]:
        """The density that the scope itself prescribes, if it does."""
        return (self.scope.density,) if isinstance(self.scope, NOfM) else ()

    @property
    def asked_densities(self) -> tuple[float, ...]:
        """The densities after each round, as far as the arm says them."""
        return self.fixed or self.densities

    def weights_scored(self, training: Training) -> tuple[str, ...]:
        search = self.searching(training)
        if search.select == "last":
            return ("last",)
        return ("selected", search.select, search.select_by)

    def given(self) -> list[str]:
        """Name the entries that say how much is pruned."""
        given = [name for name in _AMOUNTS if getattr(self, name, None)]
        return ["scope", *given] if self.fixed else given

    def division(self, ground: Ground) -> list[Partition]:
        """Divide the data of the search among its partitions."""
        return [ground.searched]

    def trained_on(self, ground: Ground) -> list[Partition]:
        return self.division(ground)

    def own_scope(self, task: Task) -> Scope | None:
        from tombola.masks.scopes import chosen

        return chosen(self.scope, task.model, task.head)

    def planned(self, ground: Ground) -> Iterable[Amount]:
        """Return the amount of each round, unless it comes from another arm."""
        from tombola.masks.rates import counts_for

        return counts_for(ground.mask, self.asked_densities, ground.scope)

    def lowest(self, rounds: int | None, density: float | None, begins: float) -> float:
        asked = self.asked_densities
        if not asked:
            return super().lowest(rounds, density, begins)
        return asked[min(len(asked), rounds or len(asked)) - 1]

    def with_common(self, densities: tuple[float, ...], evaluate_at: tuple[float, ...]) -> Method:
        chosen = self if self.given() else replace(self, densities=densities)
        return super(Scoring, chosen).with_common(densities, evaluate_at)

    def check(self, where: str) -> None:
        if not falling(self.densities):
            raise ConfigError(
                f"{where}.densities is {shown(list(self.densities))}; densities must decrease "
                "and lie between 0 and 1"
            )
        super().check(where)
        given = self.given()
        if isinstance(self.scope, NOfM) and len(given) > 1:
            n, m = self.scope.n_of_m
            raise ConfigError(
                f"{where}.scope keeps {n} of every {m} inputs, and that is all it prunes; take out "
                f"{' and '.join(given[1:])}"
            )
        if len(given) != 1:
            *rest, last = [name for name in _AMOUNTS if name in self.options()]
            needed = f"{', '.join(rest)} or {last}, exactly one of them" if rest else last
            has = f"; it has {' and '.join(given)}" if given else ""
            raise ConfigError(f"{where} needs {needed}{has}")

    def check_ground(self, ground: Ground) -> None:
        from tombola.methods import fitting

        fitting.check_search(self, ground)

    def check_replicate(self, ground: Ground) -> None:
        from tombola.methods import fitting

        fitting.check_partitions(self, ground)


@dataclass(frozen=True, kw_only=True)
class Search(Scoring):
    """A search, in rounds or at once.

    Attributes:
        match: Keep exactly as many weights after every round as another arm.
        score: What weights are ranked by: an entry of `tombola.scores` or
            ``package.module:function``, or a mapping with its name and options, ``{name:
            mine:snip, examples: 1000}``. A list has one for each candidate.
        scored: Which weights of a training are scored: the ``selected`` ones, the ``last`` ones, or
            ``selected_then_last``: the selected ones in round 1 and the last ones afterwards. The
            rule must be the same in all arms.
    """

    match: Match | None = None
    score: str | dict[str, Any] | tuple[str | dict[str, Any], ...] = "magnitude"
    scored: Literal["selected", "last", "selected_then_last"] = "selected"

    @property
    def rankings(self) -> tuple[Ranking, ...]:
        from tombola.scores.ranking import Ranking

        entries = self.score if isinstance(self.score, tuple) else (self.score,)
        return tuple(Ranking.of(entry) for entry in entries)

    @property
    def followed(self) -> tuple[str, str] | None:
        return None if self.match is None else ("match", self.match.arm)

    def own_scope(self, task: Task) -> Scope | None:
        from tombola.masks.scopes import per_layer

        if self.match is None:
            return super().own_scope(task)
        return per_layer if self.match.per == "layer" else None

    def amounts(self, setting: Setting) -> Iterable[Amount]:
        """Return the amount of each round."""
        from tombola.masks.rates import Count, kept_by_group

        if self.match is None:
            return self.planned(setting)
        scope = setting.scope
        return (Count(kept_by_group(followed.job.mask, scope)) for followed in setting.followed)

    def ranking(self) -> Score | list[Score]:
        """Return what weights are ranked by: one score, or one for each candidate."""
        scores = [ranking.score() for ranking in self.rankings]
        return scores if isinstance(self.score, tuple) else scores[0]

    def weights_scored(self, training: Training) -> tuple[str, ...]:
        first, *more = super().weights_scored(training)
        return ("last",) if "last" in (self.scored, first) else (self.scored, *more)

    def state_scored(self, trained: Trained, index: int) -> State:
        """Return the weights of a training that are scored in a round."""
        return trained.final if self._scores_last(index) else trained.state

    def _scores_last(self, index: int) -> bool:
        return self.scored == "last" or (self.scored == "selected_then_last" and index > 1)

    def cutter(self, setting: Setting) -> CutJobs | None:
        """Return a function that cuts where the data is; ``None`` if only weights are scored, and
        once a round.
        """
        by_weights = all(ranking.needs == "weights" for ranking in self.rankings)
        if by_weights and not self.rescores:
            return None
        from tombola.search.work import Cut

        def cut_jobs(
            jobs: Sequence[Job], mask: Mask, amount: Amount, index: int
        ) -> tuple[Any, Any]:
            weights: Literal["selected", "last"] = (
                "last" if self._scores_last(index) else "selected"
            )
            # Partitions that search independently all use the first score.
            work = Cut(
                tuple(jobs),
                mask,
                amount,
                self.rankings,
                setting.scope(mask),
                self.combining,
                weights,
                before=self.amounts_before(setting, mask, amount),
            )
            pruned = setting.cut(work)
            return pruned.mask, pruned.candidates

        return cut_jobs

    @property
    def gathering(self) -> During | None:
        """What its trainings gather for its scores, if these need a history."""
        from tombola.training.gathering import Gather

        needed = any(ranking.needs == "history" for ranking in self.rankings)
        return Gather() if needed else None

    @property
    def rescores(self) -> bool:
        """Whether a round prunes in several cuts, each by scores taken anew."""
        return False

    def amounts_before(self, setting: Setting, mask: Mask, amount: Amount) -> tuple[Amount, ...]:
        """Return what each cut of a round before its last one is asked for.

        Args:
            setting: What it works with.
            mask: The mask before the round.
            amount: What the round is asked for.
        """
        return ()

    @property
    def combining(self) -> Literal["all", "any"]:
        """Which weights the next mask keeps: those kept by all candidates, or by any."""
        return "all"

    def options_of_find(self, setting: Setting, done: Sequence[Ticket]) -> dict[str, Any]:
        """Return the options of `find` that do not depend on what happens between rounds."""
        return {
            "amounts": itertools.islice(self.amounts(setting), len(done), None),
            "run_all": setting.run_all,
            "score": self.ranking(),
            "scope": setting.scope,
            "state_to_score": self.state_scored,
            "cut_jobs": self.cutter(setting),
            "during": self.gathering,
            "first": len(done) + 1,
            "allow_collapse": self.allow_collapse,
        }

    def check(self, where: str) -> None:
        if self.match is not None and self.scope != Search.scope:
            raise ConfigError(
                f"{where}.scope has no meaning with match: {shown(self.match.arm)}, which sets the "
                "scope"
            )
        if isinstance(self.score, tuple) and len(self.score) != self.width:
            raise ConfigError(
                f"{where}.score names {len(self.score)} scores for {self.width} candidates; give "
                "one score, or one for each candidate"
            )
        super().check(where)


@dataclass(frozen=True, kw_only=True)
class Rounds(Search):
    """A search that prunes some of the weights in every round.

    Attributes:
        rate: Fraction of the kept weights that each partition removes in a round; one number, or
            one for each group of the scope, ``{conv: 0.15, linear: 0.2}``.
        reach: A density to reach in a number of rounds.
        exact: With ``reach``: use exact counts instead of a rate.
    """

    rate: float | dict[str, float] | None = None
    reach: Reach | None = None
    exact: bool = False

    @property
    def endless(self) -> bool:
        return self.rate is not None

    @property
    def goals(self) -> Mapping[str, tuple[float, ...]]:
        goals = dict(super().goals)
        if self.reach is not None:
            goals["reach.density"] = (self.reach.density,)
        return goals

    @property
    def removing(self) -> int:
        """The number of candidates that may each remove different weights in a round."""
        return self.width

    def start(self, setting: Setting, done: Sequence[Ticket]) -> Job:
        """Return the training that the next round begins with."""
        job = setting.after(done[-1], self.onward(setting)) if done else setting.point
        training = self.searching(job.training)
        return job if training == job.training else replace(job, training=training)

    def rewinding(self, setting: Setting) -> NextStart:
        """Return what the next round starts from."""
        from tombola.search.rounds import rewound

        return rewound

    def rounds(self, setting: Setting, done: Sequence[Ticket]) -> Iterator[Round]:
        from tombola.search.rounds import find

        options = self.options_of_find(setting, done)
        return find(
            self.start(setting, done),
            self.trained_on(setting),
            next_start=self.rewinding(setting),
            **options,
        )

    def planned(self, ground: Ground) -> Iterable[Amount]:
        from tombola.masks.masks import density
        from tombola.masks.rates import counts_for, rate_to_reach

        if self.rate is not None:
            return itertools.repeat(self.rate)
        if self.reach is None:
            return super().planned(ground)
        begins = density(ground.mask)  # 1, unless the zeros of a checkpoint stay pruned
        kept, rounds = self.reach.density / begins, self.reach.rounds
        if not self.exact:
            return itertools.repeat(rate_to_reach(kept, rounds), rounds)
        densities = [begins * kept ** (number / rounds) for number in range(1, rounds + 1)]
        return counts_for(ground.mask, densities, ground.scope)

    def lowest(self, rounds: int | None, density: float | None, begins: float) -> float:
        if self.reach is not None:
            share = min(self.reach.rounds, rounds or self.reach.rounds) / self.reach.rounds
            return begins * math.pow(self.reach.density / begins, share)
        if self.rate is None:
            return super().lowest(rounds, density, begins)
        kept = max(0.0, 1 - self.highest_rate * self.removing)
        reached = 0.0 if rounds is None else begins * math.pow(kept, rounds)
        # A search stops in the first round at or below its density, so before that it was above.
        return max(reached, kept * (density or 0.0))

    @property
    def highest_rate(self) -> float:
        """The rate of the group that loses the most."""
        return max(self.rate.values()) if isinstance(self.rate, dict) else self.rate or 0.0

    def check(self, where: str) -> None:
        if self.exact and self.reach is None:
            raise ConfigError(f"{where}.exact has no meaning without reach")
        if self.rate == 0:
            raise ConfigError(f"{where}.rate is 0; a round would prune nothing")
        super().check(where)
        rates = self.rate if isinstance(self.rate, dict) else {"": self.rate or 0}
        for group, rate in rates.items():
            dotted = f"{where}.rate.{group}" if group else f"{where}.rate"
            check_rate(rate, dotted)
            # Where collapse is allowed, a group may be removed, but never the whole model.
            if rate == 1 and not (group and self.allow_collapse):
                raise ConfigError(
                    f"{dotted} is 1, so a round would prune every weight; 20 % is 0.2"
                )
        if self.reach is None:
            return
        if not (0 < self.reach.density < 1 and 1 <= self.reach.rounds <= MOST_ROUNDS):
            raise ConfigError(
                f"{where}.reach is density {self.reach.density:g} in {shown(self.reach.rounds)} "
                f"rounds; a density is between 0 and 1, and rounds are from 1 to {MOST_ROUNDS:,}"
            )
        if self.width > 1 and not self.exact:
            raise ConfigError(
                f"{where}: how many weights {self.width} partitions keep is not known in advance; "
                "reach a density with exact: true"
            )

    def check_ground(self, ground: Ground) -> None:
        if self.reach is not None and self.scope == "half_output":
            raise ConfigError(
                "reach cannot be combined with half_output, which prunes the output layer at half "
                "the rate"
            )
        super().check_ground(ground)


@dataclass(frozen=True, kw_only=True)
class OwnTraining(Method):
    """A method whose search may have its own training settings.

    Attributes:
        training: Settings that differ in the search's trainings; evaluations never differ between
            arms.
    """

    training: dict[str, Any] = field(default_factory=dict)

    @property
    def own_code(self) -> set[str]:
        kernel = str(self.training.get("step", ""))
        return super().own_code | ({kernel} if catalogue.is_own(kernel) else set())

    def searching(self, training: Training) -> Training:
        from tombola.ground.settings import training_with

        return training_with(training, self.training) if self.training else training

    def evaluation(self, setting: Setting, index: int, job: Job) -> Job:
        return replace(job, training=setting.training) if self.training else job
