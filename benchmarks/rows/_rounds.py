"""Time a round over the rounds of an LTH search: a round must not cost more because others came
before it.

LeNet-300-100 on the digits, 20 epochs a training, one thread, in this process; what is timed is
`find` from one round to the next: training, scoring, pruning, and checking the invariants.
"""

from __future__ import annotations

import itertools
import statistics
import time
from dataclasses import replace

from benchmarks.curves import points
from benchmarks.harness import Measured, Row, Series, Settings, single
from benchmarks.recipes import recipe
from tombola.data.partitions import WHOLE
from tombola.executors import serial
from tombola.experiments.plans import make_task
from tombola.masks.masks import ones
from tombola.search.rounds import find
from tombola.training.jobs import Job

ROW = Row(200, "Time a round over the rounds of a search")


def measure(settings: Settings) -> Measured:
    plan = recipe(settings)
    plan = replace(plan, training=replace(plan.training, epochs=settings.scaled(20, 1)))
    task = make_task(plan, settings.root)
    rounds = settings.scaled(20, 4)
    times: dict[int, list[float]] = {index: [] for index in range(1, rounds + 1)}
    warm = Job(
        task.initial_state(), ones(task.model, head=task.head), plan.training, seed=settings.seed
    )
    serial(task)([warm])
    for repetition in range(settings.times(7)):
        mask = ones(task.model, head=task.head)
        job = Job(task.initial_state(), mask, plan.training, seed=settings.seed + repetition)
        began = time.perf_counter()
        for found in find(job, [WHOLE], itertools.repeat(0.2, rounds), run_all=serial(task)):
            ended = time.perf_counter()
            times[found.index].append(ended - began)
            began = ended
    third = rounds // 3
    every = list(times.values())
    late = [statistics.median(r[k] for r in every[-third:]) for k in range(len(every[0]))]
    early = [statistics.median(r[k] for r in every[:third]) for k in range(len(every[0]))]
    growth = [after / before for after, before in zip(late, early, strict=True)]
    line = single("last third / first third", growth, "x", seed=settings.seed, note="1 is flat")
    return Measured(
        [line], [Series("Time a round of an LTH search", "Round", "Seconds", points(times))]
    )
