"""Blocks: consecutive inputs of a layer, of which each block keeps the same number of weights.

    scores, mask -> [ ranks within blocks ] -> the next mask: n of every m inputs

The inputs are dimension 1 of a weight. A block belongs to one output and, in a convolution, to one
place of the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tombola.ground.errors import InputError
from tombola.ground.types import Mask, Scores
from tombola.masks.selection import kept_scores

_WEIGHTS = 1 << 22  # that are sorted at once


def in_blocks(values: Tensor, length: int) -> Tensor:
    """Arrange a weight's values in rows, one for each block.

    >>> in_blocks(torch.arange(8).view(1, 4, 2), 2).tolist()
    [[0, 2], [4, 6], [1, 3], [5, 7]]
    """
    return values.movedim(1, -1).reshape(-1, length)


def from_blocks(rows: Tensor, shape: Sequence[int]) -> Tensor:
    """Arrange rows as a weight of a shape: the reverse of `in_blocks`.

    >>> from_blocks(torch.tensor([[0, 2], [4, 6], [1, 3], [5, 7]]), (1, 4, 2)).flatten().tolist()
    [0, 1, 2, 3, 4, 5, 6, 7]
    """
    outputs, inputs, *kernel = shape
    return rows.reshape(outputs, *kernel, inputs).movedim(-1, 1).contiguous()


def ranks_in_blocks(scores: Scores, mask: Mask, name: str, length: int) -> Tensor:
    """Rank the weights of each block from 0, lowest score first, equal scores by position.

    Pruned weights have the lowest ranks, whatever their scores.

    Returns:
        Rows of ranks, see `in_blocks`.

    Raises:
        ScoreError: The scores cannot be ranked.
    """
    kept_scores(scores, mask, name)  # refuses scores that are missing, of another form, or NaN
    values, keep = in_blocks(scores[name].detach(), length), in_blocks(mask[name], length)
    if values.dtype == torch.bool:
        values = values.to(torch.uint8)
    ranks = torch.empty(values.shape, dtype=torch.int16, device=values.device)
    # Sorting takes several times the memory of what is sorted.
    rows = max(1, _WEIGHTS // length)
    for start in range(0, len(values), rows):
        part = slice(start, start + rows)
        ranks[part] = _ranks(values[part], keep[part])
    return ranks


def _ranks(values: Tensor, keep: Tensor) -> Tensor:
    # A pruned weight's score may be NaN.
    order = values.masked_fill(~keep, 0).argsort(dim=1, stable=True)
    pruned_first = keep.gather(1, order).to(torch.uint8).argsort(dim=1, stable=True)
    order = order.gather(1, pruned_first)
    places = torch.arange(values.shape[1], device=values.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def without_lowest_in_blocks(
    scores: Scores, mask: Mask, name: str, length: int, kept: int
) -> Tensor:
    """Return the new mask of a weight, of which every block keeps its highest scores.

    Of equal scores those that come first are pruned.

    Args:
        scores: Of the weight at least.
        mask: The weights kept so far.
        name: The weight.
        length: Of a block.
        kept: How many each block keeps.

    Raises:
        InputError: A block has fewer left.
        ScoreError: The scores cannot be ranked.
    """
    ranks = ranks_in_blocks(scores, mask, name, length)
    check_blocks(mask[name], name, length, kept)
    return from_blocks(ranks >= length - kept, mask[name].shape)


def check_blocks(keep: Tensor, name: str, length: int, kept: int) -> None:
    """Refuse a mask that has a block with fewer kept weights than it shall keep.

    Raises:
        InputError: It has.
    """
    fewest = int(in_blocks(keep, length).sum(1).min())
    if fewest < kept:
        raise InputError(
            f"'{name}' has {fewest} weights left in one of its blocks of {length} inputs, and "
            f"{kept} are to be kept; n of m begins with all weights"
        )


def common_in_blocks(ranks: Sequence[Tensor], kept: int, combine_all: bool) -> list[Tensor]:
    """Choose candidates of equal counts per block that together keep exactly ``kept`` in each.

    Every candidate keeps the same number of a block, the smallest whose intersection (or union)
    has so many. Surplus weights go in the first candidate's order.

    Args:
        ranks: Of each candidate, see `ranks_in_blocks`.
        kept: How many of each block the candidates keep together.
        combine_all: Whether together means all candidates (intersection), or any of them (union).

    Returns:
        Rows of booleans for each candidate.

    >>> one, two = torch.tensor([[0, 1, 2, 3]]), torch.tensor([[3, 2, 1, 0]])
    >>> [keep.int().tolist() for keep in common_in_blocks([one, two], 2, True)]
    [[[0, 1, 1, 1]], [[1, 1, 1, 0]]]
    """
    stacked = torch.stack(list(ranks))
    # A weight is in the intersection of what each keeps from a rank on if its lowest rank is that
    # high, and in the union if its highest is.
    decisive = stacked.amin(0) if combine_all else stacked.amax(0)
    length = decisive.shape[1]
    threshold = decisive.sort(dim=1).values[:, length - kept : length - kept + 1]
    keeps = list(stacked >= threshold)

    # Ranks that are equal at the threshold leave a surplus. To leave the intersection a weight must
    # leave one candidate; to leave the union, all of them.
    survivors = decisive >= threshold
    surplus = survivors.sum(1, keepdim=True) - kept
    eligible = survivors if combine_all else decisive == threshold
    order = ranks[0].masked_fill(~eligible, length).argsort(dim=1, stable=True)
    places = torch.arange(length, device=order.device).expand_as(order)
    removed = eligible & (torch.empty_like(order).scatter_(1, order, places) < surplus)
    for keep in keeps[:1] if combine_all else keeps:
        keep &= ~removed
    return keeps
