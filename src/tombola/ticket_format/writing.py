"""Writing: the same ticket gives the same bytes, and every file that is written can be read."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tombola.ground.errors import DiskError, InputError, TicketError
from tombola.ground.files import write_whole
from tombola.ticket_format import bits, layout
from tombola.ticket_format.contents import RewindPoint
from tombola.ticket_format.reading import (
    WrongError,
    bytes_of,
    check_digest,
    checked,
    header_end,
    rewind_point_of,
    verified,
)
from tombola.ticket_format.texts import canonical_json, json_data, shown_path

_AN_ENTRY = 100  # bytes, about what the header says of a mask that is written as gaps
_WORTH = 512  # bytes that gaps must save in a file
_Mask = Mapping[str, tuple[Sequence[int], "bytes | memoryview"]]  # shape and packed bits by name


def encode(
    mask: _Mask,
    rewind: Mapping[str, layout.Contents] | RewindPoint,
    *,
    origin: Mapping[str, Any],
    total: int | None = None,
) -> bytes:
    """Return the bytes of a ticket file; the same ticket gives the same bytes.

    The header keeps the order of the two mappings, so a ticket is loaded in its model's order. The
    data has the widest numbers first, so every tensor is aligned.

    Args:
        mask: Shape and packed bits by name.
        rewind: Safetensors dtype, shape and little-endian bytes by name; or the rewind point's own
            file, and the ticket refers to that.
        origin: Where the ticket comes from; JSON.
        total: Number of all conv, linear and norm weights.

    Raises:
        TicketError: The parts do not make a ticket that `verify` accepts.

    >>> encode({"w": ([2], b"\\xa0")}, {"w": ("F32", [2], bytes(8))}, origin={})
    Traceback (most recent call last):
    tombola.ground.errors.TicketError: the ticket has a wrong mask: 'w' has bits set beyond its ...
    """
    point = rewind if isinstance(rewind, RewindPoint) else None
    state = {} if isinstance(rewind, RewindPoint) else rewind
    as_gaps = _as_gaps(mask)
    contents: dict[str, layout.Contents] = {}
    for name, (shape, packed) in mask.items():
        if name in as_gaps:
            raw, _ = as_gaps[name]
            contents[f"mask.{name}"] = ("U8", (len(raw),), raw)
        else:
            # The size of the shape, not of the bytes: the reader's side says if they differ.
            contents[f"mask.{name}"] = ("U8", (bits.packed_size(shape),), bytes(packed))
    for name, tensor in state.items():
        contents[f"rewind.{name}"] = tensor

    try:
        about = _about(mask, as_gaps, point, state, origin, total)
        file = layout.assembled(contents, {"tombola": canonical_json(about)})
    except InputError as error:
        raise TicketError(f"the ticket cannot be written: {error}") from None
    _fill_in_digest_(file)
    result = bytes(file)
    try:
        # What is written can be read: every rule of the format is written down once, on the
        # reader's side.
        verified(replace(checked(result, Path()), rewind_point=point))
    except WrongError as wrong:
        raise TicketError(f"the ticket {wrong}") from None
    return result


def _about(
    mask: _Mask,
    as_gaps: Mapping[str, tuple[bytes, bits.Gaps]],
    point: RewindPoint | None,
    state: Mapping[str, layout.Contents],
    origin: Mapping[str, Any],
    total: int | None,
) -> dict[str, Any]:
    """Return a ticket's metadata, with zeros in place of its digest."""
    # The version says how to find the rewind point, and how masks are written.
    if point is not None:
        version = layout.GAPS_REFERRING if as_gaps else layout.REFERRING
        rewind_digest = point.digest
    else:
        version = layout.GAPS if as_gaps else layout.FORMAT
        rewind_digest = layout.digest_tensors((name, *state[name]) for name in state)
    # Counts and digests are those of the packed masks, however they are written.
    about = {
        "digest": layout.ZEROS.decode(),
        "format": version,
        "kept": sum(bits.ones(packed) for _, packed in mask.values()),
        "mask_digest": layout.digest_masks((name, *mask[name]) for name in mask),
        "origin": json_data(origin, "origin"),
        "prunable": sum(math.prod(shape) for shape, _ in mask.values()),
        "rewind_digest": rewind_digest,
        "shapes": {name: list(shape) for name, (shape, _) in mask.items()},
        "total": total,
    }
    if as_gaps:
        about["gaps"] = {name: asdict(gaps) for name, (_, gaps) in as_gaps.items()}
    return about


def _fill_in_digest_(file: bytearray) -> None:
    """Replace the zeros in a ticket's header by the digest of the file with them."""
    zeros = layout.DIGEST.search(file, 8)
    assert zeros is not None
    begin = zeros.start(1)
    del zeros  # it holds the buffer
    file[begin : begin + 64] = hashlib.sha256(file).hexdigest().encode()


def _as_gaps(mask: _Mask) -> dict[str, tuple[bytes, bits.Gaps]]:
    """Return the masks that are better written as gaps; none where that saves next to nothing."""
    as_gaps, saved = {}, 0
    for name, (shape, packed) in mask.items():
        elements = math.prod(shape)
        if not elements or len(packed) != bits.packed_size(shape):
            continue  # none, or none that fits its shape: the reader's side says so
        if not bits.is_padded(packed, elements):
            continue  # as above
        gaps = bits.as_gaps(packed, elements)
        if gaps is not None and len(packed) - len(gaps[0]) > _AN_ENTRY:
            as_gaps[name] = gaps
            saved += len(packed) - len(gaps[0]) - _AN_ENTRY
    return as_gaps if saved >= _WORTH else {}


def write(path: str | os.PathLike[str], raw: bytes) -> str:
    """Write the bytes that `encode` made, whole or not at all, and return the digest.

    An existing file is replaced; missing folders are made.

    Raises:
        TicketError: The bytes are no ticket.
        DiskError: The file cannot be written.
    """
    path = Path(path)
    try:
        digest = check_digest(raw, header_end(raw))
    except WrongError as wrong:
        raise TicketError(f"{shown_path(path)} {wrong}") from None
    _write(path, raw)
    return digest


def _write(path: Path, raw: bytes | bytearray) -> None:
    try:
        write_whole(path, [raw])
    except DiskError:
        raise
    except ValueError as error:  # no system has such a name
        raise TicketError(f"{shown_path(path)} cannot be written: {error}") from None


def encode_rewind_point(rewind: Mapping[str, layout.Contents]) -> RewindPoint:
    """Return a rewind point as the file that `write_rewind_point` writes, always the same bytes.

    Args:
        rewind: Safetensors dtype, shape and little-endian bytes by name.

    Raises:
        TicketError: The parts do not make a rewind point that `verify` accepts.

    >>> point = encode_rewind_point({"w": ("F32", [2], bytes(8))})
    >>> point.digest[:8], point.size, point.tensors["w"].shape
    ('62ce8ea3', 72, (2,))
    """
    try:
        json_data(dict.fromkeys(rewind), "the state")  # names that are no texts, or half of one
        point = rewind_point_of(layout.assembled(rewind), Path())
    except InputError as error:
        raise TicketError(f"the rewind point cannot be written: {error}") from None
    except WrongError as wrong:
        raise TicketError(f"the rewind point {wrong}") from None
    return replace(point, path=Path(f"{point.digest}.safetensors"))


def write_rewind_point(folder: str | os.PathLike[str], point: RewindPoint) -> Path:
    """Write a rewind point into a folder unless it is there, and return its file.

    It is written whole or not at all. A file of its name is read and checked; a damaged one is
    replaced.

    Raises:
        DiskError: The file cannot be written.
    """
    path = Path(folder, f"{point.digest}.safetensors")
    try:
        if rewind_point_of(bytes_of(path), path).digest == point.digest:
            return path
    except WrongError:
        pass
    _write(path, point.file)
    return path
