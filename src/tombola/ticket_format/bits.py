"""Masks as bits: packed, one bit a weight, or as the gaps between the rarer weights.

    packed    eight weights a byte in row-major order, the first in the highest bit (numpy.packbits)
    gaps      how many weights lie between two marked ones

In a mask that keeps a tenth, the kept weights are marked, and on average nine others lie between
two of them. A gap is written in two parts (Rice 1979, after Golomb 1966): its lowest bits, which
are as good as random, as they are; the number above them as so many zeros and a one. The lowest
bits of all gaps come first, then all that is above, so that numpy reads each part at once. The gap
after the last mark counts too: all gaps and marks add up to the number of weights, or the mask is
damaged.

With the number of lowest bits that suits the mask this takes at most 4.2 % more than the entropy of
so many kept weights at random places, and 10.8 % at any places. At densities from 0.38 to 0.62
packed bits are no longer, and within 4.2 %, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_LOW_BITS = 10  # so a bit of a file stands for at most 2**10 weights
_BLOCK = 2**18  # weights, or bits, that are worked on at a time: a cache holds them


@dataclass(frozen=True)
class Gaps:
    """What a reader must know of a mask that is written as gaps.

    Attributes:
        low_bits: How many of the lowest bits of each gap are written as they are, 1 to 10.
        marked: Which weights are marked: 1, the kept ones, or 0, the pruned ones.
        marks: How many these are.
    """

    low_bits: int
    marked: int
    marks: int


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


# Writing
# --------------------------------------------------------------------------------------------------


def as_gaps(packed: bytes | memoryview, elements: int) -> tuple[bytes, Gaps] | None:
    """Return a packed mask as gaps, or ``None`` where that is no shorter.

    >>> raw, gaps = as_gaps(bytes(49) + b"\\x01", 400)  # one weight of 400, the last
    >>> len(raw), gaps
    (3, Gaps(low_bits=6, marked=1, marks=1))
    >>> as_gaps(b"\\xaa" * 50, 400) is None
    True
    """
    import numpy as np

    kept = ones(packed)
    marked = int(2 * kept <= elements)
    marks = kept if marked else elements - kept
    lower_bounds = {}
    for low_bits in range(1, MOST_LOW_BITS + 1):
        lower_bounds[low_bits] = _lower_bound(marks, elements, low_bits)
    if min(lower_bounds.values()) >= len(packed):
        return None  # so it is for every dense mask: nothing is unpacked

    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=elements)
    narrow = np.uint32 if elements < 2**32 else np.int64
    gaps = np.concatenate([block.astype(narrow) for block in _gaps(bits, marked)])
    del bits
    best, best_size = 0, len(packed)
    for low_bits in sorted(lower_bounds, key=lower_bounds.__getitem__):
        # Only two or three are tried: those that cannot be shorter than the best so far are not.
        if lower_bounds[low_bits] < best_size:
            size = _size(gaps, low_bits)
            if size < best_size:
                best, best_size = low_bits, size
    if not best:
        return None
    return _low(gaps, best) + _high(gaps, best), Gaps(best, marked, marks)


def _lower_bound(marks: int, elements: int, low_bits: int) -> int:
    """Return how many bytes gaps take at least, wherever the marks are."""
    most_in_low_bits = (marks + 1) * ((1 << low_bits) - 1)
    above = max(0, elements - marks - most_in_low_bits) >> low_bits
    return ((marks + 1) * (low_bits + 1) + above) // 8


def _gaps(bits: NDArray[np.uint8], marked: int) -> Iterator[NDArray[np.int64]]:
    """Yield how many weights lie before each mark, and then how many after the last one."""
    import numpy as np

    last = -1
    for begin in range(0, len(bits), _BLOCK):
        places = np.flatnonzero(bits[begin : begin + _BLOCK] == marked) + begin
        yield np.diff(places, prepend=last) - 1
        last = int(places[-1]) if len(places) else last
    yield np.array([len(bits) - last - 1])


def _size(gaps: NDArray[Any], low_bits: int) -> int:
    """Return the bytes of gaps with so many lowest bits."""
    above = int((gaps >> low_bits).sum(dtype="int64"))
    return -(-len(gaps) * low_bits // 8) + -(-(len(gaps) + above) // 8)


def _low(gaps: NDArray[Any], low_bits: int) -> bytes:
    """Return the lowest bits of all gaps, packed; of each gap the highest of them first."""
    import numpy as np

    bits = np.empty((len(gaps), low_bits), np.uint8)
    for column in range(low_bits):
        bits[:, column] = gaps >> (low_bits - 1 - column) & 1
    return np.packbits(bits).tobytes()


def _high(gaps: NDArray[Any], low_bits: int) -> bytes:
    """Return what is above the lowest bits of all gaps, packed: so many zeros and a one."""
    import numpy as np

    blocks = []
    for begin in range(0, len(gaps), _BLOCK):
        zeros = (gaps[begin : begin + _BLOCK] >> low_bits).astype(np.int64)
        ends = np.cumsum(zeros + 1) - 1
        block = np.zeros(ends[-1] + 1, np.uint8)
        block[ends] = 1
        blocks.append(block)
    return np.packbits(np.concatenate(blocks)).tobytes()


# Reading
# --------------------------------------------------------------------------------------------------


def read_gaps(entry: Any) -> Gaps:
    """Check what a file says of a mask that is written as gaps.

    Raises:
        ValueError: What is wrong with it.

    >>> read_gaps({"low_bits": 3, "marked": 1, "marks": 20})
    Gaps(low_bits=3, marked=1, marks=20)
    >>> read_gaps({"low_bits": 11, "marked": 1, "marks": 20})
    Traceback (most recent call last):
    ValueError: its low_bits are not a number from 1 to 10
    """
    if not isinstance(entry, Mapping) or entry.keys() != {"low_bits", "marked", "marks"}:
        raise ValueError("its gaps do not have just low_bits, marked and marks")
    low_bits, marked, marks = entry["low_bits"], entry["marked"], entry["marks"]
    if type(low_bits) is not int or not 1 <= low_bits <= MOST_LOW_BITS:
        raise ValueError(f"its low_bits are not a number from 1 to {MOST_LOW_BITS}")
    if type(marked) is not int or marked not in (0, 1):
        raise ValueError("what is marked is neither 0 nor 1")
    if type(marks) is not int or marks < 0:
        raise ValueError("its marks are not a number")
    return Gaps(low_bits, marked, marks)


def check_gaps(raw: memoryview, gaps: Gaps, elements: int) -> None:
    """Check the bytes of a mask that is written as gaps, without unpacking them.

    There is a one for each mark and one for the end, the last of them in the last byte, and gaps
    are shorter than packed bits. So however many weights a file claims to have, it has no more
    marks than bits.

    Raises:
        ValueError: What is wrong with them.
    """
    middle = _low_size(gaps)
    if not middle < len(raw) < packed_size([elements]):
        raise ValueError(
            f"its {len(raw)} bytes of gaps do not fit {gaps.marks} marks in {elements} weights"
        )
    if not is_padded(raw[:middle], (gaps.marks + 1) * gaps.low_bits):
        raise ValueError("its lowest bits have bits set beyond the last of them")
    if ones(raw[middle:]) != gaps.marks + 1 or not raw[-1]:
        raise ValueError(f"its gaps are not those of {gaps.marks} marks and an end")


def from_gaps(raw: memoryview, gaps: Gaps, elements: int) -> NDArray[np.bool_]:
    """Return a mask that is written as gaps, flat; `check_gaps` has accepted its bytes.

    Raises:
        ValueError: The gaps do not add up to the number of weights; nothing of that size was made.
    """
    import numpy as np

    rows, middle = gaps.marks + 1, _low_size(gaps)
    flat = np.frombuffer(raw, np.uint8)
    low = np.unpackbits(flat[:middle], count=rows * gaps.low_bits).reshape(rows, gaps.low_bits)
    padding = (raw[-1] & -raw[-1]).bit_length() - 1  # zeros after the one of the end
    high = np.unpackbits(flat[middle:], count=8 * (len(raw) - middle) - padding).view(np.bool_)

    # Add up first: a file must not make us reserve memory for weights that it does not have.
    total = rows + (len(high) - rows << gaps.low_bits)
    for column in range(gaps.low_bits):
        total += int(np.count_nonzero(low[:, column])) << (gaps.low_bits - 1 - column)
    if total != elements + 1:
        raise ValueError(f"its gaps add up to {total - 1} weights, its shape to {elements}")

    # The end is a mark behind the last weight, which is cut off again.
    keep = np.full(elements + 1, not gaps.marked)
    row, last_end, last_place = 0, -1, -1
    for begin in range(0, len(high), _BLOCK):
        ends = np.flatnonzero(high[begin : begin + _BLOCK]) + begin
        if not len(ends):
            continue
        # A gap is its number of zeros, then its lowest bits.
        steps = np.diff(ends, prepend=last_end) - 1
        for column in range(gaps.low_bits):
            steps = 2 * steps + low[row : row + len(ends), column]
        places = np.cumsum(steps + 1) + last_place
        keep[places] = gaps.marked
        row, last_end, last_place = row + len(ends), int(ends[-1]), int(places[-1])
    return keep[:elements]


def _low_size(gaps: Gaps) -> int:
    return -(-(gaps.marks + 1) * gaps.low_bits // 8)
