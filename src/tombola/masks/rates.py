"""Amounts: how much each round of a search prunes, by a rate or to an exact count."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from tombola.ground.checking import own_numbers, take_own_numbers_
from tombola.ground.errors import ConfigError
from tombola.ground.types import Mask
from tombola.masks import masks
from tombola.masks.scopes import Group, Scope, by_group
from tombola.masks.scopes.groups import counts_of_density


@dataclass(frozen=True)
class Count:
    """An exact number of weights to keep: one where the scope has one group, else one per group.

    >>> Count({"conv": 500, "linear": 80}).keep["linear"]
    80
    """

    keep: int | Mapping[str, int]

    def __post_init__(self) -> None:
        take_own_numbers_(self)


Amount: TypeAlias = float | Mapping[str, float] | Count


def rate_to_reach(density: float, rounds: int) -> float:
    """Return the constant rate that leaves a density after some rounds.

    Each round keeps density^(1/rounds) of the weights.

    Args:
        density: Kept at the end, 0 to 1.
        rounds: Number of rounds; 1 is one-shot pruning.

    Source:
        Frankle & Carbin 2019, arXiv:1803.03635, section 1: p^(1/n) % of the weights in each of n
        rounds.

    >>> round(rate_to_reach(0.8**17, 17), 12), rate_to_reach(0.25, 1)
    (0.2, 0.75)
    """
    density, rounds = own_numbers(density), own_numbers(rounds)
    if not 0 < density < 1:
        raise ConfigError(f"reach.density is {density:g}; it is a fraction between 0 and 1")
    if rounds < 1:
        raise ConfigError(f"reach.rounds is {rounds}; it must be 1 or more")
    return float(1 - density ** (1 / rounds))


def counts_for(mask: Mask, densities: Iterable[float], scope: Scope) -> Iterator[Count]:
    """Yield the exact kept counts for densities, as the scope divides them among its groups.

    Without budgets every group has the same density, see `Group`. While densities fall no count
    rises, so that masks of these counts can lie within each other.

    Raises:
        ConfigError: A density is no fraction, or a group of the scope has another rate
            (``half_output``), so that its groups do not reach a density together.

    >>> import torch
    >>> from tombola.masks.scopes import whole_model
    >>> list(counts_for({"w": torch.ones(10, dtype=torch.bool)}, [0.8, 0.25], whole_model))
    [Count(keep={'model': 8}), Count(keep={'model': 2})]
    """
    # With different rates the densities of the groups would diverge.
    groups = scope(mask)
    if any(group.factor != 1 for group in groups.values()):
        raise ConfigError(
            "exact densities and half_output do not go together: the output layer has another "
            "rate; take a rate"
        )
    sizes = by_group(masks.size, mask, groups)
    last_density, most = 1.0, sizes
    for density in map(own_numbers, densities):
        if not 0 < density <= 1:
            raise ConfigError(f"densities holds {density}; a density is above 0 and at most 1")
        # Rounding to an exact total may give a group one weight more at a lower density.
        counts = counts_of_density(
            density, groups, sizes, most if density <= last_density else sizes
        )
        last_density, most = density, counts
        yield Count(counts)


def kept_by_group(mask: Mask, scope: Scope) -> dict[str, int]:
    """Count the kept weights of every group of a scope."""
    return by_group(masks.count, mask, scope(mask))


def counts_on_the_way(
    kept: Mapping[str, int], target: Count, cuts: int, groups: Mapping[str, Group] | None = None
) -> tuple[Count, ...]:
    """Return what to keep after each cut before the last, on the way to a count in equal shares.

    The k-th of n cuts leaves kept * (target / kept)^(k/n) weights of each group.

    Args:
        kept: The weights that are kept now, by group of a scope.
        target: What the last cut keeps.
        cuts: Number of cuts, the last one included.
        groups: Those of the scope, where they may have patterns: their blocks of inputs each keep
            the same number.

    Source:
        Tanaka et al. 2020, arXiv:2006.05467, algorithm 1: the density after cut k of n is rho^(k/n).

    >>> counts_on_the_way({"model": 1000}, Count({"model": 10}), 3)
    (Count(keep={'model': 215}), Count(keep={'model': 46}))
    """
    targets = target.keep if isinstance(target.keep, Mapping) else dict.fromkeys(kept, target.keep)
    counts = []
    for number in range(1, cuts):
        keep: dict[str, int] = {}
        for group_name, size in kept.items():
            # A group that ends empty is emptied by the last cut.
            share = max(targets[group_name], 1) / max(size, 1)
            # Weights that are pruned together: one of each block.
            pattern = groups[group_name].pattern if groups else None
            unit = 1 if pattern is None else size // pattern[1]
            keep[group_name] = min(size, unit * round(size / unit * share ** (number / cuts)))
        counts.append(Count(keep))
    return tuple(counts)
