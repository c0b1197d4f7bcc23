"""How a file is laid out: its header, its tensors, and the digests over them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tombola.ticket_format.texts import canonical_json

# Versions of the format: a ticket that holds its rewind point, and one that refers to the file
# FOLDER/<rewind digest>.safetensors in a folder above it; then the same two with masks written as
# gaps, see `bits`.
FORMAT, REFERRING, GAPS, GAPS_REFERRING = 1, 2, 3, 4
FOLDER = "rewind_points"
LEVELS = 5  # folders in which FOLDER is looked for, the ticket's own among them
ITEMSIZE = dict.fromkeys(["BOOL", "U8", "I8"], 1)
ITEMSIZE |= dict.fromkeys(["F8_E4M3", "F8_E4M3FNUZ", "F8_E5M2", "F8_E5M2FNUZ"], 1)
ITEMSIZE |= dict.fromkeys(["I16", "U16", "F16", "BF16"], 2)
ITEMSIZE |= dict.fromkeys(["I32", "U32", "F32"], 4)
ITEMSIZE |= dict.fromkeys(["I64", "U64", "F64", "C64"], 8)

FIELDS: tuple[str, ...] = ("digest", "format", "kept", "mask_digest", "origin")
FIELDS += ("prunable", "rewind_digest", "shapes", "total")
ZEROS = b"0" * 64  # in place of the digest while it is computed
# Keys are sorted, so "digest" comes first. Anchored to the header's own key, the pattern cannot
# match anything in the origin: there every quotation mark follows a backslash.
DIGEST = re.compile(rb'"tombola":"\{\\"digest\\":\\"([0-9a-f]{64})\\",')

Contents = tuple[str, Sequence[int], "bytes | memoryview"]  # dtype, shape, bytes of one tensor


@dataclass(frozen=True)
class Entry:
    """One tensor of a file: its safetensors dtype, its shape, and its place in the data."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def header_text(header: Mapping[str, Any]) -> bytes:
    """Return the one text of a header: compact JSON, padded with spaces to 8 bytes."""
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % 8)


def assembled(
    contents: Mapping[str, Contents], metadata: Mapping[str, str] | None = None
) -> bytearray:
    """Put a safetensors file together.

    The header is in the mapping's order; the data has the widest numbers first, so that every
    tensor is aligned.
    """
    widest_first = sorted(contents, key=lambda name: -ITEMSIZE.get(contents[name][0], 0))
    offsets, end = {}, 0
    for name in widest_first:
        begin, end = end, end + len(contents[name][2])
        offsets[name] = [begin, end]
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    for name, (dtype, shape, _) in contents.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": offsets[name]}
    text = header_text(header)
    data = [contents[name][2] for name in widest_first]
    return bytearray().join([len(text).to_bytes(8, "little"), text, *data])


def digest_tensors(tensors: Iterable[tuple[str, str, Sequence[int], bytes | memoryview]]) -> str:
    """Return the sha256 over names, safetensors dtypes, shapes and bytes of tensors, by name.

    Each tensor gives one line of canonical JSON, ``["fc.weight","F32",[10,84]]``, and then its
    bytes.

    >>> digest_tensors([]) == hashlib.sha256().hexdigest()
    True
    """
    sha = hashlib.sha256()
    for name, dtype, shape, data in sorted(tensors, key=lambda tensor: tensor[0]):
        sha.update(canonical_json([name, dtype, list(shape)]).encode() + b"\n")
        sha.update(data)
    return sha.hexdigest()


def digest_masks(masks: Iterable[tuple[str, Sequence[int], bytes | memoryview]]) -> str:
    """Return the digest of masks, given by name, shape and packed bits.

    It is that of `digest_tensors` with dtype ``BOOL``.
    """
    return digest_tensors((name, "BOOL", shape, packed) for name, shape, packed in masks)
