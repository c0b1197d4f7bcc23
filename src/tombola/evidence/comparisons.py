"""Comparisons: two arms at one density, replicate by replicate.

    records -> [ value at the density ] -> paired differences -> interval and tests

Arms seldom have a round at the same density: one prunes to 0.7225 ^ r of its weights, another to
0.8 ^ r. At a density the value of a replicate lies between its rounds on both sides, linear in the
logarithm of the density; it is marked as interpolated, and nothing is ever extrapolated.

Tickets that are tested untrained have no trained round 0 above them: there is nothing between a
network that was trained and one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Literal

from tombola.evidence import statistics
from tombola.evidence.answers import Evidence, once
from tombola.evidence.statistics import Paired
from tombola.ground.errors import ConfigError, near
from tombola.ground.metrics import ACCURACY, STEPS, Metric
from tombola.ground.notebooks import card, one_line, percent
from tombola.records.records import Record

DENSE = "dense"

# Counts are whole weights: a round asked for 0.1 may leave 0.10003.
NEARLY = 5e-4

# What the replicates show of a difference, and how a table says it. "Unadjusted" is significant at
# this density alone, and not over all densities that are looked at.
Shows = Literal[
    "no verdict",
    "different",
    "unadjusted",
    "different, within margin",
    "unadjusted, within margin",
    "equal",
    "not worse",
    "no difference",
    "undecided",
]
_VERDICTS: Mapping[Shows, str] = {
    "no verdict": "no verdict ({replicates} of 3 replicates)",
    "different": "{side}",
    "unadjusted": "{side} by itself, inconclusive over {looks} densities",
    "different, within margin": "{side}, within the margin",
    "unadjusted, within margin": "{side} by itself, within the margin",
    "equal": "equal within the margin",
    "not worse": "not worse by more than the margin",
    "no difference": "no difference shown",
    "undecided": "inconclusive",
}


def meets(record: Record, density: float) -> bool:
    """Whether a ticket has a density as nearly as whole weights allow.

    That is to a weight in each layer, or to 0.05 %.

    >>> record = {"density": 7 / 64, "prunable": 64, "layers": {"a": [5, 32], "b": [2, 32]}}
    >>> [meets(record, asked / 64) for asked in (4.9, 5.1, 8.9, 9.1)]
    [False, True, True, False]
    """
    weight_a_layer: float = len(record.get("layers") or ()) / record.get("prunable", math.inf)
    difference: float = abs(record["density"] - density)
    return difference <= max(NEARLY * density, weight_a_layer) + 1e-12


def reaches(record: Record, density: float) -> bool:
    """Whether a ticket keeps no more than a density, as nearly as whole weights allow (`meets`)."""
    return bool(record["density"] <= density) or meets(record, density)


@once
def untrained_arms(records: Collection[Record]) -> frozenset[str]:
    """Return the arms whose tickets were tested as they were found, without training.

    >>> sorted(untrained_arms([{"arm": "lth", "round": 1},
    ...                        {"arm": "as-it-is", "round": 1, "untrained": True}]))
    ['as-it-is']
    """
    return frozenset(
        record["arm"] for record in records if record["round"] and record.get("untrained")
    )


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
        margin: What counts as "as good as"; ``None`` if none was set.
        looks: Over how many densities the p-values are adjusted (Holm).
        p: Two-sided p-value of no difference, adjusted; ``None`` below three replicates.
        p_non_inferior: One-sided p-value of the first being worse by more than the margin,
            adjusted.
        p_equivalent: The same for a difference of more than the margin either way.
        metric: Says which of two values is better, and how they are shown.
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

    def __repr__(self) -> str:
        return one_line("Comparison", self._question, self._difference_in_words, self.verdict)

    def _repr_html_(self) -> str:
        facts = {"difference": self._difference_in_words, "replicates": str(len(self.values))}
        if self.margin is not None:
            facts["margin"] = f"{self.metric.number(self.margin)} {self.metric.points}".strip()
        return card(self._question, {**facts, "verdict": self.verdict})

    @property
    def _question(self) -> str:
        quantity = self.of.replace("_", " ")
        return f"{quantity} of {self.arm} minus {self.other} at {percent(self.density)} density"

    @property
    def _difference_in_words(self) -> str:
        if not self.values:
            return "no replicate has both"
        metric, paired = self.metric, self.paired
        interval = metric.interval(paired.low, paired.high)
        return " ".join(filter(None, (metric.signed(paired.mean), interval, metric.points)))

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
        """Bootstrap interval of the mean over replicates; ``None`` below ten, where it is not
        reliable.
        """
        if len(self.values) < statistics.LEAST_RESAMPLED:
            return None
        return statistics.interval_by_replicates(self.differences, 1 - self.alpha)

    @property
    def interpolated(self) -> bool:
        """Whether any value lies between two rounds."""
        return any(
            first.interpolated or second.interpolated for first, second in self.values.values()
        )

    @property
    def decidable(self) -> float | None:
        """The smallest margin that these replicates can decide.

        ``None`` where there is none: of one replicate, or of too few that are all equal.
        """
        if len(self.values) < 2:
            return None
        margin = statistics.decidable_margin(self.differences, self.alpha)
        return margin if margin < math.inf else None

    @property
    def verdict(self) -> str:
        """What the replicates show, in words: of the margin, or without one of any difference."""
        words = _VERDICTS[self.shows]
        return words.format(side=self.side, looks=self.looks, replicates=len(self.values))

    @property
    def side(self) -> Literal["higher", "lower"]:
        """On which side of the second arm the first one's mean lies, shown or not."""
        return "higher" if self.paired.mean > 0 else "lower"

    @property
    def shows(self) -> Shows:
        """What the replicates show: of the margin, or without one of any difference."""
        if self.p is None:
            return "no verdict"
        significant = self.p <= self.alpha
        better = self.metric.sign * self.paired.mean > 0
        if significant and (self.margin is None or better):
            return "different"

        # Significant if this were the only density: of several, one is so by chance more often.
        unadjusted = statistics.p_different(self.differences) <= self.alpha
        if self.margin is None or self.p_non_inferior is None or self.p_equivalent is None:
            return "unadjusted" if unadjusted else "no difference"

        equivalent = self.p_equivalent <= self.alpha
        if not equivalent and self.p_non_inferior > self.alpha:
            if significant:
                return "different"
            return "unadjusted" if unadjusted else "undecided"
        # "Equal" beside an interval that leaves zero out would contradict what stands next to it.
        if self.paired.side * self.metric.sign < 0:
            return "different, within margin"
        if not equivalent:
            return "unadjusted" if unadjusted else "not worse"
        return "unadjusted, within margin" if self.paired.side else "equal"


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
        metric: Says which of two values is better, and how they are shown.
        margin: What still counts as "as good as", in the unit of ``of``: 0.01 is one point of
            accuracy.
        alpha: Level of the tests and, as confidence 1 - alpha, of the interval.
        beside: Records of another run, which has the second arm; replicates of one seed begin alike
            where the two recipes draw alike.

    Raises:
        ConfigError: There is no such arm or entry, no replicate of both has rounds on both sides of
            the density, or records of different recipes are mixed (those of ``beside`` are checked
            by themselves).

    >>> def record(arm, replicate, index, accuracy):
    ...     return {"arm": arm, "replicate": replicate, "round": index, "density": 0.8**index,
    ...             "test_accuracy": accuracy}
    >>> records = []
    >>> for replicate in range(3):
    ...     for index in range(4):
    ...         records.append(record("a", replicate, index, 0.9))
    ...         records.append(record("b", replicate, index, 0.91 + 0.001 * replicate))
    >>> comparison = compare(records, "b", "a", at=0.6)
    >>> round(comparison.paired.mean, 4), comparison.interpolated, comparison.verdict
    (0.011, True, 'higher')
    """
    (comparison,) = compare_over(
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
    return comparison


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
    if of == STEPS.name:
        metric = STEPS
    entry = of or metric.test
    records = Evidence.of(records)
    others = records if beside is None else Evidence.of(beside)
    for checked in (records, others):
        _check_one_recipe(checked)
        _check_entry(checked, entry)

    comparisons = []
    for density in at:
        first, second = _values_of_both(records, others, arm, other, density, entry)
        # Replicates of one number share their seeds, so they pair.
        in_both = sorted(first.keys() & second.keys())
        comparison = Comparison(
            arm=arm,
            other=other,
            density=density,
            of=entry,
            values={replicate: (first[replicate], second[replicate]) for replicate in in_both},
            unpaired=tuple(sorted(first.keys() ^ second.keys())),
            alpha=alpha,
            margin=margin,
            metric=metric,
        )
        comparisons.append(comparison)
    return _tested(comparisons, margin)


def _tested(comparisons: Sequence[Comparison], margin: float | None) -> list[Comparison]:
    """Add p-values where there are three replicates, adjusted over these comparisons (Holm)."""
    enough = [comparison for comparison in comparisons if len(comparison.values) >= 3]
    different, non_inferior, equivalent = [], [], []
    for comparison in enough:
        different.append(statistics.p_different(comparison.differences))
        if margin is not None:
            non_inferior.append(statistics.p_non_inferior(comparison.gains, margin))
            equivalent.append(statistics.p_equivalent(comparison.differences, margin))

    # Each kind of test is adjusted by itself: a reader asks one question at several densities.
    different = statistics.holm(different)
    non_inferior = statistics.holm(non_inferior)
    equivalent = statistics.holm(equivalent)
    tested = {}
    for index, comparison in enumerate(enough):
        tested[comparison.density] = replace(
            comparison,
            p=different[index],
            p_non_inferior=None if margin is None else non_inferior[index],
            p_equivalent=None if margin is None else equivalent[index],
            looks=len(enough),
        )
    return [tested.get(comparison.density, comparison) for comparison in comparisons]


def _values_of_both(
    records: Collection[Record],
    others: Collection[Record],
    arm: str,
    other: str,
    density: float,
    entry: str,
) -> tuple[dict[int, Value], dict[int, Value]]:
    """Return the values of two arms at a density by replicate; at least one replicate has both."""
    if not 0 < density <= 1:
        raise ConfigError(
            f"at is {density:g}; a density is a fraction of the weights, above 0 and at most 1"
        )
    first = values_at(records, arm, density, entry)
    second = values_at(others, other, density, entry)
    if not first.keys() & second.keys():
        low, high = shared_range(records, arm, other, entry, others)
        raise ConfigError(
            f"{arm} and {other} have no {entry} on both sides of density {density:g} in a "
            f"replicate that both have; they share {low:.4g} to {high:.4g}, where rounds were "
            "evaluated"
        )
    return first, second


@once
def values_at(
    records: Collection[Record], arm: str, density: float, of: str = "test_accuracy"
) -> dict[int, Value]:
    """Return what each replicate of an arm has at a density.

    Replicates without rounds on both sides of it are left out.

    >>> rounds = [{"arm": "a", "replicate": 0, "round": r, "density": d, "test_accuracy": a}
    ...           for r, d, a in ((0, 1.0, 0.90), (1, 0.8, 0.91), (2, 0.64, 0.93))]
    >>> value = values_at(rounds, "a", 0.8**1.5)[0]
    >>> round(value.value, 4), value.rounds
    (0.92, (1, 2))
    """
    values = {}
    for replicate, rounds in rounds_of(records, arm).items():
        value = _value_at(rounds, density, of, _is_dense(arm, rounds))
        if value is not None:
            values[replicate] = value
    return values


@once
def rounds_of(records: Collection[Record], arm: str) -> dict[int, list[Record]]:
    """Return the rounds of an arm by replicate; those of "dense" are there without an arm as well.

    Round 0, the trained dense network, is no round of an arm whose tickets stay untrained.

    Raises:
        ConfigError: There is no such arm, or records of different recipes are mixed under its name.

    >>> records = [{"arm": "a", "replicate": 0, "round": r, "density": 0.8**r} for r in (1, 0)]
    >>> [record["round"] for record in rounds_of(records, "a")[0]]
    [0, 1]
    >>> len(rounds_of(records, "dense")[0])
    1
    """
    by_arm = _by_arm(records)
    of_arm = by_arm.get(arm, [])
    if not of_arm and arm == DENSE:
        # It is round 0 of every arm, and the same one in all of them.
        of_arm = [record for record in records if record["round"] == 0]
    if not of_arm:
        raise ConfigError(
            f"no record is of arm '{arm}'; there are: {', '.join(by_arm)}.{near(arm, by_arm)}"
        )
    _check_one_recipe(of_arm, arm)
    if arm in untrained_arms(records):
        of_arm = [record for record in of_arm if record["round"]]

    # Of several records of one round the last one stands.
    by_replicate: dict[int, dict[int, Record]] = {}
    for record in sorted(of_arm, key=lambda record: (record["replicate"], record["round"])):
        by_replicate.setdefault(record["replicate"], {})[record["round"]] = record
    return {replicate: list(rounds.values()) for replicate, rounds in by_replicate.items()}


@once
def _by_arm(records: Collection[Record]) -> dict[str, list[Record]]:
    """Return the records of each arm; arms as they come in the records."""
    by_arm: dict[str, list[Record]] = {}
    for record in records:
        by_arm.setdefault(record["arm"], []).append(record)
    return by_arm


def shared_range(
    records: Collection[Record],
    arm: str,
    other: str,
    of: str = "test_accuracy",
    beside: Collection[Record] | None = None,
) -> tuple[float, float]:
    """Return the lowest and the highest density at which a replicate of both arms has values.

    Raises:
        ConfigError: There is no such arm or entry, or there is no such density.
    """
    others = records if beside is None else beside
    for checked in (records, others):
        _check_entry(checked, of)
    rounds_of_arm = rounds_of(records, arm)
    rounds_of_other = rounds_of(others, other)
    lows, highs = [], []
    for replicate in rounds_of_arm.keys() & rounds_of_other.keys():
        low, high = _range(arm, rounds_of_arm[replicate], of)
        other_low, other_high = _range(other, rounds_of_other[replicate], of)
        low, high = max(low, other_low), min(high, other_high)
        if low <= high:
            lows.append(low)
            highs.append(high)
    if not lows:
        raise ConfigError(f"{arm} and {other} share no density in any replicate")
    return min(lows), max(highs)


@once
def _check_one_recipe(records: Collection[Record], arm: str = "") -> None:
    """Refuse records that two recipes have made; of one arm also those of two definitions of it."""
    entries = ["run_digest", "prunable", "total"]
    if arm and arm != DENSE:
        entries.append("arm_digest")
    differing = []
    for entry in entries:
        values = dict.fromkeys(record.get(entry) for record in records)
        values.pop(None, None)  # older records lack the digests
        if len(values) > 1:
            first, second = map(_short, list(values)[:2])
            number = f" ({len(values)} values)" if len(values) > 2 else ""
            differing.append(f"{entry} is {first} in some and {second} in others{number}")
    if differing:
        whose = f"records of arm '{arm}'" if arm else "records"
        raise ConfigError(
            f"{whose} are of different recipes: {', '.join(differing)}; merge runs of one recipe "
            "(tombola runs merge, which names the fields in which recipes differ), report those of "
            "several together (tombola report RUN RUN), or give those of the second arm as beside="
        )


def _short(value: object) -> object:
    """Return as much of a digest as tells it from another; numbers as they are."""
    return value[:8] if isinstance(value, str) else value


@once
def _check_entry(records: Collection[Record], entry: str) -> None:
    """Refuse an entry that no record has, or that is no number."""
    known = False
    for record in records:
        value = record.get(entry)
        if value is not None and not isinstance(value, Real):
            raise ConfigError(
                f"of is '{entry}', which is a {type(value).__name__} in the records; only numbers "
                "can be compared, such as test_accuracy"
            )
        known = known or entry in record
    if known or not records:
        return
    # Name the entries that can be compared, in the order of the records.
    numbers: dict[str, bool] = {}
    for record in records:
        for name, value in record.items():
            if type(value) in (int, float):
                numbers[name] = True
    raise ConfigError(
        f"no record has an entry '{entry}'; there are: {', '.join(numbers)}."
        f"{near(entry, list(numbers))}"
    )


def _is_dense(arm: str, rounds: Sequence[Record]) -> bool:
    """Whether an arm is the dense network, perhaps trained longer; a search that has only begun is
    not.
    """
    return (arm == DENSE or len(rounds) > 1) and all(record["density"] == 1 for record in rounds)


def _value_at(rounds: Sequence[Record], density: float, entry: str, dense: bool) -> Value | None:
    """Return a replicate's value at a density, or ``None`` where it has none there."""
    if dense:
        return _value_of(rounds[-1], entry)

    def distance(record: Record) -> float:
        return abs(math.log((record["density"] or 1e-12) / density))

    nearest = min(rounds, key=distance)
    if meets(nearest, density):
        return _value_of(nearest, entry)

    denser = [record for record in rounds if record["density"] > density]
    sparser = [record for record in rounds if 0 < record["density"] < density]
    if not denser or not sparser:
        return None
    # Of several rounds at one density the later one counts above, the earlier one below: they are
    # next to each other.
    above = min(denser, key=lambda record: (record["density"], -record["round"]))
    below = max(sparser, key=lambda record: record["density"])
    if above.get(entry) is None or below.get(entry) is None:
        return None
    share = math.log(above["density"] / density) / math.log(above["density"] / below["density"])
    value = float(above[entry] + share * (below[entry] - above[entry]))
    return Value(value, (above["round"], below["round"]), (1 - share, share))


def _value_of(record: Record, entry: str) -> Value | None:
    number = record.get(entry)
    return None if number is None else Value(float(number), (record["round"],))


def _range(arm: str, rounds: Sequence[Record], entry: str) -> tuple[float, float]:
    """Return between which densities a replicate has values; the low end is above the high one
    where it has none.
    """
    densities = [record["density"] for record in rounds if record.get(entry) is not None]
    if not densities:
        return 1.0, 0.0
    return (0.0, 1.0) if _is_dense(arm, rounds) else (min(densities), max(densities))
