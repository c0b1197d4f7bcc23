"""The ticket file: what its bytes mean, and how they are checked. Needs neither torch nor safetensors.

    file -> size -> header length -> digest -> hash -> JSON -> structure -> contents
                                                 |
             nothing in the file is interpreted before its hash is right

A ticket is one safetensors file: ``mask.<name>`` holds packed bits, ``rewind.<name>`` the rewind point, and the one
metadata key ``tombola`` a JSON text that says where they came from. In a run many tickets have one rewind point: there
it is a file of its own, which tickets name by its digest. Whatever is wrong with a file is told as one line
(`TicketError`), also when somebody made it wrong on purpose. ``docs/ticket-format.md`` is the page for readers.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tombola.errors import DiskError, InputError, TicketError
from tombola.files import write_whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = 1  # a ticket that holds its rewind point
REFERRING = 2  # one that names it: the file FOLDER/<rewind digest>.safetensors in a folder above the ticket
FOLDER = "rewind_points"
LEVELS = 5  # folders in which FOLDER is looked for, the ticket's own among them
ITEMSIZE = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E4M3FNUZ": 1, "F8_E5M2": 1, "F8_E5M2FNUZ": 1,
    "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8, "C64": 8,
}  # fmt: skip

_HEADER_LIMIT = 100_000_000  # bytes, as in the safetensors library
_DIMENSIONS_LIMIT = 32  # NumPy 1 has no more
_ELEMENTS_LIMIT = 2**48
_DEPTH_LIMIT = 64
_ZEROS = b"0" * 64
_HEX = re.compile(r"[0-9a-f]{64}")
# Keys are sorted, so "digest" comes first. Anchored to the header's own key, the pattern cannot be met by anything in
# the origin: there every quotation mark stands behind a backslash.
_DIGEST = re.compile(rb'"tombola":"\{\\"digest\\":\\"([0-9a-f]{64})\\",')
_OFFSETS = re.compile(rb'"data_offsets":\[\d{1,15},(\d{1,15})\]')
_FIELDS = ("digest", "format", "kept", "mask_digest", "origin", "prunable", "rewind_digest", "shapes", "total")

Contents = tuple[str, Sequence[int], "bytes | memoryview"]  # dtype, shape, bytes of one tensor


@dataclass(frozen=True)
class Entry:
    """One tensor of a ticket file: its safetensors dtype, its shape, and where its bytes begin and end in the data."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, eq=False)
class RewindPoint:
    """A rewind point as a file of its own, in memory and checked: a safetensors file of the plain state.

    Attributes:
        path: Where it was read from; where nothing was read, its name.
        digest: Digest of its tensors, which is its name too.
        tensors: Every tensor by its name in the model, in the header's order.
        file: The bytes of the file.
    """

    path: Path
    digest: str
    tensors: Mapping[str, Entry]
    file: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self.file)

    def raw(self, name: str) -> memoryview:
        """Return the bytes of a tensor by its name in the model; read-only, not copied."""
        start, entry = _header_end(self.file), self.tensors[name]
        return memoryview(self.file)[start + entry.begin : start + entry.end]


@dataclass(frozen=True, eq=False)
class TicketFile:
    """A ticket file that has been read into memory and whose digest is right.

    Attributes:
        path: Where it was read from.
        size: Bytes of the file.
        digest: sha256 over the file, its own 64 characters taken as zeros.
        format: Version of the format.
        shapes: The masks' names and shapes, in the model's order.
        origin: Where the ticket comes from: model, data, arm, round, seeds, parent. Free JSON, not trusted further.
        kept: Number of weights kept.
        prunable: Number of weights that have a mask.
        total: Number of all conv, linear and norm weights, or ``None`` where nobody counted them.
        mask_digest: Digest of the mask alone.
        rewind_digest: Digest of the rewind point alone.
        tensors: Every tensor by its name in the file, in the header's order.
        rewind_point: The rewind point's own file where the ticket refers to one and `verify` has found it, else
            ``None``.
    """

    path: Path
    size: int
    digest: str
    format: int
    shapes: Mapping[str, tuple[int, ...]]
    origin: Mapping[str, Any]
    kept: int
    prunable: int
    total: int | None
    mask_digest: str
    rewind_digest: str
    tensors: Mapping[str, Entry]
    data: memoryview = field(repr=False)
    rewind_point: RewindPoint | None = field(default=None, repr=False)

    @property
    def density(self) -> float:
        """Kept / prunable weights, 0 to 1."""
        return self.kept / self.prunable

    @property
    def density_total(self) -> float | None:
        """Not pruned / all conv, linear and norm weights, 0 to 1; ``None`` where the file has no total."""
        return None if self.total is None else (self.total - self.prunable + self.kept) / self.total

    @property
    def rewind(self) -> dict[str, Entry]:
        """The tensors of the rewind point by their names in the model, whichever file they are in."""
        if self.rewind_point is not None:
            return dict(self.rewind_point.tensors)
        return {name.removeprefix("rewind."): e for name, e in self.tensors.items() if name.startswith("rewind.")}

    @property
    def reference(self) -> str | None:
        """The path of the rewind point's own file, seen from the ticket's folder; ``None`` where there is none."""
        return None if self.rewind_point is None else _seen_from(self.path, self.rewind_point.path)

    def raw(self, tensor: str) -> memoryview:
        """Return the bytes of a tensor by its name in the file, ``"mask.fc.weight"``; read-only, not copied."""
        entry = self.tensors[tensor]
        return self.data[entry.begin : entry.end]

    def raw_rewind(self, name: str) -> memoryview:
        """Return the bytes of a tensor of the rewind point by its name in the model; read-only, not copied."""
        return self.raw(f"rewind.{name}") if self.rewind_point is None else self.rewind_point.raw(name)

    def packed(self, name: str) -> bytes:
        """Return a mask as it stands in the file: eight weights a byte, the first weight in the highest bit."""
        return bytes(self.raw(f"mask.{name}"))

    def keep(self, name: str) -> NDArray[np.bool_]:
        """Return a mask as a new array of booleans in the weight's shape; True = kept."""
        import numpy as np

        shape = self.shapes[name]
        bits = np.unpackbits(np.frombuffer(self.raw(f"mask.{name}"), np.uint8), count=math.prod(shape))
        return bits.reshape(shape).view(np.bool_)

    def kept_per_layer(self) -> dict[str, int]:
        """Count the kept weights of every mask, in the model's order."""
        return {name: _ones(self.raw(f"mask.{name}")) for name in self.shapes}


# Reading ---------------------------------------------------------------------------------------------------------


def read(path: str | os.PathLike[str]) -> TicketFile:
    """Read a ticket file, check its digest and its structure.

    The counts and the two inner digests are taken from the file; `verify` computes them again. A rewind point in
    another file is not looked for: ``rewind`` is empty then.

    Raises:
        TicketError: The file is missing, truncated, altered, damaged or no ticket; one line says which.

    >>> read("no/such/ticket.safetensors")
    Traceback (most recent call last):
    tombola.errors.TicketError: no/such/ticket.safetensors cannot be read: No such file or directory
    """
    try:
        return _checked(_bytes_of(path), Path(path))
    except _WrongError as wrong:
        raise TicketError(f"{_shown(path)} {wrong}") from None


def verify(path: str | os.PathLike[str], rewind_points: MutableMapping[Path, RewindPoint] | None = None) -> TicketFile:
    """Read a ticket file and check all that can be checked: its digest, its structure, and what it says of itself.

    A rewind point in another file is found, read and checked too. Each file is read once; what was verified is what
    the result holds.

    Args:
        path: The ticket.
        rewind_points: Rewind points that were read before, by their files; what is read is added. Give the tickets
            of a run the same one, and each rewind point is read once. It keeps them in memory.

    Raises:
        TicketError: The file is missing, truncated, altered, damaged or no ticket, or its rewind point is; one line
            says which.

    >>> import tempfile
    >>> mask, rewind = {"w": ([3], bytes([0b1010_0000]))}, {"w": ("F32", [3], bytes(12))}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "ticket.safetensors")
    ...     digest = write(path, encode(mask, rewind, origin={"arm": "LTH"}))
    ...     file = verify(path)
    >>> file.digest == digest, file.kept, file.prunable, file.keep("w").tolist()
    (True, 2, 3, [True, False, True])
    """
    try:
        file = _checked(_bytes_of(path), Path(path))
        if file.format == REFERRING:
            file = replace(file, rewind_point=_referred(file, {} if rewind_points is None else rewind_points))
        return _verified(file)
    except _WrongError as wrong:
        raise TicketError(f"{_shown(path)} {wrong}") from None


class _WrongError(Exception):
    """What is wrong with a file, to be said after its name."""


def _bytes_of(path: str | os.PathLike[str], what: str = "ticket") -> bytes:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - a Path may not be made of every string; this one raises for those
        if not stat.S_ISREG(mode):
            raise _WrongError(
                f"is not a {what}: it is a {'folder' if stat.S_ISDIR(mode) else 'special file'}, not a file"
            )
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise _WrongError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except MemoryError:
        raise _WrongError("cannot be read: it is larger than the memory") from None


def _checked(raw: bytes, path: Path) -> TicketFile:
    start = _header_end(raw)
    digest = _check_digest(raw, start)
    header = _parse(raw[8:start], "header")
    if not isinstance(header, dict):
        raise _WrongError(f"has a wrong header: it is a {type(header).__name__}, not an object")
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or list(metadata) != ["tombola"] or not isinstance(metadata["tombola"], str):
        raise _WrongError("has a wrong header: its metadata is not the one text 'tombola'")
    about = _parse(metadata["tombola"].encode(), "metadata")
    tensors = {_in_a_ticket(name): _entry(name, info) for name, info in header.items()}
    _check_extents(tensors, len(raw) - start)
    return TicketFile(
        path=path, size=len(raw), tensors=tensors, data=memoryview(raw)[start:], **_fields(about, digest, tensors)
    )


def _header_end(raw: bytes, what: str = "ticket") -> int:
    if len(raw) < 10:
        raise _WrongError("is empty" if not raw else f"is truncated: it has {len(raw)} bytes")
    length = int.from_bytes(raw[:8], "little")
    if 2 <= length <= _HEADER_LIMIT and 8 + length <= len(raw):
        return 8 + length
    if 2 <= length <= _HEADER_LIMIT and raw[8:9] == b"{":
        raise _WrongError(f"is truncated: its header ends at byte {8 + length}, the file at byte {len(raw)}")
    if raw.startswith(b"PK\x03\x04"):
        raise _WrongError(f"is not a {what}: it is a zip file, as torch.save writes, and a {what} is never unpickled")
    if raw[0] == 0x80 and raw[1] < 10:
        raise _WrongError(f"is not a {what}: it is a pickle, and a {what} is never unpickled")
    if 2 <= length <= _HEADER_LIMIT:
        raise _WrongError(f"is truncated: its header ends at byte {8 + length}, the file at byte {len(raw)}")
    raise _WrongError(f"is not a {what}: it does not begin with the length of a safetensors header")


def _check_digest(raw: bytes, start: int) -> str:
    found = list(_DIGEST.finditer(raw, 8, start))
    if len(found) != 1:
        header = raw[8:start].rstrip(b" ")
        if found or b"tombola" in header:
            raise _WrongError(f"was altered or damaged: its header has {len(found)} digests where a ticket has one")
        if header.startswith(b"{") and header.endswith(b"}"):
            raise _WrongError("is a safetensors file but not a ticket: it has no metadata 'tombola'")
        raise _WrongError("is not a ticket: it has no safetensors header")
    digest = found[0][1].decode()
    actual = _hash(raw, found[0].start(1))
    if actual != digest:
        end = start + max((int(offset) for offset in _OFFSETS.findall(raw, 8, start)), default=0)
        if end > len(raw):
            raise _WrongError(f"is truncated: its data ends at byte {end}, the file at byte {len(raw)}")
        raise _WrongError(f"was altered or damaged: its digest is {digest}, the file hashes to {actual}")
    return digest


def _hash(raw: bytes, at: int) -> str:
    view = memoryview(raw)
    sha = hashlib.sha256(view[:at])
    sha.update(_ZEROS)
    sha.update(view[at + 64 :])
    return sha.hexdigest()


def _parse(text: bytes, what: str) -> Any:
    """Parse strict JSON: no key twice, no NaN, no infinity, no lone surrogates, not too deep."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key stands twice in one object")
        return dict(pairs)

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    try:
        return _plain(json.loads(text.decode(), object_pairs_hook=once, parse_constant=refuse), what)
    except (ValueError, RecursionError) as error:
        raise _WrongError(
            f"has {'wrong metadata' if what == 'metadata' else 'a wrong header'}: {_line(str(error))}"
        ) from None


def _in_a_ticket(name: str) -> str:
    if name.partition(".")[0] not in ("mask", "rewind") or not name.partition(".")[2]:
        raise _WrongError(f"has a tensor '{_line(name)}'; a ticket has only 'mask.<name>' and 'rewind.<name>'")
    return name


def _entry(name: str, info: Any) -> Entry:
    if not isinstance(info, dict) or info.keys() != {"dtype", "shape", "data_offsets"}:
        raise _WrongError(f"has a wrong header: '{_line(name)}' does not have just dtype, shape and data_offsets")
    dtype, shape, offsets = info["dtype"], _shape(name, info["shape"]), info["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEMSIZE:
        raise _WrongError(f"has a wrong header: '{_line(name)}' is of the unknown dtype {_line(canonical_json(dtype))}")
    if not (isinstance(offsets, list) and len(offsets) == 2 and all(type(o) is int for o in offsets)):
        raise _WrongError(f"has a wrong header: the data_offsets of '{_line(name)}' are not two numbers")
    begin, end = offsets
    if not 0 <= begin <= end or math.prod(shape) * ITEMSIZE[dtype] != end - begin:
        raise _WrongError(f"has a wrong header: '{_line(name)}' does not fill its bytes {begin} to {end}")
    return Entry(dtype, shape, begin, end)


def _shape(name: str, value: Any) -> tuple[int, ...]:
    if not (isinstance(value, list) and len(value) <= _DIMENSIONS_LIMIT and all(type(n) is int for n in value)):
        raise _WrongError(f"has a wrong header: the shape of '{_line(name)}' is not a list of numbers")
    # Zeros count as one: 0 x 2**62 x 2**62 holds nothing, and yet no library can make it.
    if any(n < 0 for n in value) or math.prod(max(n, 1) for n in value) > _ELEMENTS_LIMIT:
        raise _WrongError(f"has a wrong header: the shape of '{_line(name)}' is negative or too large")
    return tuple(value)


def _check_extents(tensors: Mapping[str, Entry], size: int) -> None:
    at = 0
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != at:
            raise _WrongError(
                f"has a wrong header: '{_line(name)}' begins at byte {entry.begin} of the data, not at {at}"
            )
        at = entry.end
    if at != size:
        raise _WrongError(f"has a wrong header: the tensors end at byte {at} of the data, the file at {size}")


def _fields(about: Any, digest: str, tensors: Mapping[str, Entry]) -> dict[str, Any]:
    if not isinstance(about, dict):
        raise _WrongError(f"has wrong metadata: a {type(about).__name__}, not an object")
    version = about.get("format")
    if type(version) is not int or version < 1:
        raise _WrongError("has wrong metadata: 'format' is not a version number")
    if version not in (FORMAT, REFERRING):
        raise _WrongError(
            f"is of format {version}; this tombola reads formats {FORMAT} and {REFERRING}: a newer one is needed"
        )
    if sorted(about) != list(_FIELDS):
        raise _WrongError(
            f"has wrong metadata: missing or unknown: {_line(', '.join(sorted(about.keys() ^ set(_FIELDS))))}"
        )
    for name in ("digest", "mask_digest", "rewind_digest"):
        if not isinstance(about[name], str) or not _HEX.fullmatch(about[name]):
            raise _WrongError(f"has wrong metadata: '{name}' is not 64 hexadecimal digits")
    if about["digest"] != digest:
        raise _WrongError("has wrong metadata: its digest stands in another place")
    prunable, kept, total = about["prunable"], about["kept"], about["total"]
    if not (type(prunable) is int and type(kept) is int and 0 <= kept <= prunable and prunable > 0):
        raise _WrongError("has wrong metadata: 'kept' and 'prunable' are not counts of weights")
    if total is not None and not (type(total) is int and total >= prunable):
        raise _WrongError("has wrong metadata: 'total' is not a count of at least the prunable weights")
    for name in ("origin", "shapes"):
        if not isinstance(about[name], dict):
            raise _WrongError(f"has wrong metadata: '{name}' is not an object")
    found = _mask_shapes(about["shapes"], tensors)
    if version == REFERRING and len(tensors) > len(found):
        raise _WrongError(f"is of format {REFERRING} and holds a rewind point; in that format it is another file")
    return about | {"shapes": found}


def _mask_shapes(shapes: Mapping[str, Any], tensors: Mapping[str, Entry]) -> dict[str, tuple[int, ...]]:
    masks = [name.removeprefix("mask.") for name in tensors if name.startswith("mask.")]
    odd = sorted(set(masks) ^ set(shapes))
    if odd:
        raise _WrongError(f"has wrong metadata: '{_line(odd[0])}' has a mask or a shape but not both")
    found = {name: _shape(name, shapes[name]) for name in masks}
    for name, shape in found.items():
        mask = tensors[f"mask.{name}"]
        if mask.dtype != "U8" or mask.shape != (_packed_size(shape),):
            raise _WrongError(f"has a wrong mask: '{_line(name)}' does not fit its shape {list(shape)}")
    return found


def _verified(file: TicketFile) -> TicketFile:
    for name in _misfits(file.shapes, file.rewind):
        raise _WrongError(f"has a wrong mask: '{_line(name)}' is not in the rewind point, or in another shape")
    for name, shape in file.shapes.items():
        if not _padded(file.raw(f"mask.{name}"), shape):
            raise _WrongError(f"has a wrong mask: '{_line(name)}' has bits set beyond its last weight")
    for name in _not_boolean(file.rewind, file.raw_rewind):
        raise _WrongError(f"has a wrong rewind point: '{_line(name)}' is boolean and holds other bytes than 0 and 1")
    counted = {
        "kept": sum(file.kept_per_layer().values()),
        "prunable": sum(math.prod(shape) for shape in file.shapes.values()),
        "mask_digest": digest_masks((n, shape, file.raw(f"mask.{n}")) for n, shape in file.shapes.items()),
        # That of another file was computed when the file was read.
        "rewind_digest": file.rewind_point.digest if file.rewind_point else _digest(file.rewind, file.raw_rewind),
    }
    for name, value in counted.items():
        if getattr(file, name) != value:
            raise _WrongError(f"has wrong metadata: '{name}' is {getattr(file, name)}, its contents give {value}")
    return file


def _misfits(shapes: Mapping[str, tuple[int, ...]], rewind: Mapping[str, Entry]) -> Iterator[str]:
    """Yield the masks that have no tensor of their name and shape in a rewind point."""
    return (name for name, shape in shapes.items() if name not in rewind or rewind[name].shape != shape)


def _not_boolean(tensors: Mapping[str, Entry], raw: Callable[[str], memoryview]) -> Iterator[str]:
    """Yield boolean tensors with other bytes than 0 and 1, which are undefined behaviour in C++."""
    return (n for n, e in tensors.items() if e.dtype == "BOOL" and bytes(raw(n)).translate(None, b"\0\1"))


def _digest(tensors: Mapping[str, Entry], raw: Callable[[str], memoryview]) -> str:
    return digest_tensors((name, entry.dtype, entry.shape, raw(name)) for name, entry in tensors.items())


# A rewind point in a file of its own -----------------------------------------------------------------------------


def rewind_folders(path: str | os.PathLike[str]) -> list[Path]:
    """List the folders where a ticket's rewind point may be, in the order in which they are tried.

    They are those named ``rewind_points`` beside the ticket and in the four folders above its own. Where links lead
    to the ticket, those above the file itself follow.

    >>> [str(folder) for folder in rewind_folders("/runs/digits/tickets/lth/replicate-0/round-001.safetensors")][-2:]
    ['/runs/digits/rewind_points', '/runs/rewind_points']
    """
    files = dict.fromkeys((os.path.abspath(path), os.path.realpath(path)))  # noqa: PTH100 - it takes ".." out, too
    return [above / FOLDER for file in files for above in list(Path(file).parents)[:LEVELS]]


def _referred(file: TicketFile, known: MutableMapping[Path, RewindPoint]) -> RewindPoint:
    """Find, read and check the rewind point that a ticket refers to."""
    name = f"{file.rewind_digest}.safetensors"
    # A broken link counts as found: what is wrong is told of it, and not of a file further up.
    path = next((folder / name for folder in rewind_folders(file.path) if os.path.lexists(folder / name)), None)
    shown = f"{FOLDER}/{name}" if path is None else _seen_from(file.path, path)
    advice = "; put a whole copy of it there"
    try:
        if path is None:
            advice = "; in the run that it comes from, 'tombola ticket export' makes one file of both"
            raise _WrongError(f"is not there, neither beside it nor in the {LEVELS - 1} folders above")
        if path not in known:
            known[path] = _rewind_point(_bytes_of(path, "rewind point"), path)
        point = known[path]
        if point.digest != file.rewind_digest:
            raise _WrongError(f"was altered or damaged: its tensors have the digest {point.digest}")
        advice = ""  # it is whole, and another one is meant
        for mask in _misfits(file.shapes, point.tensors):
            raise _WrongError(f"does not fit: it has no '{_line(mask)}' of the mask's shape {list(file.shapes[mask])}")
    except _WrongError as wrong:
        raise _WrongError(f"has its rewind point in another file, and {_line(shown, 400)} {wrong}{advice}") from None
    return point


def _seen_from(ticket: Path, path: Path) -> str:
    return Path(os.path.relpath(path, os.path.dirname(os.path.abspath(ticket)))).as_posix()  # noqa: PTH100, PTH120


def _rewind_point(raw: bytes, path: Path) -> RewindPoint:
    """Check all of a rewind point's file but its name.

    There is no hash of the file, so the header is read before anything is known to be right. But it can have one text
    only and the digest covers what it says and the data: no bit of a file can change unnoticed.
    """
    start = _header_end(raw, "rewind point")
    header = _parse(raw[8:start], "header")
    if not isinstance(header, dict):
        raise _WrongError(f"has a wrong header: it is a {type(header).__name__}, not an object")
    if "__metadata__" in header:
        raise _WrongError("has a wrong header: it has metadata, and a rewind point has none")
    if _header(header) != raw[8:start]:
        raise _WrongError("has a wrong header: it is not the compact JSON of what it says")
    tensors = {name: _entry(name, info) for name, info in header.items()}
    end = start + max((entry.end for entry in tensors.values()), default=0)
    if end > len(raw):
        raise _WrongError(f"is truncated: its data ends at byte {end}, the file at byte {len(raw)}")
    _check_extents(tensors, len(raw) - start)
    data = memoryview(raw)[start:]
    contents = {name: data[entry.begin : entry.end] for name, entry in tensors.items()}
    for name in _not_boolean(tensors, contents.__getitem__):
        raise _WrongError(f"holds other bytes than 0 and 1 in '{_line(name)}', which is boolean")
    return RewindPoint(path, _digest(tensors, contents.__getitem__), tensors, raw)


def verify_rewind_point(path: str | os.PathLike[str]) -> RewindPoint:
    """Read a rewind point's own file and check all of it, its name included.

    Raises:
        TicketError: The file is missing, truncated, altered, damaged or no rewind point; one line says which.
    """
    try:
        point = _rewind_point(_bytes_of(path, "rewind point"), Path(path))
        if Path(path).name != f"{point.digest}.safetensors":
            raise _WrongError(f"was altered or damaged: its tensors have the digest {point.digest}")
    except _WrongError as wrong:
        raise TicketError(f"{_shown(path)} {wrong}") from None
    return point


def encode_rewind_point(rewind: Mapping[str, Contents]) -> RewindPoint:
    """Return a rewind point as the file that `write_rewind_point` writes; the same state gives the same bytes.

    Args:
        rewind: Safetensors dtype, shape and little-endian bytes by name.

    Raises:
        TicketError: The parts do not make a rewind point that `verify` accepts.

    >>> point = encode_rewind_point({"w": ("F32", [2], bytes(8))})
    >>> point.digest[:8], point.size, point.tensors["w"].shape
    ('62ce8ea3', 72, (2,))
    """
    try:
        _plain(dict.fromkeys(rewind), "the state")  # names that are no texts, or half of one
        point = _rewind_point(bytes(_assembled(rewind)), Path())
    except InputError as error:
        raise TicketError(f"the rewind point cannot be written: {error}") from None
    except _WrongError as wrong:
        raise TicketError(f"the rewind point {wrong}") from None
    return replace(point, path=Path(f"{point.digest}.safetensors"))


def write_rewind_point(folder: str | os.PathLike[str], point: RewindPoint) -> Path:
    """Write a rewind point into a folder, whole or not at all, unless it is there, and return its file.

    A file of its name is read and checked; one that is damaged is replaced.

    Raises:
        DiskError: The file cannot be written.
    """
    path = Path(folder, f"{point.digest}.safetensors")
    try:
        if _rewind_point(_bytes_of(path), path).digest == point.digest:
            return path
    except _WrongError:
        pass
    _write(path, point.file)
    return path


# Writing ---------------------------------------------------------------------------------------------------------


def encode(
    mask: Mapping[str, tuple[Sequence[int], bytes | memoryview]],
    rewind: Mapping[str, Contents] | RewindPoint,
    *,
    origin: Mapping[str, Any],
    total: int | None = None,
) -> bytes:
    """Return the bytes of a ticket file; the same ticket gives the same bytes.

    The header keeps the order of the two mappings, so a ticket is loaded in its model's order. The data has the widest
    numbers first, so every tensor is aligned.

    Args:
        mask: Shape and packed bits by name.
        rewind: Safetensors dtype, shape and little-endian bytes by name; or the rewind point's own file, and the
            ticket refers to that.
        origin: Where the ticket comes from; JSON.
        total: Number of all conv, linear and norm weights.

    Raises:
        TicketError: The parts do not make a ticket that `verify` accepts.

    >>> encode({"w": ([2], b"\\xa0")}, {"w": ("F32", [2], bytes(8))}, origin={})
    Traceback (most recent call last):
    tombola.errors.TicketError: the ticket has a wrong mask: 'w' has bits set beyond its last weight
    """
    contents: dict[str, Contents] = {
        f"mask.{name}": ("U8", (_packed_size(shape),), packed) for name, (shape, packed) in mask.items()
    }
    point = rewind if isinstance(rewind, RewindPoint) else None
    held = {} if isinstance(rewind, RewindPoint) else rewind
    contents |= {f"rewind.{name}": tensor for name, tensor in held.items()}
    try:
        about = {
            "digest": _ZEROS.decode(),
            "format": REFERRING if point else FORMAT,
            "kept": sum(_ones(packed) for _, packed in mask.values()),
            "mask_digest": digest_masks((name, shape, packed) for name, (shape, packed) in mask.items()),
            "origin": _plain(origin, "origin"),
            "prunable": sum(math.prod(shape) for shape, _ in mask.values()),
            "rewind_digest": point.digest if point else digest_tensors((name, *held[name]) for name in held),
            "shapes": {name: list(shape) for name, (shape, _) in mask.items()},
            "total": total,
        }
        raw = _assembled(contents, {"tombola": canonical_json(about)})
    except InputError as error:
        raise TicketError(f"the ticket cannot be written: {error}") from None
    found = _DIGEST.search(raw, 8)
    assert found is not None
    at = found.start(1)
    del found  # it holds the buffer
    raw[at : at + 64] = hashlib.sha256(raw).hexdigest().encode()
    try:
        # What is written can be read: every rule of the format is written down once, on the reader's side.
        _verified(replace(_checked(result := bytes(raw), Path()), rewind_point=point))
    except _WrongError as wrong:
        raise TicketError(f"the ticket {wrong}") from None
    return result


def _assembled(contents: Mapping[str, Contents], metadata: Mapping[str, str] | None = None) -> bytearray:
    """Put a safetensors file together: the header in the mapping's order, the data with the widest numbers first."""
    wide_first = sorted(contents, key=lambda name: -ITEMSIZE.get(contents[name][0], 0))
    ends, at = {}, 0
    for name in wide_first:
        at += len(contents[name][2])
        ends[name] = at
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    for name, (dtype, shape, data) in contents.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [ends[name] - len(data), ends[name]]}
    text = _header(header)
    return bytearray().join([len(text).to_bytes(8, "little"), text, *(contents[name][2] for name in wide_first)])


def _header(header: Mapping[str, Any]) -> bytes:
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % 8)


def write(path: str | os.PathLike[str], raw: bytes) -> str:
    """Write the bytes that `encode` made, whole or not at all, and return the digest.

    An existing file is replaced; missing folders are made.

    Raises:
        TicketError: The bytes are no ticket.
        DiskError: The file cannot be written.
    """
    path = Path(path)
    try:
        digest = _check_digest(raw, _header_end(raw))
    except _WrongError as wrong:
        raise TicketError(f"{_shown(path)} {wrong}") from None
    _write(path, raw)
    return digest


def _write(path: Path, raw: bytes) -> None:
    try:
        write_whole(path, raw)
    except DiskError:
        raise
    except ValueError as error:  # no system has such a name
        raise TicketError(f"{_shown(path)} cannot be written: {error}") from None


# Digests ---------------------------------------------------------------------------------------------------------


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: keys sorted, no spaces, no NaN; tuples become lists.

    Raises:
        InputError: JSON has no such value (a set, NaN, a key that is no text); the message says where.

    >>> canonical_json({"b": (1, 2.5), "a": None})
    '{"a":null,"b":[1,2.5]}'
    >>> canonical_json({"seeds": [1, float("nan")]})
    Traceback (most recent call last):
    tombola.errors.InputError: value.seeds[1] is nan; JSON has only finite numbers
    """
    return json.dumps(_plain(value, "value"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _plain(value: Any, where: str, depth: int = 0) -> Any:
    if depth > _DEPTH_LIMIT:
        raise InputError(f"{_line(where, 40)} is nested more than {_DEPTH_LIMIT} deep")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise InputError(f"{_line(where)} is a number of more than 64 bits")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InputError(f"{_line(where)} is {float(value)}; JSON has only finite numbers")
        return float(value)
    if isinstance(value, str):
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            raise InputError(f"{_line(where)} is a text with half a character: {value[:40]!a}")
        return str.__str__(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise InputError(f"{_line(where)} has the key {_line(repr(key))}; JSON has only texts as keys")
        return {_plain(k, f"{where}'s key"): _plain(v, f"{where}.{k}", depth + 1) for k, v in value.items()}
    raise InputError(f"{_line(where)} is a {type(value).__name__}; JSON has no such value")


def digest_tensors(tensors: Iterable[tuple[str, str, Sequence[int], bytes | memoryview]]) -> str:
    """Return the sha256 over name, safetensors dtype, shape and bytes of tensors, in the order of their names.

    Each tensor gives one line of canonical JSON, ``["fc.weight","F32",[10,84]]``, and then its bytes.

    >>> digest_tensors([]) == hashlib.sha256().hexdigest()
    True
    """
    sha = hashlib.sha256()
    for name, dtype, shape, data in sorted(tensors, key=lambda tensor: tensor[0]):
        sha.update(canonical_json([name, dtype, list(shape)]).encode() + b"\n")
        sha.update(data)
    return sha.hexdigest()


def digest_masks(masks: Iterable[tuple[str, Sequence[int], bytes | memoryview]]) -> str:
    """Return the digest of masks from their names, shapes and packed bits, as `digest_tensors` with dtype ``BOOL``."""
    return digest_tensors((name, "BOOL", shape, packed) for name, shape, packed in masks)


def _ones(packed: bytes | memoryview) -> int:
    return int.from_bytes(packed, "little").bit_count()


def _packed_size(shape: Sequence[int]) -> int:
    return -(-math.prod(shape) // 8)


def _padded(packed: bytes | memoryview, shape: Sequence[int]) -> bool:
    used = math.prod(shape) % 8
    return not used or not packed[-1] & (0xFF >> used)


# Showing ---------------------------------------------------------------------------------------------------------

_WIDTH = 100
_LABEL = 16


def describe(file: TicketFile, more: Iterable[tuple[str, str]] = ()) -> str:
    """Return what a ticket is, as plain text of at most 100 columns: its origin, its densities and every layer.

    Args:
        file: The ticket.
        more: What else is to be said of it, label and text.

    >>> import tempfile
    >>> mask, rewind = {"w": ([3], bytes([0b1010_0000]))}, {"w": ("F32", [3], bytes(12))}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "ticket.safetensors")
    ...     _ = write(path, encode(mask, rewind, origin={"arm": "LTH", "round": 1, "seeds": {"replicate": 7}}))
    ...     lines = describe(verify(path)).splitlines()
    >>> print("\\n".join(lines[:5]))
    ticket          ticket.safetensors
    arm             LTH, round 1
    density         66.67 %: 2 of 3 prunable weights kept
    seeds           replicate=7
    digest          f1bda757190fa32263281ddf67f3d70752bcbc7cc8847e5b108a3ecea78f06ca
    >>> print("\\n".join(lines[-2:]))
    w            3     2   3  66.67 %
    1 layer            2   3  66.67 %
    """
    facts = [("ticket", _file_name(file.path)), *_origin_facts(file), ("digest", file.digest)]
    facts += [("mask digest", file.mask_digest), ("rewind digest", file.rewind_digest)]
    facts += [("file", f"format {file.format}, {_bytes(file.size)}, {_rewind_fact(file)}")]
    if file.rewind_point is not None:
        # The digest stands two lines above; in full the path would not fit a line.
        short = (file.reference or "").replace(file.rewind_digest, f"{file.rewind_digest[:8]}…")
        facts += [("rewind file", f"{short}, {_bytes(file.rewind_point.size)}")]
    facts += more
    lines = [line for label, value in facts for line in _fact(label, value)]
    return "\n".join([*lines, "", *_table(file)])


def _rewind_fact(file: TicketFile) -> str:
    if file.format == REFERRING:
        return "the rewind point is in another file"
    return f"{len(file.rewind)} tensors in the rewind point"


def plain(file: TicketFile) -> dict[str, Any]:
    """Return all that a ticket file says, as JSON data for scripts; ``layers`` has every mask in the model's order.

    >>> import tempfile
    >>> mask, rewind = {"w": ([3], bytes([0b1010_0000]))}, {"w": ("F32", [3], bytes(12))}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "ticket.safetensors")
    ...     _ = write(path, encode(mask, rewind, origin={"arm": "LTH", "round": 1}))
    ...     said = plain(verify(path))
    >>> said["kept"], said["origin"], said["rewind_point"]["file"]
    (2, {'arm': 'LTH', 'round': 1}, None)
    >>> said["layers"]["w"]
    {'shape': [3], 'kept': 2, 'prunable': 3, 'density': 0.6666666666666666}
    """
    kept = file.kept_per_layer()
    sizes = {name: math.prod(shape) for name, shape in file.shapes.items()}
    return {
        "path": os.fspath(file.path),
        "size": file.size,
        "format": file.format,
        "digest": file.digest,
        "mask_digest": file.mask_digest,
        "rewind_digest": file.rewind_digest,
        "kept": file.kept,
        "prunable": file.prunable,
        "total": file.total,
        "density": file.density,
        "density_total": file.density_total,
        "layers": {
            name: {
                "shape": list(shape),
                "kept": kept[name],
                "prunable": sizes[name],
                "density": kept[name] / sizes[name] if sizes[name] else None,
            }
            for name, shape in file.shapes.items()
        },
        "rewind_point": {
            "file": file.reference,  # seen from the ticket's folder; null where the ticket holds it
            "size": file.rewind_point.size if file.rewind_point else None,
            "tensors": {name: {"dtype": e.dtype, "shape": list(e.shape)} for name, e in file.rewind.items()},
        },
        "origin": dict(file.origin),
    }


def _origin_facts(file: TicketFile) -> list[tuple[str, str]]:
    origin = dict(file.origin)
    arm, index = origin.pop("arm", None), origin.pop("round", None)
    stands = [] if arm is None else [_value(arm)]
    stands += [] if index is None else [f"round {_value(index)}"]
    density = f"{_percent(file.density)}: {file.kept:,} of {file.prunable:,} prunable weights kept"
    facts = [("arm", ", ".join(stands))] if stands else []
    facts += [(key, _thing(origin.pop(key))) for key in ("model", "data") if key in origin]
    if "inputs" in origin:
        facts += _inputs(origin.pop("inputs"))
    if "trained" in origin:
        facts += [("weights", _trained(origin.pop("trained")))]
    # What only a program needs is in `plain`.
    for key in ("versions", "inference_flops", *(["shared"] if origin.get("shared") == {} else [])):
        origin.pop(key, None)
    facts += [("density", density)]
    if file.density_total is not None:
        facts += [("of all weights", f"{_percent(file.density_total)} of {file.total:,} are not pruned")]
    if "partitions" in origin:
        facts += [("partitions", _partitions(origin.pop("partitions")))]
    first = [key for key in ("rewind_step", "seeds", "training") if key in origin]
    last = [key for key in ("parent",) if origin.get(key) is not None]
    rest = sorted(origin.keys() - {"parent", *first})
    return facts + [(key.replace("_", " "), _value(origin[key])) for key in [*first, *rest, *last]]


def _thing(value: Any) -> str:
    """Show a model or a data set: its name, its options in brackets, and what else is said of it."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return _value(value)
    options = value.get("options")
    text = value["name"] + (f" ({_value(options)})" if options else "")
    rest = {key: item for key, item in value.items() if key not in ("name", "options") and item is not None}
    return "; ".join([text, *(f"{key} {_value(item)}" for key, item in rest.items())])


def _inputs(value: Any) -> list[tuple[str, str]]:
    """Show how a model is given images, and what its outputs stand for."""
    known = ("shape", "mean", "std", "classes")
    if not isinstance(value, dict) or not all(isinstance(value.get(key), list) for key in known):
        return [("inputs", _value(value))]
    shape = " x ".join(map(_value, value["shape"]))
    numbers = all(type(one) in (int, float) for key in ("mean", "std") for one in value[key])
    mean, std = (", ".join(f"{one:.6g}" if numbers else _value(one) for one in value[key]) for key in ("mean", "std"))
    classes = value["classes"]
    shown = _classes(classes) if all(type(one) is int for one in classes) else ", ".join(map(_value, classes))
    how = f"{shape}, {_value(value.get('dtype'))}; the model takes (images - mean) / std, mean {mean}, std {std}"
    return [("inputs", how), ("classes", f"{len(classes)}: {shown}")]


def _trained(value: Any) -> str:
    """Say that a ticket's values are trained weights, and how accurate they are."""
    said = value if isinstance(value, dict) else {}
    known = [(key, said.get(f"{key}_accuracy")) for key in ("test", "valid")]
    measured = [f"{key} accuracy {_percent(one)}" for key, one in known if isinstance(one, int | float)]
    return ", ".join(["trained, no rewind point", *measured])


def _partitions(value: Any) -> str:
    if not isinstance(value, list):
        return _value(value)
    shown = (_classes(part["classes"] if isinstance(part, dict) and "classes" in part else part) for part in value)
    return f"{len(value)}: " + " | ".join(shown)


def _classes(part: Any) -> str:
    """Show classes as ranges, 0-4, 7, where they are numbers."""
    if not (isinstance(part, list) and part and all(type(c) is int for c in part)):
        return "all" if part is None else _value(part)
    runs: list[list[int]] = []
    for number in sorted(part):
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and not any(isinstance(item, (dict, list)) for item in value.values()):
        return ", ".join(f"{key}={_value(item)}" for key, item in value.items())
    return json.dumps(value, ensure_ascii=False)


def _fact(label: str, value: str) -> list[str]:
    wrapped = textwrap.wrap(_line(value, 600), _WIDTH - _LABEL) or [""]
    return [f"{'' if row else _line(label, 14):<{_LABEL}}{line}" for row, line in enumerate(wrapped)]


def _table(file: TicketFile) -> list[str]:
    kept = file.kept_per_layer()
    rows = [("layer", "shape", "kept", "of", "density")]
    for name, shape in file.shapes.items():
        size = math.prod(shape)
        share = _percent(kept[name] / size) if size else "-"
        rows.append((_middle(name), "x".join(map(str, shape)) or "1", f"{kept[name]:,}", f"{size:,}", share))
    many = f"{len(kept)} layer{'' if len(kept) == 1 else 's'}"
    rows.append((many, "", f"{file.kept:,}", f"{file.prunable:,}", _percent(file.density)))
    rows = [(a, _middle(b, 22), c, d, e) for a, b, c, d, e in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]


def _middle(name: str, limit: int = 36) -> str:
    name = _line(name, 1000)
    return name if len(name) <= limit else f"{name[: limit // 2 - 1]}…{name[-limit // 2 :]}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def _bytes(size: int) -> str:
    return f"{size:,} bytes" if size < 100_000 else f"{size:,} bytes ({size / 1e6:.1f} MB)"


def _line(text: str, limit: int = 120) -> str:
    """Return one printable line: a file must not be able to steer the terminal that shows what is wrong with it."""
    shown = text if text.isprintable() else ascii(text)[1:-1]
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def _shown(path: str | os.PathLike[str]) -> str:
    return _line(os.fspath(path), 400)


def _file_name(path: str | os.PathLike[str]) -> str:
    return _line(os.path.basename(os.fspath(path)) or os.fspath(path))  # noqa: PTH119
