"""Reading: a file is checked from outside to inside, and whatever is wrong is one line.

    file -> size -> header length -> digest -> hash -> JSON -> structure -> contents
                                                 |
             nothing in the file is interpreted before its hash is right

This holds for files that are wrong on purpose, too.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from tombola.ground.errors import TicketError
from tombola.ticket_format.bits import Gaps, check_gaps, is_padded, packed_size, read_gaps
from tombola.ticket_format.contents import RewindPoint, TicketFile, seen_from
from tombola.ticket_format.layout import (
    DIGEST,
    FIELDS,
    FOLDER,
    FORMAT,
    GAPS,
    GAPS_REFERRING,
    ITEMSIZE,
    LEVELS,
    REFERRING,
    ZEROS,
    Entry,
    digest_masks,
    digest_tensors,
    header_text,
)
from tombola.ticket_format.texts import canonical_json, json_data, printable, shown_path

_HEADER_LIMIT = 100_000_000  # bytes, as in the safetensors library
_DIMENSIONS_LIMIT = 32  # NumPy 1 has no more
_ELEMENTS_LIMIT = 2**48
_HEX = re.compile(r"[0-9a-f]{64}")
_OFFSETS = re.compile(rb'"data_offsets":\[\d{1,15},(\d{1,15})\]')


def read(path: str | os.PathLike[str]) -> TicketFile:
    """Read a ticket file, check its digest and its structure.

    The counts and the two inner digests are taken from the file; `verify` computes them again. A
    rewind point in another file is not looked for: ``rewind`` is empty then.

    Raises:
        TicketError: The file is missing, truncated, altered, damaged or no ticket; one line says
            which.

    >>> read("no/such/ticket.safetensors")
    Traceback (most recent call last):
    tombola.ground.errors.TicketError: no/such/ticket.safetensors cannot be read: No such file ...
    """
    try:
        return checked(bytes_of(path), Path(path))
    except WrongError as wrong:
        raise TicketError(f"{shown_path(path)} {wrong}") from None


def verify(
    path: str | os.PathLike[str], rewind_points: MutableMapping[Path, RewindPoint] | None = None
) -> TicketFile:
    """Read a ticket file and check its digest, its structure, and what it says of its contents.

    A rewind point in another file is found, read and checked too. Each file is read once; what was
    verified is what the result holds.

    Args:
        path: The ticket.
        rewind_points: Rewind points that were read before, by their files; what is read is added.
            Give the tickets of a run the same one, and each rewind point is read once. It keeps
            them in memory.

    Raises:
        TicketError: The file is missing, truncated, altered, damaged or no ticket, or its rewind
            point is; one line says which.

    >>> import tempfile
    >>> from tombola.ticket_format import encode, write
    >>> mask, rewind = {"w": ([3], bytes([0b1010_0000]))}, {"w": ("F32", [3], bytes(12))}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "ticket.safetensors")
    ...     digest = write(path, encode(mask, rewind, origin={"arm": "LTH"}))
    ...     file = verify(path)
    >>> file.digest == digest, file.kept, file.prunable, file.keep("w").tolist()
    (True, 2, 3, [True, False, True])
    """
    try:
        file = checked(bytes_of(path), Path(path))
        if file.refers:
            point = _referred(file, {} if rewind_points is None else rewind_points)
            file = replace(file, rewind_point=point)
        return verified(file)
    except WrongError as wrong:
        raise TicketError(f"{shown_path(path)} {wrong}") from None


class WrongError(Exception):
    """What is wrong with a file, to be said after its name."""


def bytes_of(path: str | os.PathLike[str], what: str = "ticket") -> bytes:
    """Return a file's bytes; only those of a file, never of a pipe or a device."""
    try:
        # Not Path.stat: a Path may not be made of every string, and os.stat raises for those.
        mode = os.stat(path).st_mode  # noqa: PTH116
        if not stat.S_ISREG(mode):
            kind = "folder" if stat.S_ISDIR(mode) else "special file"
            raise WrongError(f"is not a {what}: it is a {kind}, not a file")
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise WrongError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except MemoryError:
        raise WrongError("cannot be read: it is larger than the memory") from None


def checked(raw: bytes, path: Path) -> TicketFile:
    """Check a ticket's digest and its structure."""
    start = header_end(raw)
    digest = check_digest(raw, start)
    # From here on the file is as it was written, but it may still be no ticket.
    header = _parse(raw[8:start], "header")
    if not isinstance(header, dict):
        raise WrongError(f"has a wrong header: it is a {type(header).__name__}, not an object")
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or list(metadata) != ["tombola"]:
        raise WrongError("has a wrong header: its metadata is not the one text 'tombola'")
    if not isinstance(metadata["tombola"], str):
        raise WrongError("has a wrong header: its metadata is not the one text 'tombola'")
    about = _parse(metadata["tombola"].encode(), "metadata")

    tensors = {}
    for name, info in header.items():
        _check_name(name)
        tensors[name] = _entry(name, info)
    _check_extents(tensors, len(raw) - start)
    fields = _fields(about, digest, tensors)
    data = memoryview(raw)[start:]
    file = TicketFile(path=path, size=len(raw), tensors=tensors, data=data, **fields)
    for name, gaps in file.gaps.items():
        try:
            check_gaps(file.raw(f"mask.{name}"), gaps, math.prod(file.shapes[name]))
        except ValueError as error:
            raise WrongError(f"has a wrong mask: '{printable(name)}': {error}") from None
    return file


def header_end(raw: bytes | bytearray, what: str = "ticket") -> int:
    """Return where a file's header ends, or say what else than a safetensors file it is."""
    if len(raw) < 10:
        raise WrongError("is empty" if not raw else f"is truncated: it has {len(raw)} bytes")
    length = int.from_bytes(raw[:8], "little")
    possible = 2 <= length <= _HEADER_LIMIT
    if possible and 8 + length <= len(raw):
        return 8 + length
    # Any eight bytes may be read as a length: other kinds of files are looked for first, unless a
    # header begins there.
    if not (possible and raw[8:9] == b"{"):
        if raw.startswith(b"PK\x03\x04"):
            raise WrongError(
                f"is not a {what}: it is a zip file, as torch.save writes, and a {what} is never "
                "unpickled"
            )
        if raw[0] == 0x80 and raw[1] < 10:
            raise WrongError(f"is not a {what}: it is a pickle, and a {what} is never unpickled")
    if possible:
        raise WrongError(
            f"is truncated: its header ends at byte {8 + length}, the file at byte {len(raw)}"
        )
    raise WrongError(f"is not a {what}: it does not begin with the length of a safetensors header")


def check_digest(raw: bytes, start: int) -> str:
    """Check the digest that a ticket has in its header over all of it, and return it."""
    digests = list(DIGEST.finditer(raw, 8, start))
    if len(digests) != 1:
        header = raw[8:start].rstrip(b" ")
        if digests or b"tombola" in header:
            raise WrongError(
                f"was altered or damaged: its header has {len(digests)} digests where a ticket has "
                "one"
            )
        if header.startswith(b"{") and header.endswith(b"}"):
            raise WrongError("is a safetensors file but not a ticket: it has no metadata 'tombola'")
        raise WrongError("is not a ticket: it has no safetensors header")
    digest = digests[0][1].decode()
    actual = _hash(raw, digests[0].start(1))
    if actual == digest:
        return digest
    # A file that was cut off is the commonest damage: the header still says where its data ended.
    data_ends = [int(offset) for offset in _OFFSETS.findall(raw, 8, start)]
    end = start + max(data_ends, default=0)
    if end > len(raw):
        raise WrongError(f"is truncated: its data ends at byte {end}, the file at byte {len(raw)}")
    raise WrongError(f"was altered or damaged: its digest is {digest}, the file hashes to {actual}")


def _hash(raw: bytes, digest_begin: int) -> str:
    view = memoryview(raw)
    sha = hashlib.sha256(view[:digest_begin])
    sha.update(ZEROS)
    sha.update(view[digest_begin + 64 :])
    return sha.hexdigest()


def _parse(text: bytes | bytearray, what: str) -> Any:
    """Parse strict JSON: no key twice, no NaN, no infinity, no lone surrogates, not too deep."""

    def without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key stands twice in one object")
        return dict(pairs)

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    try:
        value = json.loads(text.decode(), object_pairs_hook=without_twins, parse_constant=refuse)
        return json_data(value, what)
    except (ValueError, RecursionError) as error:
        where = "wrong metadata" if what == "metadata" else "a wrong header"
        raise WrongError(f"has {where}: {printable(str(error))}") from None


def _check_name(name: str) -> None:
    kind, _, in_model = name.partition(".")
    if kind not in ("mask", "rewind") or not in_model:
        raise WrongError(
            f"has a tensor '{printable(name)}'; a ticket has only 'mask.<name>' and 'rewind.<name>'"
        )


def _entry(name: str, info: Any) -> Entry:
    shown = f"'{printable(name)}'"
    if not isinstance(info, dict) or info.keys() != {"dtype", "shape", "data_offsets"}:
        raise WrongError(
            f"has a wrong header: {shown} does not have just dtype, shape and data_offsets"
        )
    # Only dtypes of known size: otherwise the bytes could not be checked against the shape.
    dtype, shape, offsets = info["dtype"], _shape(name, info["shape"]), info["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEMSIZE:
        unknown = printable(canonical_json(dtype))
        raise WrongError(f"has a wrong header: {shown} is of the unknown dtype {unknown}")
    if not _is_integers(offsets) or len(offsets) != 2:
        raise WrongError(f"has a wrong header: the data_offsets of {shown} are not two numbers")
    begin, end = offsets
    if not 0 <= begin <= end or math.prod(shape) * ITEMSIZE[dtype] != end - begin:
        raise WrongError(f"has a wrong header: {shown} does not fill its bytes {begin} to {end}")
    return Entry(dtype, shape, begin, end)


def _is_integers(value: Any) -> bool:
    return isinstance(value, list) and all(type(number) is int for number in value)


def _shape(name: str, value: Any) -> tuple[int, ...]:
    shown = f"'{printable(name)}'"
    if not _is_integers(value) or len(value) > _DIMENSIONS_LIMIT:
        raise WrongError(f"has a wrong header: the shape of {shown} is not a list of numbers")
    # Zeros count as one: 0 x 2**62 x 2**62 holds nothing, and yet no library can make it.
    elements = math.prod([max(side, 1) for side in value])
    if min(value, default=0) < 0 or elements > _ELEMENTS_LIMIT:
        raise WrongError(f"has a wrong header: the shape of {shown} is negative or too large")
    return tuple(value)


def _check_extents(tensors: Mapping[str, Entry], size: int) -> None:
    """Refuse tensors that overlap, leave bytes out, or do not end where the data does."""
    previous_end = 0
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != previous_end:
            raise WrongError(
                f"has a wrong header: '{printable(name)}' begins at byte {entry.begin} of the "
                f"data, not at {previous_end}"
            )
        previous_end = entry.end
    if previous_end != size:
        raise WrongError(
            f"has a wrong header: the tensors end at byte {previous_end} of the data, the file at "
            f"{size}"
        )


def _fields(about: Any, digest: str, tensors: Mapping[str, Entry]) -> dict[str, Any]:
    """Check the metadata, and return it as the fields of a `TicketFile`."""
    if not isinstance(about, dict):
        raise WrongError(f"has wrong metadata: a {type(about).__name__}, not an object")
    version = _version(about.get("format"))
    # Exactly the known fields: a field that is never read could hold anything.
    has_gaps = version in (GAPS, GAPS_REFERRING)
    unexpected = sorted(about.keys() ^ ({*FIELDS, "gaps"} if has_gaps else {*FIELDS}))
    if unexpected:
        names = printable(", ".join(unexpected))
        raise WrongError(f"has wrong metadata: missing or unknown: {names}")
    for name in ("digest", "mask_digest", "rewind_digest"):
        if not isinstance(about[name], str) or not _HEX.fullmatch(about[name]):
            raise WrongError(f"has wrong metadata: '{name}' is not 64 hexadecimal digits")
    # The digest was found in the text of the header; it must be this field, and not one that looks
    # like it in the origin.
    if about["digest"] != digest:
        raise WrongError("has wrong metadata: its digest stands in another place")
    _check_counts(about["kept"], about["prunable"], about["total"])
    for name in ("origin", "shapes"):
        if not isinstance(about[name], dict):
            raise WrongError(f"has wrong metadata: '{name}' is not an object")
    gaps = _gaps(about["gaps"]) if has_gaps else {}
    shapes = _mask_shapes(about["shapes"], tensors, gaps)
    if version in (REFERRING, GAPS_REFERRING) and len(tensors) > len(shapes):
        raise WrongError(
            f"is of format {version} and holds a rewind point; in that format it is another file"
        )
    return about | {"shapes": shapes, "gaps": gaps}


def _version(entry: Any) -> int:
    if type(entry) is not int or entry < 1:
        raise WrongError("has wrong metadata: 'format' is not a version number")
    if entry > GAPS_REFERRING:
        raise WrongError(
            f"is of format {entry}; this tombola reads formats {FORMAT} to {GAPS_REFERRING}: a "
            "newer one is needed"
        )
    return entry


def _check_counts(kept: Any, prunable: Any, total: Any) -> None:
    # By type, since true is an int to isinstance.
    if not (type(prunable) is int and type(kept) is int and 0 <= kept <= prunable and prunable > 0):
        raise WrongError("has wrong metadata: 'kept' and 'prunable' are not counts of weights")
    if total is not None and not (type(total) is int and total >= prunable):
        raise WrongError(
            "has wrong metadata: 'total' is not a count of at least the prunable weights"
        )


def _gaps(entry: Any) -> dict[str, Gaps]:
    if not isinstance(entry, dict) or not entry:
        raise WrongError("has wrong metadata: 'gaps' is not an object that names masks")
    by_name = {}
    for name, numbers in entry.items():
        try:
            by_name[name] = read_gaps(numbers)
        except ValueError as error:
            raise WrongError(f"has wrong metadata: '{printable(name)}': {error}") from None
    return by_name


def _mask_shapes(
    shapes: Mapping[str, Any], tensors: Mapping[str, Entry], gaps: Mapping[str, Gaps]
) -> dict[str, tuple[int, ...]]:
    """Return the masks' shapes in the order of the file, having checked that each has its bytes."""
    masks = [name.removeprefix("mask.") for name in tensors if name.startswith("mask.")]
    unpaired = sorted(set(masks) ^ set(shapes))
    if unpaired:
        raise WrongError(
            f"has wrong metadata: '{printable(unpaired[0])}' has a mask or a shape but not both"
        )
    if not gaps.keys() <= shapes.keys():
        raise WrongError("has wrong metadata: 'gaps' names what has no mask")
    in_order = {name: _shape(name, shapes[name]) for name in masks}
    for name, shape in in_order.items():
        entry = tensors[f"mask.{name}"]
        # How long gaps may be is checked later, against their bytes.
        fits = len(entry.shape) == 1 if name in gaps else entry.shape == (packed_size(shape),)
        if entry.dtype != "U8" or not fits:
            raise WrongError(
                f"has a wrong mask: '{printable(name)}' does not fit its shape {list(shape)}"
            )
    return in_order


def verified(file: TicketFile) -> TicketFile:
    """Check what a ticket says of its contents; its rewind point is there."""
    for name in _misfits(file.shapes, file.rewind):
        raise WrongError(
            f"has a wrong mask: '{printable(name)}' is not in the rewind point, or in another shape"
        )
    # From here on there is a tensor of each mask's size: gaps may be made into as many weights.
    for name, shape in file.shapes.items():
        if name not in file.gaps and not is_padded(file.raw(f"mask.{name}"), math.prod(shape)):
            raise WrongError(
                f"has a wrong mask: '{printable(name)}' has bits set beyond its last weight"
            )
    # A rewind point in a file of its own was checked when that was read.
    if file.rewind_point is not None:
        rewind_digest = file.rewind_point.digest
    else:
        for name in _not_boolean(file.rewind, file.raw_rewind):
            raise WrongError(
                f"has a wrong rewind point: '{printable(name)}' is boolean and holds other bytes "
                "than 0 and 1"
            )
        rewind_digest = _digest(file.rewind, file.raw_rewind)
    masks = ((name, shape, file.packed(name)) for name, shape in file.shapes.items())
    counted = {
        "kept": sum(file.kept_per_layer().values()),
        "prunable": sum(map(math.prod, file.shapes.values())),
        "mask_digest": digest_masks(masks),
        "rewind_digest": rewind_digest,
    }
    for name, value in counted.items():
        if getattr(file, name) != value:
            raise WrongError(
                f"has wrong metadata: '{name}' is {getattr(file, name)}, its contents give {value}"
            )
    return file


def _misfits(shapes: Mapping[str, tuple[int, ...]], rewind: Mapping[str, Entry]) -> Iterator[str]:
    """Yield the masks that have no tensor of their name and shape in a rewind point."""
    for name, shape in shapes.items():
        if name not in rewind or rewind[name].shape != shape:
            yield name


def _not_boolean(tensors: Mapping[str, Entry], raw: Callable[[str], memoryview]) -> Iterator[str]:
    """Yield boolean tensors with other bytes than 0 and 1, which are undefined behaviour in C++."""
    for name, entry in tensors.items():
        if entry.dtype == "BOOL" and bytes(raw(name)).translate(None, b"\0\1"):
            yield name


def _digest(tensors: Mapping[str, Entry], raw: Callable[[str], memoryview]) -> str:
    return digest_tensors(
        (name, entry.dtype, entry.shape, raw(name)) for name, entry in tensors.items()
    )


# A rewind point in a file of its own
# -----------------------------------------------------------------------------


def rewind_folders(path: str | os.PathLike[str]) -> list[Path]:
    """List the folders where a ticket's rewind point may be, in the order in which they are tried.

    They are those named ``rewind_points`` beside the ticket and in the four folders above its own.
    Where links lead to the ticket, those above the file itself follow.

    >>> folders = rewind_folders("/runs/digits/tickets/lth/replicate-0/round-001.safetensors")
    >>> [str(folder) for folder in folders][-2:]
    ['/runs/digits/rewind_points', '/runs/rewind_points']
    """
    folders = []
    # Not Path.absolute: os.path.abspath takes ".." out, too.
    for file in dict.fromkeys((os.path.abspath(path), os.path.realpath(path))):  # noqa: PTH100
        for folder in list(Path(file).parents)[:LEVELS]:
            folders.append(folder / FOLDER)
    return folders


def _referred(file: TicketFile, known: MutableMapping[Path, RewindPoint]) -> RewindPoint:
    """Find, read and check the rewind point that a ticket refers to."""
    name = f"{file.rewind_digest}.safetensors"
    path = _first_of(name, rewind_folders(file.path))
    shown = f"{FOLDER}/{name}" if path is None else seen_from(file.path, path)
    advice = "; put a whole copy of it there"
    try:
        if path is None:
            advice = (
                "; in the run that it comes from, 'tombola ticket export' makes one file of both"
            )
            raise WrongError(
                f"is not there, neither beside it nor in the {LEVELS - 1} folders above"
            )
        if path not in known:
            known[path] = rewind_point_of(bytes_of(path, "rewind point"), path)
        point = known[path]
        if point.digest != file.rewind_digest:
            raise WrongError(f"was altered or damaged: its tensors have the digest {point.digest}")
        advice = ""  # the file is intact, but not the one that is meant
        for mask in _misfits(file.shapes, point.tensors):
            raise WrongError(
                f"does not fit: it has no '{printable(mask)}' of the mask's shape "
                f"{list(file.shapes[mask])}"
            )
    except WrongError as wrong:
        raise WrongError(
            f"has its rewind point in another file, and {printable(shown, 400)} {wrong}{advice}"
        ) from None
    return point


def _first_of(name: str, folders: Iterable[Path]) -> Path | None:
    """Return the file of a name in the first folder that has one."""
    for folder in folders:
        # A broken link counts as found: what is wrong with it is reported, and no file further up
        # is tried.
        if os.path.lexists(folder / name):
            return folder / name
    return None


def rewind_point_of(raw: bytes | bytearray, path: Path) -> RewindPoint:
    """Check all of a rewind point's file but its name.

    There is no hash of the file, so the header is read before anything is known to be right. But a
    header has only one possible text, and the digest covers what it says and the data: no bit of a
    file can change unnoticed.
    """
    start = header_end(raw, "rewind point")
    header = _parse(raw[8:start], "header")
    if not isinstance(header, dict):
        raise WrongError(f"has a wrong header: it is a {type(header).__name__}, not an object")
    if "__metadata__" in header:
        raise WrongError("has a wrong header: it has metadata, and a rewind point has none")
    # Spaces or another order of keys would be another file of the same digest.
    if header_text(header) != raw[8:start]:
        raise WrongError("has a wrong header: it is not the compact JSON of what it says")
    tensors = {name: _entry(name, info) for name, info in header.items()}
    # A file that was cut off is the commonest damage, and gets its own message.
    end = start + max([entry.end for entry in tensors.values()], default=0)
    if end > len(raw):
        raise WrongError(f"is truncated: its data ends at byte {end}, the file at byte {len(raw)}")
    _check_extents(tensors, len(raw) - start)
    data = memoryview(raw)[start:]

    def bytes_of_tensor(name: str) -> memoryview:
        return data[tensors[name].begin : tensors[name].end]

    for name in _not_boolean(tensors, bytes_of_tensor):
        raise WrongError(f"holds other bytes than 0 and 1 in '{printable(name)}', which is boolean")
    return RewindPoint(path, _digest(tensors, bytes_of_tensor), tensors, raw)


def verify_rewind_point(path: str | os.PathLike[str]) -> RewindPoint:
    """Read a rewind point's own file and check all of it, its name included.

    Raises:
        TicketError: The file is missing, truncated, altered, damaged or no rewind point; one line
            says which.
    """
    try:
        point = rewind_point_of(bytes_of(path, "rewind point"), Path(path))
        if Path(path).name != f"{point.digest}.safetensors":
            raise WrongError(f"was altered or damaged: its tensors have the digest {point.digest}")
    except WrongError as wrong:
        raise TicketError(f"{shown_path(path)} {wrong}") from None
    return point
