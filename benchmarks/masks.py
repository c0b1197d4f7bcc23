"""Masks of many weights: time and memory of one global magnitude pruning of 20 %, each in a fresh
process.

The memory is the peak of the process above what it held before: the model with its weights and the
current mask, both touched. With torch there is no current mask before the first pruning. What the
result itself takes is part of it.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from benchmarks import fresh, machine
from benchmarks.harness import NotRun
from tombola.masks.masks import count
from tombola.masks.pruning import prune
from tombola.scores._magnitude import magnitude

RATE = 0.2
# VGG-16 with its 138 M weights: thirteen convolutions and three linear layers.
_CHANNELS = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
VGG16 = [(outputs, inputs, 3, 3) for inputs, outputs in itertools.pairwise(_CHANNELS)]
VGG16 += [(4096, 25088), (4096, 4096), (1000, 4096)]
BILLION = [(4096, 10240)] * 24


def number(shapes: Sequence[Sequence[int]]) -> int:
    """Count the weights of layers.

    >>> number([(2, 3), (4,)])
    10
    """
    return sum(map(math.prod, shapes))


def cut(side: str, shapes: Sequence[Sequence[int]], seed: int) -> dict[str, float]:
    """Prune once in this process and return seconds, extra bytes and how many weights are kept.

    Args:
        side: "ours" or "theirs", which is `torch.nn.utils.prune`.
        shapes: Of the layers.
        seed: Of their random normal weights.
    """
    prune_once = {"ours": _ours, "theirs": _theirs}[side]
    # What is imported and begun at the first call is no memory of the pruning.
    prune_once(_state([(512, 512)], seed))
    state = _state(shapes, seed)
    seconds, extra, kept = prune_once(state)
    return {"seconds": seconds, "extra": extra, "kept": kept}


def in_fresh_process(side: str, shapes: Sequence[Sequence[int]], seed: int) -> dict[str, float]:
    """Do `cut` in a process of its own."""
    measured: dict[str, float] = fresh.call(
        "benchmarks.masks:cut", side=side, shapes=shapes, seed=seed
    )
    return measured


def need(bytes_: float) -> None:
    """Refuse to go on with too little memory, before the system ends a process.

    Raises:
        NotRun: Less is free.
    """
    free = machine.free_memory()
    if free < bytes_:
        raise NotRun(f"needs {bytes_ / 1e9:.1f} GB of free memory; there are {free / 1e9:.1f} GB")


def _state(shapes: Sequence[Sequence[int]], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for index, shape in enumerate(shapes):
        state[f"layer{index}.weight"] = torch.empty(*shape).normal_(generator=generator)
    return state


def _ours(state: Mapping[str, Tensor]) -> tuple[float, float, int]:
    mask = {name: torch.ones_like(value, dtype=torch.bool) for name, value in state.items()}
    with _Watched() as watched:
        pruned = prune(magnitude(state, mask), mask, RATE)
    return watched.seconds, watched.extra, count(pruned)


def _theirs(state: Mapping[str, Tensor]) -> tuple[float, float, int]:
    modules = []
    for value in state.values():
        module = nn.Module()
        module.weight = nn.Parameter(value)
        modules.append(module)
    weights = [(module, "weight") for module in modules]
    with _Watched() as watched:
        torch_prune.global_unstructured(weights, torch_prune.L1Unstructured, amount=RATE)
    kept = sum(int(torch.count_nonzero(module.weight_mask)) for module in modules)
    return watched.seconds, watched.extra, kept


class _Watched:
    """Takes the time of a block, and the peak of memory above what was held before it."""

    seconds = extra = 0.0

    def __enter__(self) -> _Watched:
        try:
            machine.forget_peak()
        except OSError as error:
            raise NotRun("the peak of memory can only be read on Linux") from error
        self._before, self._began = machine.resident(), time.perf_counter()
        return self

    def __exit__(self, *_: Any) -> None:
        self.seconds = time.perf_counter() - self._began
        self.extra = max(0.0, machine.peak() - self._before)
