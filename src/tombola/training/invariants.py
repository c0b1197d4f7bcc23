"""Invariants: what must hold in every round, checked while a search runs.

Each of these would have caught a bug that published pruning code had for years: pruned weights that
came back, a reset that never happened, masks that grew, classes that were dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from tombola.ground.errors import InvariantError
from tombola.ground.types import Mask, State
from tombola.masks.blocks import in_blocks
from tombola.masks.masks import count, intersect, nested
from tombola.masks.pruning import kept_in_block, removals
from tombola.masks.rates import Amount, Count, kept_by_group
from tombola.masks.scopes import Group, Scope
from tombola.masks.states import state_of


def check_rewound(
    model: nn.Module, start: State, mask: Mask, *, redrawn: str | None = None
) -> None:
    """Check that a model about to be trained is at the rewind point, with pruned weights zero.

    Args:
        model: The model before its first step.
        start: The rewind point.
        mask: The weights that survive; entries that it does not name are compared in full. A shared
            weight may have either of its names there.
        redrawn: Dotted name of the head, if it was drawn anew (class partitions): what is below it
            is compared only where the mask names it.
    """
    live = state_of(model, keep_vars=True)
    # By identity: a weight that two layers share has two names in the state, and one of them in the
    # mask.
    names_of: dict[int, list[str]] = {}
    for name, value in live.items():
        names_of.setdefault(id(value), []).append(name)
    for names in names_of.values():
        masked = [name for name in names if name in mask]
        outside = [name for name in names if not _below(name, redrawn)]
        if not masked and not outside:
            continue
        name = masked[0] if masked else outside[0]
        expected = start[name].masked_fill(~mask[name], 0) if masked else start[name]
        if not torch.equal(live[names[0]], expected):
            raise InvariantError(f"'{name}' is not at the rewind point before training")


def _below(name: str, module: str | None) -> bool:
    """Whether an entry of a state belongs to a module, or to one below it."""
    return module is not None and name.startswith(f"{module}.")


def check_zeros(state: State, mask: Mask, where: str) -> None:
    """Check that every pruned weight of a trained state is exactly zero."""
    for name, keep in mask.items():
        # Booleans: a byte a weight instead of a copy of it.
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
    """Check a cut: candidates nested in the last mask and combined to the new one; exact counts.

    Args:
        before: The mask that was trained.
        mask: The next one.
        candidates: The masks that it was combined from, one a partition.
        amount: The rate or count of the round.
        scope: Groups whose counts are compared; ``None`` (a user's own cut) compares no counts.
        combine: Makes the new mask from the candidates.
        within: Whether every candidate must be nested in the mask before; not so for partitions
            that search independently.
    """
    if within:
        for index, candidate in enumerate(candidates):
            for name in nested(candidate, before):
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
    # A count is what the new mask keeps; a rate is what each candidate loses.
    kept = kept_by_group(before, scope)
    if isinstance(amount, Count):
        groups = scope(before)
        removed = removals(before, groups, None, amount.keep)
        _check_counts("the new mask", kept_by_group(mask, scope), kept, removed)
        _check_patterns(before, mask, groups, removed)
        return
    removed = removals(before, scope(before), amount, None)
    for index, candidate in enumerate(candidates):
        _check_counts(f"candidate {index}", kept_by_group(candidate, scope), kept, removed)


def _check_patterns(
    before: Mask, mask: Mask, groups: Mapping[str, Group], removed: Mapping[str, int]
) -> None:
    """Check that every block of inputs keeps the same number, where a scope has blocks."""
    for group_name, group in groups.items():
        if group.pattern is None:
            continue
        [name] = group.names
        length, expected = group.pattern[1], kept_in_block(group, before, removed[group_name])
        left = in_blocks(mask[name], length).sum(1)
        wrong = int(torch.count_nonzero(left != expected))
        if wrong:
            raise InvariantError(
                f"{wrong} blocks of {length} inputs of '{name}' do not keep {expected} weights"
            )


def check_constant(before: Mask, mask: Mask) -> None:
    """Check that a change of the mask while a model trains leaves every layer as many weights."""
    for name, keep in mask.items():
        kept, expected = count({name: keep}), count({name: before[name]})
        if kept != expected:
            raise InvariantError(
                f"the new mask keeps {kept} weights of '{name}'; before it were {expected}, and "
                "their number is constant"
            )


def _equal(mask: Mask, expected: Mask) -> bool:
    return all(torch.equal(keep, expected[name]) for name, keep in mask.items())


def _check_counts(
    subject: str, left: Mapping[str, int], kept: Mapping[str, int], removed: Mapping[str, int]
) -> None:
    for group, number in kept.items():
        expected = number - removed[group]
        if left[group] != expected:
            raise InvariantError(
                f"{subject} keeps {left[group]} weights of '{group}'; asked for were {expected}"
            )
