"""Policy: in which order a pool's work is begun, and what is tried again.

put -> what it needs -> ready, in turn -> [ backend ] -> store -> future
                               ^              |
                               +---- lost ----+  three tries
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Future, InvalidStateError
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from tombola.executors.backend import Backend
from tombola.ground.errors import TrainingError
from tombola.records.storage import Store
from tombola.search.work import Work

TRIES = 3


@dataclass(eq=False)
class Pending:
    """A piece of work that somebody has asked for.

    Attributes:
        work: The work.
        digest: Of the work on the pool's task.
        future: Done when the result is in the store.
        open_needs: How many pieces of work that it needs are not done.
        tries: How often its worker was lost.
    """

    work: Work[Any]
    digest: str
    future: Future[None] = field(default_factory=Future)
    open_needs: int = 0
    tries: int = 0


class Policy:
    """Decides whose turn it is and what is tried again.

    All that happens is an event, and one thread alone handles events. So what it works with needs
    no lock, but for ``_open``, to which others add.

    Args:
        backend: Does the work.
        store: Where results are kept.
        ask: Asks for work that other work needs.
    """

    def __init__(
        self, backend: Backend, store: Store, ask: Callable[[Work[Any]], Future[None]]
    ) -> None:
        self._backend, self._store, self._ask = backend, store, ask
        self._events: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._ready: deque[Pending] = deque()
        self._gate = threading.Lock()  # between those who ask and the end
        self._open: set[Pending] = set()  # all that is not done
        # Work whose worker was lost. Any of it may be what kills workers, so it is tried one by
        # one: what kills its worker must not fail what was beside it.
        self._suspects: deque[Pending] = deque()
        self._begun: set[Pending] = set()
        self._closing = self._closed = self._ended = False
        self._thread = threading.Thread(target=self._run, name="tombola-pool", daemon=True)
        self._thread.start()

    def put(self, pending: Pending) -> None:
        """Accept a piece of work; from any thread."""
        with self._gate:
            if not self._ended:
                self._open.add(pending)
                self._events.put(lambda: self._take(pending))
                return
        pending.future.cancel()

    def close(self, *, now: bool) -> None:
        """End, when all is done or at once."""
        if now:
            # First the workers: nothing must be begun anew in their place.
            self._closed = True
            self._backend.close(now=True)
        self._events.put(self._close)
        if not now:
            self._thread.join()
            self._backend.close(now=False)

    def _run(self) -> None:
        while not (self._closed or (self._closing and not self._open)):
            self._events.get()()
            while not self._closed and (pending := self._next()) is not None:
                self._begin(pending)
        with self._gate:
            self._ended = True
        for pending in self._open:
            pending.future.cancel()

    def _close(self) -> None:
        self._closing = True

    def _take(self, pending: Pending) -> None:
        """Ask for what a piece of work needs; what is in the store is done already."""
        if self._store.kept(type(pending.work), pending.digest):
            self._end(pending)
            return
        needs = [self._ask(need) for need in pending.work.needs]
        pending.open_needs = len(needs)
        for need in needs:
            need.add_done_callback(
                lambda future: self._events.put(lambda: self._met(pending, future))
            )
        if not needs:
            self._ready.append(pending)

    def _met(self, pending: Pending, need: Future[None]) -> None:
        """Note that something which a piece of work needs is done, or will never be."""
        if pending not in self._open:
            return
        pending.open_needs -= 1
        if need.cancelled():
            self._end(pending, CancelledError())
        elif (error := need.exception()) is not None:
            self._end(pending, error)
        elif not pending.open_needs:
            self._ready.append(pending)

    def _next(self) -> Pending | None:
        """Return what is to be begun now, if anything.

        One more than there are workers is under way, so that no worker waits.
        """
        if len(self._begun) > self._backend.slots:
            return None
        # One suspect at a time, see `_suspects`.
        if self._suspects and not any(pending.tries for pending in self._begun):
            return self._suspects.popleft()
        return self._ready.popleft() if self._ready else None

    def _begin(self, pending: Pending) -> None:
        try:
            future = self._backend.submit(pending.work, pending.digest)
        except BaseException as error:
            self._end(pending, error)
            return
        self._begun.add(pending)
        future.add_done_callback(lambda done: self._events.put(lambda: self._over(pending, done)))

    def _over(self, pending: Pending, done: Future[bytes | None]) -> None:
        """Note that a worker is done with a piece of work."""
        self._begun.discard(pending)
        try:
            file = done.result()
            if file is not None:
                self._store.write(type(pending.work), pending.digest, file)
        except BrokenExecutor:
            pending.tries += 1
            if pending.tries < TRIES:
                self._suspects.append(pending)
                return
            lost = TrainingError(
                f"a worker died or could not start, {TRIES} times over one task; is there enough "
                "memory?"
            )
            self._end(pending, lost)
        except BaseException as error:
            self._end(pending, error)
        else:
            self._end(pending)

    def _end(self, pending: Pending, error: BaseException | None = None) -> None:
        self._open.discard(pending)
        # Whoever asked may have cancelled it.
        with contextlib.suppress(InvalidStateError):
            if error is None:
                pending.future.set_result(None)
            elif isinstance(error, CancelledError):
                pending.future.cancel()
            else:
                pending.future.set_exception(error)
