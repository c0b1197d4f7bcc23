"""Threads: one training after the other, in a thread of this process."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

from tombola.executors.backend import Setting
from tombola.executors.worker import Worker
from tombola.ground.errors import ConfigError
from tombola.search.work import Work


def threads(setting: Setting) -> _Threads:
    """Train in a thread of this process, one network after the other: no process is begun and
    nothing is sent.

    It is one thread for all, because the trainings of a process draw from torch's one generator.

    Raises:
        ConfigError: More than one worker is asked for.
    """
    if setting.workers not in (None, 1):
        raise ConfigError(
            f"executor threads trains one network at a time, for torch has one random generator a "
            f"process; workers is {setting.workers}: take --executor processes"
        )
    return _Threads(setting)


class _Threads:
    """The one thread that trains."""

    slots = 1

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._ended = threading.Event()
        self._worker = Worker(setting.task, setting.store, self._progress)
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tombola-train")

    def submit(self, work: Work[Any], digest: str) -> Future[bytes | None]:
        return self._executor.submit(self._do, work, digest)

    def _do(self, work: Work[Any], digest: str) -> None:
        self._worker.do(work, digest)  # the result is read where it is needed

    def _progress(self, digest: str, done: int, total: int) -> None:
        if self._ended.is_set():
            raise CancelledError
        self._setting.progress(digest, done, total)

    def close(self, *, now: bool) -> None:
        # A thread cannot be ended from outside: what is under way ends at its next evaluation. It
        # is waited for, as whatever follows in this process draws from the same generator.
        if now:
            self._ended.set()
        self._executor.shutdown(wait=True, cancel_futures=now)
