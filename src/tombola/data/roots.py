"""The folder under which data sets lie."""

from __future__ import annotations

import os
from pathlib import Path


def data_root(given: str | Path | None = None) -> Path:
    """Return the folder of the data sets: the given one, else ``TOMBOLA_DATA``, else ``~/.cache/tombola/datasets``.

    It need not exist.

    >>> data_root("/data")
    PosixPath('/data')
    """
    return Path(given or os.environ.get("TOMBOLA_DATA") or "~/.cache/tombola/datasets").expanduser()
