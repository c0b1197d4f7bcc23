"""Aggregates: what the replicates of an arm have in common, by round and by density.

    records -> [ by_round, by_target, dense ] -> table, figures

Arms prune at their own pace (0.7225^r against 0.8^r), so a round of one arm says nothing about the
same round of another: compare arms at a density (`by_target`), follow one arm by its rounds
(`by_round`). All fractions stay fractions. A row is a mean over the replicates that got that far,
and says how many did.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tombola.evidence import ledger
from tombola.evidence.answers import once
from tombola.evidence.comparisons import reaches, untrained_arms
from tombola.evidence.statistics import half_width
from tombola.evidence.verdicts import LEAST
from tombola.ground.metrics import ACCURACY, Metric

Record = Mapping[str, Any]
_Key = tuple[str, int, int]  # arm, replicate, round

DENSE = "dense"
TARGETS = (0.8, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
MOST = 4  # densities in one figure


@dataclass(frozen=True)
class Spread:
    """A value over ``n`` replicates: mean, sample standard deviation (n - 1; None for one
    replicate) and extremes.
    """

    n: int
    mean: float
    deviation: float | None
    lowest: float
    highest: float

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % t interval of the mean; ``None`` for fewer than three values, of which it
        says next to nothing.
        """
        if self.n < LEAST or self.deviation is None:
            return None
        half = half_width(self.deviation, self.n)
        return self.mean - half, self.mean + half


@dataclass(frozen=True)
class RoundRow:
    """One round of one arm over the ``replicates`` that reached it; densities are fractions.

    ``value``, the headline metric on the test split, is None where no replicate's ticket was
    evaluated; ``early_stop_step`` and ``kept_fraction`` are means over the replicates that have
    one, else None.
    """

    arm: str
    round: int
    density: float
    density_total: float
    replicates: int
    value: Spread | None
    early_stop_step: float | None
    kept_fraction: float | None


@dataclass(frozen=True)
class TargetRow:
    """One arm at its first round at or below a target density, over the ``reached`` of
    ``replicates`` that got there.

    ``density`` is what was met in fact (an arm may step from 0.52 to 0.38 over a target of 0.5),
    ``trainings`` the cost in trainings on the full data, ``seconds`` their wall time; both
    cumulative, but for arms whose densities know nothing of each other. All None if none got there,
    and ``value``, the headline metric on the test split, where these tickets were not evaluated.
    """

    arm: str
    target: float
    reached: int
    replicates: int
    round: float | None
    density: float | None
    value: Spread | None
    trainings: float | None
    seconds: float | None


def spread(values: Iterable[float]) -> Spread:
    """Summarise one value per replicate.

    Raises:
        ValueError: There is no value.

    >>> spread([0.75, 0.25])
    Spread(n=2, mean=0.5, deviation=0.3535533905932738, lowest=0.25, highest=0.75)
    >>> print(spread([0.75]).deviation)
    None
    """
    known = [float(value) for value in values]
    if not known:
        raise ValueError("a spread needs at least one value, and there is none")
    deviation = statistics.stdev(known) if len(known) > 1 else None
    return Spread(len(known), statistics.mean(known), deviation, min(known), max(known))


def arms(records: Iterable[Record]) -> list[str]:
    """List the arms that search, in the order in which they appear; ``dense`` is none of them.

    >>> arms([{"arm": "lth"}, {"arm": "dense"}, {"arm": "colt-2"}, {"arm": "lth"}])
    ['lth', 'colt-2']
    """
    named = dict.fromkeys(record["arm"] for record in records)
    return [arm for arm in named if arm != DENSE]


def untrained(records: Sequence[Record]) -> list[str]:
    """List the arms whose tickets are tested untrained, in the order in which they appear."""
    without_training = untrained_arms(records)
    return [arm for arm in arms(records) if arm in without_training]


def trained_arms(records: Sequence[Record]) -> list[str]:
    """List the arms whose tickets are trained before they are tested.

    >>> trained_arms([{"arm": "lth", "round": 1}, {"arm": "x", "round": 1, "untrained": True}])
    ['lth']
    """
    without_training = untrained_arms(records)
    return [arm for arm in arms(records) if arm not in without_training]


def of_trained(records: Sequence[Record]) -> list[Record]:
    """Return the results without those of arms whose tickets are tested untrained."""
    without_training = untrained_arms(records)
    return [record for record in records if record["arm"] not in without_training]


def of_arm(records: Iterable[Record], arm: str) -> list[Record]:
    """Return the results of one arm."""
    return [record for record in records if record["arm"] == arm]


def values(records: Iterable[Record], entry: str) -> list[Any]:
    """Return an entry of each record, ``None`` where a record has none."""
    return [record.get(entry) for record in records]


def replicates(records: Iterable[Record]) -> int:
    """Count the replicates that any arm has; an arm with fewer has lost some.

    >>> replicates([{"replicate": 0}, {"replicate": 2}, {"replicate": 0}])
    2
    """
    return len({record["replicate"] for record in records})


@once
def dense(records: Sequence[Record], metric: Metric = ACCURACY) -> Spread | None:
    """Summarise the headline metric of the dense network on the test split, or return None if
    nothing was evaluated.

    Without the arm ``dense``, round 0 of the other arms stands for it: it is the same network, and
    replicate k of every arm shares its seed, so that each replicate counts once.

    >>> dense([{"arm": "dense", "replicate": 0, "round": 0, "test_accuracy": 0.5}]).mean
    0.5
    """
    first = [record for record in records if record["round"] == 0]
    by_replicate: dict[int, float] = {}
    for record in of_arm(first, DENSE) or first:
        by_replicate.setdefault(record["replicate"], record[metric.test])
    return spread(by_replicate.values()) if by_replicate else None


@once
def by_round(records: Sequence[Record], metric: Metric = ACCURACY) -> list[RoundRow]:
    """Summarise every round of every arm that searches, arms in order of appearance, rounds
    ascending. Round 0, the trained network, has no value where an arm's tickets stay untrained.

    >>> densities = {"density": 0.8, "density_total": 0.9, "kept_fraction": 0.8}
    >>> same = {"arm": "lth", "round": 1, "early_stop_step": None} | densities
    >>> [row] = by_round([
    ...     {**same, "replicate": 0, "test_accuracy": 0.5},
    ...     {**same, "replicate": 1, "test_accuracy": 1.0},
    ... ])
    >>> row.arm, row.round, row.value.mean, row.kept_fraction, row.early_stop_step
    ('lth', 1, 0.75, 0.8, None)
    """
    rows, without_training = [], untrained_arms(records)
    for arm in arms(records):
        by_index: dict[int, list[Record]] = {}
        for record in of_arm(records, arm):
            by_index.setdefault(record["round"], []).append(record)
        for index, here in sorted(by_index.items()):
            is_tested_alike = index > 0 or arm not in without_training
            row = RoundRow(
                arm=arm,
                round=index,
                density=statistics.mean(values(here, "density")),
                density_total=statistics.mean(values(here, "density_total")),
                replicates=len(here),
                value=known_spread(values(here, metric.test)) if is_tested_alike else None,
                early_stop_step=_mean(values(here, "early_stop_step")),
                kept_fraction=_mean(values(here, "kept_fraction")),
            )
            rows.append(row)
    return rows


@once
def kept_per_round(
    records: Sequence[Record], made_of: Mapping[str, str] = ledger.UNKNOWN
) -> dict[str, Spread]:
    """Return what an arm keeps of the weights in a round: per replicate the geometric mean, then
    over replicates.

    Args:
        records: Of the whole experiment; arms whose rounds are a list of densities
            (`ledger.independent_arms`) are left out.
        made_of: By arm, whose tickets it takes.

    >>> records = [{"arm": "lth", "replicate": 0, "round": r, "density": 0.8**r} for r in range(4)]
    >>> round(kept_per_round(records)["lth"].mean, 6)
    0.8
    """
    last: dict[tuple[str, int], Record] = {}
    independent = ledger.independent_arms(records, made_of)
    for record in sorted(records, key=lambda record: int(record["round"])):
        # A dense network that is trained longer keeps all, and densities that know nothing of each
        # other are no rounds.
        if record["round"] and 0 < record["density"] < 1 and record["arm"] not in independent:
            last[record["arm"], record["replicate"]] = record
    kept: dict[str, list[float]] = {}
    for (arm, _), record in last.items():
        kept.setdefault(arm, []).append(record["density"] ** (1 / record["round"]))
    return {arm: spread(kept[arm]) for arm in arms(records) if arm in kept}


@once
def by_target(
    records: Sequence[Record],
    targets: Sequence[float] = TARGETS,
    made_of: Mapping[str, str] = ledger.UNKNOWN,
    metric: Metric = ACCURACY,
) -> list[TargetRow]:
    """Summarise every arm at its first round at or below each density that some arm reached.

    Each replicate brings its own first round. A density counts as reached if it equals the target
    to 0.05 % of it, because counts are rounded to whole weights. ``replicates`` counts those of the
    whole experiment, so a replicate that failed shows as not reached. Cost is in trainings of the
    dense network on the full data, what it saw in round 0 of the same replicate: of the ledger's
    account where records list their trainings, with the search that found a control's tickets, else
    ``samples_seen``.

    Args:
        records: Of the whole experiment; the arm ``dense`` is left out.
        targets: Densities as fractions; the rows keep their order.
        made_of: By arm, whose tickets it takes.
        metric: What is summarised of them.

    >>> same = {"arm": "lth", "replicate": 0, "test_accuracy": 0.9}
    >>> [row] = by_target([
    ...     {**same, "round": 0, "density": 1.0, "samples_seen": 100, "seconds": 2.0},
    ...     {**same, "round": 1, "density": 0.8, "samples_seen": 200, "seconds": 4.0},
    ... ])
    >>> row.target, row.round, row.trainings, row.seconds, row.reached, row.replicates
    (0.8, 1.0, 2.0, 4.0, 1, 1)
    """
    total, costs = replicates(records), _costs(records, made_of)
    rows = []
    for target in targets:
        of_target = []
        for arm in arms(records):
            tickets = firsts(of_arm(records, arm), target)
            of_target.append(_target_row(arm, target, tickets, costs, total, metric))
        if any(row.reached for row in of_target):
            rows += of_target
    return rows


def few(densities: Sequence[float]) -> list[float]:
    """Choose what one figure has room for: of many densities four, evenly, with the first and the
    last.

    >>> few([0.5, 0.2]), few([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
    ([0.5, 0.2], [0.9, 0.7, 0.5, 0.3])
    """
    if len(densities) <= MOST:
        return list(densities)
    step = (len(densities) - 1) / (MOST - 1)
    return [densities[round(index * step)] for index in range(MOST)]


def early_value(record: Record, metric: Metric = ACCURACY) -> float | None:
    """Return the headline metric on the test split at the early stop, as it is shown: a
    fraction in percent.
    """
    return scaled(record.get(metric.early), metric)


def above_test(record: Record, metric: Metric = ACCURACY) -> float | None:
    """Return how far the headline metric on the training data is above that on the test data:
    fractions in points.

    >>> above_test({"train_accuracy": 0.99, "test_accuracy": 0.96})
    3.0
    >>> print(above_test({"test_accuracy": 0.96}))
    None
    """
    return _above(record, metric.test, metric)


def above_valid(record: Record, metric: Metric = ACCURACY) -> float | None:
    """Return the same above that on the validation data."""
    return _above(record, metric.valid, metric)


def _above(record: Record, other: str, metric: Metric) -> float | None:
    train, below = record.get(metric.train), record.get(other)
    return None if train is None or below is None else round(metric.scale * (train - below), 9)


def scaled(value: float | None, metric: Metric) -> float | None:
    """Return a value as it is shown, a fraction in percent, and nothing of nothing."""
    return None if value is None else metric.scale * value


def firsts(records: Sequence[Record], target: float) -> list[Record]:
    """Return each replicate's first record at or below the target, of the records of one arm."""
    by_replicate: dict[int, Record] = {}
    for record in sorted(records, key=lambda record: record["round"]):
        if reaches(record, target):
            by_replicate.setdefault(record["replicate"], record)
    return list(by_replicate.values())


@once
def _costs(
    records: Sequence[Record], made_of: Mapping[str, str]
) -> dict[_Key, tuple[float | None, float]]:
    """Return of each result what it took up to there, in full-data trainings and in seconds."""
    units: dict[int, int] = {}  # by replicate, the examples of a full-data training
    # The least: an arm that trains the dense network once more says so in its round 0.
    for record in records:
        if record["round"] == 0:
            seen = record["samples_seen"]
            units[record["replicate"]] = min(seen, units.get(record["replicate"], seen))
    costs: dict[_Key, tuple[float | None, float]] = {}
    independent = ledger.independent_arms(records, made_of)
    for account in ledger.accounts(records, made_of):
        record = account.record
        # Records of before trainings were listed have their sums alone.
        samples, seconds = record["samples_seen"], float(record["seconds"])
        charged = account.this_ticket if record["arm"] in independent else account.so_far
        if charged.trainings:
            samples, seconds = charged.samples, charged.seconds
        unit = units.get(record["replicate"])
        costs[_key(record)] = (samples / unit if unit else None, seconds)
    return costs


def _key(record: Record) -> _Key:
    return record["arm"], record["replicate"], record["round"]


def _target_row(
    arm: str,
    target: float,
    tickets: Sequence[Record],
    costs: Mapping[_Key, tuple[float | None, float]],
    total: int,
    metric: Metric,
) -> TargetRow:
    taken = [costs[_key(record)] for record in tickets]
    return TargetRow(
        arm=arm,
        target=target,
        reached=len(tickets),
        replicates=total,
        round=_mean(values(tickets, "round")),
        density=_mean(values(tickets, "density")),
        value=known_spread(values(tickets, metric.test)),
        trainings=_mean(trainings for trainings, _ in taken),
        seconds=_mean(seconds for _, seconds in taken),
    )


def known_spread(values: Iterable[float | None]) -> Spread | None:
    """Summarise the values that are known; ``None`` where none is."""
    known = [value for value in values if value is not None]
    return spread(known) if known else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return statistics.mean(known) if known else None
