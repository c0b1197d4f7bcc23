"""Waiting: work of more than a few seconds says what it is, again and again until it is done."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

FIRST = 3.0  # seconds until the first line
_PAUSE = 10.0  # seconds between the lines that follow


def say(text: str) -> None:
    """Write a line to standard error, where it is in the way of no result."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def told(what: str, tell: Callable[[str], None] | None = None) -> Iterator[None]:
    """Say what is being done if it takes long; short work is not mentioned.

    The work itself need not cooperate: another thread watches the clock.

    Args:
        what: What is being done, such as "reading large.npz (2.0 GB)".
        tell: Told each line; `say` if not given.

    >>> with told("adding two numbers", print):
    ...     1 + 1
    2
    """
    began, over = time.monotonic(), threading.Event()

    def watch() -> None:
        pause = FIRST
        while not over.wait(pause):
            with contextlib.suppress(OSError, ValueError):  # the output is closed
                (tell or say)(f"{what}: {time.monotonic() - began:.0f} s so far")
            pause = _PAUSE

    watcher = threading.Thread(target=watch, name="tombola-waiting", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()  # no line comes after what follows
