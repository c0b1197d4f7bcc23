"""Steps of sparse training whose weights are exchanged, and of one that gathers for `movement`,
against a dense step.

The same model, data, batch, optimiser and loop, one thread; the sparse network keeps 10 % of its
weights. RigL's exchanges are timed in a training that has one in every fourth step, as what these
four take more than three dense ones: with the forward and the backward pass that give the
gradients. Its other steps are timed where all exchanges are over.
"""

from __future__ import annotations

from typing import Any

from benchmarks.harness import Goal, Measured, Row, Settings
from benchmarks.steps import Problem, during_against_plain
from tombola.masks.schedules import RegrowByGradient, RegrowthSchedule
from tombola.training.gathering import Gather

_LENET = Problem("lenet_300_100", "mnist", 60, density=0.1)
_CONV3 = Problem("conv3", "cifar10", 64, density=0.1, augment={"crop": 4, "flip": True})
# Half of a training's steps are timed, the second one; in its middle the fraction is 0.3.
_EVERY = 4
_OFTEN = RegrowByGradient(RegrowthSchedule(every=_EVERY, fraction=0.6, end=1.0))
_OVER = RegrowByGradient(RegrowthSchedule(every=_EVERY, fraction=0.3, end=0.45))
_LINES: dict[str, tuple[Problem, Any, float]] = {
    "RigL's exchange, LeNet-300-100": (_LENET, _OFTEN, 2),
    "RigL's other steps, LeNet-300-100": (_LENET, _OVER, 1.1),
    "RigL's exchange, Conv-3": (_CONV3, _OFTEN, 2),
    "RigL's other steps, Conv-3": (_CONV3, _OVER, 1.1),
}
# No goal was set for these: they take one more pass over the weights.
_GATHERING = {
    "gathering, LeNet-300-100": Problem("lenet_300_100", "mnist", 60),
    "gathering, Conv-3": Problem("conv3", "cifar10", 64, augment={"crop": 4, "flip": True}),
}

ROW = Row(
    56,
    "A step of sparse training, and one that gathers",
    "a dense step",
    [Goal(name, "<=", most) for name, (_, _, most) in _LINES.items()],
)


def measure(settings: Settings) -> Measured:
    cases = [(name, problem, during) for name, (problem, during, _) in _LINES.items()]
    cases += [(name, problem, Gather()) for name, problem in _GATHERING.items()]
    lines = []
    for name, problem, during in cases:
        line = during_against_plain(
            problem,
            during,
            settings,
            steps=12 if problem.model == "conv3" else 100,
            repeats=15,
            name=name,
            every=_EVERY if during is _OFTEN else 1,
            quick=6,
        )
        lines.append(line)
    return Measured(lines)
