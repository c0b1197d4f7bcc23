"""An executor outside of the package: it works in a folder of its own, as on another machine,
and sends files back.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import mkdtemp

from tombola.executors.worker import Worker
from tombola.records.storage import Store


class Elsewhere:
    """Do one piece of work after the other, away from the run's folder."""

    slots = 1

    def __init__(self, setting, folder=None):
        self._store = Store(Path(folder or mkdtemp()))
        self._worker = Worker(setting.task, self._store, setting.progress)
        self._thread = ThreadPoolExecutor(1)

    def submit(self, work, digest):
        return self._thread.submit(self._do, work, digest)

    def _do(self, work, digest):
        self._worker.do(work, digest)
        return self._store.file(type(work), digest)

    def close(self, *, now):
        self._thread.shutdown(wait=not now, cancel_futures=now)
