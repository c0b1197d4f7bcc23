"""How a file is laid out: its header, its tensors, and the digests over them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tombola.ticket_format.texts import canonical_json

FORMAT = 1  # a ticket that holds its rewind point
# one that names it: the file FOLDER/<rewind digest>.safetensors in a folder above the ticket
REFERRING = 2
GAPS, GAPS_REFERRING = 3, 4  # the same two, with masks that stand there as gaps, see `bits`
FOLDER = "rewind_points"
LEVELS = 5  # folders in which FOLDER is looked for, the ticket's own among them
ITEMSIZE = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E4M3FNUZ": 1, "F8_E5M2": 1, "F8_E5M2FNUZ": 1,
    "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8, "C64": 8,
}  # fmt: skip

FIELDS = (
    "digest",
    "format",
    "kept",
    "mask_digest",
    "origin",
    "prunable",
    "rewind_digest",
    "shapes",
    "total",
)
ZEROS = b"0" * 64  # in the place of the digest while it is computed
# Keys are sorted, so "digest" comes first. Anchored to the header's own key, the pattern cannot be
# met by anything in the origin: there every quotation mark stands behind a backslash.
DIGEST = re.compile(rb'"tombola":"\{\\"digest\\":\\"([0-9a-f]{64})\\",')

Contents = tuple[str, Sequence[int], "bytes | memoryview"]  # dtype, shape, bytes of one tensor


@dataclass(frozen=True)
class Entry:
    """One tensor of a file: its safetensors dtype, its shape, and where its bytes begin and end
    in the data.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def header_text(header: Mapping[str, Any]) -> bytes:
    """Return a header as the one text that is written: compact JSON, padded with spaces to 8
    bytes.
    """
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % 8)


def assembled(
    contents: Mapping[str, Contents], metadata: Mapping[str, str] | None = None
) -> bytearray:
    """Put a safetensors file together: the header in the mapping's order, the data with the
    widest numbers first.
    """
    wide_first = sorted(contents, key=lambda name: -ITEMSIZE.get(contents[name][0], 0))
    ends, at = {}, 0
    for name in wide_first:
        at += len(contents[name][2])
        ends[name] = at
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    for name, (dtype, shape, data) in contents.items():
        header[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [ends[name] - len(data), ends[name]],
        }
    text = header_text(header)
    return bytearray().join(
        [len(text).to_bytes(8, "little"), text, *(contents[name][2] for name in wide_first)]
    )


def digest_tensors(tensors: Iterable[tuple[str, str, Sequence[int], bytes | memoryview]]) -> str:
    """Return the sha256 over name, safetensors dtype, shape and bytes of tensors, in the order of
    their names.

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
    """Return the digest of masks from their names, shapes and packed bits, as `digest_tensors`
    with dtype ``BOOL``.
    """
    return digest_tensors((name, "BOOL", shape, packed) for name, shape, packed in masks)
