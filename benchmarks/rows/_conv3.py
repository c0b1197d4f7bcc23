"""A training step of Conv-3 on CIFAR-10, batch 64, dense, SGD with momentum, random crops and flips
on both sides.

open_lth's loop trains our Conv-3, wrapped as one of its models; data set, augmentation (a crop of
the picture padded by 4 pixels, a flip), data loader and loop are its own. 12 consecutive steps a
repetition, data loading included.
"""

from benchmarks.harness import Goal, Measured, Row, Settings
from benchmarks.steps import Problem, against_open_lth

ROW = Row(
    30, "Training step of Conv-3, CIFAR-10, batch 64", "open_lth", [Goal("1 thread", ">=", 1.5)]
)
PROBLEM = Problem("conv3", "cifar10", 64, augment={"crop": 4, "flip": True})


def measure(settings: Settings) -> Measured:
    return against_open_lth(PROBLEM, settings, warm=3, steps=12, repeats=20)
