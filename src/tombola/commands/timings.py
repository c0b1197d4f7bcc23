"""Timings: how fast a recipe's training is with other settings, and with more workers.

recipe -> candidates -> [ measure: all in turn, several rounds ] -> Timing of each
       -> [ measure_workers: one alone, then all together ]      -> Workers
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import operator
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from tombola.experiments.estimate import trial
from tombola.experiments.plans import Plans, make_task
from tombola.ground import devices, interrupts
from tombola.ground.devices import cores
from tombola.ground.errors import ConfigError
from tombola.ground.settings import Training
from tombola.schema.recipe import Recipe
from tombola.training import loop as training
from tombola.training.jobs import alone

Tell = Callable[[str], None]

CLEARLY = 1.1  # times as fast; a setting below this is not advised

_CASE_SECONDS = 4.0  # of all rounds of a case
_TURN_SECONDS = 0.1  # of one setting in a round
_LEAST_ROUNDS, _MOST_ROUNDS = 3, 15
_SLOW_STEP = 1.0  # seconds; slower steps are not warmed up again

_WORK_SECONDS = 0.3  # of a worker in a round
_WORK_ROUNDS = 5
_MOST_WORKERS = 16
_WORKER_BYTES = 2**30  # memory of a worker process without its images


@dataclass(frozen=True)
class Timing:
    """How fast a training is with some settings changed.

    Attributes:
        changes: Entries of ``training`` and their values; empty for the recipe's own settings.
        seconds: Seconds per step, one number per round.
        times: Speed relative to the recipe's own settings in the same round, one number per round.
        not_here: Why this machine cannot do it; empty if it can.
    """

    changes: Mapping[str, Any]
    seconds: Sequence[float] = ()
    times: Sequence[float] = ()
    not_here: str = ""

    @property
    def flags(self) -> str:
        """The changes as they are written on the command line.

        >>> Timing({"threads": 2, "channels_last": False}).flags
        '--training.threads 2 --training.channels_last false'
        """
        flags = []
        for entry, value in self.changes.items():
            flags.append(f"--training.{entry} {_yaml(value)}")
        return " ".join(flags)


@dataclass(frozen=True)
class Workers:
    """How much work several worker processes do together.

    Attributes:
        number: How many were measured: the default of `tombola run`, or fewer.
        default: How many `tombola run` uses by default.
        times: Work of all of them divided by the work of one alone, one number per round.
        not_here: Why nothing was measured.
    """

    number: int
    default: int
    times: Sequence[float] = ()
    not_here: str = ""


@dataclass(frozen=True)
class Case:
    """One recipe, measured.

    Attributes:
        recipe: The recipe, with its defaults resolved.
        timings: The recipe's own settings first.
        workers: Worker processes, each with the recipe's own settings.
        left_out: What its masks and FLOP counts leave out: a word, and a line of text.
    """

    recipe: Recipe
    timings: Sequence[Timing]
    workers: Workers
    left_out: Mapping[str, str] = field(default_factory=dict)


class Candidate(NamedTuple):
    """Settings to be tried.

    Attributes:
        changes: Entries of ``training`` that differ from the recipe's, and their values.
        training: All settings, with their defaults resolved.
    """

    changes: dict[str, Any]
    training: Training


def candidates(
    given: Training, model: nn.Module, kind: str, cores: int, *, compiled: bool = False
) -> list[Candidate]:
    """List the settings that apply to a model on a kind of device.

    The first changes nothing. A change that does not work with the recipe's own ``step: traced``
    comes with ``step: eager``.

    Args:
        given: The recipe's training with unresolved defaults, which may depend on a change.
        model: The model to train.
        kind: "cpu" or "cuda".
        cores: Number of cores that this process may use.
        compiled: Whether to try ``torch.compile``.

    Raises:
        ConfigError: The recipe's own settings do not fit the model or the device.

    >>> tried = candidates(Training(epochs=1), nn.Linear(4, 2), "cpu", cores=2)
    >>> [changes for changes, _ in tried]
    [{}, {'threads': 2}, {'precision': 'bf16'}, {'step': 'eager'}]
    """
    resolved = training.resolve_defaults(given, model, kind)
    values: dict[str, Sequence[Any]] = {
        "threads": sorted({1, cores}) if kind == "cpu" else (),
        "channels_last": (True, False),
        "precision": ("float32", "tf32", "bf16"),
        "step": ("traced", "eager"),
        "compile": (True, False) if compiled else (False,),
    }
    tried = [Candidate({}, resolved)]
    for entry, choices in values.items():
        for value in choices:
            if value == getattr(resolved, entry):
                continue
            # Alone if possible, otherwise with an eager step.
            steps: Sequence[dict[str, Any]] = ({}, {"step": "eager"})
            for step in steps if entry != "step" else steps[:1]:
                changes = {entry: value, **step}
                with contextlib.suppress(ConfigError):  # it does not apply
                    changed = training.resolve_defaults(replace(given, **changes), model, kind)
                    tried.append(Candidate(changes, changed))
                    break
    return tried


class _Timed:
    """A training that continues step by step while it is timed.

    Attributes:
        step: Seconds per step in its latest steps, after those with tracing or compilation.
    """

    def __init__(self, plans: Plans, training: Training) -> None:
        self.training, self.task = training, plans.task
        self.step = 0.0
        with alone(training, self.task):
            _, self.steps = trial(plans, training)
            next(self.steps)  # stops before its first step
        # Twice: the first includes tracing or compilation.
        for _ in range(2):
            self.step = self.go_on(0.0)

    def go_on(self, seconds: float) -> float:
        """Train for the given seconds, at least one step, and return the seconds per step."""
        with alone(self.training, self.task):
            if self.step < _SLOW_STEP:
                next(self.steps)  # brings threads and caches back
            devices.wait(self.task.device)
            steps = 0
            began = time.perf_counter()
            while steps == 0 or time.perf_counter() - began < seconds:
                next(self.steps)
                steps += 1
                if steps % 10 == 0:  # so that a GPU's queue does not run ahead of the clock
                    devices.wait(self.task.device)
            devices.wait(self.task.device)
            return (time.perf_counter() - began) / steps


def measure(plans: Plans, tried: Sequence[Candidate], tell: Tell = lambda _: None) -> list[Timing]:
    """Time a step of each candidate, all in turn in every round, and compare each with the first.

    Args:
        plans: What is trained; it is not changed.
        tried: As `candidates` lists them.
        tell: Shows progress.

    Raises:
        ConfigError: The first candidate, the recipe's own, fails. Other failures are part of the
            timings.
    """
    name = plans.recipe.name
    # All are started before any is timed, so that every round has all of them.
    trainings: dict[int, _Timed] = {}
    failed: dict[int, str] = {}
    for index, (changes, settings) in enumerate(tried):
        verb = "compiling" if settings.compile else "trying"
        tell(f"{name}: {verb} {changes_in_words(changes)}")
        try:
            trainings[index] = _Timed(plans, settings)
        except Exception as error:  # whatever a compiler or a device lacks
            failed[index] = _reason(error)
            if index == 0:
                raise ConfigError(
                    f"the recipe's own training fails on this machine: {failed[0]}"
                ) from error

    # In turn: what slows the machine down for a while slows down every setting.
    seconds: dict[int, list[float]] = {index: [] for index in trainings}
    began = time.perf_counter()
    for number in range(_MOST_ROUNDS):
        if number >= _LEAST_ROUNDS and time.perf_counter() - began > _CASE_SECONDS:
            break
        tell(f"{name}: {len(trainings)} settings, round {number + 1}")
        # There and back, so that none always comes after the same other.
        order = list(trainings) if number % 2 else list(trainings)[::-1]
        for index in order:
            seconds[index].append(trainings[index].go_on(_TURN_SECONDS))

    timings = []
    for index, (changes, _) in enumerate(tried):
        if index in failed:
            timings.append(Timing(changes, not_here=failed[index]))
        else:
            # Within each round: rounds differ more than settings do where others use the machine.
            times = list(map(operator.truediv, seconds[0], seconds[index]))
            timings.append(Timing(changes, seconds[index], times))
    return timings


def workers_to_try(plans: Plans) -> Workers:
    """Return how many workers to measure, or why none are measured."""
    threads = plans.recipe.training.threads
    on_gpu = plans.recipe.device.startswith("cuda")
    default = devices.workers(plans.recipe.device, threads)
    # Processes of a GPU share it; on the CPU each has the threads of one training to itself.
    own_cores = cores()
    if own_cores == 1:
        why = "there is one core, so neither more threads nor more workers are measured"
        return Workers(1, default, not_here=why)
    if own_cores // threads < 2:
        why = (
            f"one training uses all {own_cores} cores (training.threads {threads}), so no more "
            "workers are measured"
        )
        return Workers(1, default, not_here=why)
    # A worker holds the images, some of them normalised; half of the memory is left free.
    worker_bytes = _WORKER_BYTES + 2 * plans.task.bytes
    in_memory = int(0.5 * devices.free_memory(torch.device("cpu")) // worker_bytes)
    number = min(2 if on_gpu else own_cores // threads, _MOST_WORKERS, in_memory)
    if number < 2:
        return Workers(1, default, not_here="there is too little memory to measure a second worker")
    return Workers(number, default)


def measure_workers(cases: Sequence[Case], data_root: Path | None, tell: Tell) -> list[Case]:
    """Measure the workers of all cases with one set of processes, since starting takes seconds."""
    to_measure = [case for case in cases if not case.workers.not_here]
    if not to_measure:
        return list(cases)
    number = max(case.workers.number for case in to_measure)
    tell(f"starting {number} workers")
    measured = []
    failure = ""  # of the processes; no further case is measured after one
    with _crew(number, [case.recipe for case in to_measure], data_root) as crew:
        for case in cases:
            workers = case.workers
            if not workers.not_here and not failure:
                try:
                    workers = replace(workers, times=_work_together(crew, case, tell))
                except _WorkerError as error:
                    failure = f"{number} workers cannot be measured: {error}"
                except (EOFError, OSError):
                    failure = (
                        f"{number} workers cannot be measured: one of them ended; there may be too "
                        "little memory"
                    )
            # A process that ended answers no later case either.
            if failure and not workers.not_here:
                workers = replace(workers, not_here=failure)
            measured.append(replace(case, workers=workers))
    return measured


def _work_together(crew: Sequence[Connection], case: Case, tell: Tell) -> list[float]:
    """Return, per round, the work of all workers / the work of one alone."""
    for worker in crew:  # each is ready once it has trained a few steps
        _answer(worker)
    crew_of_case = crew[: case.workers.number]
    seconds = max(_WORK_SECONDS, 3 * statistics.median(case.timings[0].seconds))

    def steps_per_second(workers: Sequence[Connection]) -> float:
        for worker in workers:
            worker.send(seconds)
        return math.fsum(1 / _answer(worker) for worker in workers)

    times = []
    for number in range(_WORK_ROUNDS):
        tell(f"{case.recipe.name}: {len(crew_of_case)} workers together, round {number + 1}")
        # Another one in each round: they may run on cores that differ.
        alone = steps_per_second([crew_of_case[number % len(crew_of_case)]])
        times.append(steps_per_second(crew_of_case) / alone)
    # All go on to the next recipe, those that this case did not need as well.
    for worker in crew:
        worker.send(None)
    return times


class _WorkerError(EOFError):
    """A worker process failed and says why."""


def _answer(worker: Connection) -> float:
    answer = worker.recv()
    if isinstance(answer, str):
        raise _WorkerError(answer)
    return float(answer)


@contextlib.contextmanager
def _crew(
    number: int, recipes: Sequence[Recipe], data_root: Path | None
) -> Iterator[list[Connection]]:
    """Start processes that train one recipe after the other on request; end them afterwards."""
    context = multiprocessing.get_context("spawn")
    connections, processes = [], []
    try:
        for _ in range(number):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_work, args=(theirs, list(recipes), data_root), daemon=True
            )
            with interrupts.deaf_children():
                process.start()
            theirs.close()  # so that the end of a process is noticed
            connections.append(ours)
            processes.append(process)
        yield connections
    finally:
        for process in processes:
            process.kill()  # they hold nothing to save
        for process in processes:
            process.join()
        for connection in connections:
            connection.close()


def _work(orders: Connection, recipes: Sequence[Recipe], data_root: Path | None) -> None:
    """Train each recipe for the requested seconds, and answer with the seconds per step."""
    # If the connection breaks, the parent has ended.
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            for recipe in recipes:
                timed = _Timed(Plans.of(recipe, make_task(recipe, data_root)), recipe.training)
                orders.send(timed.step)
                while (seconds := orders.recv()) is not None:
                    orders.send(timed.go_on(seconds))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:
            orders.send(_reason(error))


def clearly(times: Sequence[float]) -> bool:
    """Whether something is clearly faster: by more than a tenth in the median, and in every round.

    >>> clearly([1.2, 1.5, 1.3]), clearly([0.9, 1.5, 1.3]), clearly([1.05, 1.06, 1.07])
    (True, False, False)
    """
    return statistics.median(times) > CLEARLY and min(times) > 1


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def changes_in_words(changes: Mapping[str, Any]) -> str:
    """Name the changed settings.

    >>> changes_in_words({"threads": 2, "compile": True}), changes_in_words({})
    ('threads 2, compile true', "the recipe's own")
    """
    words = [f"{entry} {_yaml(value)}" for entry, value in changes.items()]
    return ", ".join(words) or "the recipe's own"


def _reason(error: Exception) -> str:
    """Return the first informative line of an error, shortened to fit on a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    # A compiler's first line only announces the next one.
    text = lines[1] if lines[0].endswith(":") and len(lines) > 1 else lines[0]
    return text if len(text) <= 100 else f"{text[:99].rstrip()}…"
