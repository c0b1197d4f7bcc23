"""Locking: one process at a time works in a run folder."""

from __future__ import annotations

import contextlib
import fcntl
import io
from collections.abc import Iterator
from pathlib import Path

from tombola.ground.errors import ConfigError
from tombola.ground.files import cannot_write
from tombola.records.layout import Layout


def lock(path: Path) -> io.TextIOWrapper:
    """Take a run folder for this process, made if need be; closing what is returned gives it back.

    Raises:
        ConfigError: Another process works there.
        DiskError: It cannot be written to.
    """
    lock_file = Layout.of(path).lock
    try:
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        file = lock_file.open("w")
    except OSError as error:
        raise cannot_write(path, error) from error
    return _take(file, path)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Keep others from working in a run folder while it is read; nothing is written there.

    Raises:
        ConfigError: Another process works there.
    """
    lock_file = Layout.of(path).lock
    if not lock_file.exists():  # nobody ever worked there
        yield
        return
    with _take(lock_file.open(), path):
        yield


def _take(file: io.TextIOWrapper, path: Path) -> io.TextIOWrapper:
    try:
        # The system takes this lock back when the process ends, however it ends.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise ConfigError(f"another process works in '{path}'; wait for it, or stop it") from error
    return file
