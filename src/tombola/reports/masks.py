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
        whole = self.overlap
        return (whole.before - sum(whole.kept) + whole.common) / whole.before


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
            whole = overlap.together(overlap.similarities(line))
            starts = [
                overlap.together(overlap.similarities(line, by_start=k)).jaccard for k in (0, 1)
            ]
            found.setdefault(pair, {}).setdefault(line["replicate"], []).append(
                _Alike(
                    density=sum(whole.kept) / (2 * whole.before),
                    rounds=(line["rounds"][0], line["rounds"][1]),
                    overlap=whole,
                    start=None
                    if None in starts
                    else statistics.fmean(start or 0.0 for start in starts),
                )
            )
    return {
        pair: {k: sorted(of[k], key=lambda one: -one.density) for k in sorted(of)}
        for pair, of in found.items()
    }


def similarity_rows(records: Sequence[Record], asked: Asked) -> list[dict[str, Any]]:
    """Return what `figures.similarity` draws: means over the replicates whose rounds meet, in
    percent.
    """
    rows = []
    for (arm, other), by_replicate in _alike(records, asked).items():
        by_rounds: dict[tuple[int, int], list[_Alike]] = {}
        for each in by_replicate.values():
            for one in each:
                by_rounds.setdefault(one.rounds, []).append(one)
        rows += [
            {
                "arm": arm,
                "pair": f"{arm} - {other}",
                "rounds": f"{rounds[0]} and {rounds[1]}",
                "replicates": len(each),
                "density": 100 * statistics.fmean(one.density for one in each),
                "jaccard": 100 * statistics.fmean(one.overlap.jaccard or 0.0 for one in each),
                "chance": 100
                * statistics.fmean(one.overlap.jaccard_by_chance or 0.0 for one in each),
                "most": 100 * statistics.fmean(one.overlap.jaccard_at_most or 0.0 for one in each),
                "start": 100 * statistics.fmean(one.start or 0.0 for one in each),
            }
            for rounds, each in sorted(by_rounds.items())
        ]
    return rows


def similarity_grid(records: Sequence[Record], asked: Asked) -> Grid:
    """Return what compared arms prune alike in their first tickets at or below each density, as
    text.
    """
    rows: list[list[str]] = []
    for pair, by_replicate in _alike(records, asked).items():
        before: list[_Alike] = []
        for density in asked.at:
            below = [
                [one for one in each if one.density <= density * (1 + NEARLY)]
                for each in by_replicate.values()
            ]
            here = [each[0] for each in below if each]
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
        mean(lambda one: one.density, 2, 100), str(len(here)), mean(lambda one: one.pruned, 2, 100),
        mean(lambda one: one.overlap.jaccard), mean(lambda one: one.overlap.jaccard_by_chance),
        mean(lambda one: one.overlap.jaccard_of_one_rate), mean(lambda one: one.overlap.jaccard_at_most),
        mean(lambda one: one.start), mean(lambda one: one.overlap.beyond_chance, 1, 100),
        mean(lambda one: one.overlap.z, 1, sign="+"),
    ]  # fmt: skip


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
        own = [
            record
            for record in records
            if record["arm"] == arm and record["round"] and record["density"] < 1
        ]
        # the last round first, so that the first one stands
        own.sort(key=lambda record: -int(record["round"]))
        ended = {k: collapse for (of, k), collapse in asked.collapsed.items() if of == arm}
        if not ended and not any("collapsed" in record or record.get("layers") for record in own):
            continue
        rounds = {k: index for k, (index, _) in ended.items()}
        layers = {name for _, names in ended.values() for name in names}
        candidates: dict[int, int] = {}
        for record in own:
            empty = {name for name, (kept, _) in (record.get("layers") or {}).items() if not kept}
            empty |= set(record.get("collapsed") or ())
            if empty:
                rounds[record["replicate"]] = record["round"]
                layers |= empty
            if any(0 in kept for kept in (record.get("candidate_layers") or {}).values()):
                candidates[record["replicate"]] = record["round"]
        wide = any(
            len(kept) > 1
            for record in own
            for kept in (record.get("candidate_layers") or {}).values()
        )
        number = len({record["replicate"] for record in own} | set(ended))
        found.append(
            _Collapse(arm, number, rounds, tuple(sorted(layers)), candidates if wide else None)
        )
    return found


def collapse_lines(records: Sequence[Record], asked: Asked) -> list[str]:
    """Say whether and where layers are left without weights, one line; nothing where the records do
    not tell.

    >>> collapse_lines([{"arm": "lth", "replicate": 0, "round": 1, "density": 0.8, "collapsed": []}], Asked())
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
    told = [f"{one.arm} in {len(one.rounds)} of {one.replicates} replicates (first in round {min(one.rounds.values())})"
            for one in found if one.rounds]  # fmt: skip
    odd = [f"a candidate of {one.arm} first in round {min(one.candidates.values())}"
           for one in found if one.candidates and not one.rounds]  # fmt: skip
    others = len(told) + len(odd) < len(found)
    return [
        "A layer is left without weights by "
        f"{listed(told + odd)}{'; by no other arm' if others else ''}."
    ]


def collapse_grid(records: Sequence[Record], asked: Asked) -> Grid:
    """Return in which round each arm's tickets and candidates first have an empty layer, as
    text; nothing if none.
    """
    found = _collapses(records, asked)
    rows = [
        [
            one.arm, f"{len(one.rounds)} of {one.replicates}", _span(one.rounds.values()), ", ".join(one.layers),
            *(["", ""] if one.candidates is None
              else [f"{len(one.candidates)} of {one.replicates}", _span(one.candidates.values())]),
        ]
        for one in found
    ]  # fmt: skip
    return Grid(
        title="Layer collapse: the first round with a layer that has no weight left",
        labels=["arm"],
        groups=[("", ["tickets", "round", "layers", "candidates", "round "])],
        rows=rows if any(one.rounds or one.candidates for one in found) else [],
    )


def _span(rounds: Iterable[int]) -> str:
    known = sorted(set(rounds))
    return f"{known[0]}" if len(known) == 1 else f"{known[0]} to {known[-1]}" if known else ""
