"""Processes: worker processes of this machine, which share the run's folder."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from tombola.executors import forking
from tombola.executors.backend import Setting
from tombola.executors.packing import pack, unpack
from tombola.executors.worker import ONE_LINE_ERRORS, Worker, in_one_line
from tombola.ground import devices, interrupts
from tombola.ground.types import State
from tombola.records.storage import Store, log_error
from tombola.search.work import Work
from tombola.tasks.protocol import Task


def processes(setting: Setting) -> _Processes:
    """Train in worker processes of this machine, by default one a core; results go into the run's
    folder.

    Workers end when their parent does, and one that was killed is replaced. Each has a number, by
    which it takes one of several GPUs.
    """
    if setting.workers is not None:
        devices.check_workers(setting.workers)
    return _Processes(setting)


class _Processes:
    """The processes, and the queue on which they tell how far they are."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self.slots = setting.workers or setting.room
        self._closing = threading.Lock()
        self._closed = False
        self._executor = self._start()

    def _start(self) -> ProcessPoolExecutor:
        context = forking.context()
        # New workers get a new queue: one that was killed while it wrote keeps the old one locked
        # for ever.
        self._events = context.Queue()
        self._events.cancel_join_thread()
        threading.Thread(
            target=self._listen, args=(self._events,), name="tombola-progress", daemon=True
        ).start()
        begun = context.Value("i", 0)
        executor = ProcessPoolExecutor(
            self.slots,
            mp_context=context,
            initializer=_begin,
            initargs=(
                self._setting.make_task,
                self._setting.folder,
                self._events,
                begun,
                dict(os.environ),
            ),
        )
        try:
            with interrupts.deaf_children():
                for _ in range(self.slots):
                    # A process is begun by a task: all of them now, while the caller still plans.
                    executor.submit(_ready)
        except BaseException:
            _end(executor)
            raise
        return executor

    def _listen(self, events: Any) -> None:
        while (event := events.get()) is not None:
            if len(event) == 1:
                self._setting.tell(*event)
            else:
                self._setting.progress(*event)

    def submit(self, work: Work[Any], digest: str) -> Future[bytes | None]:
        # Packed by pickle itself: the pool's own way would send every tensor through shared memory,
        # which runs out of space or of file descriptors on many machines. Start states stand in the
        # folder.
        packed, starts = pack(work)
        for start, state in starts.items():
            self._setting.store.keep_start(start, state)
        try:
            return self._executor.submit(_do, packed, digest)
        except BrokenProcessPool:
            with self._closing:
                if self._closed:
                    raise CancelledError from None
                self._executor.shutdown(wait=False)
                self._events.put(None)
                self._executor = self._start()
            return self._executor.submit(_do, packed, digest)

    def close(self, *, now: bool) -> None:
        with self._closing:
            self._closed = True
            if now:
                _end(self._executor)
        if not now:
            self._executor.shutdown()
        self._events.put(None)
        self._setting.store.clear_starts()


_worker: Worker


def _begin(
    make_task: Callable[[], Task],
    folder: Path,
    events: Any,
    begun: Any,
    environment: Mapping[str, str],
) -> None:
    """Set a worker process up; it ends when its parent does."""
    global _worker
    # It is a fork of a process that may have begun long before, on a terminal that sends Ctrl-C to
    # all.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.clear()
    os.environ.update(environment)
    with begun.get_lock():
        devices.take_turn(begun.value)
        begun.value += 1
    events.cancel_join_thread()  # nobody waits for a last word of progress
    threading.Thread(target=_end_with_parent, daemon=True).start()
    store = Store(folder, tell=lambda text: events.put((text,)))
    _worker = Worker(make_task(), store, lambda *event: events.put(event))


def _end_with_parent() -> None:
    # A parent that is killed says nothing to its workers; they would wait for tasks for ever.
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _ready() -> None:
    """Do nothing: a worker that does it has its imports and its data behind it."""


@functools.lru_cache(2)  # an arm's own, and the one that all others share
def _start(digest: str) -> State:
    return _worker.store.start(digest)


def _do(packed: bytes, digest: str) -> None:
    try:
        _worker.do(unpack(packed, _start), digest)
    except ONE_LINE_ERRORS:
        raise
    except Exception as error:
        # An exception of the user's own may not survive the way back, and would break the pool for
        # all.
        log_error(_worker.store.folder.parent, traceback.format_exc())
        raise in_one_line(error) from None


def _end(executor: ProcessPoolExecutor) -> None:
    """Let an executor go without waiting for what is under way; its processes are killed.

    Nothing that they write is ever half there, and a process that was stopped heeds no other
    signal. (Executors have ``kill_workers`` from Python 3.14 on.)
    """
    processes = dict(getattr(executor, "_processes", None) or {})
    executor.shutdown(wait=False, cancel_futures=True)
    for process in processes.values():
        process.kill()
