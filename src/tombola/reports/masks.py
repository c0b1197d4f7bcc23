"""Masks: what the tickets of two arms prune alike, and where a layer is left without weights.

similarity.jsonl, records -> [ rows, grids, lines ] -> table, figures, page
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
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
class _Alike:
    """Two arms' tickets in one replicate: their mean density, what they have in common, Jaccard
    by initial weights.
    """

    density: float
    rounds: tuple[int, int]
    overlap: overlap.Overlap
    start: float | None

    @property
    def pruned(self) -> float:
        """Weights that both prune, of all."""
        weights = self.overlap.before
        return (weights - sum(self.overlap.kept) + self.overlap.common) / weights


def _alike(
    records: Sequence[Record], asked: Asked
) -> dict[tuple[str, str], dict[int, list[_Alike]]]:
    """Return, by pair and replicate, the tickets that meet, densest first; pairs are those that
    are compared.
    """
    arms = set(aggregate.arms(records))
    compared = {frozenset(pair) for pair in asked.pairs}
    found: dict[tuple[str, str], dict[int, list[_Alike]]] = {}
    for line in asked.similar:
        pair = (line["arms"][0], line["arms"][1])
        if set(pair) <= arms and frozenset(pair) in compared:
            found.setdefault(pair, {}).setdefault(line["replicate"], []).append(_meeting(line))
    return {pair: _densest_first(by_replicate) for pair, by_replicate in found.items()}


def _meeting(line: Mapping[str, Any]) -> _Alike:
    """Return what two tickets of a replicate have in common, over all layers."""
    all_layers = overlap.together(overlap.similarities(line))
    starts = [overlap.together(overlap.similarities(line, by_start=k)).jaccard for k in (0, 1)]
    start = None
    if None not in starts:
        start = statistics.fmean(jaccard or 0.0 for jaccard in starts)
    return _Alike(
        density=sum(all_layers.kept) / (2 * all_layers.before),
        rounds=(line["rounds"][0], line["rounds"][1]),
        overlap=all_layers,
        start=start,
    )


def _densest_first(by_replicate: Mapping[int, list[_Alike]]) -> dict[int, list[_Alike]]:
    """Order the replicates by number, and the tickets of each by density."""
    ordered = {}
    for replicate in sorted(by_replicate):
        ordered[replicate] = sorted(by_replicate[replicate], key=lambda one: -one.density)
    return ordered


def similarity_rows(records: Sequence[Record], asked: Asked) -> list[dict[str, Any]]:
    """Return what `figures.similarity` draws: means over the replicates whose rounds meet, in
    percent.
    """
    rows = []
    for (arm, other), by_replicate in _alike(records, asked).items():
        by_rounds: dict[tuple[int, int], list[_Alike]] = {}
        for meetings in by_replicate.values():
            for one in meetings:
                by_rounds.setdefault(one.rounds, []).append(one)
        for rounds, meetings in sorted(by_rounds.items()):
            rows.append(
                {
                    "arm": arm,
                    "pair": f"{arm} - {other}",
                    "rounds": f"{rounds[0]} and {rounds[1]}",
                    "replicates": len(meetings),
                    "density": _mean_percent(one.density for one in meetings),
                    "jaccard": _mean_percent(one.overlap.jaccard for one in meetings),
                    "chance": _mean_percent(one.overlap.jaccard_by_chance for one in meetings),
                    "most": _mean_percent(one.overlap.jaccard_at_most for one in meetings),
                    "start": _mean_percent(one.start for one in meetings),
                }
            )
    return rows


def _mean_percent(fractions: Iterable[float | None]) -> float:
    """Return the mean in percent; what is not known, as of nothing pruned, counts as 0."""
    return 100 * statistics.fmean(fraction or 0.0 for fraction in fractions)


def similarity_grid(records: Sequence[Record], asked: Asked) -> Grid:
    """Return what compared arms prune alike in their first tickets at or below each density, as
    text.
    """
    rows: list[list[str]] = []
    for pair, by_replicate in _alike(records, asked).items():
        before: list[_Alike] = []
        for density in asked.at:
            here = []
            for meetings in by_replicate.values():
                at_or_below = [one for one in meetings if one.density <= density * (1 + NEARLY)]
                here += at_or_below[:1]  # the densest of them
            if here and here != before:
                rows.append([f"{pair[0]} - {pair[1]}", *_alike_cells(here)])
            before = here
    heads = [
        "n",
        "both prune %",
        "Jaccard",
        "expected per layer",
        "expected at one rate",
        "maximum",
    ]
    heads += ["initial weights", ADJUSTED, "z"]
    return Grid(
        title="Do the arms prune the same weights?",
        labels=["arms", "density %"],
        groups=[("", heads)],
        rows=rows,
        notes=(f"{ADJUSTED}: 0 is what chance gives in each layer, 100 the maximum.",)
        if rows
        else (),
    )


def _alike_cells(here: Sequence[_Alike]) -> list[str]:
    def mean(
        of: Callable[[_Alike], float | None], digits: int = 3, factor: float = 1, sign: str = ""
    ) -> str:
        known = [value for value in map(of, here) if value is not None]
        return f"{factor * statistics.fmean(known):{sign}.{digits}f}" if known else ""

    return [
        mean(lambda one: one.density, 2, 100),
        str(len(here)),
        mean(lambda one: one.pruned, 2, 100),
        mean(lambda one: one.overlap.jaccard),
        mean(lambda one: one.overlap.jaccard_by_chance),
        mean(lambda one: one.overlap.jaccard_of_one_rate),
        mean(lambda one: one.overlap.jaccard_at_most),
        mean(lambda one: one.start),
        mean(lambda one: one.overlap.beyond_chance, 1, 100),
        mean(lambda one: one.overlap.z, 1, sign="+"),
    ]


@dataclass(frozen=True)
class _Collapse:
    """Where an arm first leaves a layer without weights, in those of its replicates that do."""

    arm: str
    replicates: int
    rounds: Mapping[int, int]  # by replicate
    layers: tuple[str, ...]
    # the same of any partition's candidate; ``None`` where nothing tells
    candidates: Mapping[int, int] | None


def _collapses(records: Sequence[Record], asked: Asked) -> list[_Collapse]:
    """Return where arms collapse, also that they do not; arms whose records do not tell are
    left out.
    """
    found = []
    for arm in aggregate.arms(records):
        tickets = [
            record
            for record in records
            if record["arm"] == arm and record["round"] and record["density"] < 1
        ]
        # the last round first, so that the first one stands
        tickets.sort(key=lambda record: -int(record["round"]))
        ended = {k: collapse for (of, k), collapse in asked.collapsed.items() if of == arm}
        if not ended and not any(
            "collapsed" in record or record.get("layers") for record in tickets
        ):
            continue
        rounds = {k: index for k, (index, _) in ended.items()}
        layers = set[str]().union(*(names for _, names in ended.values()))
        candidates: dict[int, int] = {}
        for record in tickets:
            empty = {name for name, (kept, _) in (record.get("layers") or {}).items() if not kept}
            empty |= set(record.get("collapsed") or ())
            if empty:
                rounds[record["replicate"]] = record["round"]
                layers |= empty
            if any(0 in kept for kept in (record.get("candidate_layers") or {}).values()):
                candidates[record["replicate"]] = record["round"]
        partitions = max(map(_partitions, tickets), default=1)
        number = len({record["replicate"] for record in tickets} | set(ended))
        found.append(
            _Collapse(
                arm,
                number,
                rounds,
                tuple(sorted(layers)),
                candidates if partitions > 1 else None,
            )
        )
    return found


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
    found = _collapses(records, asked)
    if not found:
        return []
    wide = any(one.candidates is not None for one in found)
    if not any(one.rounds or one.candidates for one in found):
        return [
            "No layer is left without weights in any "
            f"ticket{' or any candidate of a partition' if wide else ''}."
        ]
    by_ticket, by_candidate_alone = [], []
    for one in found:
        if one.rounds:
            by_ticket.append(
                f"{one.arm} in {len(one.rounds)} of {one.replicates} replicates "
                f"(first in round {min(one.rounds.values())})"
            )
        elif one.candidates:
            by_candidate_alone.append(
                f"a candidate of {one.arm} first in round {min(one.candidates.values())}"
            )
    collapsing = by_ticket + by_candidate_alone
    others = "; by no other arm" if len(collapsing) < len(found) else ""
    return [f"A layer is left without weights by {listed(collapsing)}{others}."]


def collapse_grid(records: Sequence[Record], asked: Asked) -> Grid:
    """Return in which round each arm's tickets and candidates first have an empty layer, as
    text; nothing if none.
    """
    found = _collapses(records, asked)
    rows = []
    for one in found:
        tickets = [f"{len(one.rounds)} of {one.replicates}", _span(one.rounds.values())]
        candidates = ["", ""]
        if one.candidates is not None:
            number = f"{len(one.candidates)} of {one.replicates}"
            candidates = [number, _span(one.candidates.values())]
        rows.append([one.arm, *tickets, ", ".join(one.layers), *candidates])
    return Grid(
        title="Layer collapse: the first round with a layer that has no weight left",
        labels=["arm"],
        groups=[("", ["tickets", "round", "layers", "candidates", "round "])],
        rows=rows if any(one.rounds or one.candidates for one in found) else [],
    )


def _span(rounds: Iterable[int]) -> str:
    known = sorted(set(rounds))
    return f"{known[0]}" if len(known) == 1 else f"{known[0]} to {known[-1]}" if known else ""
