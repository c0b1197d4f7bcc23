"""Profiles: where the time of a training step goes, with torch's plain step and with tombola's.

    .venv/bin/python -m benchmarks.profiles lenet_300_100 conv3

Both sides train the same model on the same batches with half of the weights pruned, one thread. The
plain step is what one would write down: the model as it is, ``zero_grad``, ``backward``, the
gradients' mask, ``optimizer.step``, the weights' mask. Times of kernels are torch's profiler's;
what it leaves of the wall time measured without it is Python.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.harness import Settings
from benchmarks.steps import Ours, Problem
from tombola.masks.masks import MaskHandle
from tombola.training.loop import optimizer_for, resolve_defaults, train

_AUGMENT = {"crop": 4, "flip": True}
PROBLEMS = {
    "lenet_300_100": (Problem("lenet_300_100", "mnist", 60, density=0.5), 400),
    "lenet5": (Problem("lenet5", "mnist", 60, density=0.5), 100),
    "conv3": (Problem("conv3", "cifar10", 64, density=0.5, augment=_AUGMENT), 8),
    "resnet18": (Problem("resnet18", "cifar10", 64, density=0.5, augment=_AUGMENT), 3),
}
# The first that fits an operation's name says what it does.
KINDS: Mapping[str, tuple[str, ...]] = {
    "matrix products": ("mm", "linear"),
    "convolutions": ("convolution",),
    "pooling": ("pool",),
    "batch norm": ("batch_norm",),
    "optimiser": ("_fused_", "_foreach_add"),
    "the batch": ("index", "gather", "sub", "div", "arange", "where", "clamp", "bitwise"),
    "masks and other elementwise": (
        *("mul", "relu", "threshold", "softmax", "nll"),
        *("sum", "fill", "zero", "copy", "add"),
    ),
}


def plain(ours: Ours) -> Iterator[None]:
    """Train without end as one would write it down, and yield before each step."""
    model, mask, task = ours.model, ours.mask, ours.task
    optimizer, handle = optimizer_for(model, ours.training), MaskHandle(model, mask)
    epoch = 0
    model.train()
    while True:
        for batch in ours.batches.epoch(epoch):
            yield
            optimizer.zero_grad()
            task.loss(model, batch).backward()
            handle.mask_gradients()
            optimizer.step()
            handle.mask_weights()
        epoch += 1


def quick(ours: Ours) -> Iterator[object]:
    """Train by `tombola.train`, and yield before each step."""
    training = resolve_defaults(replace(ours.training, steps=10**6), ours.model, "cpu")
    return train(ours.model, ours.batches, training, ours.mask, loss=ours.task.loss, seed=ours.seed)


def milliseconds(steps: Iterator[object], number: int) -> tuple[float, dict[str, float]]:
    """Return the wall time of a step and the profiler's time by kind of operation, in ms."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(number):
            next(steps)
        times.append(1000 * (time.perf_counter() - began) / number)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(number):
            next(steps)
    # Wall time is measured without the profiler, which slows Python down.
    kinds = dict.fromkeys([*KINDS, "other"], 0.0)
    for event in profiled.key_averages():
        if event.key.startswith("aten::"):
            kinds[_kind(event.key)] += event.self_cpu_time_total / 1000 / number
    return statistics.median(times), kinds


def _kind(operation: str) -> str:
    for kind, words in KINDS.items():
        if any(word in operation for word in words):
            return kind
    return "other"


def compare(name: str) -> str:
    """Profile both steps of a model and return the table, in Markdown."""
    problem, number = PROBLEMS[name]
    torch.set_num_threads(1)
    plain_ms, plain_kinds = _profiled(plain(Ours(problem, Settings())), number)
    ours_ms, ours_kinds = _profiled(quick(Ours(problem, Settings())), number)
    lines = [f"| {name}, ms a step | plain | tombola |", "|---|---|---|"]
    for kind in [*KINDS, "other"]:
        if max(plain_kinds[kind], ours_kinds[kind]) > 0.0005:
            lines.append(f"| {kind} | {plain_kinds[kind]:.3f} | {ours_kinds[kind]:.3f} |")
    plain_rest, ours_rest = _rest(plain_ms, plain_kinds), _rest(ours_ms, ours_kinds)
    lines.append(f"| Python and autograd (the rest) | {plain_rest} | {ours_rest} |")
    lines.append(f"| **a step** | **{plain_ms:.3f}** | **{ours_ms:.3f}** |")
    return "\n".join(lines)


def _profiled(steps: Iterator[object], number: int) -> tuple[float, dict[str, float]]:
    for _ in range(max(2, number // 10)):
        next(steps)
    return milliseconds(steps, number)


def _rest(step: float, kinds: Mapping[str, float]) -> str:
    rest = step - sum(kinds.values())
    # A difference of two runs: where kernels take a hundred times as long it says nothing.
    return f"{rest:.3f}" if rest / step > 0.03 else "in the noise"


if __name__ == "__main__":
    for chosen in sys.argv[1:] or PROBLEMS:
        print(compare(chosen), end="\n\n", flush=True)
