"""Cutting: from what the partitions learnt to the next mask.

trained models -> [ score -> prune ] each -> intersect (COLT, and LTH with one partition) or unite
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import TypeAlias

import torch
from torch import Tensor

from tombola.ground.errors import ConfigError
from tombola.ground.types import Mask, Scores, State
from tombola.masks.masks import intersect, unite
from tombola.masks.pruning import prune, removals
from tombola.masks.rates import Amount, Count
from tombola.masks.scopes import Scope, whole_model
from tombola.masks.selection import keep_, kept_scores, lowest
from tombola.scores._magnitude import magnitude
from tombola.scores.context import Context, Score

Cut: TypeAlias = Callable[
    [Mask, Sequence[State], Amount, Context], tuple[dict[str, Tensor], list[dict[str, Tensor]]]
]


Combine: TypeAlias = Callable[[Sequence[Mask]], dict[str, Tensor]]


def keep_common(score: Score | Sequence[Score] = magnitude, scope: Scope = whole_model) -> Cut:
    """Make the cut of COLT: prune every partition's model, keep the weights that all of them keep.

    With one partition it is the cut of LTH. The cut takes the current mask, the trained states, the
    amount and a context, and returns the next mask and the candidates it came from.

    A rate is what *each* partition removes, so N partitions remove between ``rate`` and ``N *
    rate``. A `Count` is what the *intersection* keeps, exactly: every partition keeps the same
    number of weights, the smallest whose intersection still keeps that many, and the fewer than N
    surplus weights go in partition 1's order.

    Args:
        score: What weights are ranked by; of several, one for each partition's model.
        scope: Which weights compete.

    >>> cut = keep_common()
    >>> mask = {"w": torch.ones(4, dtype=torch.bool)}
    >>> one, two = {"w": torch.tensor([1.0, 2, 3, 4])}, {"w": torch.tensor([4.0, 3, 2, 1])}
    >>> cut(mask, [one, two], 0.25, Context({}, seed=0))[0]["w"].tolist()
    [False, True, True, False]
    """
    return _cut(score, scope, intersect)


def keep_any(score: Score | Sequence[Score] = magnitude, scope: Scope = whole_model) -> Cut:
    """Make the cut that keeps the weights that *any* partition keeps: the union, a control for
    COLT's intersection.

    A rate is what each partition removes, so N partitions remove between nothing and ``rate``. A
    `Count` is what the *union* keeps, exactly: every partition keeps the same number of weights,
    the smallest whose union has that many, and of the weights that came in last the fewer than N
    surplus ones go in partition 1's order, from all candidates.

    Args:
        score: What weights are ranked by; of several, one for each partition's model.
        scope: Which weights compete.

    >>> mask = {"w": torch.ones(4, dtype=torch.bool)}
    >>> one, two = {"w": torch.tensor([1.0, 2, 3, 4])}, {"w": torch.tensor([4.0, 3, 2, 1])}
    >>> keep_any()(mask, [one, two], Count(2), Context({}, seed=0))[0]["w"].tolist()
    [True, False, False, True]
    """
    return _cut(score, scope, unite)


def _cut(score: Score | Sequence[Score], scope: Scope, combine: Combine) -> Cut:
    def cut(
        mask: Mask, states: Sequence[State], amount: Amount, context: Context
    ) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
        each = [score] * len(states) if callable(score) else list(score)
        if len(each) != len(states):
            raise ConfigError(
                f"there are {len(each)} scores for {len(states)} partitions; one each, or one for "
                "all"
            )
        # One after the other: states may be large, and are read when it is their turn.
        scored = (of(states[index], mask, context.of(index)) for index, of in enumerate(each))
        if not isinstance(amount, Count):
            candidates = [prune(scores, mask, amount, scope) for scores in scored]
        elif len(each) == 1:
            candidates = [prune(next(scored), mask, scope=scope, count=amount.keep)]
        else:
            candidates = _candidates_for(list(scored), mask, amount, scope, combine)
        # Of one partition its candidate is what all agree on: there is no need of a second mask as
        # large as it.
        return candidates[0] if len(candidates) == 1 else combine(candidates), candidates

    return cut


def _candidates_for(
    scored: Sequence[Scores], mask: Mask, amount: Count, scope: Scope, combine: Combine
) -> list[dict[str, Tensor]]:
    """Return candidates of one common count per group which together keep exactly what is asked."""
    groups = scope(mask)
    gone = removals(mask, groups, None, amount.keep)
    candidates = [{name: keep.clone() for name, keep in mask.items()} for _ in scored]
    for group_name, remove in gone.items():
        names = groups[group_name].names
        ranks = [_ranks(scores, mask, names) for scores in scored]
        # With a common count c a partition keeps the ranks from kept - c on. So a weight is in the
        # intersection if its lowest rank among the partitions is that high, and in the union if its
        # highest is: the target-th largest of these ranks is the bar that is looked for.
        decisive = reduce(torch.minimum if combine is intersect else torch.maximum, ranks)
        kept, target = decisive.numel(), decisive.numel() - remove
        bar = int(decisive.kthvalue(remove + 1).values) if target else kept
        keeps = [rank >= bar for rank in ranks]
        survivors = decisive >= bar
        surplus = int(torch.count_nonzero(survivors)) - target
        # A weight leaves the intersection with one candidate, the union with all: there those go
        # that came in last.
        losers, places = (
            (keeps[:1], survivors) if combine is intersect else (keeps, decisive == bar)
        )
        places = torch.nonzero(places).flatten()
        chosen = places[lowest(ranks[0][places], surplus)]
        for keep in losers:
            keep[chosen] = False
        for candidate, keep in zip(candidates, keeps, strict=True):
            keep_(candidate, mask, names, keep)
    return candidates


def _ranks(scores: Scores, mask: Mask, names: Sequence[str]) -> Tensor:
    """Rank the kept weights of a group from 0, lowest score first, equal scores by position."""
    values = torch.cat([kept_scores(scores, mask, name) for name in names])
    dtype = torch.int32 if values.numel() < 2**31 else torch.int64
    ranks = torch.empty(values.numel(), dtype=dtype, device=values.device)
    ranks[torch.argsort(values, stable=True)] = torch.arange(
        values.numel(), dtype=dtype, device=values.device
    )
    return ranks
