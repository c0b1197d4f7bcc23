"""Masks: what the tickets of two arms prune alike, and where a layer is left without weights.

similarity.jsonl, records -> [ rows, grids, lines ] -> table, figures, page
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tombola.evidence import overlap
from tombola.evidence.comparisons import NEARLY
from tombola.reports import aggregate
from tombola.reports.aggregate import Record
from tombola.reports.decisions import Asked
from tombola.reports.grids import Grid, listed

ADJUSTED = "adjusted %"  # head of a column


@dataclass(frozen=True)
class _Meeting:
    """Two arms' tickets of one replicate, at densities that are nearly equal.

    Attributes:
        replicate: Which one.
        rounds: Of the first arm's ticket, and of the second's.
        density: Mean of the two.
        measures: What they prune alike, by name; ``None`` where that is not known.
    """

    replicate: int
    rounds: tuple[int, int]
    density: float
    measures: Mapping[str, float | None]

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> _Meeting:
        """Read a line of ``similarity.jsonl``."""
        alike = overlap.together(overlap.similarities(line))
        starts = []
        for arm in (0, 1):
            by_start = overlap.together(overlap.similarities(line, by_start=arm)).jaccard
            if by_start is not None:
                starts.append(by_start)
        both = alike.before - sum(alike.kept) + alike.common
        density = sum(alike.kept) / (2 * alike.before)
        measures = {
            "density": density,
            "both": both / alike.before,
            "jaccard": alike.jaccard,
            "chance": alike.jaccard_by_chance,
            "one rate": alike.jaccard_of_one_rate,
            "most": alike.jaccard_at_most,
            "start": statistics.fmean(starts) if len(starts) == 2 else None,
            "adjusted": alike.beyond_chance,
            "z": alike.z,
        }
        first, second = line["rounds"]
        return cls(line["replicate"], (first, second), density, measures)


@dataclass(frozen=True)
class _Pair:
    """Two arms that are compared, and where their tickets meet.

    Attributes:
        arm: The first.
        other: The second.
        meetings: By replicate, and in each from dense to sparse.
    """

    arm: str
    other: str
    meetings: Sequence[_Meeting]

    @property
    def name(self) -> str:
        """What the pair is called."""
        return f"{self.arm} - {self.other}"

    def by_rounds(self) -> list[list[_Meeting]]:
        """Return the meetings of equal rounds together, in order of rounds."""
        meetings: dict[tuple[int, int], list[_Meeting]] = {}
        for meeting in self.meetings:
            meetings.setdefault(meeting.rounds, []).append(meeting)
        return [meetings[rounds] for rounds in sorted(meetings)]

    def first_at_or_below(self, density: float) -> list[_Meeting]:
        """Return each replicate's densest meeting at or below a density."""
        first: dict[int, _Meeting] = {}
        for meeting in self.meetings:
            if meeting.density <= density * (1 + NEARLY):
                first.setdefault(meeting.replicate, meeting)
        return list(first.values())


def _pairs(records: Sequence[Record], asked: Asked) -> list[_Pair]:
    """Return the pairs of arms that are compared and whose tickets meet."""
    arms = set(aggregate.arms(records))
    compared = {frozenset(pair) for pair in asked.pairs}
    meetings: dict[tuple[str, str], list[_Meeting]] = {}
    for line in asked.similar:
        arm, other = line["arms"]
        if {arm, other} <= arms and frozenset((arm, other)) in compared:
            meetings.setdefault((arm, other), []).append(_Meeting.of(line))
    pairs = []
    for (arm, other), unordered in meetings.items():
        ordered = sorted(unordered, key=lambda meeting: (meeting.replicate, -meeting.density))
        pairs.append(_Pair(arm, other, ordered))
    return pairs


def _means(meetings: Sequence[_Meeting], unknown: float | None = None) -> dict[str, float]:
    """Return the mean of each measure.

    Args:
        meetings: One or more.
        unknown: What stands for a value that is not known. ``None``: it is left out, and so is a
            measure of which nothing is known.
    """
    means = {}
    for name in meetings[0].measures:
        values = []
        for meeting in meetings:
            value = meeting.measures[name]
            value = unknown if value is None else value
            if value is not None:
                values.append(value)
        if values:
            means[name] = statistics.fmean(values)
    return means


def similarity_rows(records: Sequence[Record], asked: Asked) -> list[dict[str, Any]]:
    """Return what `figures.similarity` draws: means over the replicates whose rounds meet, in
    percent.
    """
    rows = []
    for pair in _pairs(records, asked):
        for meetings in pair.by_rounds():
            # Tickets that prune nothing have no Jaccard index; they are drawn at 0.
            means = _means(meetings, unknown=0.0)
            first, second = meetings[0].rounds
            row: dict[str, Any] = {
                "arm": pair.arm,
                "pair": pair.name,
                "rounds": f"{first} and {second}",
                "replicates": len(meetings),
            }
            for name in ("density", "jaccard", "chance", "most", "start"):
                row[name] = 100 * means[name]
            rows.append(row)
    return rows


def similarity_grid(records: Sequence[Record], asked: Asked) -> Grid:
    """Return what compared arms prune alike in their first tickets at or below each density, as
    text.
    """
    rows: list[list[str]] = []
    for pair in _pairs(records, asked):
        before: list[_Meeting] = []
        for density in asked.at:
            meetings = pair.first_at_or_below(density)
            # Between two densities asked for there may be no ticket.
            if meetings and meetings != before:
                rows.append([pair.name, *_similarity_cells(meetings)])
            before = meetings
    heads = [
        "n",
        "both prune %",
        "Jaccard",
        "expected per layer",
        "expected at one rate",
        "maximum",
        "initial weights",
        ADJUSTED,
        "z",
    ]
    note = f"{ADJUSTED}: 0 is what chance gives in each layer, 100 the maximum."
    return Grid(
        title="Do the arms prune the same weights?",
        labels=["arms", "density %"],
        groups=[("", heads)],
        rows=rows,
        notes=(note,) if rows else (),
    )


def _similarity_cells(meetings: Sequence[_Meeting]) -> list[str]:
    means = _means(meetings)
    cells = [f"{100 * means['density']:.2f}", str(len(meetings)), f"{100 * means['both']:.2f}"]
    for name in ("jaccard", "chance", "one rate", "most", "start"):
        cells.append(f"{means[name]:.3f}" if name in means else "")
    cells.append(f"{100 * means['adjusted']:.1f}" if "adjusted" in means else "")
    cells.append(f"{means['z']:+.1f}" if "z" in means else "")
    return cells


@dataclass(frozen=True)
class _Collapse:
    """Where an arm first leaves a layer without weights.

    Attributes:
        arm: The arm.
        replicates: How many it has.
        rounds: The first such round of a ticket, by replicate; without those that never have one.
        layers: Those that are empty in any of its tickets.
        candidates: The first such round of any partition's candidate; ``None`` where the arm has
            one partition, or its records do not tell.
    """

    arm: str
    replicates: int
    rounds: Mapping[int, int]
    layers: tuple[str, ...]
    candidates: Mapping[int, int] | None

    @property
    def happens(self) -> bool:
        """Whether any ticket or candidate has an empty layer."""
        return bool(self.rounds or self.candidates)


def _collapses(records: Sequence[Record], asked: Asked) -> list[_Collapse]:
    """Return where arms collapse, also that they do not; arms whose records do not tell are
    left out.
    """
    collapses = []
    for arm in aggregate.arms(records):
        tickets = []
        for record in records:
            if record["arm"] == arm and record["round"] and record["density"] < 1:
                tickets.append(record)
        ended = {}
        for (collapsed_arm, replicate), collapse in asked.collapsed.items():
            if collapsed_arm == arm:
                ended[replicate] = collapse
        if ended or any("collapsed" in record or record.get("layers") for record in tickets):
            collapses.append(_collapse_of(arm, tickets, ended))
    return collapses


def _collapse_of(
    arm: str, tickets: Sequence[Record], ended: Mapping[int, tuple[int, tuple[str, ...]]]
) -> _Collapse:
    """Return where an arm collapses.

    Args:
        arm: The arm.
        tickets: Its records of rounds that pruned.
        ended: By replicate, the round whose cut ended the arm, and the layers that this emptied.
    """
    rounds: dict[int, int] = {}
    layers: set[str] = set()
    for replicate, (index, names) in ended.items():
        rounds[replicate] = index
        layers |= set(names)
    candidates: dict[int, int] = {}
    # The last round first, so that the first one stands.
    for record in sorted(tickets, key=lambda record: -int(record["round"])):
        empty = _empty_layers(record)
        if empty:
            rounds[record["replicate"]] = record["round"]
            layers |= empty
        if any(0 in kept for kept in (record.get("candidate_layers") or {}).values()):
            candidates[record["replicate"]] = record["round"]
    partitions = max(map(_partitions, tickets), default=1)
    return _Collapse(
        arm=arm,
        replicates=len({record["replicate"] for record in tickets} | set(ended)),
        rounds=rounds,
        layers=tuple(sorted(layers)),
        candidates=candidates if partitions > 1 else None,
    )


def _empty_layers(record: Record) -> set[str]:
    """Return the layers of a ticket that have no weight left."""
    layers = record.get("layers") or {}
    empty = {name for name, (kept, _) in layers.items() if not kept}
    return empty | set(record.get("collapsed") or ())


def _partitions(record: Record) -> int:
    """Return how many candidates a record has layers of; at least 1."""
    layers = record.get("candidate_layers") or {}
    return max(map(len, layers.values()), default=1)


def collapse_lines(records: Sequence[Record], asked: Asked) -> list[str]:
    """Say whether and where layers are left without weights, one line; nothing where the records do
    not tell.

    >>> ticket = {"arm": "lth", "replicate": 0, "round": 1, "density": 0.8, "collapsed": []}
    >>> collapse_lines([ticket], Asked())
    ['No layer is left without weights in any ticket.']
    """
    collapses = _collapses(records, asked)
    if not collapses:
        return []
    if not any(collapse.happens for collapse in collapses):
        with_candidates = any(collapse.candidates is not None for collapse in collapses)
        candidates = " or any candidate of a partition" if with_candidates else ""
        return [f"No layer is left without weights in any ticket{candidates}."]
    by_ticket, by_candidate_alone = [], []
    for collapse in collapses:
        if collapse.rounds:
            by_ticket.append(
                f"{collapse.arm} in {len(collapse.rounds)} of {collapse.replicates} replicates "
                f"(first in round {min(collapse.rounds.values())})"
            )
        elif collapse.candidates:
            first = min(collapse.candidates.values())
            by_candidate_alone.append(f"a candidate of {collapse.arm} first in round {first}")
    collapsing = by_ticket + by_candidate_alone
    others = "; by no other arm" if len(collapsing) < len(collapses) else ""
    return [f"A layer is left without weights by {listed(collapsing)}{others}."]


def collapse_grid(records: Sequence[Record], asked: Asked) -> Grid:
    """Return in which round each arm's tickets and candidates first have an empty layer, as
    text; nothing if none.
    """
    collapses = _collapses(records, asked)
    rows = []
    if any(collapse.happens for collapse in collapses):
        for collapse in collapses:
            tickets = _first_round(collapse.rounds, collapse.replicates)
            candidates = ["", ""]
            if collapse.candidates is not None:
                candidates = _first_round(collapse.candidates, collapse.replicates)
            rows.append([collapse.arm, *tickets, ", ".join(collapse.layers), *candidates])
    return Grid(
        title="Layer collapse: the first round with a layer that has no weight left",
        labels=["arm"],
        groups=[("", ["tickets", "round", "layers", "candidates", "round "])],
        rows=rows,
    )


def _first_round(rounds: Mapping[int, int], replicates: int) -> list[str]:
    """Return in how many replicates there is such a round, and from which to which it is."""
    known = sorted(set(rounds.values()))
    span = f"{known[0]} to {known[-1]}" if len(known) > 1 else "".join(map(str, known))
    return [f"{len(rounds)} of {replicates}", span]
