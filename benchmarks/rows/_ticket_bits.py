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
from tombola.masks.masks import count
from tombola.schema.recipe import parse
from tombola.search.rounds import find
from tombola.ticket_format import verify, writing
from tombola.tickets import Ticket
from tombola.training.jobs import Job

_DENSITIES = (0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15)
_DENSITIES += (0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
_DRAWN = "bits over entropy, drawn masks, the most"
_FOUND = "bits over entropy, found masks, the most"

ROW = Row(
    240,
    "Bits a weight of a ticket over its density",
    "",
    [Goal(_DRAWN, "<=", 1.1, ""), Goal(_FOUND, "<=", 1.1, "")],
)


def measure(settings: Settings) -> Measured:
    size = settings.scaled(20_000_000, 200_000)
    drawn, searched, entropies = {}, {}, {}
    for density in _DENSITIES:
        mask = _drawn(size, density, settings.seed)
        drawn[density], entropies[density] = bits_of(mask), entropy_of(mask)
    over_entropy = [drawn[density] / entropies[density] for density in _DENSITIES]
    searched_over_entropy = []
    for mask in _searched(settings.scaled(9, 2)):
        density = count(mask) / _size(mask)
        searched[density] = bits_of(mask)
        searched_over_entropy.append(searched[density] / entropy_of(mask))

    # Gaps must not make files slow: written and read against packed bits.
    mask = _drawn(size, 0.2, settings.seed)
    sides = {}
    for how, worth in (("gaps", 0), ("packed bits", math.inf)):
        for what in ("write", "read"):
            sides[f"{what}, {how}"] = _timed(what, worth, mask)
    times = interleave(sides, settings.times(9), settings.seed)

    lines = [exact(_DRAWN, max(over_entropy)), exact(_FOUND, max(searched_over_entropy))]
    for density in (0.5, 0.2, 0.1, 0.01, 0.001):
        lines.append(exact(f"bits a weight at {density:.1%}", drawn[density]))
    for name, seconds in times.items():
        lines.append(single(name, seconds, "s", seed=settings.seed))
    # The entropy is drawn as well, as the limit.
    curves = []
    for name, bits in {"drawn": drawn, "found": searched, "entropy": entropies}.items():
        curves += points({density: [number] for density, number in bits.items()}, name)
    title = "Bits a weight of a ticket's mask"
    return Measured(lines, [Series(title, "Density", "Bits", curves, log=True)])


def bits_of(mask: Mask) -> float:
    """Return the bits a weight that a mask takes in a ticket file."""
    with tempfile.TemporaryDirectory(prefix="tombola-bench-") as folder:
        file = verify(_saved(mask, Path(folder, "ticket.safetensors")))
    size = sum(len(file.raw(f"mask.{name}")) for name in file.shapes)
    return 8 * size / _size(mask)


def entropy_of(mask: Mask) -> float:
    """Return the entropy of a mask in bits a weight, given how many weights each layer keeps.

    >>> round(entropy_of({"w": torch.tensor([True, False, False, False])}), 3)
    0.811
    """
    bits = 0.0
    for keep in mask.values():
        for number in (int(keep.sum()), int((~keep).sum())):
            bits -= number * math.log2(number / keep.numel()) if number else 0
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
    for round_ in find(job, [WHOLE], [0.5] * rounds, run_all=serial(task)):
        yield dict(round_.mask)


def _saved(mask: Mask, path: Path) -> Path:
    # The smallest state that has the mask's names and shapes: bytes are a quarter of what weights
    # take.
    state = {name: torch.zeros(keep.shape, dtype=torch.int8) for name, keep in mask.items()}
    Ticket(mask, state).save(path)
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
