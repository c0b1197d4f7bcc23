"""Training masks instead of weights: a step of edge-popup and of a supermask against a dense step.

The same model, data, batch, optimiser and loop, one thread; the dense step trains the weights. The
selection of the kept weights is exact in every step.
"""

from __future__ import annotations

from typing import Any

from benchmarks.harness import Goal, Measured, Row, Settings
from benchmarks.steps import Problem, during_against_plain
from tombola.training.latent import EdgePopup, Supermask

_LENET = Problem("lenet_300_100", "mnist", 60)
_CONV3 = Problem("conv3", "cifar10", 64, augment={"crop": 4, "flip": True})
_LINES: dict[str, tuple[Problem, Any, float]] = {
    "edge-popup, LeNet-300-100": (_LENET, EdgePopup(0.5), 1.5),
    "supermask, LeNet-300-100": (_LENET, Supermask(), 1.5),
    "edge-popup, Conv-3": (_CONV3, EdgePopup(0.5), 1.1),
    "supermask, Conv-3": (_CONV3, Supermask(), 1.1),
}

ROW = Row(
    55,
    "A step that trains a mask",
    "a dense step",
    [Goal(name, "<=", most) for name, (_, _, most) in _LINES.items()],
)


def measure(settings: Settings) -> Measured:
    lines = []
    for name, (problem, during, _) in _LINES.items():
        steps = 10 if problem is _CONV3 else 100
        line = during_against_plain(problem, during, settings, steps=steps, repeats=15, name=name)
        lines.append(line)
    return Measured(lines)
