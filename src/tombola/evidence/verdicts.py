"""Verdicts: whether a ticket is a winning one, by the definition of those who coined the word.

    records -> comparisons with dense and with controls -> conditions -> winning | losing |
    inconclusive | no verdict

A ticket wins (Frankle & Carbin 2019, arXiv:1803.03635, section 1) if it trains to an accuracy, or
another headline metric of its task, that is at least as good as that of the dense network, in no
more steps, and better than what shares its size but not its making: a random ticket, and the same
mask with other weights. All must be shown, each at the level (intersection-union test, which needs
no correction). It loses if one of them is significantly violated, at the level over all of them
together (Holm).

An early stop at a training's last evaluation is censored: the validation loss had not risen again,
and the stop is that step or a later one. Where a ticket's is, it cannot be shown to be no later
than the dense network's; where the dense network's is, this cannot be violated.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tombola.evidence import statistics
from tombola.evidence.answers import Evidence, once
from tombola.evidence.comparisons import DENSE, Comparison, Value, compare, rounds_of, values_at
from tombola.evidence.statistics import Paired
from tombola.ground.errors import ConfigError
from tombola.ground.metrics import ACCURACY, STEPS, Metric
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
        cause: The same as one of a few words, so that it can be told once for many conditions; ""
            where it is shown or violated, or where replicates could decide it and do not.
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
            density, or records of different recipes are mixed.

    >>> def record(arm, k, index, density, accuracy, step):
    ...     return {"arm": arm, "replicate": k, "round": index, "density": density, "evaluate_every": 10,
    ...             "test_accuracy": accuracy + 0.001 * k * index, "early_stop_step": step - k * index}
    >>> records = [one for k in range(3) for one in (
    ...     record("lth", k, 0, 1.0, 0.90, 100), record("lth", k, 1, 0.5, 0.91, 80),
    ...     record("random", k, 0, 1.0, 0.90, 100), record("random", k, 1, 0.5, 0.85 - 0.002 * k, 120))]
    >>> found = verdict(records, "lth", at=0.5, margin=0.01, controls=["random"])
    >>> found.word, [condition.name for condition in found.conditions]
    ('winning', ['as accurate as dense', 'stops no later than dense', 'more accurate than random'])
    """
    if margin is None:
        raise ConfigError(
            'a verdict needs a margin, what still counts as "as accurate as dense"; such as '
            "verdict: {margin: 0.01} for one point"
        )
    records = Evidence.of(records)
    controls = [controls] if isinstance(controls, str) else controls
    as_good = compare(records, arm, DENSE, at=at, metric=metric, margin=margin, alpha=alpha)
    comparisons = [as_good]
    conditions = [_tested(f"{metric.as_good_as} dense", as_good, -metric.sign * margin)]
    conditions.append(_in_time(records, arm, at, steps, alpha, comparisons))
    for control in controls:
        name = f"{metric.better_than} {control}"
        if (
            not values_at(records, arm, at, metric.test).keys()
            & values_at(records, control, at, metric.test).keys()
        ):
            conditions.append(
                _untested(name, metric, control, "it has no result there", "no result")
            )
            continue
        found = compare(records, arm, control, at=at, metric=metric, alpha=alpha)
        comparisons.append(found)
        conditions.append(_tested(name, found, 0.0))
    if not controls:
        conditions.append(
            _untested(
                f"{metric.better_than} its controls",
                metric,
                "",
                "no arm is a control of this one (random_ticket, reinitialised)",
                "no control",
            )
        )
    n = min(len(one.values) for one in comparisons)
    settled = _settled(conditions, alpha)
    return Verdict(
        arm=arm,
        density=at,
        word=_word(settled, n),
        conditions=tuple(settled),
        replicates=n,
        interpolated=any(one.interpolated for one in comparisons),
        alpha=alpha,
        margin=margin,
        metric=metric,
    )


def _in_time(
    records: Collection[Record],
    arm: str,
    at: float,
    steps: float | None,
    alpha: float,
    comparisons: list[Comparison],
) -> Condition:
    """Whether the early stop is no later than the dense network's."""
    name, of = "stops no later than dense", STEPS.name
    if not any(record["arm"] == arm and record.get(of) is not None for record in records):
        why = "without validation data there is no early-stop step"
        return _untested(name, STEPS, DENSE, why, "no validation")
    allowed = (
        steps
        if steps is not None
        else next(
            (record["evaluate_every"] for record in records if record.get("evaluate_every")), None
        )
    )
    if allowed is None:
        why = (
            "the records do not say how often there was an evaluation, and verdict.steps is not set"
        )
        return _untested(name, STEPS, DENSE, why, "no interval")
    found = compare(records, arm, DENSE, at=at, of=of, alpha=alpha)
    comparisons.append(found)
    own, dense = rounds_of(records, arm), rounds_of(records, DENSE)
    # Early stops are multiples of the evaluation interval: three that fall on one of them are not
    # known more closely.
    every = max(
        record.get("evaluate_every") or 0
        for rounds in (*own.values(), *dense.values())
        for record in rounds
    )
    condition = _tested(name, found, float(allowed), resolution=float(every))
    return _unless_censored(
        condition,
        [k for k, (value, _) in found.values.items() if _is_censored(own[k], value)],
        [k for k, (_, value) in found.values.items() if _is_censored(dense[k], value)],
    )


def _is_censored(rounds: Sequence[Record], value: Value) -> bool:
    """Whether an early stop that a value rests on is its training's last evaluation; no, where
    there is no curve.
    """
    return any(_at_its_end(record) for record in rounds if record["round"] in value.rounds)


def _at_its_end(record: Record) -> bool:
    looked: Sequence[float] = (record.get("curve") or {}).get("step") or ()
    # A curve's steps have six digits.
    return len(looked) > 0 and float(f"{record['early_stop_step']:.6g}") >= looked[-1]


def _unless_censored(
    condition: Condition, own: Collection[int], dense: Collection[int]
) -> Condition:
    """Take from a condition on early stops what those of these replicates cannot say."""
    if condition.paired is None or condition.p_shown is None or not (own or dense):
        return condition
    n = condition.paired.n
    what = "training ended before its validation loss rose again"
    why = [f"the {whose} {what} ({len(which)} of {n} replicates)"
           for whose, which in (("ticket's", own), ("dense network's", dense)) if which]  # fmt: skip
    return replace(
        condition,
        p_shown=1.0 if own else condition.p_shown,
        p_violated=1.0 if dense else condition.p_violated,
        why="; ".join(why),
        cause="censored",
    )


def _tested(name: str, found: Comparison, bound: float, *, resolution: float = 0.0) -> Condition:
    """Test whether a mean difference lies on the better side of a bound."""
    condition = Condition(
        name,
        found.of,
        found.other,
        bound,
        found.paired,
        None,
        None,
        "undecided",
        metric=found.metric,
    )
    if len(found.values) < LEAST:
        why = f"{len(found.values)} of the {LEAST} replicates that a verdict needs"
        return replace(condition, why=why, cause="replicates")
    above = statistics.p_above(found.differences, bound, resolution)
    beneath = statistics.p_below(found.differences, bound, resolution)
    shown, violated = (above, beneath) if found.metric.higher else (beneath, above)
    limits = statistics.one_sided_limits(found.differences, found.alpha, resolution)
    return replace(condition, p_shown=shown, p_violated=violated, limits=limits)


def _untested(name: str, metric: Metric, other: str, why: str, cause: Cause) -> Condition:
    of = metric.name if metric == STEPS else metric.test
    return Condition(name, of, other, 0.0, None, None, None, "undecided", why, cause, metric=metric)


def _settled(conditions: Sequence[Condition], alpha: float) -> list[Condition]:
    """Say of each condition what follows at the level."""
    tested = [condition for condition in conditions if condition.p_violated is not None]
    adjusted = iter(statistics.holm([condition.p_violated or 0.0 for condition in tested]))
    found = []
    for condition in conditions:
        if condition.p_shown is None or condition.p_violated is None:
            found.append(condition)
            continue
        violated = next(adjusted)
        state: State = (
            "shown"
            if condition.p_shown <= alpha
            else "violated"
            if violated <= alpha
            else "undecided"
        )
        if state != "undecided":
            condition = replace(condition, why="", cause="")
        found.append(replace(condition, p_violated=violated, state=state))
    return found


def _word(conditions: Sequence[Condition], replicates: int) -> Word:
    if replicates < LEAST:
        return "no verdict"
    states = {condition.state for condition in conditions}
    if states == {"shown"}:
        return "winning"
    return "losing" if "violated" in states else "inconclusive"
