"""The folder under which data sets lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from tombola.ground.errors import DataError
from tombola.ground.files import users_path


def data_root(root: str | Path | None = None) -> Path:
    """Return the folder of the data sets, which need not exist.

    It is the given one, else ``TOMBOLA_DATA``, else ``~/.cache/tombola/datasets``.

    >>> data_root("/data")
    PosixPath('/data')
    """
    return Path(root or os.environ.get("TOMBOLA_DATA") or "~/.cache/tombola/datasets").expanduser()


def places(path: str | Path, root: str | Path | None = None) -> list[Path]:
    """Say where a user's path may be: relative ones under the data root or the working folder.

    >>> places("/data/mine.npz", "/root")
    [PosixPath('/data/mine.npz')]
    """
    path = users_path(path, "path")
    return [path] if path.is_absolute() else [data_root(root) / path, Path.cwd() / path]


def first_existing(
    path: str | Path,
    root: str | Path | None,
    kind: Literal["file", "folder"],
    content: str,
    *,
    option: str = "path",
) -> Path:
    """Return the first of the `places` of a user's path where there is a file or folder.

    Args:
        path: The user's.
        root: The data root.
        kind: What it has to be.
        content: What it should hold, for the message.
        option: Which option names it, for the message.

    Raises:
        DataError: There is none.
    """
    candidates = places(path, root)
    for candidate in candidates:
        if candidate.is_dir() if kind == "folder" else candidate.is_file():
            return candidate
    missing = f" and no {kind} ".join(map(str, candidates))
    named = f"one that holds {content}" if kind == "folder" else content
    raise DataError(f"no {kind} {missing}; '{option}' names {named}")
