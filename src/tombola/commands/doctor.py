"""Doctor: what this machine is, and what a recipe's training would gain from other settings; it
changes nothing.

    recipe -> candidates -> measure -> advise -> report

What changes bits is never decided by a timing: it stands in the recipe. So all that comes out of
here is advice.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tombola.data.roots import data_root as root_of
from tombola.experiments.estimate import trial
from tombola.experiments.plans import Plans, make_task, settle
from tombola.ground import devices, extras, interrupts
from tombola.ground.devices import cores
from tombola.ground.errors import ConfigError, DataError
from tombola.ground.settings import Training
from tombola.schema.recipe import Recipe, parse
from tombola.training import loop as training
from tombola.training.jobs import alone

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Tell = Callable[[str], None]

CLEARLY = 1.1  # times as quick, from where on a setting is advised
_SECONDS, _BLOCK = 4.0, 0.1  # of all rounds of a case, and of one setting in a round
_LEAST_ROUNDS, _MOST_ROUNDS = 3, 15
_SLOW = 1.0  # seconds a step, from where on no step is spent on warming up again
_WORK, _WORK_ROUNDS, _MOST_WORKERS = 0.3, 5, 16
_A_WORKER = 2**30  # bytes that a worker process takes besides its images
_KINDS = {"cpu": "CPU", "cuda": "GPU"}

_IDX = tuple(
    f"{split}-{content}"
    for split in ("train", "t10k")
    for content in ("images-idx3-ubyte", "labels-idx1-ubyte")
)
PLACES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "mnist": ("MNIST/raw", _IDX),
    "fashion_mnist": ("FashionMNIST/raw", _IDX),
    "cifar10": (
        "cifar-10-batches-py",
        (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"),
    ),
    "cifar100": ("cifar-100-python", ("train", "test")),
    "tiny_imagenet": ("tiny-imagenet-200", ("wnids.txt",)),
}


def _built_in(name: str, model: str, shape: Sequence[int], training: Mapping[str, Any]) -> Recipe:
    data = {"name": "synthetic", "image_shape": list(shape), "train": 1920, "test": 10, "valid": 0}
    arms = {"dense": {"method": "dense"}}
    return parse(
        {
            "name": name,
            "data": data,
            "model": model,
            "training": {"steps": 1000, **training},
            "arms": arms,
        }
    )


def built_in() -> list[Recipe]:
    """Return what is measured without a recipe: the lottery ticket papers' LeNet and COLT's Conv-3,
    at their sizes.

    >>> [recipe.name for recipe in built_in()]
    ['LeNet-300-100', 'Conv-3']
    """
    adam = {"optimizer": "adam", "lr": 1.2e-3, "batch_size": 60}
    sgd = {"optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "batch_size": 64}
    return [
        _built_in("LeNet-300-100", "lenet_300_100", (1, 28, 28), adam),
        _built_in("Conv-3", "conv3", (3, 32, 32), sgd),
    ]


@dataclass(frozen=True)
class Timing:
    """How quick a training is with some settings changed.

    Attributes:
        changes: Entries of ``training`` and their values; none for the recipe's own.
        seconds: Of a step, one number a round.
        times: Times as quick as the recipe's own in the same round, one number a round.
        not_here: Why this machine cannot do it; empty where it can.
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
        return " ".join(
            f"--training.{entry} {_yaml(value)}" for entry, value in self.changes.items()
        )


@dataclass(frozen=True)
class Workers:
    """How much worker processes do together.

    Attributes:
        number: Of them; those that `tombola run` takes by itself, as far as they were tried.
        default: How many `tombola run` takes by itself.
        times: Work of all of them / work of one alone, one number a round.
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
        recipe: With its training settled.
        timings: The recipe's own settings first.
        workers: Worker processes, each with the recipe's own settings.
        left_out: What its masks and counted FLOPs leave out, a line each by a word.
    """

    recipe: Recipe
    timings: Sequence[Timing]
    workers: Workers
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Examination:
    """What `examine` found: facts as plain data, see `facts`, and one case a recipe."""

    facts: Mapping[str, Any]
    cases: Sequence[Case]


def examine(
    recipe: Recipe | None = None,
    *,
    data_root: Path | None = None,
    compiled: bool = False,
    tell: Tell = lambda _: None,
) -> Examination:
    """Look at this machine and measure what a recipe's training would gain from other settings.

    Nothing is downloaded, written or kept. The built-in cases take about half a minute.

    Args:
        recipe: What to measure; two built-in cases if not given.
        data_root: Root of the data sets; ``TOMBOLA_DATA`` or the default if not given.
        compiled: Try ``torch.compile`` too, which takes a minute.
        tell: Told what is being done.

    Raises:
        InputError: The recipe cannot be run as it is, its data are not there, or its own training
            fails.
    """
    told = facts(data_root)
    if recipe is not None and told["data_found"].get(recipe.data.name, True) is False:
        raise DataError(
            f"{recipe.data.name} is not under {told['data_root']}, and doctor downloads nothing; "
            "name a folder that has it (--data-root or TOMBOLA_DATA), or begin a run of the "
            "recipe, which downloads it"
        )
    recipes = built_in() if recipe is None else [recipe]
    measured = []
    for one in recipes:
        tell(f"{one.name}: loading")
        task = make_task(one, data_root)
        settled = settle(one, task)
        plans = Plans.of(settled, task)
        tried = candidates(one.training, task.model, settled.device, cores(), compiled=compiled)
        measured.append(
            Case(settled, measure(plans, tried, tell), _worth_trying(plans), plans.left_out)
        )
    return Examination(told, _with_workers(measured, data_root, tell))


def facts(data_root: Path | None = None) -> dict[str, Any]:
    """Say what this machine is, as plain data; memory is in bytes, ``load`` in processes that want
    a core.

    ``data_found`` says of every downloadable data set whether its files are under the data root;
    none is read. ``busy`` is true where the load of the last minute is more than half of the
    machine's cores. What the system does not say is ``None``.

    >>> facts(Path("/nowhere"))["data_found"]["mnist"]
    False
    """
    root = root_of(data_root)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return {
        "versions": {
            **extras.versions(["tombola"]),
            "python": platform.python_version(),
            **extras.versions(["torch", "torchvision", "numpy"]),
        },
        "processor": _processor(),
        "cores": cores(),
        "memory_total": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "memory_free": devices.free_memory(torch.device("cpu")),
        "gpus": [
            {
                "name": torch.cuda.get_device_name(number),
                "memory_total": torch.cuda.get_device_properties(number).total_memory,
                "memory_free": devices.free_memory(torch.device("cuda", number)),
            }
            for number in gpus
        ],
        "torch_threads": torch.get_num_threads(),
        "data_root": str(root),
        "data_found": {
            name: all((root / folder / file).is_file() for file in files)
            for name, (folder, files) in PLACES.items()
        },
        "load": None if load is None else round(load, 2),
        "busy": load is not None and load > 0.5 * (os.cpu_count() or 1),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(
            line.partition(":")[2].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):  # no Linux, or a processor that has no such line
        return platform.processor() or platform.machine()


def candidates(
    own: Training, model: nn.Module, kind: str, cores: int, *, compiled: bool = False
) -> list[tuple[dict[str, Any], Training]]:
    """List the settings that apply to a model on a kind of device, each as (what is changed,
    settled training).

    The first changes nothing. A change that a recipe's own ``step: traced`` stands against comes
    with ``step: eager``.

    Args:
        own: The recipe's training, not settled, so that what it leaves open may follow a change.
        model: What is trained.
        kind: "cpu" or "cuda".
        cores: That this process may use.
        compiled: Whether to try ``torch.compile``.

    Raises:
        ConfigError: The recipe's own settings do not go with the model or the device.

    >>> tried = candidates(Training(epochs=1), nn.Linear(4, 2), "cpu", cores=2)
    >>> [changes for changes, _ in tried]
    [{}, {'threads': 2}, {'precision': 'bf16'}, {'step': 'eager'}]
    """
    settled = training.resolve_defaults(own, model, kind)
    values: dict[str, Sequence[Any]] = {
        "threads": sorted({1, cores}) if kind == "cpu" else (),
        "channels_last": (True, False),
        "precision": ("float32", "tf32", "bf16"),
        "step": ("traced", "eager"),
        "compile": (True, False) if compiled else (False,),
    }
    tried: list[tuple[dict[str, Any], Training]] = [({}, settled)]
    for entry, choices in values.items():
        for value in choices:
            if value == getattr(settled, entry):
                continue
            for more in ({}, {"step": "eager"}) if entry != "step" else ({},):
                changes = {entry: value, **more}
                with contextlib.suppress(ConfigError):  # it does not apply
                    tried.append(
                        (changes, training.resolve_defaults(replace(own, **changes), model, kind))
                    )
                    break
    return tried


class _Timed:
    """A training that goes on step by step while it is timed; its first steps, with trace or
    compilation, are done.
    """

    def __init__(self, plans: Plans, training: Training) -> None:
        self.training, self.task, self.step = training, plans.task, 0.0
        with alone(training, self.task):
            _, self.steps = trial(plans, training)
            next(self.steps)  # stands before its first step
        self.step = self.go_on(0.0)
        self.step = self.go_on(0.0)

    def go_on(self, seconds: float) -> float:
        """Train for so many seconds, for one step at least, and return the seconds of a step."""
        with alone(self.training, self.task):
            if self.step < _SLOW:
                next(self.steps)  # brings threads and caches back
            devices.wait(self.task.device)
            began, steps = time.perf_counter(), 0
            while steps == 0 or time.perf_counter() - began < seconds:
                next(self.steps)
                steps += 1
                if steps % 10 == 0:  # so that a GPU's queue does not run ahead of the clock
                    devices.wait(self.task.device)
            devices.wait(self.task.device)
            return (time.perf_counter() - began) / steps


def measure(
    plans: Plans, tried: Sequence[tuple[dict[str, Any], Training]], tell: Tell = lambda _: None
) -> list[Timing]:
    """Time a step of each candidate, one after the other in every round; the first is what the
    others are compared to.

    Args:
        plans: What is trained; nothing of it is changed.
        tried: As `candidates` lists them.
        tell: Told what is being done.

    Raises:
        ConfigError: The first one, the recipe's own, fails. Any other that fails is told in its
            timing.
    """
    name, going, failed = plans.recipe.name, dict[int, _Timed](), dict[int, str]()
    for index, (changes, settings) in enumerate(tried):
        tell(f"{name}: {'compiling' if settings.compile else 'trying'} {_short(changes)}")
        try:
            going[index] = _Timed(plans, settings)
        except Exception as error:  # whatever a compiler or a device lacks
            if index == 0:
                raise ConfigError(
                    f"the recipe's own training fails here: {_reason(error)}"
                ) from error
            failed[index] = _reason(error)
    taken: dict[int, list[float]] = {index: [] for index in going}
    began = time.perf_counter()
    for number in range(_MOST_ROUNDS):
        if number >= _LEAST_ROUNDS and time.perf_counter() - began > _SECONDS:
            break
        tell(f"{name}: {len(going)} settings, round {number + 1}")
        order = list(going)
        # none is always the one after the same other
        for index in order if number % 2 else order[::-1]:
            taken[index].append(going[index].go_on(_BLOCK))
    return [
        Timing(changes, not_here=failed[index])
        if index in failed
        else Timing(
            changes, taken[index], [a / b for a, b in zip(taken[0], taken[index], strict=True)]
        )
        for index, (changes, _) in enumerate(tried)
    ]


def _worth_trying(plans: Plans) -> Workers:
    """Say how many workers are to be tried, or why none."""
    mine, threads = cores(), plans.recipe.training.threads
    cuda = plans.recipe.device.startswith("cuda")
    default = devices.workers(plans.recipe.device, threads)
    if mine == 1:
        return Workers(
            1,
            default,
            not_here="there is one core: neither more threads nor more workers are measured",
        )
    if mine // threads < 2:
        why = f"one training takes all {mine} cores (training.threads {threads}): no more workers are measured"
        return Workers(1, default, not_here=why)
    # A worker holds the images, and some of them normalised; half of the memory is left to whoever
    # has it.
    room = int(0.5 * devices.free_memory(torch.device("cpu")) // (_A_WORKER + 2 * plans.task.bytes))
    number = min(2 if cuda else mine // threads, _MOST_WORKERS, room)
    if number < 2:
        return Workers(1, default, not_here="memory is too small to measure a second worker")
    return Workers(number, default)


def _with_workers(cases: Sequence[Case], data_root: Path | None, tell: Tell) -> list[Case]:
    """Measure the workers of all cases, with one set of processes: they take seconds to start."""
    trying = [case for case in cases if not case.workers.not_here]
    if not trying:
        return list(cases)
    number = max(case.workers.number for case in trying)
    tell(f"starting {number} workers")
    measured, lost = [], ""
    with _crew(number, [case.recipe for case in trying], data_root) as hands:
        for case in cases:
            workers = case.workers
            if not workers.not_here and not lost:
                try:
                    workers = replace(workers, times=_together(hands, case, tell))
                except (EOFError, OSError) as error:
                    why = (
                        str(error)
                        if isinstance(error, _WorkerError)
                        else "one of them ended; memory may be too small"
                    )
                    lost = f"{number} workers cannot be measured: {why}"
            if lost and not workers.not_here:
                workers = replace(workers, not_here=lost)
            measured.append(replace(case, workers=workers))
    return measured


def _together(hands: Sequence[Connection], case: Case, tell: Tell) -> list[float]:
    """Return, a round, the work of all workers / the work of one alone."""
    for hand in hands:  # each is ready once it has trained a few steps
        _answer(hand)
    working, times = hands[: case.workers.number], []
    seconds = max(_WORK, 3 * statistics.median(case.timings[0].seconds))

    def work(crew: Sequence[Connection]) -> float:
        for hand in crew:
            hand.send(seconds)
        return math.fsum(1 / _answer(hand) for hand in crew)

    for number in range(_WORK_ROUNDS):
        tell(f"{case.recipe.name}: {len(working)} workers together, round {number + 1}")
        one = work([working[number % len(working)]])
        times.append(work(working) / one)
    for hand in hands:
        hand.send(None)
    return times


class _WorkerError(EOFError):
    """A worker process failed and says why."""


def _answer(hand: Connection) -> float:
    answer = hand.recv()
    if isinstance(answer, str):
        raise _WorkerError(answer)
    return float(answer)


@contextlib.contextmanager
def _crew(
    number: int, recipes: Sequence[Recipe], data_root: Path | None
) -> Iterator[list[Connection]]:
    """Have so many processes that train one recipe after the other when they are told to, and
    end them.
    """
    context = multiprocessing.get_context("spawn")
    hands, processes = [], []
    try:
        for _ in range(number):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_labour, args=(theirs, list(recipes), data_root), daemon=True
            )
            with interrupts.deaf_children():
                process.start()
            theirs.close()  # so that a process that ends is noticed
            hands.append(ours)
            processes.append(process)
        yield hands
    finally:
        for process in processes:
            process.kill()  # they hold nothing
        for process in processes:
            process.join()
        for hand in hands:
            hand.close()


def _labour(orders: Connection, recipes: Sequence[Recipe], data_root: Path | None) -> None:
    """Train each recipe in turn for as long as every order says, and answer with the seconds of
    a step.
    """
    # the parent has ended
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            for recipe in recipes:
                training = _Timed(Plans.of(recipe, make_task(recipe, data_root)), recipe.training)
                orders.send(training.step)
                while (seconds := orders.recv()) is not None:
                    orders.send(training.go_on(seconds))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:
            orders.send(_reason(error))


def clearly(times: Sequence[float]) -> bool:
    """Whether something is quicker beyond doubt: by more than a tenth in the middle, and in every
    round.

    >>> clearly([1.2, 1.5, 1.3]), clearly([0.9, 1.5, 1.3]), clearly([1.05, 1.06, 1.07])
    (True, False, False)
    """
    return statistics.median(times) > CLEARLY and min(times) > 1


def advise(case: Case, *, busy: bool = False) -> list[str]:
    """Return what would make a case quicker, the most useful first, in whole sentences.

    Args:
        case: What was measured.
        busy: Whether the machine was, so that what was measured is no ground for advice; then there
            is none.

    >>> own, quick = Timing({}, [0.002], [1.0]), Timing({"precision": "bf16"}, [0.001], [2.0])
    >>> case = Case(built_in()[1], [own, quick], Workers(2, 2, [1.8]))
    >>> print(*advise(case), sep="\\n")
    `--training.precision bf16` would take 0.50 of the time; results change, so it is another run.
    2 workers do 1.8 times the work of one: `--workers 2`, as run takes by itself; it changes no bit.
    """
    workers = case.workers
    not_here = [f"{workers.not_here[0].upper()}{workers.not_here[1:]}."] if workers.not_here else []
    if busy:
        return not_here
    together = statistics.median(workers.times) if workers.times else 1.0
    quicker = [
        timing
        for timing in case.timings
        if timing.changes and timing.times and clearly(timing.times)
    ]
    lines = []
    for timing in sorted(quicker, key=lambda timing: -statistics.median(timing.times)):
        quick = statistics.median(timing.times)
        threads = timing.changes.get("threads", 1)
        if threads > case.recipe.training.threads and together >= quick:
            lines.append(
                f"`{timing.flags}` would take {1 / quick:.2f} of the time of one training, but "
                f"{workers.number} workers do more on the same cores: it is for runs with one "
                "training at a time. Results change, so it is another run."
            )
            continue
        lines.append(
            f"`{timing.flags}` would take {1 / quick:.2f} of the time; results change, so it is "
            "another run."
        )
    if not lines:
        lines.append("The recipe's own settings are the quickest measured here.")
    lines += not_here
    if workers.times and not not_here:
        lines.append(_about_workers(workers, together))
    return lines


def _about_workers(workers: Workers, together: float) -> str:
    begin = f"{workers.number} workers do {together:.1f} times the work of one"
    if together > CLEARLY and not clearly(workers.times):
        least, most = min(workers.times), max(workers.times)
        return f"{begin}, in single rounds {least:.1f} to {most:.1f} times: too uneven to advise."
    if together <= CLEARLY:
        return f"{begin}: `--workers 1` does as well with less memory, and changes no bit."
    own = "as run takes by itself; it" if workers.number == workers.default else "which"
    return f"{begin}: `--workers {workers.number}`, {own} changes no bit."


def plain(found: Examination) -> dict[str, Any]:
    """Return all that was found as plain data, ready for JSON: seconds, fractions, bytes; one
    number a round.
    """
    return {
        "facts": dict(found.facts),
        "cases": [
            {
                "name": case.recipe.name,
                "recipe": case.recipe.plain(),
                "timings": [
                    {
                        "changes": dict(timing.changes),
                        "flags": timing.flags,
                        "seconds": list(timing.seconds),
                        "times_as_quick": list(timing.times),
                        "not_here": timing.not_here or None,
                    }
                    for timing in case.timings
                ],
                "workers": {
                    "number": case.workers.number,
                    "default": case.workers.default,
                    "times_the_work": list(case.workers.times),
                    "not_here": case.workers.not_here or None,
                },
                "advice": advise(case, busy=found.facts["busy"]),
                "left_out": dict(case.left_out),
            }
            for case in found.cases
        ],
    }


def terminal(found: Examination, console: Console) -> None:
    """Print facts, one table a case and its advice; 100 columns hold them."""
    from rich.table import Table
    from rich.text import Text

    told = Table.grid(padding=(0, 2, 0, 0))
    for name, line in fact_lines(found.facts):
        told.add_row(Text(name, style="dim"), Text(line))
    console.print(told)
    for case in found.cases:
        console.print(Text(f"\n{case.recipe.name}", style="bold"))
        for line in _about(case.recipe):
            console.print(Text(line, style="dim"))
        console.print()
        console.print(_table(case))
        for timing in case.timings:
            if timing.not_here:
                console.print(
                    Text(f"{_short(timing.changes)} is not here: {timing.not_here}", style="yellow")
                )
        console.print()
        for line in advise(case, busy=found.facts["busy"]):
            console.print(Text(line))
        for word, line in case.left_out.items():
            console.print(Text(f"{word}: {line}", style="yellow"))
    console.print()
    if any(len(case.timings) > 2 for case in found.cases):
        console.print(
            Text(
                "Each setting was measured alone; the gains of two need not multiply.", style="dim"
            )
        )
    if found.facts["busy"]:
        load = f"load {found.facts['load']:.1f}"
        text = f"The machine was busy before ({load}): measure again when it is idle, then there is advice."
        console.print(Text(text, style="yellow"))


def fact_lines(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the facts as pairs of a word and a line of text.

    >>> [word for word, _ in fact_lines(facts() | {"load": 0.1, "busy": False})]
    ['versions', 'processor', 'memory', 'GPUs', 'threads', 'data', 'load']
    """
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    number = facts["cores"]
    gpus = [
        f"{gpu['name']}, {_gib(gpu['memory_total'])}, {_gib(gpu['memory_free'])} free"
        for gpu in facts["gpus"]
    ]
    found = [name for name, there in facts["data_found"].items() if there]
    lacking = [name for name, there in facts["data_found"].items() if not there]
    lines = [
        ("versions", versions),
        ("processor", f"{facts['processor']}; {number} core{'s' * (number != 1)} for this process"),
        ("memory", f"{_gib(facts['memory_total'])}, {_gib(facts['memory_free'])} free"),
        ("GPUs", "; ".join(gpus) or "none that torch can use"),
        ("threads", f"torch's own: {facts['torch_threads']}; a training has those of its recipe"),
        ("data", f"{facts['data_root']} has {', '.join(found) or 'none of the downloadable sets'}"
                 f"{'; lacks ' * bool(found and lacking)}{', '.join(lacking) if found else ''}"),
    ]  # fmt: skip
    if facts["load"] is not None:
        busy = "; the machine is busy, so what is measured now says little" * facts["busy"]
        lines.append(("load", f"{facts['load']:.1f} over the last minute{busy}"))
    return lines


def _about(recipe: Recipe) -> list[str]:
    t = recipe.training
    own = [f"{t.threads} thread{'s' * (t.threads != 1)}", t.precision, f"{t.step} step"]
    own += ["channels last"] * bool(t.channels_last) + ["compiled"] * t.compile
    where = _KINDS[recipe.device]
    return [
        f"{recipe.model.name} on {recipe.data.name}, {t.optimizer}, batch {t.batch_size}, on the "
        f"{where}",
        f"the recipe's own settings: {', '.join(own)}",
    ]


def _table(case: Case) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(Text("\nsetting"))
    for head in (
        "ms\na step",
        "times as quick as\nthe recipe's own",
        "least .. most\nof the rounds",
    ):
        table.add_column(Text(head), justify="right")
    for timing in case.timings:
        if timing.not_here:
            table.add_row(Text(_short(timing.changes)), "", Text("not here"), "")
            continue
        quick = _spread(timing.times) if timing.changes else ("1", "")
        style = "bold" if timing.changes and clearly(timing.times) else ""
        cells = (_short(timing.changes), _digits(1000 * statistics.median(timing.seconds)), *quick)
        table.add_row(*(Text(cell, style=style) for cell in cells))
    return table


def _spread(times: Sequence[float]) -> tuple[str, str]:
    return f"{statistics.median(times):.2f}", f"{min(times):.2f} .. {max(times):.2f}"


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _short(changes: Mapping[str, Any]) -> str:
    return (
        ", ".join(f"{entry} {_yaml(value)}" for entry, value in changes.items())
        or "the recipe's own"
    )


def _reason(error: Exception) -> str:
    """Return the first line of an error that says something, cut to what a line holds."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [
        type(error).__name__
    ]
    text = lines[1] if lines[0].endswith(":") and len(lines) > 1 else lines[0]
    return text if len(text) <= 100 else f"{text[:99].rstrip()}…"


@contextlib.contextmanager
def telling() -> Iterator[Tell]:
    """Give what shows one line of progress on standard error, in place; nothing where that is
    no terminal.
    """
    # No thread draws here, as rich's own would: it would take time from what is measured.
    if not sys.stderr.isatty():
        yield lambda _: None
        return

    def tell(text: str) -> None:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        sys.stderr.write(f"\r\x1b[2K{text[: columns - 1]}")
        sys.stderr.flush()

    try:
        yield tell
    finally:
        sys.stderr.write("\r\x1b[2K")
        sys.stderr.flush()
