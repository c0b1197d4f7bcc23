"""Bits a weight of a ticket's mask over its density: drawn masks of 20 M weights, and those that a
search found.

What is counted is the mask's part of the ticket file. The entropy is that of so many kept weights
in each layer. The search is LTH at 50 % a round with LeNet-300-100 on scikit-learn's digits.
Written and read is a file of 20 M weights at 20 %, verified, against the same mask as packed bits.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.curves import points
from benchmarks.harness import Goal, Measured, Row, Series, Settings, exact, interleave, single
from tombola.data.partitions import WHOLE
from tombola.executors import serial
from tombola.experiments.plans import Plans, make_task, resolve_defaults
from tombola.ground.types import Mask
from tombola.schema.recipe import parse
from tombola.search.rounds import find
from tombola.ticket_format import verify, writing
from tombola.tickets import Ticket
from tombola.training.jobs import Job

_DENSITIES = (
    0.5,
    0.45,
    0.4,
    0.35,
    0.3,
    0.25,
    0.2,
    0.15,
    0.1,
    0.05,
    0.02,
    0.01,
    0.005,
    0.002,
    0.001,
)
_DRAWN, _FOUND = (
    "bits over entropy, drawn masks, the most",
    "bits over entropy, found masks, the most",
)

ROW = Row(
    240,
    "Bits a weight of a ticket over its density",
    "",
    [Goal(_DRAWN, "<=", 1.1, ""), Goal(_FOUND, "<=", 1.1, "")],
)


def measure(settings: Settings) -> Measured:
    size = settings.scaled(20_000_000, 200_000)
    drawn, found, entropies = {}, {}, {}
    for density in _DENSITIES:
        mask = _drawn(size, density, settings.seed)
        drawn[density], entropies[density] = bits_of(mask), entropy_of(mask)
    over = [drawn[density] / entropies[density] for density in _DENSITIES]
    over_found = []
    for mask in _searched(settings.scaled(9, 2)):
        density = sum(int(keep.sum()) for keep in mask.values()) / _size(mask)
        found[density] = bits_of(mask)
        over_found.append(found[density] / entropy_of(mask))
    sides = {
        f"{what}, {how}": _timed(what, worth, _drawn(size, 0.2, settings.seed))
        for how, worth in (("gaps", 0), ("packed bits", math.inf))
        for what in ("write", "read")
    }
    times = interleave(sides, settings.times(9), settings.seed)
    lines = [exact(_DRAWN, max(over)), exact(_FOUND, max(over_found))]
    lines += [
        exact(f"bits a weight at {density:.1%}", drawn[density])
        for density in (0.5, 0.2, 0.1, 0.01, 0.001)
    ]
    lines += [single(name, seconds, "s", seed=settings.seed) for name, seconds in times.items()]
    curves = {"drawn": drawn, "found": found, "entropy": entropies}
    drawn_curves = [
        point
        for name, curve in curves.items()
        for point in points({density: [bits] for density, bits in curve.items()}, name)
    ]
    return Measured(
        lines,
        [Series("Bits a weight of a ticket's mask", "Density", "Bits", drawn_curves, log=True)],
    )


def bits_of(mask: Mask) -> float:
    """Return the bits a weight that a mask takes in a ticket file."""
    with tempfile.TemporaryDirectory(prefix="tombola-bench-") as folder:
        file = verify(_saved(mask, Path(folder, "ticket.safetensors")))
    taken = sum(
        entry.end - entry.begin for name, entry in file.tensors.items() if name.startswith("mask.")
    )
    return 8 * taken / _size(mask)


def entropy_of(mask: Mask) -> float:
    """Return the bits a weight that a mask takes at least, where all of its layers' masks of as
    many are alike.

    >>> round(entropy_of({"w": torch.tensor([True, False, False, False])}), 3)
    0.811
    """
    bits = 0.0
    for keep in mask.values():
        for many in (int(keep.sum()), int((~keep).sum())):
            bits -= many * math.log2(many / keep.numel()) if many else 0
    return bits / _size(mask)


def _size(mask: Mask) -> int:
    return sum(keep.numel() for keep in mask.values())


def _drawn(size: int, density: float, seed: int) -> Mask:
    generator = torch.Generator().manual_seed(seed)
    return {"weight": torch.rand(size, generator=generator) < density}


def _searched(rounds: int) -> Iterator[dict[str, Tensor]]:
    """Yield the masks of a search."""
    recipe = parse(
        {
            "name": "bench",
            "data": "digits",
            "model": "lenet_300_100",
            "training": {"lr": 0.05, "momentum": 0.9, "epochs": 5},
            "arms": {"lth": {"method": "lth", "rate": 0.5}},
            "until": {"rounds": rounds},
        }
    )
    task = make_task(recipe, None)
    recipe = resolve_defaults(recipe, task)
    job = Job(task.initial_state(), Plans.of(recipe, task).mask, recipe.training, seed=0)
    for found in find(job, [WHOLE], [0.5] * rounds, run_all=serial(task)):
        yield dict(found.mask)


def _saved(mask: Mask, path: Path) -> Path:
    # The smallest state that has the mask's names and shapes: bytes are a quarter of what weights
    # take.
    Ticket(
        mask, {name: torch.zeros(keep.shape, dtype=torch.int8) for name, keep in mask.items()}
    ).save(path)
    return path


def _timed(what: str, worth: float, mask: Mask) -> Callable[[], float]:
    """Return what writes or reads a ticket once, with its masks as gaps or as packed bits."""

    def seconds() -> float:
        before, writing._WORTH = writing._WORTH, worth  # type: ignore[assignment]
        try:
            with tempfile.TemporaryDirectory(prefix="tombola-bench-") as folder:
                began = time.perf_counter()
                path = _saved(mask, Path(folder, "ticket.safetensors"))
                if what == "read":
                    began = time.perf_counter()
                    Ticket.load(path)
                return time.perf_counter() - began
        finally:
            writing._WORTH = before

    return seconds
