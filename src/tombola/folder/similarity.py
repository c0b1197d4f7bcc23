"""Similarity: which weights the tickets of two arms prune alike, counted at the end of a run.

    tickets -> [ pairs of arms -> pairs of rounds -> counts of each layer ] -> similarity.jsonl
    -> report

The counts are kept since the report of a packed run, which has no masks, needs them. What they say
against chance is worked out in `tombola.evidence.overlap`. A line of the file has two arms, a
replicate, the round and the mask's digest of each, and of every layer: its weights, those that the
first keeps, the second, both; and those that the first keeps of a mask with the second's counts
that ranks the layer's weights by their size before any training, and the other way round.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from tombola.folder.contents import TicketPair
from tombola.folder.runs import Run
from tombola.ground.types import Mask, State
from tombola.masks.masks import count
from tombola.masks.pruning import prune
from tombola.masks.rates import kept_by_group
from tombola.masks.scopes import per_layer
from tombola.methods import Method
from tombola.scores import magnitude

_NEAR = 0.25  # of a round


def pairs(arms: Mapping[str, Method]) -> list[tuple[str, str]]:
    """Return which arms are compared: each search with the one whose counts it matches, and all
    other searches with each other.

    >>> from tombola.schema.arms import read
    >>> arms = {
    ...     "lth": {"method": "lth", "rate": 0.2},
    ...     "colt": {"method": "colt", "rate": 0.15},
    ...     "drawn": {"method": "random_ticket", "source": "colt"},
    ... }
    >>> pairs({name: read(arm, name) for name, arm in arms.items()})
    [('colt', 'lth')]
    """
    matched = []
    alone = []
    for name, arm in arms.items():
        if not arm.searches:
            continue
        if arm.source is None:
            alone.append(name)
        else:
            matched.append((name, arm.source))
    return matched + [(later, earlier) for earlier, later in itertools.combinations(alone, 2)]


def meeting(first: Mapping[int, float], second: Mapping[int, float]) -> list[tuple[int, int]]:
    """Pair the rounds of two arms that have about the same density; a round without a partner is
    left out.

    Two rounds meet when each is the nearest to the other, in the logarithm of the density, and no
    further than a quarter of a round: of the longer one, from the density before it.

    Args:
        first: Densities of the first arm by round, without those of 0 and 1.
        second: Of the second.

    >>> meeting({r: 0.8**r for r in range(1, 7)}, {r: 0.7225**r for r in range(1, 5)})
    [(3, 2), (6, 4)]
    """
    if not second:
        return []
    first_lengths, second_lengths = _lengths(first), _lengths(second)

    def distance(first_round: int, second_round: int) -> float:
        return abs(math.log(first[first_round] / second[second_round]))

    met = []
    for index in first:
        nearest = min(second, key=lambda second_round: distance(index, second_round))
        back = min(first, key=lambda first_round: distance(first_round, nearest))
        longer = max(first_lengths[index], second_lengths[nearest])
        if back == index and distance(index, nearest) <= _NEAR * longer:
            met.append((index, nearest))
    return met


def _lengths(densities: Mapping[int, float]) -> dict[int, float]:
    """Return how far each round went, in the logarithm of the density."""
    lengths = {}
    before = 1.0
    for index, density in sorted(densities.items(), key=lambda item: -item[1]):
        lengths[index] = math.log(before / density)
        before = density
    return lengths


def counted(
    first: Mask, second: Mask, start: State, within: Mask | None = None
) -> dict[str, list[int]]:
    """Count, layer by layer, what two masks keep in common, and each with what the initial weights
    alone give.

    Args:
        first: A ticket's.
        second: Another one's, of the same names and shapes.
        start: The weights before any training.
        within: What both searches began with; all weights if not given.

    Returns:
        Of each layer: its weights, or those that both began with; those that the first keeps, the
        second, both; those that the first keeps of the largest initial weights, as many as the
        second keeps, and that the second keeps of as many as the first.

    >>> one = {"w": torch.tensor([True, True, False, False])}
    >>> other = {"w": torch.tensor([True, False, False, False])}
    >>> counted(one, other, {"w": torch.tensor([0.1, 0.2, -0.3, 0.4])})
    {'w': [4, 2, 1, 1, 0, 0]}
    """
    like_first, like_second = _largest(start, first), _largest(start, second)
    counts = {}
    for name, keep in first.items():
        both = keep & second[name]
        first_of_largest = keep & like_second[name]
        second_of_largest = second[name] & like_first[name]
        counts[name] = [keep.numel() if within is None else count({name: within[name]})]
        for mask in (keep, second[name], both, first_of_largest, second_of_largest):
            counts[name].append(count({name: mask}))
    return counts


def _largest(start: State, like: Mask) -> dict[str, torch.Tensor]:
    """Return the mask that keeps as many weights of each layer as another one, those largest in
    a state.
    """
    everything = {name: torch.ones_like(keep) for name, keep in like.items()}
    return prune(
        magnitude(start, everything),
        everything,
        scope=per_layer,
        count=kept_by_group(like, per_layer),
    )


def measure(run: Run, start: Callable[[int], State], within: Mask | None = None) -> None:
    """Count what is not counted yet and write the run's ``similarity.jsonl``, after each pair of
    arms.

    The file says the same however often the run was stopped, or this is called. Tickets that are
    not here, of a packed run that was merged, have the lines that came with it.

    Args:
        run: The folder; nobody else may work there.
        start: Gives the weights of a replicate before any training.
        within: What every search began with; all weights if not given.

    Raises:
        TicketError: A ticket is damaged.
        DiskError: The file cannot be written.
    """
    known = by_pair(run.similarities())
    compared = pairs(run.recipe.arms)
    # Lines of arms that the recipe has no more stay.
    lines = {pair: line for pair, line in known.items() if pair.arms not in compared}
    for replicate in sorted({record["replicate"] for record in run.records.all()}):
        to_count = []
        for pair in _meeting_tickets(run, compared, replicate):
            if pair in known and known[pair]["masks"] == _digests(run, pair):
                lines[pair] = known[pair]
            elif all(run.ticket_path(*ticket).exists() for ticket in pair.tickets):
                to_count.append(pair)
        if not to_count:
            continue
        state = start(replicate)
        for pair in to_count:
            lines[pair] = _line(run, pair, state, within)
        _write(run, known | lines)  # what is counted stays, whatever stops the rest
    _write(run, lines)


def by_pair(lines: Iterable[dict[str, Any]]) -> dict[TicketPair, dict[str, Any]]:
    """Return lines of ``similarity.jsonl`` by the tickets that they are about."""
    return {TicketPair.of(line): line for line in lines}


def _meeting_tickets(
    run: Run, compared: Sequence[tuple[str, str]], replicate: int
) -> list[TicketPair]:
    """Return the tickets of a replicate that are to be compared: those of rounds that meet."""
    met = []
    for first_arm, second_arm in compared:
        first, second = (
            _densities(run, first_arm, replicate),
            _densities(run, second_arm, replicate),
        )
        for rounds in meeting(first, second):
            met.append(TicketPair(first_arm, second_arm, replicate, *rounds))
    return met


def _densities(run: Run, arm: str, replicate: int) -> dict[int, float]:
    """Return the densities of an arm's tickets by round."""
    densities = {}
    for record in run.records.of(arm, replicate):
        if record["round"] and 0 < record["density"] < 1:
            densities[record["round"]] = record["density"]
    return densities


def _digests(run: Run, pair: TicketPair) -> list[str]:
    digests = []
    for ticket in pair.tickets:
        record = run.record(*ticket)
        if record is not None:
            digests.append(record["mask_digest"])
    return digests


def _line(run: Run, pair: TicketPair, start: State, within: Mask | None) -> dict[str, Any]:
    first, second = pair.tickets
    return {
        "arms": [*pair.arms],
        "replicate": pair.replicate,
        "rounds": [pair.first_round, pair.second_round],
        "masks": _digests(run, pair),
        "layers": counted(run.mask(*first), run.mask(*second), start, within),
    }


def ordered(lines: Iterable[dict[str, Any]], arms: Mapping[str, Method]) -> list[dict[str, Any]]:
    """Sort lines as the recipe has its arms: by the pairs that are compared, those of other
    arms last.
    """
    compared = pairs(arms)

    def place(line: Mapping[str, Any]) -> tuple[int, TicketPair]:
        pair = TicketPair.of(line)
        return compared.index(pair.arms) if pair.arms in compared else len(compared), pair

    return sorted(lines, key=place)


def _write(run: Run, lines: Mapping[TicketPair, dict[str, Any]]) -> None:
    """Write the file, unless it says that already or there is nothing to say."""
    now = ordered(lines.values(), run.recipe.arms)
    if now != run.similarities():
        run.seals.write_lines(run.layout.similarities, now)
