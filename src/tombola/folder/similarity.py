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
from pathlib import Path
from typing import Any

import torch

from tombola.folder.runs import Run, similarity_key
from tombola.ground.types import Mask, State
from tombola.masks.masks import count
from tombola.masks.pruning import prune
from tombola.masks.rates import kept_by_group
from tombola.masks.scopes import per_layer
from tombola.methods import Method
from tombola.scores import magnitude

Key = tuple[str, str, int, int, int]  # two arms, a replicate, a round of each

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

    def distance(one: int, other: int) -> float:
        return abs(math.log(first[one] / second[other]))

    met = []
    for one in first:
        nearest = min(second, key=lambda index: distance(one, index))
        back = min(first, key=lambda index: distance(index, nearest))
        longer = max(first_lengths[one], second_lengths[nearest])
        if back == one and distance(one, nearest) <= _NEAR * longer:
            met.append((one, nearest))
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
        masks = [
            keep,
            second[name],
            keep & second[name],
            keep & like_second[name],
            second[name] & like_first[name],
        ]
        weights = keep.numel() if within is None else count({name: within[name]})
        counts[name] = [weights, *(count({name: mask}) for mask in masks)]
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
    known = {similarity_key(line): line for line in run.similarities()}
    compared = pairs(run.recipe.arms)
    # Lines of arms that the recipe has no more stay.
    lines = {key: line for key, line in known.items() if key[:2] not in compared}
    for replicate in sorted({record["replicate"] for record in run.records.all()}):
        to_count = []
        for key in _keys(run, compared, replicate):
            if key in known and known[key]["masks"] == _digests(run, key):
                lines[key] = known[key]
            elif all(path.exists() for path in _paths(run, key)):
                to_count.append(key)
        if not to_count:
            continue
        state = start(replicate)
        for key in to_count:
            lines[key] = _line(run, key, state, within)
        _write(run, known | lines)  # what is counted stays, whatever stops the rest
    _write(run, lines)


def _keys(run: Run, compared: Sequence[tuple[str, str]], replicate: int) -> list[Key]:
    """Name what is to be counted of a replicate: two arms, the replicate, the rounds that meet."""
    keys = []
    for one, other in compared:
        rounds = meeting(_densities(run, one, replicate), _densities(run, other, replicate))
        for first, second in rounds:
            keys.append((one, other, replicate, first, second))
    return keys


def _densities(run: Run, arm: str, replicate: int) -> dict[int, float]:
    """Return the densities of an arm's tickets by round."""
    densities = {}
    for record in run.records.of(arm, replicate):
        if record["round"] and 0 < record["density"] < 1:
            densities[record["round"]] = record["density"]
    return densities


def _paths(run: Run, key: Key) -> list[Path]:
    one, other, replicate, first, second = key
    return [run.ticket_path(one, replicate, first), run.ticket_path(other, replicate, second)]


def _digests(run: Run, key: Key) -> list[str]:
    one, other, replicate, first, second = key
    records = [run.record(one, replicate, first), run.record(other, replicate, second)]
    return [record["mask_digest"] for record in records if record is not None]


def _line(run: Run, key: Key, start: State, within: Mask | None) -> dict[str, Any]:
    one, other, replicate, first, second = key
    masks = run.mask(one, replicate, first), run.mask(other, replicate, second)
    return {
        "arms": [one, other],
        "replicate": replicate,
        "rounds": [first, second],
        "masks": _digests(run, key),
        "layers": counted(*masks, start, within),
    }


def ordered(lines: Iterable[dict[str, Any]], arms: Mapping[str, Method]) -> list[dict[str, Any]]:
    """Sort lines as the recipe has its arms: by the pairs that are compared, those of other
    arms last.
    """
    place = {pair: index for index, pair in enumerate(pairs(arms))}

    def key(line: Mapping[str, Any]) -> tuple[int, Key]:
        about = similarity_key(line)
        return place.get(about[:2], len(place)), about

    return sorted(lines, key=key)


def _write(run: Run, lines: Mapping[Key, dict[str, Any]]) -> None:
    """Write the file, unless it says that already or there is nothing to say."""
    now = ordered(lines.values(), run.recipe.arms)
    if now != run.similarities():
        run.seals.write_lines(run.layout.similarities, now)
