"""Candidates: the masks of a round's partitions, before they were combined, as bits of one file.

A mask's bits are named NUMBER.WEIGHT: the partition's number, and the name of the weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tombola.ground.errors import DamagedError
from tombola.ground.types import Mask


def pack(candidates: Sequence[Mask]) -> dict[str, Tensor]:
    """Return the masks as bits, eight weights a byte."""
    packed = {}
    for number, candidate in enumerate(candidates):
        for name, keep in candidate.items():
            packed[f"{number}.{name}"] = torch.from_numpy(np.packbits(keep.cpu().numpy()))
    return packed


def unpack(path: Path, packed: Mapping[str, Tensor], like: Mask) -> list[dict[str, Tensor]]:
    """Return the masks of which `pack` made the bits.

    Args:
        path: The file that they are from, for the message.
        packed: The bits.
        like: A mask of the same names and shapes.

    Raises:
        DamagedError: They are not the bits of such masks.
    """
    partitions = {name.partition(".")[0] for name in packed}
    candidates: list[dict[str, Tensor]] = []
    for number in range(len(partitions)):
        candidate = {}
        for name, keep in like.items():
            bits = packed.get(f"{number}.{name}")
            if bits is None or not _holds(bits, keep.numel()):
                raise _damaged(path)
            flat = np.unpackbits(bits.numpy(), count=keep.numel()).astype(bool)
            candidate[name] = torch.from_numpy(flat).view(keep.shape)
        candidates.append(candidate)
    if len(packed) != len(candidates) * len(like):
        raise _damaged(path)
    return candidates


def _holds(bits: Tensor, weights: int) -> bool:
    """Whether a tensor holds a bit for each of so many weights."""
    return bits.dtype == torch.uint8 and bits.ndim == 1 and bits.numel() == -(-weights // 8)


def _damaged(path: Path) -> DamagedError:
    return DamagedError(f"'{path}' is damaged: its masks are not those of the round's weights")
