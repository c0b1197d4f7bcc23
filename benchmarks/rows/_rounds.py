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
    mask = ones(task.model, head=task.head)
    job = Job(task.initial_state(), mask, plan.training, seed=settings.seed)
    serial(task)([job])  # warms up

    times: dict[int, list[float]] = {index: [] for index in range(1, rounds + 1)}
    for repetition in range(settings.times(7)):
        job = replace(job, seed=settings.seed + repetition)
        began = time.perf_counter()
        for round_ in find(job, [WHOLE], itertools.repeat(0.2, rounds), run_all=serial(task)):
            ended = time.perf_counter()
            times[round_.index].append(ended - began)
            began = ended

    # By repetition: the last third of the rounds over the first.
    growth = []
    third = rounds // 3
    for by_round in zip(*times.values(), strict=True):
        early, late = by_round[:third], by_round[-third:]
        growth.append(statistics.median(late) / statistics.median(early))
    line = single("last third / first third", growth, "x", seed=settings.seed, note="1 is flat")
    series = Series("Time a round of an LTH search", "Round", "Seconds", points(times))
    return Measured([line], [series])
