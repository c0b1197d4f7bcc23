"""Pruning: from scores to the next mask, with exact counts."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import TypeVar

import torch
from torch import Tensor

from tombola.ground.checking import check_rate as check_rate
from tombola.ground.errors import InputError
from tombola.ground.types import Mask, Scores
from tombola.masks import masks, names
from tombola.masks.blocks import without_lowest_in_blocks
from tombola.masks.scopes import Group, Scope, by_group, check_groups, whole_model
from tombola.masks.selection import without_lowest

V = TypeVar("V", int, float)

_KINDS = {"conv", "linear"}


def prune(
    scores: Scores,
    mask: Mask,
    rate: float | Mapping[str, float] | None = None,
    scope: Scope = whole_model,
    *,
    count: int | Mapping[str, int] | None = None,
) -> dict[str, Tensor]:
    """Prune the lowest scores among the weights still kept, an exact number of them.

    In a group of k kept weights ``round(rate * k)`` are pruned, by Python's rounding. Of equal
    scores the one that comes first is pruned first: by the group's order of parameters, then by
    flat position. Weights already pruned stay so, whatever their score.

    Args:
        scores: A number per weight, larger means keep; names and shapes of the mask (more names do
            no harm). Those of `selection.Elementwise` (magnitude's) are worked out in chunks while
            they are read.
        mask: The weights kept so far; it is not changed.
        rate: Fraction of the *kept* weights to remove, 0 to 1; one, or one per group of the scope.
            A group's factor multiplies it.
        scope: Which weights compete: `whole_model`, `per_layer`, `per_kind(model)`,
            `half_output(model)`, `erdos_renyi(model)`, `erk(model)`, `n_of_m(model, 2, 4)`.
        count: Instead of a rate, the exact number of weights to keep; one where the scope has one
            group, else one per group. `n_of_m` needs neither.

    Returns:
        A new mask, nested in the old one.

    Raises:
        InputError: Both or neither of rate and count; a rate outside 0 to 1; a count that is no
            whole number or above what is kept; scores that are NaN, missing, of another shape or on
            another device; a mask that is empty or not boolean.

    Source:
        COLT, arXiv:2212.12770, Table II fixes the rounding: 20 % of 9 weights are 2.

    >>> scores = {"w": torch.tensor([0.3, 0.1, 0.2, 0.1])}
    >>> prune(scores, {"w": torch.ones(4, dtype=torch.bool)}, 0.25)["w"].tolist()
    [True, False, True, True]
    """
    for argument, value in (("scores", scores), ("mask", mask)):
        if not isinstance(value, Mapping):
            raise InputError(
                f"{argument} are a {type(value).__name__}; prune takes scores and a mask, mappings "
                "from names to tensors: prune(magnitude(model.state_dict(), mask), mask, rate=0.2)"
            )
    groups = scope(mask)
    check_groups(groups, mask)
    scores = names.covering(scores, mask)
    pruned: dict[str, Tensor] = {}
    for group_name, remove in removals(mask, groups, rate, count).items():
        group = groups[group_name]
        if group.pattern is None:
            pruned |= without_lowest(scores, mask, group.names, remove)
        else:
            [name] = group.names
            pruned[name] = without_lowest_in_blocks(
                scores, mask, name, group.pattern[1], kept_in_block(group, mask, remove)
            )
    # In the mask's order; parameters of no group stay as they are.
    return {name: pruned[name] if name in pruned else keep.clone() for name, keep in mask.items()}


def removals(
    mask: Mask,
    groups: Mapping[str, Group],
    rate: float | Mapping[str, float] | None,
    count: int | Mapping[str, int] | None,
) -> dict[str, int]:
    """Return how many weights each group of a scope loses, for a rate or a count."""
    patterns = [group.pattern for group in groups.values() if group.pattern is not None]
    by_pattern = rate is None and count is None and len(patterns) == len(groups) > 0
    if (rate is None) == (count is None) and not by_pattern:
        raise InputError("prune takes a rate or a count, exactly one of the two")
    if not mask:
        raise InputError("the mask is empty; it names the weights that may be pruned")
    for name, keep in mask.items():
        if keep.dtype != torch.bool:
            dtype = str(keep.dtype).removeprefix("torch.")
            raise InputError(f"the mask of '{name}' is {dtype}; a mask is boolean")
    # Both are relative to the weights still kept, not to all of them.
    kept = by_group(masks.count, mask, groups)
    if by_pattern:
        count = counts_by_pattern(mask, groups)
    if count is None:
        assert rate is not None
        return _removals_by_rate(rate, groups, kept)
    return _removals_by_count(count, groups, kept)


def counts_by_pattern(mask: Mask, groups: Mapping[str, Group]) -> dict[str, int]:
    """Return how many weights the groups of a scope keep that say it themselves, n of every m."""
    counts = {}
    for group_name, group in groups.items():
        assert group.pattern is not None
        kept, length = group.pattern
        counts[group_name] = mask[group.names[0]].numel() // length * kept
    return counts


def kept_in_block(group: Group, mask: Mask, remove: int) -> int:
    """Return how many weights each block of a group keeps when it loses so many in all.

    Raises:
        InputError: The blocks would not all keep the same number.
    """
    assert group.pattern is not None
    [name] = group.names
    length = group.pattern[1]
    blocks = mask[name].numel() // length
    left = masks.count({name: mask[name]}) - remove
    if left % blocks:
        raise InputError(
            f"count of '{name}' is {left}; its {blocks} blocks of {length} inputs keep the same "
            f"number each, so it is a multiple of {blocks}"
        )
    return left // blocks


def _removals_by_rate(
    rate: float | Mapping[str, float], groups: Mapping[str, Group], kept: Mapping[str, int]
) -> dict[str, int]:
    for group in groups.values():
        if group.pattern is not None:
            n, m = group.pattern
            raise InputError(
                f"the rate is {rate}; this scope says itself how much is kept, {n} of {m} inputs, "
                "so it takes no rate"
            )
    if any(group.budget is not None for group in groups.values()):
        raise InputError(
            f"the rate is {rate}; this scope gives each layer a density of its own, so it takes "
            "densities (or reach with exact: true), in Python counts_for(mask, [density], scope)"
        )
    rates = _per_group(rate, groups, "rate")
    remove: dict[str, int] = {}
    for group_name, value in rates.items():
        check_rate(value, "rate" if len(rates) == 1 else f"rate of '{group_name}'")
        remove[group_name] = round(float(value) * groups[group_name].factor * kept[group_name])
    return remove


def _removals_by_count(
    count: int | Mapping[str, int], groups: Mapping[str, Group], kept: Mapping[str, int]
) -> dict[str, int]:
    # One count for several groups could mean each of them or all together.
    if not isinstance(count, Mapping) and len(groups) > 1:
        raise InputError(
            f"count is {count}; this scope has {len(groups)} groups, so give one per group: "
            f"{', '.join(groups)}"
        )
    remove: dict[str, int] = {}
    for group_name, value in _per_group(count, groups, "count").items():
        if not _is_whole_number(value):
            raise InputError(
                f"count of '{group_name}' is {value}; it is a whole number of weights to keep"
            )
        if not 0 <= value <= kept[group_name]:
            raise InputError(
                f"count of '{group_name}' is {value}; {kept[group_name]} weights are still kept "
                "there"
            )
        remove[group_name] = kept[group_name] - int(value)
    return remove


def _is_whole_number(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _per_group(value: V | Mapping[str, V], groups: Mapping[str, Group], what: str) -> dict[str, V]:
    if not isinstance(value, Mapping):
        return dict.fromkeys(groups, value)
    if value.keys() != groups.keys():
        by_kind = set(value) <= _KINDS and not set(groups) <= _KINDS
        hint = " (scope: per_kind has conv and linear)" if by_kind else ""
        raise InputError(
            f"{what} names the groups {', '.join(value)}; the scope has: {', '.join(groups)}{hint}"
        )
    return {group_name: value[group_name] for group_name in groups}
