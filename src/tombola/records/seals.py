"""Seals: digests of their own content that a run's files carry, and the readers and writers of each
kind of file.

    value -> content -> [ seal ] -> file -> [ seal checked ] -> content -> value

What a run has written it reads back hours later, or on another machine. A seal is the sha256 over
whose file it is, what it is called, and what it says. So a file that lost a bit, was cut off, was
edited, or was put in the place of another of its kind is never taken for what was written. The seal
is where other readers of the kind ignore it:

    JSON          the entry "#seal": the last of a mapping, of a list alone in a last mapping
    JSON Lines    the last entry "#seal" of every line
    YAML          a comment, the last line
    safetensors   the one entry of the metadata
    .npy          behind the array
    .npz          the archive's comment

Older files have no seals. The folder's ``run.json``, which has a seal itself, says
whether it is that old, and not the file at hand: a seal that was damaged is not taken for one that
never was.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tombola.ground.errors import DamagedError, InputError
from tombola.ground.files import write_whole
from tombola.records.layout import MACHINE
from tombola.ticket_format import canonical_json

if TYPE_CHECKING:  # looking at a ticket of a run needs neither of them
    from numpy.typing import NDArray
    from torch import Tensor

VERSION = 1  # what ``run.json`` says of a folder whose files all have seals
KEY = "#seal"  # no arm, entry or field is called so

_HEX = re.compile(r"[0-9a-f]{64}")
_LINE = re.compile(rb', "#seal": "([0-9a-f]{64})"\}')
_LINE_LENGTH = len(', "#seal": ""}') + 64
_COMMENT = re.compile(r"^# seal: ([0-9a-f]{64})\s*\Z", re.MULTILINE)
_MARK = b"seal:"
_TRAILER = len(_MARK) + 64
_METADATA = b'{"__metadata__":{"seal":"'
_UNSET = "0" * 64
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # without libyaml ten times as slow
_NO_SEAL = "was altered or damaged: it has no digest, as every file of this run has"


@dataclass(frozen=True)
class Seals:
    """Reads and writes the files of one folder.

    Every reader raises `DamagedError` for a file that is not what was written, in one line that
    names the file, and `FileNotFoundError` where there is none.

    Args:
        folder: The folder.
        of: Whose files they are: the digest of the run. Nothing where each name is a digest
            already.
        required: Whether a file without a seal is refused. Older folders have such files; their
            contents are taken as they are, as far as they can be read at all.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     folder = Seals(Path(name), "a run")
    ...     folder.write_json(Path(name, "a.json"), {"epochs": 3})
    ...     again = folder.read_json(Path(name, "a.json"))
    ...     _ = Path(name, "a.json").rename(Path(name, "b.json"))
    ...     folder.read_json(Path(name, "b.json"))
    Traceback (most recent call last):
    tombola.ground.errors.DamagedError: '...b.json' was altered, damaged or put in another ...
    >>> again
    {'epochs': 3}
    """

    folder: Path
    of: str = ""
    required: bool = True

    # Text
    # ----------------------------------------------------------------------------------------------

    def write_json(self, path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
        """Write a mapping or a list as JSON for people to read."""
        seal = {KEY: self._of_value(path, value)}
        sealed = {**value, **seal} if isinstance(value, Mapping) else [*value, seal]
        write_whole(path, json.dumps(sealed, indent=2) + "\n")

    def read_json(self, path: Path) -> Any:
        """Read what `write_json` has written.

        The seal is over the value, so it holds however the text is laid out.
        """
        text = self._text(path)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _unreadable(path, error) from error
        seal = None
        if isinstance(value, dict):
            seal = value.pop(KEY, None)
        elif isinstance(value, list) and value and isinstance(value[-1], dict) and KEY in value[-1]:
            seal = value.pop()[KEY]
        self._check_value(path, value, seal)
        return value

    def line(self, path: Path, record: Mapping[str, Any], place: str = "") -> bytes:
        """Return a line of a JSON Lines file, sealed.

        Args:
            path: The file.
            record: What it says.
            place: Which line it is, where that matters: "3 of 7".
        """
        text = json.dumps(record, allow_nan=False).encode()
        seal = self._digest(path, text, place)
        return text[:-1] + f', "{KEY}": "{seal}"}}\n'.encode()

    def read_line(self, path: Path, line: bytes, place: str = "") -> dict[str, Any]:
        """Read what `line` has returned, without the seal."""
        line = line.rstrip(b"\r\n")
        sealed = None
        if len(line) > _LINE_LENGTH:
            sealed = _LINE.fullmatch(line, len(line) - _LINE_LENGTH)
        if sealed is None:
            value = _json_line(line)
            if self.required or KEY in value:
                raise DamagedError(
                    "it was altered or damaged: it has no digest, as every line of this run has"
                )
            return value
        # The seal was taken over the line without it.
        text = line[:-_LINE_LENGTH] + b"}"
        seal, actual = sealed[1].decode(), self._digest(path, text, place)
        if seal != actual:
            or_else = ", or a line is missing or was added" if place else ""
            raise DamagedError(
                f"it was altered, damaged or is of another run{or_else}: {_differ(seal, actual)}"
            )
        return _json_line(text)

    def write_lines(self, path: Path, records: Sequence[Mapping[str, Any]]) -> None:
        """Write a JSON Lines file whose lines know how many there are; none is added later."""
        write_whole(path, self.lines(path, records))

    def lines(self, path: Path, records: Sequence[Mapping[str, Any]]) -> bytes:
        """Return what `write_lines` writes."""
        sealed = []
        for number, record in enumerate(records, 1):
            sealed.append(self.line(path, record, f"{number} of {len(records)}"))
        return b"".join(sealed)

    def read_lines(self, path: Path) -> Iterator[dict[str, Any]]:
        """Read what `write_lines` has written; an error names the line's number."""
        lines = self.raw(path).split(b"\n")
        if lines[-1]:
            raise DamagedError(f"line {len(lines)} of '{path}' is damaged: it is cut off")
        for number, line in enumerate(lines[:-1], 1):
            try:
                yield self.read_line(path, line, f"{number} of {len(lines) - 1}")
            except DamagedError as error:
                raise DamagedError(f"line {number} of '{path}' is damaged: {error}") from error

    def write_yaml(self, path: Path, value: Mapping[str, Any]) -> None:
        """Write a mapping as YAML for people to read."""
        text = yaml.safe_dump(dict(value), sort_keys=False)
        write_whole(path, f"{text}# seal: {self._of_value(path, value)}\n")

    def read_yaml(self, path: Path) -> tuple[Any, DamagedError | None]:
        """Read what `write_yaml` has written.

        Returns:
            The value, and what is wrong with its seal: people edit such a file, and a caller that
            knows what it should say can tell them more.
        """
        text = self._text(path)
        comment = _COMMENT.search(text)
        try:
            value = yaml.load(text, _LOADER)
        # PyYAML does not catch what its constructors raise: KeyError, RecursionError.
        except Exception as error:
            raise _unreadable(path, error) from error
        try:
            self._check_value(path, value, comment[1] if comment else None)
        except DamagedError as error:
            return value, error
        return value, None

    def _of_value(self, path: Path, value: Any) -> str:
        return self._digest(path, canonical_json(value).encode())

    def _check_value(self, path: Path, value: Any, seal: Any) -> None:
        if seal is None and not self.required:
            return
        try:
            actual = self._of_value(path, value)
        except InputError as error:  # no such value was ever written
            raise _unreadable(path, error) from error
        self._check(path, seal, actual)

    def _text(self, path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from error

    # Arrays
    # ----------------------------------------------------------------------------------------------

    def write_array(self, path: Path, values: NDArray[Any]) -> None:
        """Write an array as a ``.npy`` file."""
        import numpy as np

        file = io.BytesIO()
        np.save(file, values, allow_pickle=False)
        self._write_with_trailer(path, file.getvalue())

    def read_array(self, path: Path) -> NDArray[Any]:
        """Read what `write_array` has written."""
        import numpy as np

        content, _ = self._without_trailer(path)
        try:
            stream = io.BytesIO(content)
            values: NDArray[Any] = np.load(stream, allow_pickle=False)
            if rest := len(content) - stream.tell():
                raise ValueError(f"{rest} bytes follow the array")
        # numpy does not catch what its parser of headers raises: TokenError, MemoryError.
        except Exception as error:
            raise _unreadable(path, error) from error
        return values

    def write_arrays(self, path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write named arrays as a compressed ``.npz`` file; the same arrays make the same bytes."""
        import numpy as np

        file = io.BytesIO()
        np.savez_compressed(file, allow_pickle=False, **arrays)
        # The archive ends with the length of its comment, which the seal is.
        self._write_with_trailer(path, file.getvalue()[:-2] + _TRAILER.to_bytes(2, "little"))

    def read_arrays(self, path: Path) -> dict[str, NDArray[Any]]:
        """Read what `write_arrays` has written."""
        import numpy as np

        content, sealed = self._without_trailer(path)
        if sealed:
            content = content[:-2] + bytes(2)  # an archive without the comment
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as packed:
                archive: zipfile.ZipFile = packed.zip
                if archive.comment:
                    raise ValueError("it has a comment that is no digest")
                return dict(packed.items())
        except Exception as error:  # as of a single array, and that an array has no members
            raise _unreadable(path, error) from error

    def _write_with_trailer(self, path: Path, content: bytes) -> None:
        write_whole(path, content + _MARK + self._digest(path, content).encode())

    def _without_trailer(self, path: Path) -> tuple[bytes, bool]:
        """Return what a file holds before its seal, and whether it has one."""
        raw = self.raw(path)
        content, trailer = raw[:-_TRAILER], raw[-_TRAILER:]
        seal = trailer[len(_MARK) :].decode("ascii", errors="replace")
        if not trailer.startswith(_MARK) or not _HEX.fullmatch(seal):
            if self.required:
                raise DamagedError(f"'{path}' {_NO_SEAL}")
            return raw, False
        self._check(path, seal, self._digest(path, content))
        return content, True

    # Tensors
    # ----------------------------------------------------------------------------------------------

    def write_tensors(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        """Write named tensors as a safetensors file; the same tensors make the same bytes."""
        write_whole(path, self.tensor_file(path, tensors))

    def tensor_file(self, path: Path, tensors: Mapping[str, Tensor]) -> list[bytes | memoryview]:
        """Return what `write_tensors` writes, in pieces."""
        from safetensors.torch import save

        # Copies: safetensors refuses tensors that share memory, as the test results of the best
        # state do with "early".
        copies = {}
        for name, tensor in tensors.items():
            copies[name] = tensor.detach().cpu().contiguous().clone()
        content = memoryview(save(copies, {"seal": _UNSET}))
        begin = 8 + len(_METADATA)
        assert bytes(content[8:begin]) == _METADATA, "safetensors puts its metadata first"
        seal = self._digest(path, content)
        return [content[:begin], seal.encode(), content[begin + 64 :]]

    def read_tensors(self, path: Path) -> dict[str, Tensor]:
        """Read what `write_tensors` has written, by name."""
        # Read into memory, not mapped: what is used is what was checked, whatever happens to the
        # file.
        return self.tensors_in(path, self.raw(path))

    def tensors_in(self, path: Path, raw: bytes) -> dict[str, Tensor]:
        """Return the tensors in the bytes of a file."""
        from safetensors.torch import load

        begin = 8 + len(_METADATA)
        seal = raw[begin : begin + 64].decode("ascii", errors="replace")
        if raw[8:begin] == _METADATA and _HEX.fullmatch(seal):
            # The digest was taken while zeros were in its place.
            sha = self._begun(path)
            for piece in (raw[:begin], _UNSET.encode(), memoryview(raw)[begin + 64 :]):
                sha.update(piece)
            self._check(path, seal, sha.hexdigest())
        elif self.required or b"__metadata__" in raw[8 : begin + 64]:
            raise DamagedError(f"'{path}' {_NO_SEAL}")
        try:
            tensors = load(raw)
            # In the order of the file: the library's own differs from call to call, and what is
            # written of the tensors, such as a rewind point, must be the same bytes.
            header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
            order = sorted(tensors, key=lambda name: (header[name]["data_offsets"], name))
            return {name: tensors[name] for name in order}
        except Exception as error:  # safetensors' own, and torch's for what no tensor can be
            raise _unreadable(path, error) from error

    def raw(self, path: Path) -> bytes:
        """Return the bytes of a file, whatever they are."""
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _unreadable(path, error) from error
        if not raw:
            raise DamagedError(f"'{path}' is empty")
        return raw

    # Digests
    # ----------------------------------------------------------------------------------------------

    def _begun(self, path: Path, place: str = "") -> Any:
        """Begin a digest with the owner of the file and its name in any layout of the folder."""
        name = path.relative_to(self.folder).as_posix().removeprefix(f"{MACHINE}/")
        return hashlib.sha256("\n".join((self.of, name, place, "")).encode())

    def _digest(self, path: Path, content: bytes | memoryview, place: str = "") -> str:
        sha = self._begun(path, place)
        sha.update(content)
        return str(sha.hexdigest())

    def _check(self, path: Path, seal: Any, actual: str) -> None:
        if seal is None:
            raise DamagedError(f"'{path}' {_NO_SEAL}")
        if seal != actual:
            raise DamagedError(
                f"'{path}' was altered, damaged or put in another file's place: "
                f"{_differ(seal, actual)}"
            )


def _differ(seal: Any, actual: str) -> str:
    return f"its digest is {str(seal)[:12]}, its content has {actual[:12]}"


def _json_line(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedError("it is no JSON") from error
    if not isinstance(value, dict):
        raise DamagedError(f"it is a {type(value).__name__}; it must be a mapping")
    return value


def _unreadable(path: Path, error: Exception) -> DamagedError:
    in_one_line = " ".join(str(error).split())[:200]
    why = getattr(error, "strerror", None) or in_one_line or type(error).__name__
    return DamagedError(f"'{path}' cannot be read: {why}")
