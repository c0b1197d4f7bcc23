"""Matrix: what tickets reach on data sets, and how far they are from dense, from tickets found
there and from chance.

    records of a transfer -> groups -> [ matrix, paired differences ] -> summary.md, transfer.html

The tickets of one arm, found on one data set, stand for each other: the first of each replicate,
the second, and so on. A replicate's seed draws its new heads and the order of its data, so tickets
of one seed pair on every data set.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tombola.evidence import statistics
from tombola.evidence.statistics import Paired
from tombola.evidence.verdicts import LEAST
from tombola.ground.files import write_whole
from tombola.ground.metrics import ACCURACY
from tombola.reports import aggregate
from tombola.reports.aggregate import DENSE, Record
from tombola.reports.grids import Grid, difference, listed, percent
from tombola.reports.layout import Layout, lay_out
from tombola.reports.table import escaped, markdown_table, spread

_LIKE = 1.1  # tickets whose densities differ by less than this factor are compared
_MOST_TOLD = 6  # differences that are told in words


LAYOUT = Layout(
    of="transfer",
    first=("transfer_answer", "transfer_notes", "transfer_matrix"),
    folds={"Differences": ("transfer_differences",), "Reproduce": ("transfer_setting",)},
)


@dataclass(frozen=True)
class Group:
    """Tickets that stand for each other, one a replicate.

    Attributes:
        arm: Its name; "dense" is the unpruned network.
        home: The data set that they were found on.
        model: Their architecture.
        control: Whether they were drawn or changed, and not found.
        density: Mean of their densities.
        results: By data set and replicate's seed, what came out.
    """

    arm: str
    home: str
    model: str
    control: bool
    density: float
    results: Mapping[tuple[str, int], Record]

    @property
    def dense(self) -> bool:
        """Whether this is the unpruned network."""
        return self.arm == DENSE

    def on(self, data: str) -> dict[int, Record]:
        """Return the results on a data set by the replicate's seed."""
        return {seed: record for (where, seed), record in self.results.items() if where == data}


@dataclass(frozen=True)
class Difference:
    """Two groups on one data set: test accuracy of the first minus that of the second, within
    replicates.
    """

    data: str
    first: Group
    second: Group
    paired: Paired


@dataclass(frozen=True)
class Matrix:
    """All that a transfer compares.

    Attributes:
        groups: Of tickets: the unpruned networks first, then arms in order, each from dense to
            sparse.
        data: The data sets that they were trained on, in order.
        differences: On each data set, of each group: from the unpruned network that starts where it
            does; from the same arm's tickets that were found on the data set itself; from the other
            arms of its home, at like density.
    """

    groups: tuple[Group, ...]
    data: tuple[str, ...]
    differences: tuple[Difference, ...]

    @classmethod
    def of(cls, records: Sequence[Record]) -> Matrix:
        """Group and compare the results of a transfer."""
        known, data = _groups(records), tuple(dict.fromkeys(map(_target, records)))
        differences = []
        for target in data:
            for first in known:
                for second in _references(first, known, target):
                    paired = _paired(first, second, target)
                    if paired is not None:
                        differences.append(Difference(target, first, second, paired))
        return cls(known, data, tuple(differences))

    @property
    def has_dense(self) -> bool:
        """Whether the unpruned network was trained too."""
        return any(group.dense for group in self.groups)

    def from_dense(self, group: Group, data: str) -> float | None:
        """Return a group's mean difference from the unpruned network; ``None`` where that is
        not known.
        """
        if group.dense:
            return 0.0
        known = (
            one
            for one in self.differences
            if one.first is group and one.second.dense and one.data == data
        )
        return next((one.paired.mean for one in known), None)

    def name(self, group: Group) -> str:
        """Name a group as shortly as tells it from the others."""
        density = "" if group.dense else f" {percent(group.density)} %"
        home = f" from {group.home}" if len({one.home for one in self.groups}) > 1 else ""
        model = f" ({group.model})" if self.models > 1 else ""
        return f"{group.arm}{density}{home}{model}"

    @property
    def models(self) -> int:
        """How many architectures there are."""
        return len({one.model for one in self.groups})


@dataclass(frozen=True)
class Transfer:
    """What the sections of a transfer's page are made from.

    Attributes:
        matrix: All that it compares.
        notes: What could not be trained, and what else a reader must know; one line each.
        facts: What was trained, and how; kept in order.
    """

    matrix: Matrix
    notes: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)


def _target(record: Record) -> str:
    return (
        f"{record['data']} ({record['classes']} classes)"
        if record.get("classes")
        else str(record["data"])
    )


def _groups(records: Sequence[Record]) -> tuple[Group, ...]:
    kinds: dict[tuple[str, str, str], dict[int, dict[tuple[int, str], list[Record]]]] = {}
    for record in records:
        ticket = record["round"], record["arm"].rpartition(" on ")[0]
        by_seed = kinds.setdefault((record["of"], record["found_on"], record["model"]), {})
        by_seed.setdefault(record["seed"], {}).setdefault(ticket, []).append(record)
    groups = []
    for (arm, home, model), by_seed in kinds.items():
        for tickets in _aligned(by_seed):
            results = {}
            for seed, results_of_ticket in tickets.items():
                for record in results_of_ticket:
                    results[_target(record), seed] = record
            # All results of one ticket have its density.
            densities = [results_of_ticket[0]["density"] for results_of_ticket in tickets.values()]
            density = sum(densities) / len(densities)
            control = any(record["control"] for record in results.values())
            groups.append(Group(arm, home, model, control, density, results))
    return tuple(sorted(groups, key=lambda group: not group.dense))


def _aligned(
    by_seed: Mapping[int, Mapping[tuple[int, str], list[Record]]],
) -> Iterable[dict[int, list[Record]]]:
    """Give what stands for each other: the k-th densest of each replicate, or, of unequal
    numbers, equal rounds.
    """
    ordered = {seed: _densest_first(tickets) for seed, tickets in by_seed.items()}
    if len({len(tickets) for tickets in ordered.values()}) == 1:
        return [
            dict(zip(ordered, rank, strict=True)) for rank in zip(*ordered.values(), strict=True)
        ]
    rounds: dict[tuple[int, str], dict[int, list[Record]]] = {}
    for seed, tickets in by_seed.items():
        for ticket, of in tickets.items():
            rounds.setdefault(ticket, {})[seed] = of
    return [rounds[ticket] for ticket in sorted(rounds)]


def _densest_first(tickets: Mapping[tuple[int, str], list[Record]]) -> list[list[Record]]:
    """Return the results of each ticket of a replicate; tickets of one density by round and arm."""

    def rank(ticket: tuple[int, str]) -> tuple[float, tuple[int, str]]:
        return -tickets[ticket][0]["density"], ticket

    return [tickets[ticket] for ticket in sorted(tickets, key=rank)]


def _references(first: Group, known: Sequence[Group], data: str) -> list[Group]:
    """Return what a group is compared with on a data set: of each arm and home what is nearest
    in density.
    """
    if first.dense or not first.on(data):
        return []
    arms = list(dict.fromkeys(group.arm for group in known))
    nearest: dict[tuple[str, str], Group] = {}
    for other in known:
        if other.model != first.model or not other.on(data):
            continue
        same_home = other.home == first.home
        found_there = first.home != data and (other.arm, other.home) == (first.arm, data)
        # Of two arms the first named stands first; a control always stands second.
        after = (first.control, arms.index(first.arm)) < (other.control, arms.index(other.arm))
        like = _apart(first, other) < math.log(_LIKE)
        to_dense = same_home and other.dense
        to_ticket = like and (found_there or (same_home and after))
        if not (to_dense or to_ticket):
            continue
        best = nearest.setdefault((other.arm, other.home), other)
        if _apart(first, other) < _apart(first, best):
            nearest[other.arm, other.home] = other
    return list(nearest.values())


def _apart(one: Group, other: Group) -> float:
    return abs(math.log(max(one.density, 1e-12) / max(other.density, 1e-12)))


def _paired(first: Group, second: Group, data: str) -> Paired | None:
    """Compare two groups within replicates; a ticket and the unpruned network only if they
    start from one point.
    """
    differences = []
    results_of_second = second.on(data)
    for seed, result in first.on(data).items():
        reference = results_of_second.get(seed)
        if reference is None:
            continue
        if second.dense and result["rewind_digest"] != reference["rewind_digest"]:
            continue
        differences.append(result["test_accuracy"] - reference["test_accuracy"])
    return statistics.paired(differences) if differences else None


def matrix_grid(matrix: Matrix) -> Grid:
    """Return the matrix as text: a row for each group of tickets, a column for each data set."""
    several = matrix.models > 1
    rows = []
    for group in matrix.groups:
        label = [
            group.arm,
            group.home,
            *([group.model] if several else []),
            f"{100 * group.density:.2f}",
        ]
        replicates = len({seed for _, seed in group.results})
        rows.append(
            [*label, str(replicates), *(_cell(group, data, replicates) for data in matrix.data)]
        )
    labels = ["ticket", "found on", *(["model"] if several else []), "density %", "replicates"]
    return Grid("Test accuracy in percent", labels, [("", list(matrix.data))], rows)


def _cell(group: Group, data: str, replicates: int) -> str:
    found = [record["test_accuracy"] for record in group.on(data).values()]
    return spread(aggregate.spread(found), replicates=replicates) if found else ""


def difference_grid(matrix: Matrix) -> Grid:
    """Return the paired differences as text, in points."""
    rows, above = list[list[str]](), ""
    for one in matrix.differences:
        label = "" if one.data == above else one.data
        names = [matrix.name(group) for group in (one.first, one.second)]
        rows.append(
            [
                label,
                *names,
                str(one.paired.n),
                ACCURACY.signed(one.paired.mean),
                ACCURACY.interval(one.paired.low, one.paired.high),
            ]
        )
        above = one.data
    heads = ["n", "difference", "95 % interval"]
    return Grid(
        "Paired differences in test accuracy, points",
        ["data", "ticket", "against"],
        [("", heads)],
        rows,
    )


def question(matrix: Matrix) -> list[str]:
    """Say what the matrix answers, one line; nothing where there are no tickets.

    >>> question(Matrix.of([]))
    []
    """
    tickets = [group for group in matrix.groups if not group.dense]
    if not tickets:
        return []
    away = []  # data sets on which tickets were trained that were found elsewhere
    for data in matrix.data:
        if any(group.home != data and group.on(data) for group in tickets):
            away.append(data)
    homes = list(dict.fromkeys(group.home for group in tickets))
    where = away or matrix.data
    against = ["as the dense network"] if matrix.has_dense else []
    against += ["as those found there"] if set(homes) & set(away) else []
    if not against:
        return [f"How well do tickets found on {listed(homes)} train on {listed(where)}?"]
    return [
        f"Do tickets found on {listed(homes)} train as well on {listed(where)} {listed(against)}?"
    ]


def sentences(matrix: Matrix) -> list[str]:
    """Say how found tickets differ away from home from dense, from those found there and from
    chance, the first few.

    Of each pair of arms the sparsest is told.
    """
    sparsest: dict[tuple[str, ...], Difference] = {}
    for one in matrix.differences:
        first, second = one.first, one.second
        if first.home == one.data or first.control:
            continue
        if second.dense or second.control or second.home == one.data:
            # Differences come from dense to sparse, so that the last of a pair stands.
            sparsest[one.data, first.arm, first.home, second.arm, second.home] = one
    dense_first = sorted(
        sparsest.values(), key=lambda one: (not one.second.dense, one.second.control)
    )
    said = [_in_words(matrix, one) for one in dense_first[:_MOST_TOLD]]
    more = len(matrix.differences) - len(said)
    return said + (
        [f"{more} more difference{'s are' if more > 1 else ' is'} in the table."]
        if said and more
        else []
    )


def _in_words(matrix: Matrix, compared: Difference) -> str:
    """Say in a sentence how two groups differ, and whether that is shown."""
    paired = compared.paired
    first, second = matrix.name(compared.first), matrix.name(compared.second)
    amount = difference(paired.mean, paired.low, paired.high)
    if paired.n < LEAST:
        replicates = f"{paired.n} replicate{'s' if paired.n > 1 else ''}"
        return f"On {compared.data}, {first} is {amount} from {second}, in {replicates}."
    words = {-1: ACCURACY.worse_than, 0: "not detectably different from", 1: ACCURACY.better_than}
    shown = f"{first} is {words[paired.side]} {second}"
    return f"On {compared.data}, {shown}: {amount}, in {paired.n} replicates."


def legend(matrix: Matrix) -> list[str]:
    """Return how to read the tables, one line each; nothing where there is no table."""
    return [*matrix_legend(matrix), *differences_legend(matrix)]


def matrix_legend(matrix: Matrix) -> list[str]:
    """Return how to read the table of results, one line; nothing where there is none."""
    if not matrix.groups:
        return []
    return [
        "± is the sample standard deviation over replicates; a smaller number of them stands in "
        "brackets."
    ]


def differences_legend(matrix: Matrix) -> list[str]:
    """Return how to read the table of differences, one line; nothing where there is none."""
    if not matrix.differences:
        return []
    return [
        "Differences are within replicates, which share the new head and the order of the data, "
        "each with its own 95 % t interval over seeds. Arms are compared where their densities are "
        "within a tenth of each other, tickets with the unpruned network that starts where they "
        "start."
    ]


def markdown(title: str, matrix: Matrix, notes: Sequence[str], facts: Mapping[str, str]) -> str:
    """Return matrix and differences as GitHub Markdown; names may hold any text."""
    parts = [f"# {escaped(title)}", *map(escaped, question(matrix))]
    parts.append("\n".join(f"- {escaped(key)}: {escaped(value)}" for key, value in facts.items()))
    for grid in (matrix_grid(matrix), difference_grid(matrix)):
        parts += [f"## {grid.title}", markdown_table(grid)] if grid.rows else []
    parts += legend(matrix)
    parts.append("\n".join(f"- {escaped(note)}" for note in notes))
    return "\n\n".join(filter(None, parts)) + "\n"


def write(
    folder: Path,
    title: str,
    records: Sequence[Record],
    notes: Sequence[str],
    facts: Mapping[str, str],
) -> list[Path]:
    """Write ``summary.md`` and ``transfer.html`` of a transfer and return them; older ones are
    replaced.

    Args:
        folder: Where to.
        title: Plain text, as are notes and facts.
        records: Of the transfer.
        notes: What could not be trained, and what else a reader must know; one line each.
        facts: What was trained, and how; kept in order.
    """
    matrix = Matrix.of(records)
    sheet = lay_out(LAYOUT, Transfer(matrix, notes, facts))
    html = sheet.html(title, question(matrix))
    files = {"summary.md": markdown(title, matrix, notes, facts).encode(), "transfer.html": html}
    for name, text in files.items():
        write_whole(folder / name, text)
    return [folder / name for name in files]


def cells(matrix: Matrix) -> list[dict[str, Any]]:
    """Return the cells of the figure: mean accuracy in percent, and its difference from dense
    where that is known.
    """
    cells = []
    for group in matrix.groups:
        for data in matrix.data:
            found = [record["test_accuracy"] for record in group.on(data).values()]
            if not found:
                continue
            over, away = aggregate.spread(found), matrix.from_dense(group, data)
            cells.append(
                {
                    "ticket": matrix.name(group),
                    "data": data,
                    "accuracy": 100 * over.mean,
                    "deviation": "" if over.deviation is None else f"± {100 * over.deviation:.2f}",
                    "difference": None if away is None or not matrix.has_dense else 100 * away,
                    "replicates": over.n,
                }
            )
    return cells


def caption(matrix: Matrix) -> str:
    """Say what the figure shows."""
    colour = "difference from the dense network, in points" if matrix.has_dense else "test accuracy"
    return (
        "Mean test accuracy in percent, ± its standard deviation over replicates. "
        f"Colour: {colour}."
    )
