"""The folder under which data sets lie."""

from __future__ import annotations

import os
from pathlib import Path

from tombola.ground.files import users_path


def data_root(given: str | Path | None = None) -> Path:
    """Return the folder of the data sets: the given one, else ``TOMBOLA_DATA``, else
    ``~/.cache/tombola/datasets``.

    It need not exist.

    >>> data_root("/data")
    PosixPath('/data')
    """
    return Path(given or os.environ.get("TOMBOLA_DATA") or "~/.cache/tombola/datasets").expanduser()


def places(path: str | Path, root: str | Path | None = None) -> list[Path]:
    """Say where a path of the user's may be: there if it is absolute, else under the data root or
    the working folder.

    >>> places("/data/mine.npz", "/root")
    [PosixPath('/data/mine.npz')]
    """
    path = users_path(path, "path")
    return [path] if path.is_absolute() else [data_root(root) / path, Path.cwd() / path]
