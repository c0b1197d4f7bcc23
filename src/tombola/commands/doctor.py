"""Doctor: describe this machine, and advise which settings would train a recipe faster on it.

    recipe -> candidates -> measure -> advise -> report

Settings that can change results are part of the recipe and never follow from a timing. So this
module only advises and changes nothing.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tombola.commands.machine import fact_lines, facts
from tombola.commands.timings import (
    CLEARLY,
    Case,
    Tell,
    Timing,
    Workers,
    candidates,
    changes_in_words,
    clearly,
    measure,
    measure_workers,
    workers_to_try,
)
from tombola.experiments.plans import Plans, make_task, resolve_defaults
from tombola.ground.devices import cores
from tombola.ground.errors import DataError
from tombola.schema.recipe import Recipe, parse

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_KINDS = {"cpu": "CPU", "cuda": "GPU"}


def built_in() -> list[Recipe]:
    """Return what is measured without a recipe: the lottery ticket paper's LeNet and COLT's Conv-3,
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


def _built_in(name: str, model: str, shape: Sequence[int], training: Mapping[str, Any]) -> Recipe:
    # Images without meaning: a step takes as long with them, and nothing is downloaded.
    data = {"name": "synthetic", "image_shape": list(shape), "train": 1920, "test": 10, "valid": 0}
    return parse(
        {
            "name": name,
            "data": data,
            "model": model,
            "training": {"steps": 1000, **training},
            "arms": {"dense": {"method": "dense"}},
        }
    )


@dataclass(frozen=True)
class Examination:
    """What `examine` found: facts as plain data, see `facts`, and one case per recipe."""

    facts: Mapping[str, Any]
    cases: Sequence[Case]


def examine(
    recipe: Recipe | None = None,
    *,
    data_root: Path | None = None,
    compiled: bool = False,
    tell: Tell = lambda _: None,
) -> Examination:
    """Describe this machine and measure how much faster other settings would train a recipe.

    Nothing is downloaded, written or kept. The built-in cases take about half a minute.

    Args:
        recipe: What to measure; two built-in cases if not given.
        data_root: Root of the data sets; ``TOMBOLA_DATA`` or the default if not given.
        compiled: Try ``torch.compile`` too, which takes a minute.
        tell: Shows progress.

    Raises:
        InputError: The recipe cannot be run as it is, its data are not there, or its own training
            fails.
    """
    machine = facts(data_root)
    if recipe is not None and machine["data_found"].get(recipe.data.name, True) is False:
        raise DataError(
            f"{recipe.data.name} is not in {machine['data_root']}, and doctor downloads nothing; "
            "name a folder that has it (--data-root or TOMBOLA_DATA), or start a run of the "
            "recipe, which downloads it"
        )
    # Timings first and workers last: the processes are started once, for all recipes.
    cases = []
    for given in built_in() if recipe is None else [recipe]:
        tell(f"{given.name}: loading")
        task = make_task(given, data_root)
        resolved = resolve_defaults(given, task)
        plans = Plans.of(resolved, task)
        # Of the recipe as it is given: a default may be another one beside a change.
        tried = candidates(given.training, task.model, resolved.device, cores(), compiled=compiled)
        timings = measure(plans, tried, tell)
        cases.append(Case(resolved, timings, workers_to_try(plans), plans.left_out))
    return Examination(machine, measure_workers(cases, data_root, tell))


def advise(case: Case, *, busy: bool = False) -> list[str]:
    """Return what would make a case faster, in sentences, the most useful first.

    Args:
        case: What was measured.
        busy: Whether the machine was busy; timings are then no basis for advice.

    >>> own, fast = Timing({}, [0.002], [1.0]), Timing({"precision": "bf16"}, [0.001], [2.0])
    >>> case = Case(built_in()[1], [own, fast], Workers(2, 2, [1.8]))
    >>> print(*advise(case), sep="\\n")
    `--training.precision bf16` would take 0.50 of the time; results change, so it is another run.
    2 workers do 1.8 times the work of one: `--workers 2`, the default; it does not affect results.
    """
    workers = case.workers
    not_measured = []
    if workers.not_here:
        not_measured.append(f"{workers.not_here[0].upper()}{workers.not_here[1:]}.")
    if busy:
        return not_measured
    together = statistics.median(workers.times) if workers.times else 1.0
    lines = []
    for timing in _faster(case.timings):
        times = statistics.median(timing.times)
        # Threads and workers share the cores: of the two, a run takes what does more work.
        more_threads = timing.changes.get("threads", 1) > case.recipe.training.threads
        share = f"`{timing.flags}` would take {1 / times:.2f} of the time"
        if more_threads and together >= times:
            lines.append(
                f"{share} of one training, but {workers.number} workers do more on the same cores: "
                "use it for runs with one training at a time. Results change, so it is another run."
            )
        else:
            lines.append(f"{share}; results change, so it is another run.")
    # What was not measured is said last, as it advises nothing.
    if not lines:
        lines.append("The recipe's own settings are the fastest measured here.")
    lines += not_measured
    if workers.times and not not_measured:
        lines.append(_about_workers(workers, together))
    return lines


def _faster(timings: Sequence[Timing]) -> list[Timing]:
    """Return the changes that are clearly faster, the fastest first."""
    faster = []
    for timing in timings:
        if timing.changes and timing.times and clearly(timing.times):
            faster.append(timing)
    return sorted(faster, key=lambda timing: -statistics.median(timing.times))


def _about_workers(workers: Workers, together: float) -> str:
    work = f"{workers.number} workers do {together:.1f} times the work of one"
    if together > CLEARLY and not clearly(workers.times):
        least, most = min(workers.times), max(workers.times)
        spread = f"between {least:.1f} and {most:.1f} times in single rounds"
        return f"{work}, but {spread}: too variable for advice."
    if together <= CLEARLY:
        return f"{work}: `--workers 1` is as fast with less memory, and does not affect results."
    if workers.number == workers.default:
        return f"{work}: `--workers {workers.number}`, the default; it does not affect results."
    return f"{work}: `--workers {workers.number}`, which does not affect results."


def to_dict(examination: Examination) -> dict[str, Any]:
    """Return all findings as plain data, ready for JSON: seconds, fractions, bytes; one number per
    round.
    """
    cases = []
    for case in examination.cases:
        cases.append(
            {
                "name": case.recipe.name,
                "recipe": case.recipe.to_dict(),
                "timings": [_plain_timing(timing) for timing in case.timings],
                "workers": {
                    "number": case.workers.number,
                    "default": case.workers.default,
                    "times_the_work": list(case.workers.times),
                    "not_here": case.workers.not_here or None,
                },
                "advice": advise(case, busy=examination.facts["busy"]),
                "left_out": dict(case.left_out),
            }
        )
    return {"facts": dict(examination.facts), "cases": cases}


def _plain_timing(timing: Timing) -> dict[str, Any]:
    return {
        "changes": dict(timing.changes),
        "flags": timing.flags,
        "seconds": list(timing.seconds),
        "times_as_quick": list(timing.times),
        "not_here": timing.not_here or None,
    }


def terminal(examination: Examination, console: Console) -> None:
    """Print facts, one table per case and its advice; 100 columns hold them."""
    from rich.table import Table
    from rich.text import Text

    facts, busy = examination.facts, examination.facts["busy"]
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, line in fact_lines(facts):
        table.add_row(Text(name, style="dim"), Text(line))
    console.print(table)
    for case in examination.cases:
        _print_case(case, busy, console)
    console.print()
    # With one change there are no two to be combined.
    if any(len(case.timings) > 2 for case in examination.cases):
        note = "Each setting was measured alone; the gains of several need not multiply."
        console.print(Text(note, style="dim"))
    if busy:
        note = (
            f"The machine was busy (load {facts['load']:.1f}), so there is no advice: measure "
            "again when it is idle."
        )
        console.print(Text(note, style="yellow"))


def _print_case(case: Case, busy: bool, console: Console) -> None:
    from rich.text import Text

    console.print(Text(f"\n{case.recipe.name}", style="bold"))
    for line in _about(case.recipe):
        console.print(Text(line, style="dim"))
    console.print()
    console.print(_table(case))
    for timing in case.timings:
        if timing.not_here:
            line = f"{changes_in_words(timing.changes)} is not available: {timing.not_here}"
            console.print(Text(line, style="yellow"))
    console.print()
    for line in advise(case, busy=busy):
        console.print(Text(line))
    for word, line in case.left_out.items():
        console.print(Text(f"{word}: {line}", style="yellow"))


def _about(recipe: Recipe) -> list[str]:
    training = recipe.training
    settings = [
        f"{training.threads} thread{'s' * (training.threads != 1)}",
        training.precision,
        f"{training.step} step",
    ]
    if training.channels_last:
        settings.append("channels last")
    if training.compile:
        settings.append("compiled")
    return [
        f"{recipe.model.name} on {recipe.data.name}, {training.optimizer}, batch "
        f"{training.batch_size}, on the {_KINDS[recipe.device]}",
        f"the recipe's own settings: {', '.join(settings)}",
    ]


def _table(case: Case) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(Text("\nsetting"))
    for head in (
        "ms\nper step",
        "times as fast as\nthe recipe's own",
        "min .. max\nover rounds",
    ):
        table.add_column(Text(head), justify="right")
    for timing in case.timings:
        name = changes_in_words(timing.changes)
        if timing.not_here:
            table.add_row(Text(name), "", Text("not available"), "")
            continue
        milliseconds = _three_digits(1000 * statistics.median(timing.seconds))
        median, spread, style = "1", "", ""
        # The first is the recipe's own, which all others are compared with.
        if timing.changes:
            median = f"{statistics.median(timing.times):.2f}"
            spread = f"{min(timing.times):.2f} .. {max(timing.times):.2f}"
            style = "bold" if clearly(timing.times) else ""
        table.add_row(*(Text(cell, style) for cell in (name, milliseconds, median, spread)))
    return table


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


@contextlib.contextmanager
def telling() -> Iterator[Tell]:
    """Return a function that shows one line of progress on standard error, in place.

    Without a terminal it shows nothing.
    """
    # No thread draws here, as in rich, because it would take time from what is measured.
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
