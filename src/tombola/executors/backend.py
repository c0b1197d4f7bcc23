"""Backends: where work is done. Each entry of this catalogue is one, a small class beside the
pool's policy.

    Pool: once, in turn, awaited, three tries --> Backend: threads | processes | ray

A backend is called with a `Setting` and its own options. It begins work when it is told to and says
when it is done; what has been asked for already, whose turn it is and what is tried again is the
business of `Pool`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from tombola.records.storage import Store
from tombola.search.work import Work
from tombola.tasks.protocol import Task

Progress: TypeAlias = Callable[[str, int, int], None]
"""Told (digest, steps done, steps in all) while work is done."""


@dataclass(frozen=True)
class Setting:
    """What a backend works with.

    Attributes:
        task: The task itself, for this process.
        make_task: Gives another process its task; can be pickled.
        store: Where results are kept.
        workers: How much is to be done at once; as much as there is room for if ``None``.
        room: Workers that this machine has room for.
        progress: Told how far work is.
        tell: Told of what a reader of the run must know, in one line.
        threads: Of a training.
        own_code: The user's own functions that the work calls, ``package.module:function``, with
            the digests of their files: what another machine must have, too.
    """

    task: Task
    make_task: Callable[[], Task]
    store: Store
    workers: int | None
    room: int
    progress: Progress
    tell: Callable[[str], None]
    threads: int = 1
    own_code: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The folder of the store."""
        return self.store.folder


@runtime_checkable
class Backend(Protocol):
    """Does work somewhere."""

    @property
    def slots(self) -> int:
        """How much can be done at once, now."""

    def submit(self, work: Work[Any], digest: str) -> Future[bytes | None]:
        """Begin a piece of work; called by one thread alone, and not after `close`.

        Returns:
            The result's file, as `Store.pack` makes it, or ``None`` where the worker has put it
            into the store. The future fails with ``concurrent.futures.BrokenExecutor`` when the
            worker was lost, and then the work is submitted again: whoever was lost is replaced by
            then.
        """

    def close(self, *, now: bool) -> None:
        """Let the workers go; with ``now`` end what is under way. From any thread, more than
        once.
        """
