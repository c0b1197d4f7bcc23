"""Files: written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tombola.ground.errors import ConfigError, DiskError, shown

_LONGEST_NAME, _LONGEST_PATH = 255, 4000  # bytes, letters


def users_path(path: str | Path, what: str) -> Path:
    """Return a path that a user has given, with ``~`` filled in, once it is sure that a file can be
    called so.

    Args:
        path: As it was given.
        what: What it is called in the message.

    Raises:
        ConfigError: No file system has such a name.

    >>> users_path("/data/mine.npz", "data.path")
    PosixPath('/data/mine.npz')
    """
    try:
        found = Path(path).expanduser()
        longest = max((len(os.fsencode(part)) for part in found.parts), default=0)
    except (ValueError, RuntimeError) as error:  # half a character; nobody's home
        raise ConfigError(f"{what} is {shown(str(path))}: {error}") from error
    if longest > _LONGEST_NAME or len(str(found)) > _LONGEST_PATH or "\0" in str(found):
        raise ConfigError(f"{what} is {shown(str(path))}; no file can have such a name")
    return found


def write_whole(path: Path, data: str | bytes | Sequence[bytes | bytearray | memoryview]) -> None:
    """Write a file so that its name never holds half of it: beside it first, flushed to disk, then
    moved into place.

    Args:
        path: The file; missing folders are made.
        data: A text, bytes, or pieces of bytes that follow each other.

    Raises:
        DiskError: There is no space, no permission or no such place; what was there before is still
            there.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(Path(folder, "a", "b.txt"), "whole")
    ...     Path(folder, "a", "b.txt").read_text()
    'whole'
    """
    if isinstance(data, str):
        data = data.encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.writelines([data] if isinstance(data, bytes) else data)
                file.flush()
                os.fsync(file.fileno())
            Path(part).chmod(0o644)
            Path(part).replace(path)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError | ValueError) -> DiskError:
    """Say in one line that a file cannot be written, and why."""
    return DiskError(
        f"cannot write '{printable(path)}': {getattr(error, 'strerror', None) or error}"
    )


def printable(path: str | os.PathLike[str]) -> str:
    r"""Return a path as one printable line, whatever is in it.

    >>> printable("a\nb")
    'a\\nb'
    """
    text = os.fspath(path)
    return text if text.isprintable() else ascii(text)[1:-1]


def clear_parts(folder: Path) -> None:
    """Remove what writes that were killed have left in a folder and below; nobody may be
    writing there.
    """
    for part in folder.rglob(".*.????????"):
        part.unlink(missing_ok=True)
