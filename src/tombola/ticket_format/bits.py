"""Masks as bits: eight weights a byte in row-major order, the first in the highest bit (``numpy.packbits``)."""

from __future__ import annotations

import math
from collections.abc import Sequence


def packed_size(shape: Sequence[int]) -> int:
    """Return the bytes of a packed mask.

    >>> packed_size([3, 3])
    2
    """
    return -(-math.prod(shape) // 8)


def ones(packed: bytes | memoryview) -> int:
    """Count the ones.

    >>> ones(bytes([0b1010_0000, 1]))
    3
    """
    return int.from_bytes(packed, "little").bit_count()


def is_padded(packed: bytes | memoryview, elements: int) -> bool:
    """Whether the bits beyond the last of so many are zero.

    >>> is_padded(bytes([0b1110_0000]), 3), is_padded(bytes([0b1111_0000]), 3)
    (True, False)
    """
    used = elements % 8
    return not used or not packed[-1] & (0xFF >> used)
