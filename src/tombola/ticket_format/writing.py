"""Writing: the same ticket gives the same bytes, and what is written can be read."""

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
_WORTH = 512  # bytes


def encode(
    mask: Mapping[str, tuple[Sequence[int], bytes | memoryview]],
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
    tombola.ground.errors.TicketError: the ticket has a wrong mask: 'w' has bits set beyond its last weight
    """
    written = {name: bytes(packed) for name, (_, packed) in mask.items()}
    as_gaps = _as_gaps(mask)
    written |= {name: raw for name, (raw, _) in as_gaps.items()}
    contents: dict[str, layout.Contents] = {}
    for name, (shape, _) in mask.items():
        size = len(written[name]) if name in as_gaps else bits.packed_size(shape)
        contents[f"mask.{name}"] = ("U8", (size,), written[name])
    point = rewind if isinstance(rewind, RewindPoint) else None
    held = {} if isinstance(rewind, RewindPoint) else rewind
    contents |= {f"rewind.{name}": tensor for name, tensor in held.items()}
    try:
        about = {
            "digest": layout.ZEROS.decode(),
            "format": _format(bool(point), bool(as_gaps)),
            "kept": sum(bits.ones(packed) for _, packed in mask.values()),
            "mask_digest": layout.digest_masks(
                (name, shape, packed) for name, (shape, packed) in mask.items()
            ),
            "origin": json_data(origin, "origin"),
            "prunable": sum(math.prod(shape) for shape, _ in mask.values()),
            "rewind_digest": point.digest
            if point
            else layout.digest_tensors((name, *held[name]) for name in held),
            "shapes": {name: list(shape) for name, (shape, _) in mask.items()},
            "total": total,
        }
        if as_gaps:
            about["gaps"] = {name: asdict(gaps) for name, (_, gaps) in as_gaps.items()}
        raw = layout.assembled(contents, {"tombola": canonical_json(about)})
    except InputError as error:
        raise TicketError(f"the ticket cannot be written: {error}") from None
    found = layout.DIGEST.search(raw, 8)
    assert found is not None
    at = found.start(1)
    del found  # it holds the buffer
    raw[at : at + 64] = hashlib.sha256(raw).hexdigest().encode()
    try:
        # What is written can be read: every rule of the format is written down once, on the
        # reader's side.
        verified(replace(checked(result := bytes(raw), Path()), rewind_point=point))
    except WrongError as wrong:
        raise TicketError(f"the ticket {wrong}") from None
    return result


def _format(refers: bool, as_gaps: bool) -> int:
    if as_gaps:
        return layout.GAPS_REFERRING if refers else layout.GAPS
    return layout.REFERRING if refers else layout.FORMAT


def _as_gaps(
    mask: Mapping[str, tuple[Sequence[int], bytes | memoryview]],
) -> dict[str, tuple[bytes, bits.Gaps]]:
    """Return the masks that are better written as gaps; none where that saves next to nothing."""
    found, saved = {}, 0
    for name, (shape, packed) in mask.items():
        elements = math.prod(shape)
        if (
            not elements
            or len(packed) != bits.packed_size(shape)
            or not bits.is_padded(packed, elements)
        ):
            continue  # none, or none that fits its shape: the reader's side says so
        gaps = bits.as_gaps(packed, elements)
        if gaps is not None and len(packed) - len(gaps[0]) > _AN_ENTRY:
            found[name] = gaps
            saved += len(packed) - len(gaps[0]) - _AN_ENTRY
    return found if saved >= _WORTH else {}


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
    """Return a rewind point as the file that `write_rewind_point` writes; the same state gives the
    same bytes.

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
    """Write a rewind point into a folder, whole or not at all, unless it is there, and return its
    file.

    A file of its name is read and checked; one that is damaged is replaced.

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
