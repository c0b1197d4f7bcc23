"""A training step of the smallest network, a perceptron of 20 hidden units on the digits, batch 64,
half pruned.

Here a step is mostly Python. Ours is a step as a run takes it; the plain step is what one would
write down with torch (`benchmarks.profiles.plain`); the last line is `tombola.train` in a loop of
somebody's own, who may change the model between two steps, so that it is looked at before each.
Processor time of the one thread, data included.
"""

from __future__ import annotations

import itertools
import time

import torch

from benchmarks.harness import Goal, Measured, Row, Settings, interleave, ratio
from benchmarks.profiles import plain
from benchmarks.steps import Ours, Problem

PROBLEM = Problem({"name": "mlp", "hidden": [20]}, "digits", 64, density=0.5)
_PLAIN, _OWN_LOOP = "plain step", "a loop of one's own"

ROW = Row(
    45, "Training step of a small perceptron, digits, batch 64", "torch", [Goal(_PLAIN, ">=", 1.5)]
)


def measure(settings: Settings) -> Measured:
    in_run, in_own_loop, in_torch = (Ours(PROBLEM, settings) for _ in range(3))
    warm, steps = settings.scaled(20, 1), settings.scaled(200, 2)
    torch.set_num_threads(1)
    times = interleave(
        {
            "run": lambda: in_run.seconds_per_step(warm=warm, steps=steps, clock=time.thread_time),
            "own loop": lambda: in_own_loop.seconds_per_step(
                warm=warm, steps=steps, clock=time.thread_time, visited=lambda _: True
            ),
            "plain": lambda: _plain(in_torch, warm, steps),
        },
        settings.times(50),
        settings.seed,
    )
    # So small a step that the overhead of Python is most of it.
    micros = {}
    for side, seconds in times.items():
        micros[side] = [1e6 * value for value in seconds]
    run, own_loop, torch_loop = micros["run"], micros["own loop"], micros["plain"]
    return Measured(
        [
            ratio(_PLAIN, run, torch_loop, seed=settings.seed, each="us", against="torch"),
            ratio(_OWN_LOOP, run, own_loop, seed=settings.seed, each="us", against="tombola.train"),
        ]
    )


def _plain(ours: Ours, warm: int, steps: int) -> float:
    going = plain(ours)
    for _ in itertools.islice(going, warm + 1):
        pass
    began = time.thread_time()
    for _ in itertools.islice(going, steps):
        pass
    return (time.thread_time() - began) / steps
