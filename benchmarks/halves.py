"""COLT-2's two halves: trained at once by two warm workers, against one after the other in one
process.
"""

from __future__ import annotations

import functools
import itertools
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.harness import Measured, NotRun, Settings, interleave, ratio
from tombola.data.partitions import by_classes
from tombola.executors import Pool, serial
from tombola.experiments.plans import make_task
from tombola.ground.devices import cores
from tombola.masks.masks import ones
from tombola.schema.recipe import Recipe, parse
from tombola.training.jobs import Job


def against_one_process(model: str, settings: Settings, *, epochs: float, repeats: int) -> Measured:
    """Time a round's two trainings on MNIST, validation and stored results included.

    The other side is the better of one and two threads. Every repetition has a seed of its own, so
    that no training is found done; all sides of a repetition train the same.

    Args:
        model: A model of tombola.
        settings: For data and seed.
        epochs: Length of a training.
        repeats: Repetitions, unless the settings say another number.
    """
    if cores() < 2:
        raise NotRun(f"needs 2 cores; this process may use {cores()}")
    recipe = _recipe(model, epochs, settings)
    task = make_task(recipe, settings.root)
    parts, mask = by_classes(10, 2, settings.seed), ones(task.model, head=task.head)

    def timed(run_all: Callable[[list[Job]], object], threads: int) -> Callable[[], float]:
        training, seeds = replace(recipe.training, threads=threads), itertools.count(1000)

        def side() -> float:
            seed, start = next(seeds), task.initial_state()
            jobs = [Job(start, mask, training, seed, part) for part in parts]
            began = time.perf_counter()
            run_all(jobs)
            return time.perf_counter() - began

        return side

    make = functools.partial(make_task, recipe, settings.root)
    with tempfile.TemporaryDirectory(prefix="tombola-bench-") as folder:
        pool = Pool(task, Path(folder), workers=2, make_task=make)
        try:
            sides = {
                "2 workers": timed(pool.run_all, 1),
                "1 thread": timed(serial(task), 1),
                "2 threads": timed(serial(task), 2),
            }
            # The warm-up also brings the workers up.
            times = interleave(sides, settings.times(repeats), settings.seed)
        finally:
            pool.close()
    # Both comparisons are shown; the goal is judged by the harder one.
    lines = []
    ours = times.pop("2 workers")
    for name, theirs in times.items():
        title = f"2 workers against {name}"
        lines.append(ratio(title, ours, theirs, seed=settings.seed, against=name))
    better = min(lines, key=lambda line: line.value)
    note = f"the better one is {better.against}"
    return Measured([replace(better, name="2 workers", note=note), *lines])


def _recipe(model: str, epochs: float, settings: Settings) -> Recipe:
    training = {"optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "batch_size": 60}
    length: dict[str, float] = {"steps": 40} if settings.quick else {"epochs": epochs}
    return parse(
        {
            "name": "bench",
            "data": {"name": "mnist", "valid": 5000},
            "model": model,
            "training": training | length,
            "arms": {"colt-2": {"method": "colt", "partitions": 2, "rate": 0.15}},
            "until": {"rounds": 1},
        }
    )
