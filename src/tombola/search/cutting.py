"""Cutting: from what the partitions learnt to the next mask.

trained models -> [ score -> prune ] each -> intersect (COLT; LTH with one partition) or union
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import TypeAlias

import torch
from torch import Tensor

from tombola.ground.errors import ConfigError
from tombola.ground.types import Mask, Scores, State
from tombola.masks.blocks import check_blocks, common_in_blocks, from_blocks, ranks_in_blocks
from tombola.masks.masks import cloned, intersect, union
from tombola.masks.pruning import kept_in_block, prune, removals
from tombola.masks.rates import Amount, Count
from tombola.masks.scopes import Group, Scope, whole_model
from tombola.masks.selection import keep_, kept_scores, lowest
from tombola.scores._magnitude import magnitude
from tombola.scores.context import Context, Score
from tombola.scores.ranking import naming

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
        score: What weights are ranked by: one score, or one for each partition's model.
        scope: Which weights compete.

    >>> cut = keep_common()
    >>> mask = {"w": torch.ones(4, dtype=torch.bool)}
    >>> rising, falling = {"w": torch.tensor([1.0, 2, 3, 4])}, {"w": torch.tensor([4.0, 3, 2, 1])}
    >>> cut(mask, [rising, falling], 0.25, Context({}, seed=0))[0]["w"].tolist()
    [False, True, True, False]
    """
    return _cut(score, scope, intersect)


def keep_any(score: Score | Sequence[Score] = magnitude, scope: Scope = whole_model) -> Cut:
    """Make the cut that keeps what *any* partition keeps: the union, a control for COLT.

    A rate is what each partition removes, so N partitions remove between nothing and ``rate``. A
    `Count` is what the *union* keeps, exactly: every partition keeps the same number of weights,
    the smallest whose union has that many, and of the weights that came in last the fewer than N
    surplus ones go in partition 1's order, from all candidates.

    Args:
        score: What weights are ranked by: one score, or one for each partition's model.
        scope: Which weights compete.

    >>> mask = {"w": torch.ones(4, dtype=torch.bool)}
    >>> rising, falling = {"w": torch.tensor([1.0, 2, 3, 4])}, {"w": torch.tensor([4.0, 3, 2, 1])}
    >>> keep_any()(mask, [rising, falling], Count(2), Context({}, seed=0))[0]["w"].tolist()
    [True, False, False, True]
    """
    return _cut(score, scope, union)


def _cut(score: Score | Sequence[Score], scope: Scope, combine: Combine) -> Cut:
    def cut(
        mask: Mask, states: Sequence[State], amount: Amount, context: Context
    ) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
        partition_scores = [score] * len(states) if callable(score) else list(score)
        number = len(partition_scores)
        if number != len(states):
            raise ConfigError(
                f"there are {number} scores for {len(states)} partitions; one each, or one for all"
            )

        # States and scores are as large as the model, so each is read when it is its turn.
        def scores_of(index: int) -> Scores:
            with naming(partition_scores[index]):
                return partition_scores[index](states[index], mask, context.of(index))

        def candidate_of(index: int) -> dict[str, Tensor]:
            scores = scores_of(index)
            with naming(partition_scores[index]):
                if isinstance(amount, Count):
                    return prune(scores, mask, scope=scope, count=amount.keep)
                return prune(scores, mask, amount, scope)

        if isinstance(amount, Count) and number > 1:
            ranked = [(partition_scores[index], scores_of(index)) for index in range(number)]
            candidates = _candidates_for(ranked, mask, amount, scope, combine)
        else:
            candidates = [candidate_of(index) for index in range(number)]
        # With one partition its candidate is the mask itself: a copy would only take memory.
        return candidates[0] if number == 1 else combine(candidates), candidates

    return cut


def _candidates_for(
    scored: Sequence[tuple[Score, Scores]],
    mask: Mask,
    amount: Count,
    scope: Scope,
    combine: Combine,
) -> list[dict[str, Tensor]]:
    """Return candidates of equal counts per group that together keep exactly the given count.

    Args:
        scored: For each candidate, its score and the values that it gave.
        mask: The weights kept so far.
        amount: What all candidates together keep.
        scope: Which weights compete.
        combine: Makes the next mask of the candidates.
    """
    groups = scope(mask)
    intersecting = combine is intersect
    candidates = [cloned(mask) for _ in scored]
    for group_name, remove in removals(mask, groups, None, amount.keep).items():
        names = groups[group_name].names
        if groups[group_name].pattern is not None:
            _agree_in_blocks_(candidates, scored, mask, groups[group_name], remove, intersecting)
            continue
        ranks = []
        for score, scores in scored:
            with naming(score):
                ranks.append(_ranks(scores, mask, names))

        # With a common count c a partition keeps the ranks from kept - c on. So a weight is in the
        # intersection if its lowest rank among the partitions is that high, and in the union if its
        # highest is: the target-th largest of these ranks is the threshold.
        decisive = reduce(torch.minimum if intersecting else torch.maximum, ranks)
        kept = decisive.numel()
        target = kept - remove
        threshold = int(decisive.kthvalue(remove + 1).values) if target else kept
        keeps = [rank >= threshold for rank in ranks]

        # Up to N - 1 more are kept than asked for. To leave the intersection a weight must leave
        # one candidate; to leave the union, all of them, and there those go that came in last.
        survivors = decisive >= threshold
        surplus = int(torch.count_nonzero(survivors)) - target
        if intersecting:
            losing, eligible = keeps[:1], survivors
        else:
            losing, eligible = keeps, decisive == threshold
        places = torch.nonzero(eligible).flatten()
        removed = places[lowest(ranks[0][places], surplus)]
        for keep in losing:
            keep[removed] = False
        for candidate, keep in zip(candidates, keeps, strict=True):
            keep_(candidate, mask, names, keep)
    return candidates


def _agree_in_blocks_(
    candidates: Sequence[dict[str, Tensor]],
    scored: Sequence[tuple[Score, Scores]],
    mask: Mask,
    group: Group,
    remove: int,
    intersecting: bool,
) -> None:
    """Do for every block of a layer's inputs what is done for a group as a whole elsewhere."""
    assert group.pattern is not None
    length, [name] = group.pattern[1], group.names
    kept = kept_in_block(group, mask, remove)
    check_blocks(mask[name], name, length, kept)
    ranks = []
    for score, scores in scored:
        with naming(score):
            ranks.append(ranks_in_blocks(scores, mask, name, length))
    keeps = common_in_blocks(ranks, kept, intersecting)
    for candidate, keep in zip(candidates, keeps, strict=True):
        candidate[name] = from_blocks(keep, mask[name].shape)


def _ranks(scores: Scores, mask: Mask, names: Sequence[str]) -> Tensor:
    """Rank the kept weights of a group from 0, lowest score first, equal scores by position."""
    values = torch.cat([kept_scores(scores, mask, name) for name in names])
    dtype = torch.int32 if values.numel() < 2**31 else torch.int64
    ranks = torch.empty(values.numel(), dtype=dtype, device=values.device)
    ranks[torch.argsort(values, stable=True)] = torch.arange(
        values.numel(), dtype=dtype, device=values.device
    )
    return ranks
