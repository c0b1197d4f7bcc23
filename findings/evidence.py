"""Evidence: differences within replicates, and the one rule by which they answer a claim.

    records -> a value a replicate -> differences -> [ Statement ] -> [ answer ]

Everything is in points (percent of test accuracy) where nothing else is said.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import operator
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tombola import Run, compare
from tombola.evidence.comparisons import reaches, rounds_of, values_at
from tombola.evidence.statistics import paired
from tombola.records.records import Record

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs/findings"

Values = Sequence[float]  # one a replicate
State = Literal["shown", "contradicted", "undecided"]

# What "as accurate as" means, in points: the margins that the recipes ask about.
MARGIN_MNIST = 0.2
MARGIN = 1.0
MARGIN_MAP = 2.0


@functools.cache
def run(folder: str) -> Run:
    """Open the packed run of a finding."""
    return Run(FOLDER / folder)


@functools.cache
def records(folder: str) -> list[Record]:
    """Read the records of a run, each with its gaps: training minus test or validation accuracy."""
    with_gaps: list[Record] = []
    for record in run(folder).records.all():
        # Older records did not measure training accuracy.
        train = record.get("train_accuracy")
        gaps = {}
        for name, entry in (("gap", "test_accuracy"), ("gap_valid", "valid_accuracy")):
            accuracy = record.get(entry)
            gaps[name] = None if train is None or accuracy is None else train - accuracy
        with_gaps.append({**record, **gaps})
    return with_gaps


@functools.cache
def lines(path: str) -> list[dict[str, Any]]:
    """Read a file of JSON lines of a finding: a matrix of transfers, similarities, branches."""
    text = (FOLDER / path).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def replicates(folder: str) -> list[int]:
    """Return the numbers of a run's replicates."""
    return sorted({record["replicate"] for record in records(folder)})


def percent(fractions: Values) -> list[float]:
    """Return fractions in percent."""
    return [100 * fraction for fraction in fractions]


def values(folder: str, arm: str, density: float, entry: str = "test_accuracy") -> list[float]:
    """Return what each replicate has at a density, in percent, interpolated between its rounds."""
    by_replicate = values_at(records(folder), arm, density, entry)
    return percent([by_replicate[replicate].value for replicate in sorted(by_replicate)])


def differences(
    folder: str,
    arm: str,
    other: str,
    density: float,
    entry: str = "test_accuracy",
    *,
    beside: str | None = None,
) -> list[float]:
    """Return arm minus other at a density, in points; ``beside``: the other's run if another."""
    others = None if beside is None else records(beside)
    comparison = compare(records(folder), arm, other, at=density, of=entry, beside=others)
    return percent(comparison.differences)


def in_round(folder: str, arm: str, index: int, entry: str) -> list[Any]:
    """Return what each replicate of an arm has in a round, in the record's own unit."""
    by_replicate = []
    for rounds in rounds_of(records(folder), arm).values():
        by_replicate += [record[entry] for record in rounds if record["round"] == index]
    return by_replicate


def accuracies(folder: str, arm: str, index: int, entry: str = "test_accuracy") -> list[float]:
    """Return what each replicate of an arm has in a round, in percent."""
    return percent(in_round(folder, arm, index, entry))


def minus(first: Values, second: Values, unit: float = 1) -> list[float]:
    """Subtract within replicates."""
    return [unit * (value - subtracted) for value, subtracted in zip(first, second, strict=True)]


def ratios(first: Values, second: Values) -> list[float]:
    """Divide within replicates, as natural logarithms, whose mean is that of a geometric mean."""
    return [math.log(value / divisor) for value, divisor in zip(first, second, strict=True)]


def rounds_to(folder: str, arm: str, density: float) -> list[int]:
    """Count the rounds that each replicate needs to come down to a density."""
    counts = []
    for rounds in rounds_of(records(folder), arm).values():
        counts.append(min(record["round"] for record in rounds if reaches(record, density)))
    return counts


def kept_a_round(folder: str, arm: str) -> list[float]:
    """Return the percentage that a round keeps, the geometric mean over rounds, by replicate."""
    kept = []
    for rounds in rounds_of(records(folder), arm).values():
        last = rounds[-1]
        kept.append(100 * last["density"] ** (1 / last["round"]))
    return kept


def trainings(folder: str, arm: str, entry: str = "samples_seen") -> float:
    """Return what an arm cost in trainings on all data: the mean over replicates."""
    last = max(rounds[-1]["round"] for rounds in rounds_of(records(folder), arm).values())
    samples = in_round(folder, arm, last, entry)
    of_a_training = in_round(folder, arm, 0, "samples_seen")
    return statistics.fmean(map(operator.truediv, samples, of_a_training))


def agreement(folder: str, arm: str) -> list[float]:
    """Return how often a weight that one of two partitions prunes is pruned by the other, too.

    By replicate, the mean over rounds. Where each prunes 15 % of what is left, chance over the
    whole model gives 0.15.
    """
    by_replicate = []
    for rounds in rounds_of(records(folder), arm).values():
        shares = []
        for before, after in itertools.pairwise(rounds):
            # Of what was left before the round, each partition removes a part; the rest follows by
            # inclusion and exclusion.
            first, second = after["candidate_densities"]
            by_both = before["density"] - first - second + after["density"]
            by_one = before["density"] - (first + second) / 2
            shares.append(by_both / by_one)
        by_replicate.append(statistics.fmean(shares))
    return by_replicate


# How numbers are written


def interval(differences: Values) -> tuple[float, float, float]:
    """Return mean and the ends of the 95 % t interval.

    Raises:
        ValueError: There is a single replicate, of which there is no interval.
    """
    summary = paired(differences)
    if summary.low is None or summary.high is None:
        raise ValueError(f"an interval needs two replicates or more; there is {summary.n}")
    return summary.mean, summary.low, summary.high


def estimate(differences: Values, digits: int = 2, *, sign: bool = True) -> str:
    """Write mean and interval.

    >>> estimate([1.0, 2.0, 3.0])
    '+2.00 [-0.48, +4.48]'
    """
    form = f"{'+' if sign else ''},.{digits}f"
    middle, low, high = (format(value, form) for value in interval(differences))
    return f"{middle} [{low}, {high}]"


def ratio_estimate(logarithms: Values) -> str:
    """Write the geometric mean of ratios and its interval.

    >>> ratio_estimate([math.log(0.5), math.log(0.5), math.log(0.5)])
    '0.50 [0.50, 0.50]'
    """
    middle, low, high = (f"{math.exp(value):.2f}" for value in interval(logarithms))
    return f"{middle} [{low}, {high}]"


def spread(values: Values, digits: int = 2) -> str:
    """Write mean and sample standard deviation.

    >>> spread([1.0, 2.0, 3.0])
    '2.00 ± 1.00'
    """
    return f"{statistics.fmean(values):,.{digits}f} ± {statistics.stdev(values):,.{digits}f}"


def mean(values: Values, digits: int = 2) -> str:
    """Write a mean."""
    return f"{statistics.fmean(values):,.{digits}f}"


def listed(items: Iterable[object]) -> str:
    """Write several with commas and an "and".

    >>> listed([4, 8, 6])
    '4, 8 and 6'
    """
    *rest, last = map(str, items)
    return f"{', '.join(rest)} and {last}" if rest else last


def distinct(numbers: Iterable[int]) -> str:
    """Write the numbers that occur, in order.

    >>> distinct([8, 4, 8])
    '4 and 8'
    """
    return listed(sorted(set(numbers)))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Write a table, the first columns aligned to the left, numbers to the right and unbroken."""
    marks = [":---"] * left + ["---:"] * (len(heads) - left)
    lines = [f"| {' | '.join(row)} |" for row in (heads, marks)]
    for row in rows:
        cells = [_unbroken(cell) for cell in row]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _unbroken(cell: str) -> str:
    return cell if re.search("[a-z]", cell) else cell.replace(" ", "\u00a0")


# What a claim says, and whether it is so


@dataclass(frozen=True)
class Statement:
    """What a claim says of one mean difference.

    Attributes:
        label: What it is about, in a few words.
        values: The differences, one a replicate.
        wanted: Where the claim has the mean: "above" or "below" the bound, or "alike", within the
            bound of zero. "always above", "always below": so in every replicate.
        bound: In the unit of the values.
        form: How they are written.
    """

    label: str
    values: tuple[float, ...]
    wanted: Literal["above", "below", "alike", "always above", "always below"]
    bound: float = 0.0
    form: Callable[[Values], str] = estimate

    @property
    def state(self) -> State:
        """Whether the interval shows it, contradicts it, or leaves it open."""
        # Counts of rounds have no useful interval: they must agree in every replicate.
        if self.wanted.startswith("always"):
            sign = 1 if self.wanted == "always above" else -1
            holds = [sign * (value - self.bound) > 0 for value in self.values]
            return _state(all(holds), not any(holds))
        _, low, high = interval(self.values)
        if self.wanted == "alike":
            within = -self.bound < low and high < self.bound
            return _state(within, low > self.bound or high < -self.bound)
        if self.wanted == "above":
            return _state(low > self.bound, high < self.bound)
        return _state(high < self.bound, low > self.bound)

    def __str__(self) -> str:
        return f"{self.label} {self.form(self.values)}".strip()


@dataclass(frozen=True)
class All:
    """Several statements that must all hold together: "the best" is above each of the others."""

    parts: tuple[Statement, ...]

    @property
    def state(self) -> State:
        """Shown if all are, contradicted if one is."""
        states = [part.state for part in self.parts]
        return _state(set(states) == {"shown"}, "contradicted" in states)


def _state(shown: bool, contradicted: bool) -> State:
    if shown:
        return "shown"
    return "contradicted" if contradicted else "undecided"


def above(label: str, values: Values, bound: float = 0.0) -> Statement:
    """State that a mean is above a bound."""
    return Statement(label, tuple(values), "above", bound)


def below(label: str, values: Values, bound: float = 0.0) -> Statement:
    """State that a mean is below a bound."""
    return Statement(label, tuple(values), "below", bound)


def alike(label: str, values: Values, margin: float) -> Statement:
    """State that a mean is within a margin of zero."""
    return Statement(label, tuple(values), "alike", margin)


def supported(text: str, *statements: Statement | All, state: State = "shown") -> str:
    """Return a sentence whose words rest on statements, all of which must be in one state.

    Raises:
        ValueError: One is not: the sentence must be rewritten.
    """
    for statement in statements:
        if statement.state != state:
            raise ValueError(f"'{text}' rests on '{statement}', which is {statement.state}")
    return text


NOT_TESTABLE = "not testable at this scale"


def answer(statements: Sequence[Statement | All]) -> str:
    """Answer a claim: the one rule of the page.

    >>> answer([above("", [1, 1.1, 1.2]), above("", [-1, 0, 1])])
    'reproduced in part'
    """
    states = [statement.state for statement in statements]
    shown, contradicted = "shown" in states, "contradicted" in states
    if contradicted:
        return "refuted in part" if shown else "refuted"
    if not shown:
        return NOT_TESTABLE
    return "reproduced in part" if "undecided" in states else "reproduced"


# Matrices of transfers


def transferred(path: str) -> Mapping[tuple[str, str, str], list[float]]:
    """Return the accuracies of a transfer, in percent, by (arm, found on, trained on)."""
    cells: dict[tuple[str, str, str], dict[int, float]] = {}
    for record in lines(path):
        cell = cells.setdefault((record["of"], record["found_on"], record["data"]), {})
        cell[record["replicate"]] = 100 * record["test_accuracy"]
    return {key: in_order(cell) for key, cell in cells.items()}


def in_order(by_replicate: Mapping[int, float]) -> list[float]:
    """Return values by replicate as a list, in the order of their numbers."""
    return [by_replicate[replicate] for replicate in sorted(by_replicate)]


def pooled(*several: Values) -> list[float]:
    """Average several differences within each replicate: one interval is about all of them."""
    return [statistics.fmean(of_replicate) for of_replicate in zip(*several, strict=True)]
