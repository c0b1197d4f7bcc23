"""Groups: parameters whose weights compete, and how a density is divided among several of them.

scope: mask -> [ groups ] -> counts of a density, or removals at a rate -> prune
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from tombola.ground.errors import InputError, shown
from tombola.ground.types import Mask
from tombola.masks.masks import part_of


@dataclass(frozen=True)
class Group:
    """Parameters whose weights are ranked together.

    Attributes:
        names: The parameters.
        factor: Multiplies a rate.
        budget: The group's share of the weights that a density leaves: all groups of a scope keep
            the same multiple of their budgets, at most their size. Without budgets all groups have
            the same density. A scope with budgets takes densities or counts, no rate.
        pattern: ``(n, m)``: the weights compete within blocks of m consecutive inputs, see
            `tombola.masks.blocks`, and each block keeps n, or the same number at another density.
            Such a group has one parameter. It needs no amount, and takes no rate.
    """

    names: tuple[str, ...]
    factor: float = 1.0
    budget: float | None = None
    pattern: tuple[int, int] | None = None


Scope: TypeAlias = Callable[[Mask], Mapping[str, Group]]


def by_group(
    count_weights: Callable[[Mask], int], mask: Mask, groups: Mapping[str, Group]
) -> dict[str, int]:
    """Count the weights of every group.

    Args:
        count_weights: `masks.count` for those kept, `masks.size` for all of them.
        mask: The prunable weights.
        groups: A scope's groups of them.

    >>> by_group(len, {"a": ..., "b": ...}, {"model": Group(("a", "b"))})
    {'model': 2}
    """
    counts = {}
    for group_name, group in groups.items():
        counts[group_name] = count_weights(part_of(mask, group.names))
    return counts


def check_groups(groups: object, mask: Mask) -> None:
    """Refuse the groups of a user's own scope where they do not divide a mask's parameters.

    Raises:
        InputError: It is no mapping from names to groups, or a parameter is unknown or in two
            groups.

    >>> check_groups({"model": Group(("a",))}, {"a": ...})
    """

    def is_group(value: object) -> bool:
        return isinstance(value, Group)

    if not isinstance(groups, Mapping) or not all(map(is_group, groups.values())):
        raise InputError(
            f"the scope gives {shown(groups)}; it gives a mapping from names to "
            "tombola.masks.scopes.Group"
        )
    seen = set[str]()
    for group_name, group in groups.items():
        if isinstance(group.names, str) or not 0 <= group.factor < math.inf:
            raise InputError(
                f"the scope's group {shown(group_name)} is {shown(group)}; it has names and a "
                "factor of 0 or more"
            )
        if group.budget is not None and not 0 < group.budget < math.inf:
            raise InputError(
                f"the scope's group {shown(group_name)} has the budget {shown(group.budget)}; a "
                "budget is above 0"
            )
        # A weight in two groups would be pruned twice, one in none not at all.
        for name in group.names:
            if name not in mask or name in seen:
                fault = "is in two groups" if name in seen else "has no mask"
                raise InputError(
                    f"{shown(name)}, which the scope's group {shown(group_name)} names, {fault}"
                )
            seen.add(name)
        if group.pattern is not None:
            _check_pattern(group_name, group, mask)
    with_budget = [name for name, group in groups.items() if group.budget is not None]
    if with_budget and len(with_budget) < len(groups):
        raise InputError(
            f"the scope's group {shown(with_budget[0])} has a budget, and others have none; either "
            "all have one or none has"
        )


def _check_pattern(group_name: str, group: Group, mask: Mask) -> None:
    """Refuse a pattern that is none, or that a parameter has no blocks for."""
    assert group.pattern is not None
    kept, length = group.pattern
    name, *more = group.names
    fits = not more and mask[name].dim() > 1 and mask[name].shape[1] % max(length, 1) == 0
    if not 1 <= kept < length or not fits:
        raise InputError(
            f"the scope's group {shown(group_name)} has the pattern {shown(group.pattern)}; it keeps "
            "n of every m inputs of one parameter, in which m divides dimension 1"
        )


def counts_of_density(
    density: float, groups: Mapping[str, Group], sizes: Mapping[str, int], most: Mapping[str, int]
) -> dict[str, int]:
    """Return how many weights each group keeps at a density of all of them together.

    Args:
        density: The fraction that is kept.
        groups: A scope's.
        sizes: All weights of each group.
        most: How many each group may keep, such as what the density before has left it.

    >>> layers = {"a": Group(("a",), budget=1), "b": Group(("b",), budget=3)}
    >>> counts_of_density(0.5, layers, {"a": 10, "b": 10}, {"a": 10, "b": 10})
    {'a': 3, 'b': 7}
    >>> counts_of_density(0.8, layers, {"a": 10, "b": 10}, {"a": 10, "b": 10})
    {'a': 6, 'b': 10}
    """
    budgets = {}
    for name, group in groups.items():
        if group.budget is not None:
            budgets[name] = group.budget
    if not budgets:
        return {name: _rounded(density, size, groups[name]) for name, size in sizes.items()}
    total = round(density * sum(sizes.values()))
    return _largest_remainder(_shares(total, budgets, sizes), total, most)


def _rounded(density: float, size: int, group: Group) -> int:
    """Return how many weights a group keeps at a density of its own."""
    if group.pattern is None:
        return round(density * size)
    # Every block of m inputs keeps the same number.
    length = group.pattern[1]
    return size // length * round(density * length)


def _shares(total: int, budgets: Mapping[str, float], sizes: Mapping[str, int]) -> dict[str, float]:
    """Divide a number of weights among groups in proportion to their budgets."""
    shares: dict[str, float] = {}
    # A group whose share would be larger than itself is dense, and the others share what is left.
    # That makes their shares larger, so more of them may become dense.
    open_groups = list(budgets)
    while open_groups:
        left = total - sum(shares.values())
        multiple = left / sum(budgets[name] for name in open_groups)
        dense = [name for name in open_groups if multiple * budgets[name] >= sizes[name]]
        if not dense:
            for name in open_groups:
                shares[name] = multiple * budgets[name]
            break
        for name in dense:
            shares[name] = sizes[name]
            open_groups.remove(name)
    return {name: shares[name] for name in budgets}


def _largest_remainder(
    shares: Mapping[str, float], total: int, most: Mapping[str, int]
) -> dict[str, int]:
    """Round shares to whole numbers of a given total, none above its bound.

    Every share is rounded down; those with the largest remainders get one more, of equal ones the
    first.
    """
    counts = {name: min(math.floor(share), most[name]) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: math.floor(shares[name]) - shares[name])
    missing = total - sum(counts.values())
    while missing > 0:
        below = [name for name in by_remainder if counts[name] < most[name]]
        if not below:
            break  # the bounds leave less than the total
        for name in below[:missing]:
            counts[name] += 1
        missing = total - sum(counts.values())
    return counts
