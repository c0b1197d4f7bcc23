"""Ray: the machines of a cluster. The driver alone writes; workers need no folder of it and no
data of their own.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import signal
import socket
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from tombola.executors.backend import Setting
from tombola.executors.machines import SAME_PACKAGES, Expected, about_by_value
from tombola.executors.packing import flatten, pack, restore, unpack
from tombola.executors.worker import ONE_LINE_ERRORS, Worker, in_one_line
from tombola.ground import extras
from tombola.ground.errors import ConfigError, TrainingError, shown
from tombola.records.storage import Handed, log_error
from tombola.search.work import Work
from tombola.tasks.protocol import Task

_ANSWER = 5.0  # seconds in which an address must answer
_AGAIN = 2.0  # seconds after which the cluster is asked anew how large it is
_OFTEN = 0.5  # seconds between two looks at the progress of workers
_STARTS = 16  # start states that are kept in the object store for work to come
_STORE = 2 * 2**30  # bytes of the object store, at most, of a Ray that is begun here


def ray(setting: Setting, *, address: str | None = None) -> _Ray:
    """Train on the machines of a Ray cluster, one CPU thread (or ``training.threads``) or one GPU a
    training.

    Data and model are sent to each machine once, results come back as bytes, and only this process
    writes: machines share no folder. Each must have the same versions, and the user's own modules.
    What a machine that vanishes was doing is done elsewhere.

    Args:
        setting: What is worked with; ``workers`` bounds how much is done at once.
        address: Of the cluster, ``HOST:PORT`` or "auto" for the one that this machine belongs to; a
            Ray of this machine alone is begun if not given.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: Nothing answers at the address, or a machine lacks what it needs.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray changes what processes see of GPUs where a task takes none, and says that it will stop to.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Workers of a Ray that is begun here would get what other processes leave them: half the speed
    # beside a few of those. As with processes, the niceness is the user's own.
    os.environ.setdefault("RAY_worker_niceness", "0")
    return _Ray(extras.ray, setting, address)


class _Ray:
    """The connection to a cluster, and what was put into its object store."""

    def __init__(self, engine: Any, setting: Setting, address: str | None) -> None:
        self._engine, self._setting = engine, setting
        self._closed = threading.Event()
        self._running: dict[Future[bytes | None], Any] = {}
        # Whoever connected this process disconnects it.
        self._mine = not engine.is_initialized()
        if self._mine:
            _connect(engine, address, setting)
        try:
            self._needs = _resources(setting)
            self._size, self._looked = 0, -_AGAIN
            if self.slots < 1:
                what = "no GPU" if "num_gpus" in self._needs else f"no {setting.threads} free CPUs"
                raise ConfigError(f"no machine of the Ray cluster has {what} for a training")
            self._expected = Expected.here(setting.own_code)
            self._check_machines()
            # Beside this process: the driver asks it often.
            here = self._on(engine.get_runtime_context().get_node_id())
            make_ear = engine.remote(num_cpus=0, max_concurrency=4)(_Ear)
            self._ear = make_ear.options(scheduling_strategy=here).remote()
            threading.Thread(target=self._listen, name="tombola-progress", daemon=True).start()
            self._shared = self._put(_bare(setting.task))
            self._starts: OrderedDict[str, Any] = OrderedDict()
            # What was lost is tried again by the pool's policy, not by Ray.
            options = {"max_retries": 0, "scheduling_strategy": "SPREAD", **self._needs}
            self._remote = engine.remote(**options)(_do)
        except BaseException:
            self.close(now=True)
            raise

    def _put(self, value: Any) -> Any:
        """Put a value into the object store, each of its large tensors as an object."""
        packed, arrays = flatten(value)
        return self._engine.put((packed, [self._engine.put(array) for array in arrays]))

    def _on(self, node: str) -> Any:
        """Return the scheduling strategy for one machine alone."""
        strategies = importlib.import_module("ray.util.scheduling_strategies")
        return strategies.NodeAffinitySchedulingStrategy(node, soft=False)

    @property
    def slots(self) -> int:
        """How many trainings the cluster has room for: machines come and go."""
        if time.monotonic() - self._looked > _AGAIN:
            resources = self._engine.cluster_resources()
            if "num_gpus" in self._needs:
                self._size = int(resources.get("GPU", 0))
            else:
                self._size = int(resources.get("CPU", 0)) // self._setting.threads
            self._looked = time.monotonic()
        return min(self._size, self._setting.workers or self._size)

    def _check_machines(self) -> None:
        """Refuse a cluster in which a machine would give different results, or none."""
        about = self._engine.remote(num_cpus=0, max_retries=0)(about_by_value())
        nodes = [node for node in self._engine.nodes() if node["Alive"]]
        answers = []
        # All of them are asked before any answer is awaited: each may first start a process.
        for node in nodes:
            about_node = about.options(scheduling_strategy=self._on(node["NodeID"]))
            own_code = list(self._expected.own_code)
            answers.append(about_node.remote(SAME_PACKAGES, own_code, self._expected.path))
        for node, ref in zip(nodes, answers, strict=True):
            try:
                installed = self._engine.get(ref)
            except self._engine.exceptions.RayError as error:
                raise ConfigError(
                    f"{_machine(node)} cannot be asked what it has: {_last_line(error)}"
                ) from error
            self._expected.check(installed, _machine(node))

    def submit(self, work: Work[Any], digest: str) -> Future[bytes | None]:
        packed, starts = pack(work)
        store, task = self._setting.store, self._setting.task.digest
        files = {}
        for need in work.needs:
            key = type(need), need.digest(task)
            # What cannot be read any more is done again by the worker.
            file = store.file(*key)
            if file is not None:
                files[key] = file
        refs = {name: self._start(name, state) for name, state in starts.items()}
        # In a list, so that Ray hands over the reference and not the task: a worker that has the
        # task does not get it again.
        shared = [self._shared]
        given = Given(packed, digest, files, self._expected)
        ref = self._remote.remote(given, shared, refs, self._ear)
        future: Future[bytes | None] = Future()
        self._running[future] = ref
        ref.future().add_done_callback(lambda done: self._over(future, done))
        return future

    def _start(self, digest: str, state: Any) -> Any:
        """Put a start state into the object store, once for all work that begins there."""
        if digest not in self._starts:
            self._starts[digest] = self._put(dict(state))
        # Those that were used last stay.
        self._starts.move_to_end(digest)
        while len(self._starts) > _STARTS:
            self._starts.popitem(last=False)
        return [self._starts[digest]]

    def _over(self, future: Future[bytes | None], done: Future[Any]) -> None:
        self._running.pop(future, None)
        try:
            result = done.result()
        except self._engine.exceptions.RayTaskError as error:
            # Nothing that `_do` foresees.
            future.set_exception(TrainingError(_last_line(error)))
        except BaseException as error:
            # The worker was lost, its machine, or an object on it.
            future.set_exception(BrokenExecutor(f"{type(error).__name__}: {_last_line(error)}"))
        else:
            if isinstance(result, Failed):
                if result.traceback:
                    log_error(self._setting.folder.parent, result.traceback)
                future.set_exception(result.error)
            else:
                future.set_result(result)

    def _listen(self) -> None:
        while not self._closed.wait(_OFTEN):
            # Progress is no result: what goes wrong here must not end a run.
            with contextlib.suppress(Exception):
                for event in self._engine.get(self._ear.hear.remote(), timeout=10):
                    self._setting.progress(*event)

    def close(self, *, now: bool) -> None:
        if self._closed.is_set():
            return
        self._closed.set()
        if self._mine:
            # This ends what is under way, too.
            self._engine.shutdown()
            return
        for ref in list(self._running.values()) if now else []:
            with contextlib.suppress(Exception):
                self._engine.cancel(ref, force=True)


@dataclass(frozen=True)
class Given:
    """What a worker is given beside the task: the work, and the results that it needs."""

    packed: bytes
    digest: str
    files: Mapping[tuple[type[Work[Any]], str], bytes]
    expected: Expected


@dataclass(frozen=True)
class Failed:
    """An error that comes back as a value: Ray would wrap it."""

    error: Exception
    traceback: str = ""


def _connect(engine: Any, address: str | None, setting: Setting) -> None:
    """Connect this process to a cluster, or begin a Ray of this machine alone."""
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address is None:
        options |= {
            "address": "local",  # or Ray would join whatever cluster this machine has already
            "include_dashboard": False,
            "num_cpus": setting.workers or setting.room,
            "object_store_memory": _object_store(),
        }
    else:
        _probe(address)
        options["address"] = address
    # Ray replaces our handler by its own.
    before = signal.getsignal(signal.SIGTERM)
    # A Ray that begins too slowly raises a bare Exception.
    try:
        engine.init(namespace="tombola", **options)
    except Exception as error:
        if address is None:
            raise ConfigError(f"Ray does not begin on this machine: {_last_line(error)}") from error
        raise ConfigError(
            f"no Ray cluster answers at {shown(address)}: {_last_line(error)}; one is begun by: "
            "ray start --head"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _object_store() -> int:
    """Return the bytes of an object store that this machine can have."""
    free = os.statvfs("/dev/shm") if Path("/dev/shm").is_dir() else os.statvfs("/tmp")
    return max(100 * 2**20, min(_STORE, free.f_bavail * free.f_frsize // 2))


def _probe(address: str) -> None:
    """Refuse an address at which nothing answers: Ray itself would try for minutes.

    Raises:
        ConfigError: It is none, or nothing answers.
    """
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(
            f"address is {shown(address)}; it is HOST:PORT, or auto for the cluster of this machine"
        )
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER).close()
    except OSError as error:
        raise ConfigError(
            f"no Ray cluster answers at {shown(address)}: {error.strerror or error}; one is begun "
            "by: ray start --head"
        ) from error


def _resources(setting: Setting) -> dict[str, Any]:
    """Return what a training takes of a machine."""
    if setting.task.device.type == "cuda":
        return {"num_cpus": 1, "num_gpus": 1}
    return {"num_cpus": setting.threads}


def _bare(task: Task) -> Task:
    """Return a task without what it has worked out or moved to a device meanwhile."""
    if not is_dataclass(type(task)):
        return task
    return cast(Task, replace(cast(Any, task)))


def _machine(node: Mapping[str, Any]) -> str:
    return f"the machine {node['NodeManagerAddress']} ({node['NodeManagerHostname']})"


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[-1].strip() if lines else type(error).__name__)[:300]


# In the workers
# --------------------------------------------------------------------------------------------------


class _Ear:
    """Hears how far workers are, until the driver asks."""

    def __init__(self) -> None:
        self._heard: dict[str, tuple[str, int, int]] = {}

    def tell(self, *event: Any) -> None:
        self._heard[event[0]] = event

    def hear(self) -> list[Any]:
        heard, self._heard = self._heard, {}
        return list(heard.values())


class _Voice:
    """Tells the driver how far a worker is, not more often than somebody would look."""

    def __init__(self, ear: Any) -> None:
        self._ear, self._last = ear, 0.0

    def __call__(self, digest: str, done: int, steps: int) -> None:
        if done == steps or time.monotonic() - self._last > _OFTEN:
            self._last = time.monotonic()
            self._ear.tell.remote(digest, done, steps)


_tasks: dict[str, Task] = {}  # of this process, by the object that each came in; one as a rule


def _do(
    given: Given, shared: Sequence[Any], starts: Mapping[str, Sequence[Any]], ear: Any
) -> bytes | Failed:
    """Do a piece of work with what was sent along, and return the file of its result."""
    try:
        task = _task_of(shared[0], given.expected)
        store = Handed(given.files)
        work = unpack(given.packed, lambda digest: _got(starts[digest][0]))
        Worker(task, store, _Voice(ear)).do(work, given.digest)
        file = store.file(type(work), given.digest)
        assert file is not None
    except ONE_LINE_ERRORS as error:
        return Failed(error)
    except Exception as error:
        return Failed(in_one_line(error), traceback.format_exc())
    return file


def _task_of(shared: Any, expected: Expected) -> Task:
    """Return the task that was put into the object store; a process takes it out once."""
    name = shared.hex()
    if name not in _tasks:
        # This machine may have come after the others were looked at.
        installed = about_by_value()(SAME_PACKAGES, list(expected.own_code), expected.path)
        expected.check(installed, f"the machine {platform.node()}")
        try:
            task: Task = _got(shared)
        except ImportError as error:
            raise ConfigError(
                f"the machine {platform.node()} cannot make the model: {error}"
            ) from error
        if task.device.type == "cuda":
            # Ray shows each worker its own GPU alone.
            object.__setattr__(task, "device", torch.device("cuda", 0))
        _tasks[name] = task
    return _tasks[name]


def _got(ref: Any) -> Any:
    """Return what was flattened into the object store."""
    packed, arrays = extras.ray.get(ref)
    return restore(packed, extras.ray.get(arrays))
