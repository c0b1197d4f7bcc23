"""One pool a run: all arms and replicates feed it, so no core idles while work is ready.

    ask -> [ done before? ] -> what it needs -> in turn -> [ backend ] -> store -> whoever asked
                                                   ^           |
                                                   +-- lost ---+  three tries

Each piece of work is done once, in the order in which it was asked for and when what it needs is
done; one that loses its worker is tried again (`tombola.executors.policy`). A backend says where
it is done (`tombola.executors.backend`).
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast, runtime_checkable

from tombola.executors.backend import Progress, Setting
from tombola.executors.finding import make_backend
from tombola.executors.policy import TRIES, Pending, Policy
from tombola.ground import catalogue
from tombola.ground.errors import TrainingError
from tombola.records.storage import Store
from tombola.search.connectivity import Line
from tombola.search.work import Connect, Cut, Measure, Pruned, Train, Work
from tombola.tasks.protocol import Task
from tombola.training.jobs import Job, Measured, Trained

Result = TypeVar("Result")
Results = TypeVar("Results", covariant=True)


@runtime_checkable
class Promise(Protocol[Results]):
    """A result that is not waited for."""

    def done(self) -> bool:
        """Whether `result` would not wait for work."""

    def result(self, timeout: float | None = None) -> Results:
        """Wait for it; what went wrong is raised."""


class Pool:
    """Do work, each piece once, however many ask for it.

    Args:
        task: The task itself, for the calling process.
        folder: Where results are kept.
        workers: How much is done at once; if ``None``, as much as the executor has room for.
        make_task: Gives another process its task; must be picklable.
        progress: Told (digest, steps done, steps in all) while jobs train.
        tell: Called with a line about each result that is not what was written and is done again.
        executor: The backend, an entry of ``tombola.executors`` or the user's own; worker processes
            if not given, or with one worker a thread of this process.
        options: Those of the backend.
        room: Workers that this machine has room for.
        threads: Of a training.
        own_code: The user's own functions that trainings call, with the digests of their files.
    """

    def __init__(
        self,
        task: Task,
        folder: Path,
        *,
        workers: int | None,
        make_task: Callable[[], Task],
        progress: Progress = lambda *_: None,
        tell: Callable[[str], None] = lambda _: None,
        executor: str | None = None,
        options: Mapping[str, Any] | None = None,
        room: int = 1,
        threads: int = 1,
        own_code: Mapping[str, str] | None = None,
    ) -> None:
        def tell_again(text: str) -> None:
            tell(f"{text}; it is done again")

        self.task, self.store = task, Store(folder, tell=tell_again)
        self._lock = threading.Lock()
        # By kind and digest, without the work itself, which holds states and masks.
        self._asked: dict[tuple[str, str], Future[None]] = {}
        # Of each training that anybody has ever needed, who still does. Others are never dropped.
        self._needed: dict[str, set[Hashable]] = {}
        self._needs: dict[Hashable, frozenset[str]] = {}  # the same, by who
        self._reading: Counter[str] = Counter()  # results that are waited for, or being read
        name = executor or ("threads" if (workers or room) == 1 else "processes")
        setting = Setting(
            task,
            make_task,
            self.store,
            workers,
            room,
            progress,
            tell_again,
            threads,
            own_code or {},
        )
        self._backend = make_backend(name, setting, options or {})
        self._worker = f"the executor '{name}'" if catalogue.is_own(name) else "a worker"
        self._policy = Policy(self._backend, self.store, self._ask)

    @property
    def slots(self) -> int:
        """How much can be done at once, now."""
        return self._backend.slots

    def digest(self, job: Job) -> str:
        """Digest of a job on this pool's task."""
        return job.digest(self.task.digest)

    def run_all(self, jobs: list[Job]) -> Sequence[Trained]:
        """Train jobs and return their results in order, whatever order they finish in.

        Results are read when they are used, one at a time: two dozen of them may not fit into
        memory.
        """
        works = [Train(job) for job in jobs]
        promise = self._promise(works, works)
        # Only wait: a promise would read all results at once.
        promise.wait()
        return _Stored(self._read, works)

    def evaluate(self, job: Job) -> Promise[tuple[Trained, Measured]]:
        """Train a ticket on its data and test it once; the result is not waited for."""
        return self._promise([Train(job)], [Train(job), Measure(job)])

    def connect(self, first: Job, second: Job) -> Promise[tuple[Trained, Trained, Line]]:
        """Train two jobs and measure the line from the first to the second; the result is not
        waited for.

        A line is small: it stays in the store when the trainings at its ends go.
        """
        ends = [Train(first), Train(second)]
        return self._promise(ends, [*ends, Connect(first, second)])

    def cut(self, work: Cut) -> Promise[tuple[Pruned]]:
        """Train jobs and cut what they have learnt where the data is; the result is not waited
        for.
        """
        return self._promise([Train(job) for job in work.jobs], [work])

    def _promise(self, uses: Sequence[Train], works: Sequence[Work[Any]]) -> _Promise[Any]:
        """Ask for work, and keep the trainings that it uses until the results have been read."""
        digests = [self.digest(training.job) for training in uses]
        with self._lock:
            self._reading.update(digests)
        try:
            futures = [self._ask(work) for work in works]
        except BaseException:
            self._release(digests)
            raise
        return _Promise(self, works, futures, digests)

    def _release(self, digests: Sequence[str]) -> None:
        """Note that a reader is done with results."""
        with self._lock:
            self._reading.subtract(digests)
            self._drop(digests)

    def needs(self, who: Hashable, digests: Iterable[str]) -> None:
        """Say which results of trainings somebody still needs: these, and no others.

        A result that was needed and no longer is is dropped, once nobody reads it. If it is asked
        for afterwards it is computed again, which costs time and changes nothing.

        Args:
            who: Who needs them; the needs of others stay as they are.
            digests: The trainings' digests; none when nothing is needed any more.
        """
        now = frozenset(digests)
        with self._lock:
            before = self._needs.pop(who, frozenset())
            if now:
                self._needs[who] = now
            for digest in now - before:
                self._needed.setdefault(digest, set()).add(who)
            for digest in before - now:
                self._needed[digest].discard(who)
            self._drop(before - now)

    def _drop(self, digests: Iterable[str]) -> None:
        """Drop what nobody needs or reads; the lock is held."""
        for digest in set(digests):
            if digest in self._needed and not self._needed[digest] and not self._reading[digest]:
                del self._needed[digest]
                for kind in (Train, Measure):
                    self._asked.pop((kind.kind, digest), None)
                    self.store.remove(kind, digest)

    def _ask(self, work: Work[Any]) -> Future[None]:
        """Return the future of a piece of work; what is under way or done is not begun again."""
        digest = work.digest(self.task.digest)
        with self._lock:
            future = self._asked.get((work.kind, digest))
            if future is None:
                pending = Pending(work, digest)
                future = self._asked[work.kind, digest] = pending.future
                self._policy.put(pending)
        return future

    def _read(self, work: Work[Result]) -> Result:
        """Read the result of finished work from the store; what is not as it was written is
        done again.
        """
        digest = work.digest(self.task.digest)
        for _ in range(TRIES):
            self._ask(work).result()
            result = self.store.read(type(work), digest)
            if result is not None:
                return result
            with self._lock:
                self._asked.pop((work.kind, digest), None)
                self.store.remove(type(work), digest)
        raise TrainingError(
            f"what {self._worker} wrote could not be read back, {TRIES} times over; is the disk "
            "failing?"
        )

    def close(self, *, now: bool = False) -> None:
        """Let the workers go; with ``now`` what is not begun is dropped and what is under way
        is ended.
        """
        self._policy.close(now=now)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(now=kind is not None)


class _Stored(Sequence[Trained]):
    """The results of trainings, read from the store one at a time; the last one is remembered."""

    def __init__(self, read: Callable[[Work[Trained]], Trained], works: Sequence[Train]) -> None:
        self._read, self._works = read, works
        self._last: tuple[int, Trained] | None = None

    def __len__(self) -> int:
        return len(self._works)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[index] for index in range(len(self))[place]]
        index = range(len(self))[place]
        if self._last is None or self._last[0] != index:
            # Freed before the next one is read: each is as large as the model.
            self._last = None
            self._last = index, self._read(self._works[index])
        return self._last[1]

    def clear(self) -> None:
        """Forget the trainings: there are none any more."""
        self._works, self._last = (), None


class _Promise(Generic[Results]):
    """The results of several pieces of work, read when they are asked for and not held before."""

    def __init__(
        self,
        pool: Pool,
        works: Sequence[Work[Any]],
        futures: Sequence[Future[None]],
        uses: Sequence[str],
    ) -> None:
        self._pool, self._works, self._futures, self._uses = pool, works, futures, uses
        self._results: tuple[Any, ...] | None = None

    def done(self) -> bool:
        """Whether all of the work is done."""
        return all(future.done() for future in self._futures)

    def wait(self) -> None:
        """Wait for the work and read nothing."""
        with self._in_use():
            for future in self._futures:
                future.result()

    def result(self, timeout: float | None = None) -> Results:
        """Wait for the work and read the results, once."""
        if self._results is None:
            with self._in_use():
                for future in self._futures:
                    future.result(timeout)
                self._results = tuple(self._pool._read(work) for work in self._works)
        return cast(Results, self._results)

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[None]:
        """Keep what is used until the block ends, whether well or not."""
        try:
            yield
        finally:
            self._pool._release(self._uses)
            self._uses = ()
