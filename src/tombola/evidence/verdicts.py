"""Verdicts: whether a ticket is a winning one, by the definition of those who coined the word.

    records -> comparisons with dense and with controls -> conditions
            -> winning | losing | inconclusive | no verdict

A ticket wins (Frankle & Carbin 2019, arXiv:1803.03635, section 1) if three conditions hold: its
accuracy, or another headline metric of its task, is at least as good as the dense network's; it
needs no more steps; and it is better than its controls, which share its size but not its making: a
random ticket, and the same mask with other weights. Each condition must be shown at the level
(intersection-union test, which needs no correction). The ticket loses if one of them is
significantly violated, at the level over all of them together (Holm).

An early stop at a training's last evaluation is censored: the validation loss had not risen again,
and the true stop is that step or a later one. A censored ticket cannot be shown to stop no later
than the dense network; with a censored dense network the ticket cannot be shown to stop later.

The definition is of trained networks: a ticket that was tested untrained is not judged, and is no
control of a trained one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tombola.evidence import statistics
from tombola.evidence.answers import Evidence, once
from tombola.evidence.comparisons import (
    DENSE,
    Comparison,
    Value,
    compare,
    rounds_of,
    untrained_arms,
    values_at,
)
from tombola.evidence.statistics import Paired
from tombola.ground.errors import ConfigError
from tombola.ground.metrics import ACCURACY, STEPS, Metric
from tombola.ground.notebooks import card, one_line, percent
from tombola.records.records import Record

LEAST = 3  # replicates, below which no verdict is given

State = Literal["shown", "violated", "undecided"]
Word = Literal["winning", "losing", "inconclusive", "no verdict"]
# What keeps a condition from being decided, where it is not the numbers.
Cause = Literal[
    "", "replicates", "no control", "no result", "no validation", "no interval", "censored"
]


@dataclass(frozen=True)
class Condition:
    """One of the conditions of a winning ticket.

    Attributes:
        name: What is asked, such as "as accurate as dense".
        of: What is compared: an entry of the records.
        other: The arm that it is compared with; empty where there is none.
        bound: The mean difference beyond which it holds: above it where more is better, else below
            it.
        paired: The differences, ticket minus other; ``None`` where there are none.
        p_shown: One-sided p-value of the condition not holding; 1 where censored early stops cannot
            show it.
        p_violated: One-sided p-value of it holding, adjusted for there being several conditions; 1
            likewise.
        state: What follows at the level.
        why: Why nothing can be said, where that is so; also beside ``paired``, of early stops that
            are censored.
        cause: The same as one of a few words, so that a page can say it once for many conditions;
            "" where it is shown or violated, or where replicates could decide it and do not.
        limits: What the mean difference is at least and at most, each at the level: what the tests
            compare with the bound. ``None`` where nothing was tested, or all differences are equal.
        metric: Of the values that are compared.
    """

    name: str
    of: str
    other: str
    bound: float
    paired: Paired | None
    p_shown: float | None
    p_violated: float | None
    state: State
    why: str = ""
    cause: Cause = ""
    limits: tuple[float, float] | None = None
    metric: Metric = ACCURACY


@dataclass(frozen=True)
class Verdict:
    """Whether an arm's ticket at a density is a winning one.

    Attributes:
        arm: The arm.
        density: Of the ticket, as a fraction of the prunable weights.
        word: "winning", "losing", "inconclusive", or "no verdict" below three replicates.
        conditions: Each with its number.
        replicates: The least that a condition rests on.
        interpolated: Whether values lie between two rounds.
        alpha: Level.
        margin: What still counts as "as accurate as dense", in the metric's unit: of an accuracy a
            fraction.
        metric: By which the ticket is judged.
    """

    arm: str
    density: float
    word: Word
    conditions: tuple[Condition, ...]
    replicates: int
    interpolated: bool
    alpha: float
    margin: float
    metric: Metric = ACCURACY

    def __repr__(self) -> str:
        return one_line("Verdict", f"{self._subject}: {self.word}", self._rests_on)

    def _repr_html_(self) -> str:
        facts = {condition.name: _in_words(condition) for condition in self.conditions}
        return card(f"{self._subject}: {self.word}", facts, self._rests_on)

    @property
    def _subject(self) -> str:
        return f"{self.arm} at {percent(self.density)} density"

    @property
    def _rests_on(self) -> str:
        margin = f"{self.metric.number(self.margin)} {self.metric.points}".strip()
        replicates = f"{self.replicates} replicate{'s' * (self.replicates != 1)}"
        return f"{replicates}, margin {margin}, level {self.alpha:g}"


def _in_words(condition: Condition) -> str:
    """Say whether a condition holds, and by how much."""
    metric, paired = condition.metric, condition.paired
    if paired is None:
        return f"{condition.state}: {condition.why}" if condition.why else condition.state
    interval = ""
    if paired.low is not None and paired.high is not None:
        interval = f" [{metric.signed(paired.low)}, {metric.signed(paired.high)}]"
    return f"{condition.state} ({metric.signed(paired.mean)}{interval} {metric.points})"


@once
def verdict(
    records: Collection[Record],
    arm: str,
    *,
    at: float,
    margin: float | None,
    controls: str | Sequence[str] = (),
    steps: float | None = None,
    alpha: float = 0.05,
    metric: Metric = ACCURACY,
) -> Verdict:
    """Judge an arm's ticket at a density.

    Args:
        records: Of one run.
        arm: The arm.
        at: The density, a fraction of the prunable weights.
        margin: What still counts as "as accurate as dense": 0.01 is one point. It has no default:
            it is a decision.
        controls: Arms that share the ticket's size, or the name of the only one: a random ticket, a
            re-initialised one. Without any, no ticket is shown to be winning.
        steps: How many steps later the early stop may be; one evaluation interval if not given.
        alpha: Level of each test.
        metric: By which the ticket is judged; its direction is that of the conditions.

    Raises:
        ConfigError: No margin is set, there is no such arm, it has no ticket on both sides of the
            density, it or a control was tested untrained, or records of different recipes are
            mixed.

    >>> def record(arm, replicate, index, density, accuracy, step):
    ...     return {"arm": arm, "replicate": replicate, "round": index, "density": density,
    ...             "test_accuracy": accuracy + 0.001 * replicate * index, "evaluate_every": 10,
    ...             "early_stop_step": step - replicate * index}
    >>> records = []
    >>> for k in range(3):
    ...     records.append(record("lth", k, 0, 1.0, 0.90, 100))
    ...     records.append(record("lth", k, 1, 0.5, 0.91, 80))
    ...     records.append(record("random", k, 0, 1.0, 0.90, 100))
    ...     records.append(record("random", k, 1, 0.5, 0.85 - 0.002 * k, 120))
    >>> judged = verdict(records, "lth", at=0.5, margin=0.01, controls=["random"])
    >>> judged.word, [condition.name for condition in judged.conditions]
    ('winning', ['as accurate as dense', 'stops no later than dense', 'more accurate than random'])
    """
    if margin is None:
        raise ConfigError(
            'a verdict needs a margin, what still counts as "as accurate as dense"; such as '
            "verdict: {margin: 0.01} for one point"
        )
    records = Evidence.of(records)
    controls = [controls] if isinstance(controls, str) else controls
    for judged_arm in (arm, *controls):
        if judged_arm in untrained_arms(records):
            raise ConfigError(
                f"the tickets of {judged_arm} were tested untrained (evaluate: untrained); a "
                "verdict is about tickets that were trained"
            )

    with_dense = compare(records, arm, DENSE, at=at, metric=metric, margin=margin, alpha=alpha)
    as_good = _tested(f"{metric.as_good_as} dense", with_dense, -metric.sign * margin)
    judged = [(as_good, with_dense), _in_time(records, arm, at, steps, alpha)]
    for control in controls:
        judged.append(_better_than(records, arm, control, at, metric, alpha))
    if not controls:
        name = f"{metric.better_than} its controls"
        why = "no arm is a control of this one (random_ticket, reinitialised)"
        judged.append((_untested(name, metric, "", why, "no control"), None))

    conditions = _decided([condition for condition, _ in judged], alpha)
    comparisons = [comparison for _, comparison in judged if comparison is not None]
    # A verdict rests on no more replicates than its weakest condition does.
    replicates = min(len(comparison.values) for comparison in comparisons)
    return Verdict(
        arm=arm,
        density=at,
        word=_word(conditions, replicates),
        conditions=tuple(conditions),
        replicates=replicates,
        interpolated=any(comparison.interpolated for comparison in comparisons),
        alpha=alpha,
        margin=margin,
        metric=metric,
    )


# A condition, and the comparison that it rests on, if there is one.
_Judged = tuple[Condition, Comparison | None]


def _better_than(
    records: Collection[Record],
    arm: str,
    control: str,
    density: float,
    metric: Metric,
    alpha: float,
) -> _Judged:
    """Test whether a ticket is better than that of a control."""
    name = f"{metric.better_than} {control}"
    of_ticket = values_at(records, arm, density, metric.test)
    of_control = values_at(records, control, density, metric.test)
    if not of_ticket.keys() & of_control.keys():
        return _untested(name, metric, control, "it has no result there", "no result"), None
    comparison = compare(records, arm, control, at=density, metric=metric, alpha=alpha)
    return _tested(name, comparison, 0.0), comparison


def _in_time(
    records: Collection[Record], arm: str, density: float, steps: float | None, alpha: float
) -> _Judged:
    """Test whether the early stop is no later than the dense network's."""
    name, entry = "stops no later than dense", STEPS.name
    if not any(record["arm"] == arm and record.get(entry) is not None for record in records):
        why = "without validation data there is no early-stop step"
        return _untested(name, STEPS, DENSE, why, "no validation"), None
    if steps is None:
        steps = _evaluation_interval(records)
    if steps is None:
        why = (
            "the records do not say how often there was an evaluation, and verdict.steps is not set"
        )
        return _untested(name, STEPS, DENSE, why, "no interval"), None
    comparison = compare(records, arm, DENSE, at=density, of=entry, alpha=alpha)

    # Early stops are multiples of the evaluation interval: three that fall on the same multiple
    # are not known more closely.
    of_ticket, of_dense = rounds_of(records, arm), rounds_of(records, DENSE)
    longest_interval = 0
    for rounds in (*of_ticket.values(), *of_dense.values()):
        for record in rounds:
            longest_interval = max(longest_interval, record.get("evaluate_every") or 0)
    condition = _tested(name, comparison, float(steps), resolution=float(longest_interval))

    censored, censored_dense = [], []
    for replicate, (stop, dense_stop) in comparison.values.items():
        if _is_censored(of_ticket[replicate], stop):
            censored.append(replicate)
        if _is_censored(of_dense[replicate], dense_stop):
            censored_dense.append(replicate)
    return _unless_censored(condition, censored, censored_dense), comparison


def _evaluation_interval(records: Collection[Record]) -> float | None:
    """Return the steps between two evaluations, of the first record that has them."""
    for record in records:
        if record.get("evaluate_every"):
            return float(record["evaluate_every"])
    return None


def _is_censored(rounds: Sequence[Record], value: Value) -> bool:
    """Whether an early stop that a value rests on is its training's last evaluation.

    A record without a curve does not say so, and counts as not censored.
    """
    return any(_stops_at_its_end(record) for record in rounds if record["round"] in value.rounds)


def _stops_at_its_end(record: Record) -> bool:
    steps: Sequence[float] = (record.get("curve") or {}).get("step") or ()
    # A curve's steps have six digits.
    return len(steps) > 0 and float(f"{record['early_stop_step']:.6g}") >= steps[-1]


def _unless_censored(
    condition: Condition, censored: Collection[int], censored_dense: Collection[int]
) -> Condition:
    """Take from a condition on early stops what those censored in these replicates cannot say."""
    if condition.paired is None or condition.p_shown is None:
        return condition
    # A censored stop is a lower limit of the true one.
    why = []
    for whose, replicates in (("ticket's", censored), ("dense network's", censored_dense)):
        if replicates:
            why.append(
                f"the {whose} training ended before its validation loss rose again "
                f"({len(replicates)} of {condition.paired.n} replicates)"
            )
    if not why:
        return condition
    return replace(
        condition,
        p_shown=1.0 if censored else condition.p_shown,
        p_violated=1.0 if censored_dense else condition.p_violated,
        why="; ".join(why),
        cause="censored",
    )


def _tested(
    name: str, comparison: Comparison, bound: float, *, resolution: float = 0.0
) -> Condition:
    """Test whether a mean difference lies on the better side of a bound."""
    condition = Condition(
        name=name,
        of=comparison.of,
        other=comparison.other,
        bound=bound,
        paired=comparison.paired,
        p_shown=None,
        p_violated=None,
        state="undecided",
        metric=comparison.metric,
    )
    # Fewer replicates say nothing, whatever their numbers are.
    replicates = len(comparison.values)
    if replicates < LEAST:
        why = f"{replicates} of the {LEAST} replicates that a verdict needs"
        return replace(condition, why=why, cause="replicates")
    # Which side of the bound is the better one depends on the metric.
    p_above = statistics.p_above(comparison.differences, bound, resolution)
    p_below = statistics.p_below(comparison.differences, bound, resolution)
    shown, violated = (p_above, p_below) if comparison.metric.higher else (p_below, p_above)
    limits = statistics.one_sided_limits(comparison.differences, comparison.alpha, resolution)
    return replace(condition, p_shown=shown, p_violated=violated, limits=limits)


def _untested(name: str, metric: Metric, compared_with: str, why: str, cause: Cause) -> Condition:
    """Return a condition of which nothing can be said."""
    return Condition(
        name=name,
        of=metric.name if metric == STEPS else metric.test,
        other=compared_with,
        bound=0.0,
        paired=None,
        p_shown=None,
        p_violated=None,
        state="undecided",
        why=why,
        cause=cause,
        metric=metric,
    )


def _decided(conditions: Sequence[Condition], alpha: float) -> list[Condition]:
    """Say of each condition what follows at the level, with ``p_violated`` adjusted (Holm)."""
    violations = []
    for condition in conditions:
        if condition.p_violated is not None:
            violations.append(condition.p_violated)
    # Showing all conditions needs no correction; finding one violated among several does.
    adjusted = iter(statistics.holm(violations))

    decided = []
    for condition in conditions:
        if condition.p_shown is not None and condition.p_violated is not None:
            shown, violated = condition.p_shown <= alpha, next(adjusted)
            condition = replace(condition, p_violated=violated)
            if shown or violated <= alpha:
                state: State = "shown" if shown else "violated"
                condition = replace(condition, state=state, why="", cause="")
        decided.append(condition)
    return decided


def _word(conditions: Sequence[Condition], replicates: int) -> Word:
    if replicates < LEAST:
        return "no verdict"
    states = {condition.state for condition in conditions}
    if states == {"shown"}:
        return "winning"
    return "losing" if "violated" in states else "inconclusive"
