"""Comparisons: two arms at one density, replicate by replicate.

    records -> [ value at the density ] -> paired differences -> interval and tests

Arms seldom have a round at the same density: one prunes to 0.7225 ^ r of its weights, another to
0.8 ^ r. At a density the value of a replicate lies between its rounds on both sides, linear in the
logarithm of the density; it is marked as interpolated, and nothing is ever extrapolated.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real

from tombola.evidence import statistics
from tombola.evidence.answers import Evidence, once
from tombola.evidence.statistics import Paired
from tombola.ground.errors import ConfigError, near
from tombola.ground.metrics import ACCURACY, STEPS, Metric
from tombola.records.records import Record

DENSE = "dense"

# Counts are whole weights: a round asked for 0.1 may leave 0.10003.
NEARLY = 5e-4


def meets(record: Record, density: float) -> bool:
    """Whether a ticket has a density as nearly as whole weights allow: to a weight in each layer,
    or to 0.05 %.

    >>> record = {"density": 7 / 64, "prunable": 64, "layers": {"a": [5, 32], "b": [2, 32]}}
    >>> [meets(record, asked / 64) for asked in (4.9, 5.1, 8.9, 9.1)]
    [False, True, True, False]
    """
    whole: float = len(record.get("layers") or ()) / record.get("prunable", math.inf)
    off: float = abs(record["density"] - density)
    return off <= max(NEARLY * density, whole) + 1e-12


def reaches(record: Record, density: float) -> bool:
    """Whether a ticket keeps no more than a density, as nearly as whole weights allow, see
    `meets`.
    """
    own: float = record["density"]
    return own <= density or meets(record, density)


@dataclass(frozen=True)
class Value:
    """What a replicate of an arm has at a density.

    Attributes:
        value: Such as a test accuracy, a fraction.
        rounds: The round that is there, or the two around it.
        shares: What each of them counts.
    """

    value: float
    rounds: tuple[int, ...]
    shares: tuple[float, ...] = (1.0,)

    @property
    def interpolated(self) -> bool:
        """Whether no round has that density itself."""
        return len(self.rounds) > 1


@dataclass(frozen=True)
class Comparison:
    """Two arms at one density: first minus second, within each replicate.

    Attributes:
        arm: The first.
        other: The second.
        density: Fraction of the prunable weights.
        of: What is compared, an entry of the records such as "test_accuracy".
        values: By replicate, what the first and what the second arm has.
        unpaired: Replicates that only one of the arms has at this density.
        alpha: Level of the tests; the interval's confidence is one less it.
        margin: What counts as "as good as"; ``None`` if none was said.
        looks: Over how many densities the p-values are adjusted (Holm).
        p: Two-sided p-value of no difference, adjusted; ``None`` below three replicates.
        p_non_inferior: One-sided p-value of the first being worse by more than the margin,
            adjusted.
        p_equivalent: The same for a difference of more than the margin either way.
        metric: Says which of two values is better, and how they are told.
    """

    arm: str
    other: str
    density: float
    of: str
    values: dict[int, tuple[Value, Value]]
    unpaired: tuple[int, ...]
    alpha: float
    margin: float | None
    looks: int = 1
    p: float | None = field(default=None)
    p_non_inferior: float | None = field(default=None)
    p_equivalent: float | None = field(default=None)
    metric: Metric = ACCURACY

    @property
    def differences(self) -> list[float]:
        """First minus second, by replicate."""
        return [first.value - second.value for first, second in self.values.values()]

    @property
    def gains(self) -> list[float]:
        """How much better the first is than the second, by replicate."""
        return [self.metric.sign * difference for difference in self.differences]

    @property
    def paired(self) -> Paired:
        """Mean and t interval of the differences."""
        return statistics.paired(self.differences, 1 - self.alpha)

    @property
    def resampled(self) -> tuple[float, float] | None:
        """Bootstrap interval of the mean over replicates; ``None`` below ten, of which it says
        nothing reliable.
        """
        if len(self.values) < statistics.LEAST_RESAMPLED:
            return None
        return statistics.interval_by_replicates(self.differences, 1 - self.alpha)

    @property
    def interpolated(self) -> bool:
        """Whether any value lies between two rounds."""
        return any(value.interpolated for both in self.values.values() for value in both)

    @property
    def decidable(self) -> float | None:
        """The smallest margin that these replicates can decide; ``None`` if none: one
        replicate, or no spread.
        """
        margin = (
            statistics.decidable_margin(self.differences, self.alpha)
            if len(self.values) > 1
            else math.inf
        )
        return margin if margin < math.inf else None

    @property
    def _side(self) -> int:
        """On which side of zero the interval of the mean lies: -1, 1, or 0 where it includes
        zero.
        """
        low, high = self.paired.low, self.paired.high
        rounding = 1e-12  # of differences of quotients
        return int((low or 0.0) > rounding) - int((high or 0.0) < -rounding)

    @property
    def verdict(self) -> str:
        """What the replicates show, in words: of a margin if there is one, else of any
        difference.
        """
        if self.p is None:
            return f"no verdict ({len(self.values)} of 3 replicates)"
        word = "higher" if self.paired.mean > 0 else "lower"
        better = self.metric.sign * self.paired.mean > 0
        differs = statistics.p_different(self.differences) <= self.alpha
        if self.p <= self.alpha and (self.margin is None or better):
            return word
        # By itself it would count; of several looks one comes out so by chance more often.
        by_itself = f"{word} by itself, inconclusive over {self.looks} densities" if differs else ""
        if self.margin is None or self.p_non_inferior is None or self.p_equivalent is None:
            return by_itself or "no difference shown"
        equivalent = self.p_equivalent <= self.alpha
        if equivalent or self.p_non_inferior <= self.alpha:
            # "Equal" beside an interval that leaves zero out would contradict what stands next to
            # it.
            if self._side * self.metric.sign < 0:
                return f"{word}, within the margin"
            if equivalent:
                return (
                    f"{word} by itself, within the margin"
                    if self._side
                    else "equal within the margin"
                )
            return by_itself or "not worse by more than the margin"
        return word if self.p <= self.alpha else by_itself or "inconclusive"


def compare(
    records: Collection[Record],
    arm: str,
    other: str,
    *,
    at: float,
    of: str | None = None,
    metric: Metric = ACCURACY,
    margin: float | None = None,
    alpha: float = 0.05,
    beside: Collection[Record] | None = None,
) -> Comparison:
    """Compare two arms at a density, paired over the replicates that both have there.

    Args:
        records: Of one run, or of several that were merged.
        arm: The first; positive differences are in its favour where more is better.
        other: The second; "dense" is the network itself, which has its value at every density.
        at: The density, a fraction of the prunable weights.
        of: What is compared: an entry of the records; the metric on the test split if not given.
        metric: Says which of two values is better, and how they are told.
        margin: What still counts as "as good as", in the unit of ``of``: 0.01 is one point of
            accuracy.
        alpha: Level of the tests and, as confidence 1 - alpha, of the interval.
        beside: Records of another run that the second arm is of; replicates of one seed begin alike
            where the two recipes draw alike.

    Raises:
        ConfigError: There is no such arm or entry, no replicate of both has rounds on both sides of
            the density, or records of different recipes are mixed (those of ``beside`` are checked
            by themselves).

    >>> def record(arm, k, index, density, accuracy):
    ...     return {"arm": arm, "replicate": k, "round": index, "density": density, "test_accuracy": accuracy}
    >>> both = [("a", 0.0), ("b", 0.01)]
    >>> records = [record(arm, k, r, 0.8**r, 0.9 + more + 0.1 * more * k) for arm, more in both
    ...            for k in range(3) for r in range(4)]
    >>> found = compare(records, "b", "a", at=0.6)
    >>> round(found.paired.mean, 4), found.interpolated, found.verdict
    (0.011, True, 'higher')
    """
    (found,) = compare_over(
        records,
        arm,
        other,
        at=[at],
        of=of,
        metric=metric,
        margin=margin,
        alpha=alpha,
        beside=beside,
    )
    return found


@once
def compare_over(
    records: Collection[Record],
    arm: str,
    other: str,
    *,
    at: Sequence[float],
    of: str | None = None,
    metric: Metric = ACCURACY,
    margin: float | None = None,
    alpha: float = 0.05,
    beside: Collection[Record] | None = None,
) -> list[Comparison]:
    """Compare two arms at several densities, with p-values adjusted for there being several (Holm).

    The arguments are those of `compare`, but for the densities.

    Raises:
        ConfigError: As `compare`.
    """
    if not at:
        raise ConfigError("at names no density")
    if margin is not None and not margin > 0:
        raise ConfigError(
            f"margin is {margin:g}; it must be above 0, such as 0.01 for one point of accuracy"
        )
    if not 0 < alpha < 1:
        raise ConfigError(f"alpha is {alpha:g}; it is a probability, such as 0.05")
    metric, of = (STEPS, of) if of == STEPS.name else (metric, of or metric.test)
    records = Evidence.of(records)
    others = records if beside is None else Evidence.of(beside)
    for checked in [records] if beside is None else [records, others]:
        _check_one_recipe(checked)
        _check_entry(checked, of)
    found = [_at(records, others, arm, other, density, of, metric, margin, alpha) for density in at]
    tested = [one for one in found if len(one.values) >= 3]
    p = statistics.holm([statistics.p_different(one.differences) for one in tested])
    adjusted = [
        replace(one, p=value, looks=len(tested)) for one, value in zip(tested, p, strict=True)
    ]
    if margin is not None:
        lower = statistics.holm([statistics.p_non_inferior(one.gains, margin) for one in tested])
        apart = statistics.holm(
            [statistics.p_equivalent(one.differences, margin) for one in tested]
        )
        adjusted = [
            replace(one, p_non_inferior=low, p_equivalent=both)
            for one, low, both in zip(adjusted, lower, apart, strict=True)
        ]
    by_density = {one.density: one for one in adjusted}
    return [by_density.get(one.density, one) for one in found]


@once
def values_at(
    records: Collection[Record], arm: str, density: float, of: str = "test_accuracy"
) -> dict[int, Value]:
    """Return what each replicate of an arm has at a density; those without rounds on both sides are
    left out.

    >>> rounds = [{"arm": "a", "replicate": 0, "round": r, "density": d, "test_accuracy": a}
    ...           for r, d, a in ((0, 1.0, 0.90), (1, 0.8, 0.91), (2, 0.64, 0.93))]
    >>> {k: (round(value.value, 4), value.rounds) for k, value in values_at(rounds, "a", 0.8**1.5).items()}
    {0: (0.92, (1, 2))}
    """
    own = rounds_of(records, arm)
    found = {k: _between(rounds, density, of, _is_dense(arm, rounds)) for k, rounds in own.items()}
    return {k: value for k, value in found.items() if value is not None}


@once
def rounds_of(records: Collection[Record], arm: str) -> dict[int, list[Record]]:
    """Return the rounds of an arm by replicate; the dense network is there whether it has an arm or
    not.

    Raises:
        ConfigError: There is no such arm, or records of different recipes are mixed under its name.

    >>> records = [{"arm": "a", "replicate": 0, "round": r, "density": 0.8**r} for r in (1, 0)]
    >>> [record["round"] for record in rounds_of(records, "a")[0]], len(rounds_of(records, "dense")[0])
    ([0, 1], 1)
    """
    own = [record for record in records if record["arm"] == arm]
    if not own and arm == DENSE:
        # It is round 0 of every arm, and the same one in all of them.
        own = [record for record in records if record["round"] == 0]
    if not own:
        known = list(dict.fromkeys(record["arm"] for record in records))
        raise ConfigError(
            f"no record is of arm '{arm}'; there are: {', '.join(known)}.{near(arm, known)}"
        )
    _check_one_recipe(own, arm)
    found: dict[int, dict[int, Record]] = {}
    for record in own:
        found.setdefault(record["replicate"], {})[record["round"]] = record
    return {k: [rounds[index] for index in sorted(rounds)] for k, rounds in sorted(found.items())}


def shared_range(
    records: Collection[Record],
    arm: str,
    other: str,
    of: str = "test_accuracy",
    beside: Collection[Record] | None = None,
) -> tuple[float, float]:
    """Return the lowest and the highest density that both arms have values at, in any replicate of
    both.

    Raises:
        ConfigError: There is no such arm or entry, or there is no such density.
    """
    for checked in [records] if beside is None else [records, beside]:
        _check_entry(checked, of)
    one, two = rounds_of(records, arm), rounds_of(records if beside is None else beside, other)
    lows, highs = [], []
    for k in one.keys() & two.keys():
        spans = [
            _span(rounds, of, _is_dense(name, rounds))
            for name, rounds in ((arm, one[k]), (other, two[k]))
        ]
        lows.append(max(low for low, _ in spans))
        highs.append(min(high for _, high in spans))
    ranges = [(low, high) for low, high in zip(lows, highs, strict=True) if low <= high]
    if not ranges:
        raise ConfigError(f"{arm} and {other} share no density in any replicate")
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _at(
    records: Collection[Record],
    others: Collection[Record],
    arm: str,
    other: str,
    density: float,
    of: str,
    metric: Metric,
    margin: float | None,
    alpha: float,
) -> Comparison:
    if not 0 < density <= 1:
        raise ConfigError(
            f"at is {density:g}; a density is a fraction of the weights, above 0 and at most 1"
        )
    first, second = values_at(records, arm, density, of), values_at(others, other, density, of)
    both = sorted(first.keys() & second.keys())
    if not both:
        low, high = shared_range(records, arm, other, of, others)
        raise ConfigError(
            f"{arm} and {other} have no {of} on both sides of density {density:g} in a replicate "
            f"that both have; they share {low:.4g} to {high:.4g}, where rounds were evaluated"
        )
    return Comparison(
        arm=arm,
        other=other,
        density=density,
        of=of,
        values={k: (first[k], second[k]) for k in both},
        unpaired=tuple(sorted(first.keys() ^ second.keys())),
        alpha=alpha,
        margin=margin,
        metric=metric,
    )


@once
def _check_one_recipe(records: Collection[Record], arm: str = "") -> None:
    """Refuse records that two recipes have made; of one arm also those of two definitions of it."""
    odd = []
    for entry in (
        "run_digest",
        "prunable",
        "total",
        *(("arm_digest",) if arm and arm != DENSE else ()),
    ):
        seen = dict.fromkeys(record.get(entry) for record in records)
        seen.pop(None, None)  # older records lack the digests
        if len(seen) > 1:
            first, second, *more = [
                value[:8] if isinstance(value, str) else value for value in seen
            ]
            odd.append(
                f"{entry} is {first} in some and {second} in others"
                + (f" ({len(seen)} values)" if more else "")
            )
    if odd:
        whose = f"records of arm '{arm}'" if arm else "records"
        raise ConfigError(
            f"{whose} are of different recipes: {', '.join(odd)}; merge runs of one recipe "
            "(tombola runs merge, which names the fields in which recipes differ), report those of "
            "several together (tombola report RUN RUN), or give those of the second arm as beside="
        )


@once
def _check_entry(records: Collection[Record], of: str) -> None:
    """Refuse what no record has, and what is no number."""
    there = False
    for record in records:
        value = record.get(of)
        if value is not None and not isinstance(value, Real):
            raise ConfigError(
                f"of is '{of}', which is a {type(value).__name__} in the records; only numbers can "
                "be compared, such as test_accuracy"
            )
        there = there or of in record
    if records and not there:
        numbers = (
            entry
            for record in records
            for entry, value in record.items()
            if type(value) in (int, float)
        )
        known = list(dict.fromkeys(numbers))
        raise ConfigError(
            f"no record has an entry '{of}'; there are: {', '.join(known)}.{near(of, known)}"
        )


def _is_dense(arm: str, rounds: Sequence[Record]) -> bool:
    """Whether an arm is the dense network, or one that was trained longer, and no search that
    has only begun.
    """
    return (arm == DENSE or len(rounds) > 1) and all(record["density"] == 1 for record in rounds)


def _between(rounds: Sequence[Record], density: float, of: str, dense: bool) -> Value | None:
    if dense:
        last = rounds[-1]
        return None if last.get(of) is None else Value(float(last[of]), (last["round"],))
    near_enough = min(
        rounds, key=lambda record: abs(math.log((record["density"] or 1e-12) / density))
    )
    if meets(near_enough, density):
        around = [near_enough]
    else:
        above = [record for record in rounds if record["density"] > density]
        below = [record for record in rounds if 0 < record["density"] < density]
        if not above or not below:
            return None
        around = [
            min(above, key=lambda r: (r["density"], -r["round"])),
            max(below, key=lambda r: r["density"]),
        ]
    if any(record.get(of) is None for record in around):
        return None
    if len(around) == 1:
        return Value(float(around[0][of]), (around[0]["round"],))
    one, two = around
    share = math.log(one["density"] / density) / math.log(one["density"] / two["density"])
    value = float(one[of] + share * (two[of] - one[of]))
    return Value(value, (one["round"], two["round"]), (1 - share, share))


def _span(rounds: Sequence[Record], of: str, dense: bool) -> tuple[float, float]:
    known = [record["density"] for record in rounds if record.get(of) is not None]
    if known and dense:
        return 0.0, 1.0
    return (min(known), max(known)) if known else (1.0, 0.0)
