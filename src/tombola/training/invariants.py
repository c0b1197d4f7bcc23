"""Invariants: what must hold in every round, checked while a search runs.

Each of these would have caught a bug that a published pruning code had for years: weights that came
back, a reset that never happened, masks that grew, classes that were dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from tombola.ground.errors import InvariantError
from tombola.ground.types import Mask, State
from tombola.masks.masks import intersect, nested
from tombola.masks.pruning import removals
from tombola.masks.rates import Amount, Count, kept_by_group
from tombola.masks.scopes import Scope
from tombola.masks.states import state_of


def check_rewound(model: nn.Module, start: State, mask: Mask, *, redrawn: bool) -> None:
    """Check that a model about to be trained holds the rewind point: survivors equal, pruned
    weights zero.

    Args:
        model: As it stands before its first step.
        start: The rewind point.
        mask: The weights that survive; entries the mask does not have are compared whole. A shared
            weight may stand there under either of its names.
        redrawn: The head was drawn anew (class partitions), so only what the mask names is
            compared.
    """
    shared: dict[int, list[str]] = {}
    live = state_of(model, keep_vars=True)
    for name, value in live.items():
        shared.setdefault(id(value), []).append(name)
    # By identity: a weight that two layers share has two names in the state, and one of them in the
    # mask.
    for same in shared.values():
        name = next((one for one in same if one in mask), same[0])
        if name in mask:
            expected = start[name].masked_fill(~mask[name], 0)
        elif redrawn:
            continue
        else:
            expected = start[name]
        if not torch.equal(live[same[0]], expected):
            raise InvariantError(f"'{name}' is not at the rewind point before training")


def check_zeros(state: State, mask: Mask, where: str) -> None:
    """Check that every pruned weight of a trained state is exactly zero."""
    for name, keep in mask.items():
        # a byte a weight, not a copy of it
        alive = int(torch.count_nonzero(state[name].ne(0).logical_and_(~keep)))
        if alive:
            raise InvariantError(
                f"{alive} pruned weights of '{name}' are not zero after training ({where})"
            )


def check_cut(
    before: Mask,
    mask: Mask,
    candidates: Sequence[Mask],
    amount: Amount,
    scope: Scope | None,
    combine: Callable[[Sequence[Mask]], Mask] = intersect,
    *,
    within: bool = True,
) -> None:
    """Check a cut: every candidate nested in the last mask, together the new one, and the counts
    exact.

    Args:
        before: The mask that was trained.
        mask: The next one.
        candidates: What it was made of, one a partition.
        amount: What was asked for.
        scope: Groups whose counts are compared; ``None`` (a cut of the user's own) compares no
            counts.
        combine: What makes the new mask of the candidates.
        within: Every candidate lies within the mask before; ``False`` for partitions that search
            apart.
    """
    for index, candidate in enumerate(candidates):
        for name in nested(candidate, before) if within else ():
            raise InvariantError(
                f"candidate {index} keeps weights of '{name}' that were pruned before"
            )
    if candidates and not _equal(mask, combine(candidates)):
        what = "all candidates keep" if combine is intersect else "any candidate keeps"
        raise InvariantError(f"the new mask is not what {what}")
    for name in nested(mask, before):
        raise InvariantError(f"the new mask keeps weights of '{name}' that were pruned before")
    if scope is None:
        return
    had = kept_by_group(before, scope)
    if isinstance(amount, Count):
        lost = removals(before, scope(before), None, amount.keep)
        _check_counts(
            kept_by_group(mask, scope), {g: had[g] - lost[g] for g in had}, "the new mask"
        )
        return
    lost = removals(before, scope(before), amount, None)
    for index, candidate in enumerate(candidates):
        _check_counts(
            kept_by_group(candidate, scope),
            {g: had[g] - lost[g] for g in had},
            f"candidate {index}",
        )


def _equal(one: Mask, other: Mask) -> bool:
    return all(torch.equal(keep, other[name]) for name, keep in one.items())


def _check_counts(kept: Mapping[str, int], asked: Mapping[str, int], what: str) -> None:
    for group, number in asked.items():
        if kept[group] != number:
            raise InvariantError(
                f"{what} keeps {kept[group]} weights of '{group}'; asked for were {number}"
            )
