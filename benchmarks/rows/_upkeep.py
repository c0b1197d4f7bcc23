"""What keeping a mask costs in a step: with a mask of 20 % held against no mask at all, one thread.

The goal is a number of passes, counted and not timed: the operations that a step does more with a
mask than without, seen by a dispatch mode of torch (not the optimiser, which is the same). The time
is the difference of the medians.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.harness import Goal, Measured, Row, Settings, exact
from benchmarks.steps import Ours, Problem, upkeep
from tombola.training.loop import train

LENET = Problem("lenet_300_100", "mnist", 60, density=0.2)
CONV3 = Problem("conv3", "cifar10", 64, density=0.2, augment={"crop": 4, "flip": True})
_PASSES = ["passes a step, LeNet-300-100", "passes a step, Conv-3"]

ROW = Row(
    50,
    "What keeping a mask costs in a step",
    "no mask",
    [Goal(name, "<=", 2, "") for name in _PASSES],
)


def measure(settings: Settings) -> Measured:
    lines = []
    for name, problem in zip(_PASSES, (LENET, CONV3), strict=True):
        more = operations(Ours(problem, settings))
        more.subtract(operations(Ours(problem, settings, held=False)))
        named = ", ".join(f"{number:+g} {what}" for what, number in sorted(more.items()) if number)
        lines.append(exact(name, more.total(), note=named or "no operation more"))
    lines.append(
        upkeep(LENET, settings, warm=20, steps=200, repeats=30, name="time, LeNet-300-100")
    )
    lines.append(upkeep(CONV3, settings, warm=2, steps=10, repeats=20, name="time, Conv-3"))
    return Measured(lines)


def operations(ours: Ours, steps: int = 3) -> Counter[str]:
    """Count the operations of torch in one step, by name, as the mean over a few."""
    counted = _Counted()
    steps_ = train(
        ours.model, ours.batches, ours.training, ours.held, loss=ours.task.loss, seed=ours.seed
    )
    next(steps_)
    next(steps_)  # the first step also makes the gradients and what the optimiser keeps
    with counted:
        for _ in itertools.islice(steps_, steps):
            pass
    steps_.close()
    return Counter({name: number / steps for name, number in counted.seen.items()})


class _Counted(TorchDispatchMode):
    """Counts what is called."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.seen[function.overloadpacket.__name__] += 1
        return function(*args, **(kwargs or {}))
