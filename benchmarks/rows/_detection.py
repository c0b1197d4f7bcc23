"""A training step of a small Faster R-CNN on drawn shapes, batch 8, dense, SGD with momentum.

The other side is what torchvision's reference script for detectors does in a step
(``references/detection``), written out here: a data set and a data loader that give pictures and
targets, the losses and their sum, which is looked at for being finite, backward, optimiser, and the
losses noted for the log. Ours is a step as a run takes it, with the dense network's mask held. Both
begin with the same weights and see the same pictures in the same order, none of them mirrored. 10
consecutive steps a repetition; processor time, one thread, data included.
"""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.harness import Goal, Measured, NotRun, Row, Settings, interleave, ratio
from benchmarks.steps import Ours, Problem
from tombola.data.partitions import WHOLE

_STEP = "a step"
PROBLEM = Problem("faster_rcnn_small", "shapes", 8, lr=0.005, task="detection")

# At most 5 % more than torchvision's loop: its time over ours is at least 1 / 1.05.
ROW = Row(
    47,
    "Training step of a small Faster R-CNN, shapes, batch 8",
    "torchvision's reference loop",
    [Goal(_STEP, ">=", round(1 / 1.05, 3))],
)


class Annotated(Dataset[tuple[Tensor, dict[str, Tensor]]]):
    """Pictures and targets, one at a time, as torchvision's reference gives them to a loader.

    Args:
        boxes: A split of tombola's.
    """

    def __init__(self, boxes: Any) -> None:
        self.boxes = boxes

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        picture = self.boxes.pictures[index].to(torch.float32) / 255
        # Class 0 of torchvision's detectors is the background.
        target = {"boxes": self.boxes.boxes[index], "labels": self.boxes.labels[index] + 1}
        return picture, target


def loader(boxes: Any, order: Sequence[Sequence[int]]) -> Iterable[Any]:
    """Return a loader of these batches, in the process itself: both sides have one thread."""

    def collate(examples: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(zip(*examples, strict=True))

    return DataLoader(Annotated(boxes), batch_sampler=order, collate_fn=collate)


class Theirs:
    """torchvision's side: one model that goes on training from repetition to repetition.

    Args:
        model: Is trained in place.
        batches: Of an epoch.
        lr: Learning rate of SGD.
    """

    def __init__(self, model: nn.Module, batches: Iterable[Any], lr: float) -> None:
        self.model, self.batches = model, batches
        self.optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        self.log: list[dict[str, float]] = []

    def step(self, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]]) -> None:
        losses = self.model(list(images), list(targets))
        total = sum(losses.values())
        if not math.isfinite(total.item()):
            raise NotRun("torchvision's loop: the training diverged")
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        self.log.append({name: value.item() for name, value in losses.items()})

    def seconds_per_step(self, *, warm: int, steps: int) -> float:
        """Time consecutive steps."""
        self.model.train()
        began = time.process_time()
        for number, (images, targets) in enumerate(itertools.islice(self.batches, warm + steps)):
            if number == warm:
                began = time.process_time()
            self.step(images, targets)
        return (time.process_time() - began) / steps


def measure(settings: Settings) -> Measured:
    torch.set_num_threads(1)
    ours = Ours(PROBLEM, settings)
    theirs = their_side(ours, settings)
    warm, steps = settings.scaled(2, 1), settings.scaled(10, 2)
    timed = functools.partial(ours.seconds_per_step, clock=time.process_time)
    times = interleave(
        {
            "ours": lambda: timed(warm=warm, steps=steps),
            "theirs": lambda: theirs.seconds_per_step(warm=warm, steps=steps),
        },
        settings.times(30),
        settings.seed,
    )
    milliseconds = {}
    for side, seconds in times.items():
        milliseconds[side] = [1000 * value for value in seconds]
    line = ratio(_STEP, milliseconds["ours"], milliseconds["theirs"], seed=settings.seed, each="ms")
    return Measured([line])


def their_side(ours: Ours, settings: Settings) -> Theirs:
    """Return the other side, with our initial weights and our batches."""
    task: Any = ours.task
    batches: Any = ours.batches
    order = [batches.positions[rows].tolist() for rows in batches.order.epoch(0)]
    model = task.build(task.initial_state(), WHOLE, settings.seed)
    return Theirs(model, loader(task.split("train"), order), PROBLEM.lr)
