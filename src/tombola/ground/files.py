"""Files: written completely or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tombola.ground.errors import ConfigError, DiskError, shown

_LONGEST_NAME, _LONGEST_PATH = 255, 4000  # bytes, letters


def users_path(path: str | Path, what: str) -> Path:
    """Return a user's path with ``~`` expanded, if a file can have such a name.

    Args:
        path: As the user gave it.
        what: The path's name in the message.

    Raises:
        ConfigError: No file system has such a name.

    >>> users_path("/data/mine.npz", "data.path")
    PosixPath('/data/mine.npz')
    """
    try:
        expanded = Path(path).expanduser()
        longest = max((len(os.fsencode(part)) for part in expanded.parts), default=0)
    except (ValueError, RuntimeError) as error:  # invalid Unicode, or an unknown user's home
        raise ConfigError(f"{what} is {shown(str(path))}: {error}") from error
    if longest > _LONGEST_NAME or len(str(expanded)) > _LONGEST_PATH or "\0" in str(expanded):
        raise ConfigError(f"{what} is {shown(str(path))}; no file can have such a name")
    return expanded


def write_whole(path: Path, data: str | bytes | Sequence[bytes | bytearray | memoryview]) -> None:
    """Write a file atomically: to a temporary file beside it, flushed to disk, then renamed.

    Args:
        path: The file; missing folders are made.
        data: A text, bytes, or consecutive pieces of bytes.

    Raises:
        DiskError: There is no space, no permission or no such place; an earlier file is unchanged.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(Path(folder, "a", "b.txt"), "whole")
    ...     Path(folder, "a", "b.txt").read_text()
    'whole'
    """
    if isinstance(data, str):
        data = data.encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, as a file can be renamed atomically within one file system only.
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.writelines([data] if isinstance(data, bytes) else data)
                # Otherwise a name may reach the disk before the bytes do.
                file.flush()
                os.fsync(file.fileno())
            # Temporary files are readable for their owner only.
            Path(part).chmod(0o644)
            Path(part).replace(path)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError | ValueError) -> DiskError:
    """Make the error that says why a file cannot be written."""
    reason = getattr(error, "strerror", None) or error
    return DiskError(f"cannot write '{printable(path)}': {reason}")


def printable(path: str | os.PathLike[str]) -> str:
    r"""Return a path as one printable line, whatever is in it.

    >>> printable("a\nb")
    'a\\nb'
    """
    text = os.fspath(path)
    return text if text.isprintable() else ascii(text)[1:-1]


def clear_parts(folder: Path) -> None:
    """Remove the temporary files of killed writes in a folder; nobody may be writing there."""
    for part in folder.rglob(".*.????????"):
        part.unlink(missing_ok=True)
