"""One pool of workers a run: all arms and replicates feed it, so no core idles while a task is ready."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

from tombola import devices, interrupts
from tombola.connectivity import Line, connect
from tombola.digests import digest_json
from tombola.errors import InputError, InvariantError, TrainingError
from tombola.jobs import Job, Measured, Trained, measure, run_job
from tombola.storage import Store, log_error
from tombola.tasks.protocol import Task

Progress = Callable[[str, int, int], None]
_Kind = TypeVar("_Kind", Trained, Measured, Line)
_TRIES = 3


class Worker:
    """What does the tasks: in this process or in one of its own. Results go to the store, not over the wire."""

    def __init__(self, task: Task, store: Store, progress: Progress) -> None:
        self.task, self.store, self.progress = task, store, progress

    def train(self, job: Job, digest: str) -> None:
        """Do a training, unless it is in the store."""
        self._trained(job, digest)

    def measure(self, job: Job, digest: str) -> None:
        """Measure a finished training, unless that is in the store."""
        if self.store.measured(digest) is None:
            self.store.keep_measured(digest, measure(job, self._trained(job, digest), self.task))

    def connect(self, jobs: tuple[Job, Job], digest: str) -> None:
        """Measure the line between two finished trainings, unless that is in the store."""
        if self.store.line(digest) is None:
            one, other = (self._trained(job, job.digest(self.task.digest)) for job in jobs)
            self.store.keep_line(digest, connect(jobs[0], one, other, self.task))

    def _trained(self, job: Job, digest: str) -> Trained:
        """Return a training from the store, where it is kept when it had to be done."""
        trained = self.store.trained(digest)
        if trained is None:
            trained = run_job(job, self.task, lambda done, steps: self.progress(digest, done, steps))
            self.store.keep_trained(digest, trained)
        return trained


_worker: Worker


def _begin(make_task: Callable[[], Task], folder: Path, events: Any, begun: Any) -> None:
    """Set a worker process up; it ends when its parent does."""
    global _worker
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


def _do(what: str, packed: bytes, digest: str) -> None:
    # Packed by pickle itself: the pool's own way would send every tensor through shared memory, which
    # runs out of space or of file descriptors on many machines.
    try:
        getattr(_worker, what)(pickle.loads(packed), digest)
    except (TrainingError, InvariantError, InputError):
        raise
    except Exception as error:
        # An exception of the user's own may not survive the way back, and would break the pool for all.
        log_error(_worker.store.folder.parent, traceback.format_exc())
        text = " ".join(str(error).split())
        raise TrainingError(f"{type(error).__name__}: {text} (more in errors.log)") from None


class Pool:
    """Train and measure jobs, and the lines between them, on workers; each digest once, however many ask for it.

    Args:
        task: The task itself, for the calling process.
        folder: Where finished trainings are kept.
        workers: Number of worker processes; with 1 a thread of this process does the work.
        make_task: Gives a worker process its task; must be picklable.
        progress: Told (digest, steps done, steps in all) while jobs train.
        tell: Told of results that were not what was written, and are had again.
    """

    def __init__(
        self,
        task: Task,
        folder: Path,
        *,
        workers: int,
        make_task: Callable[[], Task],
        progress: Progress = lambda *_: None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._tell: Callable[[str], None] = lambda text: tell(f"{text}; it is done again")
        self.task, self.store, self.workers = task, Store(folder, tell=self._tell), workers
        self._make_task, self._progress = make_task, progress
        self._lock = threading.Lock()
        self._closed = False
        self._suspects = threading.Lock()
        self._flying: dict[tuple[str, str], Future[None]] = {}
        self._users: Counter[str] = Counter()  # who waits for a training's result, by its digest
        self._released: set[str] = set()
        self._held: Counter[str] = Counter()  # results that are to stay, whoever releases them
        # They only wait: waiters for workers, followers for waiters. Apart, so that neither takes the other's place.
        self._waiters = ThreadPoolExecutor(max_workers=256, thread_name_prefix="tombola-wait")
        self._followers = ThreadPoolExecutor(max_workers=256, thread_name_prefix="tombola-follow")
        self._here = Worker(task, self.store, progress)
        self._events: Any = None
        self._executor = self._start()

    def _start(self) -> Executor:
        if self.workers == 1:
            return ThreadPoolExecutor(max_workers=1, thread_name_prefix="tombola-train")
        context = multiprocessing.get_context("spawn")
        # New workers get a new queue: one that was killed while it wrote keeps the old one locked for ever.
        self._events = context.Queue()
        self._events.cancel_join_thread()
        threading.Thread(target=self._listen, args=(self._events,), daemon=True).start()
        executor = ProcessPoolExecutor(
            self.workers,
            mp_context=context,
            initializer=_begin,
            initargs=(self._make_task, self.store.folder, self._events, context.Value("i", 0)),
        )
        try:
            with interrupts.deaf_children():
                for _ in range(self.workers):
                    # A process is begun by a task: all of them now, while the caller still plans.
                    executor.submit(_ready)
        except BaseException:
            _end(executor)
            raise
        return executor

    def _listen(self, events: Any) -> None:
        while (event := events.get()) is not None:
            if len(event) == 1:
                self._tell(*event)
            else:
                self._progress(*event)

    def digest(self, job: Job) -> str:
        """Digest of a job on this pool's task."""
        return job.digest(self.task.digest)

    def run_all(self, jobs: list[Job]) -> list[Trained]:
        """Train jobs and return what they gave, in order, whatever order they finish in."""
        digests = [self.digest(job) for job in jobs]
        with self._using(digests):
            futures = [self._once("train", job, digest) for job, digest in zip(jobs, digests, strict=True)]
            for future in futures:
                future.result()
            return [self._trained(job, digest) for job, digest in zip(jobs, digests, strict=True)]

    def evaluate(self, job: Job) -> Future[tuple[Trained, Measured]]:
        """Train a ticket on its data and test it once; the future's result is not waited for."""
        digest = self.digest(job)
        using = contextlib.ExitStack()
        using.enter_context(self._using([digest]))  # from now on, not when a thread begins to follow

        def follow() -> tuple[Trained, Measured]:
            with using:
                self._once("train", job, digest).result()
                measured = self._result("measure", job, digest, self.store.measured)
                return self._trained(job, digest), measured

        return self._followers.submit(follow)

    def connect(self, one: Job, other: Job) -> Future[tuple[Trained, Trained, Line]]:
        """Train two jobs and measure the line from the first to the second; the future's result is not waited for.

        A line is small: it stays in the store, whoever releases the trainings at its ends.
        """
        digests = [self.digest(one), self.digest(other)]
        line = digest_json({"line": digests})
        using = contextlib.ExitStack()
        using.enter_context(self._using(digests))

        def follow() -> tuple[Trained, Trained, Line]:
            with using:
                futures = [self._once("train", *each) for each in zip((one, other), digests, strict=True)]
                for future in futures:
                    future.result()
                found = self._result("connect", (one, other), line, self.store.line)
                return self._trained(one, digests[0]), self._trained(other, digests[1]), found

        return self._followers.submit(follow)

    @contextlib.contextmanager
    def _using(self, digests: Sequence[str]) -> Iterator[None]:
        """Keep the results of trainings while they are waited for and read."""
        with self._lock:
            self._users.update(digests)
        try:
            yield
        finally:
            with self._lock:
                self._users.subtract(digests)
                self._drop(self._released.intersection(digests))

    def hold(self, digests: Iterable[str]) -> None:
        """Keep the results of trainings, whoever releases them; as often as they are held, they must be let go."""
        with self._lock:
            self._held.update(digests)

    def let_go(self, digests: Collection[str]) -> None:
        """Take a `hold` back and release what was held."""
        with self._lock:
            self._held.subtract(digests)
        self.release(digests)

    def release(self, digests: Iterable[str]) -> None:
        """Drop the results of trainings that nobody needs any more; one that is asked for again is done again."""
        with self._lock:
            self._released.update(digests)
            self._drop(set(digests))

    def _drop(self, digests: Iterable[str]) -> None:
        for digest in digests:
            if not self._users[digest] and not self._held[digest]:
                self._released.discard(digest)
                for what in ("train", "measure"):
                    self._flying.pop((what, digest), None)
                self.store.drop(digest)

    def _trained(self, job: Job, digest: str) -> Trained:
        return self._result("train", job, digest, self.store.trained)

    def _result(self, what: str, job: Job | tuple[Job, Job], digest: str, read: Callable[[str], _Kind | None]) -> _Kind:
        """Wait for a task and read what it left in the store; what is not as it was written is done again."""
        for _ in range(_TRIES):
            self._once(what, job, digest).result()
            if (found := read(digest)) is not None:
                return found
            with self._lock:
                self._flying.pop((what, digest), None)
        raise TrainingError(f"what a worker wrote could not be read back, {_TRIES} times over; is the disk failing?")

    def _once(self, what: str, job: Job | tuple[Job, Job], digest: str) -> Future[None]:
        """Return the future of a task; one that is under way or done is not begun again."""
        with self._lock:
            known = self._flying.get((what, digest))
            if known is None:
                known = self._flying[what, digest] = self._waiters.submit(self._work, what, job, digest)
        return known

    def _work(self, what: str, job: Job | tuple[Job, Job], digest: str) -> None:
        for attempt in range(_TRIES):
            # A worker that dies takes all tasks of the pool with it. Each is done again by new workers, but those that
            # were under way one by one: the one that kills its workers must not fail the others.
            with self._suspects if attempt else contextlib.nullcontext():
                executor = self._executor
                try:
                    if self.workers == 1:
                        executor.submit(getattr(self._here, what), job, digest).result()
                    else:
                        executor.submit(_do, what, pickle.dumps(job), digest).result()
                except BrokenProcessPool:
                    self._renew(executor)
                else:
                    return
        raise TrainingError(f"a worker died or could not start, {_TRIES} times over one task; is there enough memory?")

    def _renew(self, broken: Executor) -> None:
        with self._lock:
            if self._closed:
                raise CancelledError
            if self._executor is broken:
                broken.shutdown(wait=False)
                self._events.put(None)
                self._executor = self._start()

    def close(self, *, now: bool = False) -> None:
        """Let the workers go; with ``now`` what is not begun is dropped and what is under way is ended."""
        with self._lock:
            self._closed = now
        for executor in (self._followers, self._waiters):
            executor.shutdown(wait=not now, cancel_futures=now)
        if now:
            _end(self._executor)
        else:
            self._executor.shutdown()
        if self._events is not None:
            self._events.put(None)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(now=kind is not None)


def _end(executor: Executor) -> None:
    """Let an executor go without waiting for what is under way; its processes are killed.

    Nothing that they write is ever half there, and a process that was stopped heeds no other
    signal. (Executors have ``kill_workers`` from Python 3.14 on.)
    """
    processes = dict(getattr(executor, "_processes", None) or {})
    executor.shutdown(wait=False, cancel_futures=True)
    for process in processes.values():
        process.kill()
