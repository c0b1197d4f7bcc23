"""Matrix: what tickets reach on data sets, and how far they are from dense, from tickets found
there and from chance.

    records of a transfer -> groups -> [ matrix, paired differences ] -> summary.md, transfer.html

The tickets of one arm, found on one data set, stand for each other: the first of each replicate,
the second, and so on. A replicate's seed draws its new heads and the order of its data, so tickets
of one seed pair on every data set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tombola.evidence import statistics
from tombola.evidence.statistics import Paired
from tombola.evidence.verdicts import LEAST
from tombola.ground.files import write_whole
from tombola.ground.metrics import ACCURACY
from tombola.reports import aggregate
from tombola.reports.aggregate import DENSE, Record, Spread
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
        return {seed: record for (place, seed), record in self.results.items() if place == data}

    @property
    def replicates(self) -> int:
        """How many there are, on all data sets together."""
        return len({seed for _, seed in self.results})

    def accuracies(self, data: str) -> Spread | None:
        """Summarise the test accuracies on a data set; ``None`` where there are none."""
        return aggregate.known_spread(record["test_accuracy"] for record in self.on(data).values())


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
        for compared in self.differences:
            if compared.first is group and compared.second.dense and compared.data == data:
                return compared.paired.mean
        return None

    def name(self, group: Group) -> str:
        """Name a group as shortly as tells it from the others."""
        density = "" if group.dense else f" {percent(group.density)} %"
        homes = {known.home for known in self.groups}
        home = f" from {group.home}" if len(homes) > 1 else ""
        model = f" ({group.model})" if self.models > 1 else ""
        return f"{group.arm}{density}{home}{model}"

    @property
    def models(self) -> int:
        """How many architectures there are."""
        return len({group.model for group in self.groups})


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
    """Return the data set that a ticket was trained on, as it is called here."""
    if record.get("classes"):
        return f"{record['data']} ({record['classes']} classes)"
    return str(record["data"])


# The results of one ticket, on all data sets; and all tickets of one replicate.
_Results = list[Record]
_Tickets = dict[tuple[int, str], _Results]


def _groups(records: Sequence[Record]) -> tuple[Group, ...]:
    kinds: dict[tuple[str, str, str], dict[int, _Tickets]] = {}
    for record in records:
        kind = record["of"], record["found_on"], record["model"]
        ticket = record["round"], record["arm"].rpartition(" on ")[0]
        tickets = kinds.setdefault(kind, {}).setdefault(record["seed"], {})
        tickets.setdefault(ticket, []).append(record)
    groups = []
    for (arm, home, model), by_seed in kinds.items():
        for ticket_by_seed in _aligned(by_seed):
            results = {}
            densities = []
            for seed, results_of_ticket in ticket_by_seed.items():
                densities.append(_density(results_of_ticket))
                for record in results_of_ticket:
                    results[_target(record), seed] = record
            density = sum(densities) / len(densities)
            control = any(record["control"] for record in results.values())
            groups.append(Group(arm, home, model, control, density, results))
    return tuple(sorted(groups, key=lambda group: not group.dense))


def _density(results_of_ticket: _Results) -> float:
    # A ticket has one density, wherever it is trained.
    density: float = results_of_ticket[0]["density"]
    return density


def _aligned(by_seed: Mapping[int, _Tickets]) -> list[dict[int, _Results]]:
    """Give what stands for each other: the k-th densest of each replicate, or, of unequal
    numbers, equal rounds.
    """
    aligned: list[dict[int, _Results]] = []
    if len({len(tickets) for tickets in by_seed.values()}) == 1:
        densest_first = map(_densest_first, by_seed.values())
        for rank in zip(*densest_first, strict=True):
            aligned.append(dict(zip(by_seed, rank, strict=True)))
        return aligned
    rounds: dict[tuple[int, str], dict[int, _Results]] = {}
    for seed, tickets in by_seed.items():
        for ticket, results in tickets.items():
            rounds.setdefault(ticket, {})[seed] = results
    return [rounds[ticket] for ticket in sorted(rounds)]


def _densest_first(tickets: _Tickets) -> list[_Results]:
    """Return the results of each ticket of a replicate; tickets of one density by round and arm."""
    ordered = sorted(tickets, key=lambda ticket: (-_density(tickets[ticket]), ticket))
    return [tickets[ticket] for ticket in ordered]


def _references(first: Group, known: Sequence[Group], data: str) -> list[Group]:
    """Return what a group is compared with on a data set: of each arm and home what is nearest
    in density.
    """
    if first.dense or not first.on(data):
        return []
    arms = list(dict.fromkeys(group.arm for group in known))
    nearest: dict[tuple[str, str], Group] = {}
    for second in known:
        if second.model != first.model or not second.on(data):
            continue
        same_home = second.home == first.home
        found_there = first.home != data and (second.arm, second.home) == (first.arm, data)
        # Of two arms the first named stands first; a control always stands second.
        in_order = (first.control, arms.index(first.arm)) < (second.control, arms.index(second.arm))
        like = _log_ratio(first, second) < math.log(_LIKE)
        to_dense = same_home and second.dense
        to_ticket = like and (found_there or (same_home and in_order))
        if not (to_dense or to_ticket):
            continue
        best = nearest.setdefault((second.arm, second.home), second)
        if _log_ratio(first, second) < _log_ratio(first, best):
            nearest[second.arm, second.home] = second
    return list(nearest.values())


def _log_ratio(first: Group, second: Group) -> float:
    """Return how far two densities are from each other, in logarithms."""
    return abs(math.log(max(first.density, 1e-12) / max(second.density, 1e-12)))


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
    rows = []
    for group in matrix.groups:
        model = [group.model] if matrix.models > 1 else []
        row = [group.arm, group.home, *model, f"{100 * group.density:.2f}", str(group.replicates)]
        for data in matrix.data:
            accuracies = group.accuracies(data)
            row.append(spread(accuracies, replicates=group.replicates) if accuracies else "")
        rows.append(row)
    head_of_model = ["model"] if matrix.models > 1 else []
    labels = ["ticket", "found on", *head_of_model, "density %", "replicates"]
    return Grid("Test accuracy in percent", labels, [("", list(matrix.data))], rows)


def difference_grid(matrix: Matrix) -> Grid:
    """Return the paired differences as text, in points."""
    rows, above = list[list[str]](), ""
    for compared in matrix.differences:
        paired = compared.paired
        rows.append(
            [
                "" if compared.data == above else compared.data,
                matrix.name(compared.first),
                matrix.name(compared.second),
                str(paired.n),
                ACCURACY.signed(paired.mean),
                ACCURACY.interval(paired.low, paired.high),
            ]
        )
        above = compared.data
    return Grid(
        "Paired differences in test accuracy, points",
        ["data", "ticket", "against"],
        [("", ["n", "difference", "95 % interval"])],
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
    origin, target = listed(homes), listed(away or matrix.data)
    against = []
    if matrix.has_dense:
        against.append("as the dense network")
    if set(homes) & set(away):
        against.append("as those found there")
    if not against:
        return [f"How well do tickets found on {origin} train on {target}?"]
    return [f"Do tickets found on {origin} train as well on {target} {listed(against)}?"]


def sentences(matrix: Matrix) -> list[str]:
    """Say how found tickets differ away from home from dense, from those found there and from
    chance, the first few.

    Of each pair of arms the sparsest is told.
    """
    sparsest: dict[tuple[str, ...], Difference] = {}
    for compared in matrix.differences:
        first, second, data = compared.first, compared.second, compared.data
        if first.home == data or first.control:
            continue
        if second.dense or second.control or second.home == data:
            # Differences come from dense to sparse, so that the last of a pair stands.
            sparsest[data, first.arm, first.home, second.arm, second.home] = compared
    # Differences from the dense network first, those from controls last.
    in_order = sorted(
        sparsest.values(),
        key=lambda compared: (not compared.second.dense, compared.second.control),
    )
    lines = [_in_words(matrix, compared) for compared in in_order[:_MOST_TOLD]]
    more = len(matrix.differences) - len(lines)
    if lines and more:
        lines.append(f"{more} more difference{'s are' if more > 1 else ' is'} in the table.")
    return lines


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
            accuracy = group.accuracies(data)
            if accuracy is None:
                continue
            deviation = accuracy.deviation
            away = matrix.from_dense(group, data)
            cells.append(
                {
                    "ticket": matrix.name(group),
                    "data": data,
                    "accuracy": 100 * accuracy.mean,
                    "deviation": "" if deviation is None else f"± {100 * deviation:.2f}",
                    "difference": None if away is None else 100 * away,
                    "replicates": accuracy.n,
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
