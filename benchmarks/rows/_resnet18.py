"""A training step of ResNet-18 for small images on CIFAR-10, batch 64, dense, SGD with momentum,
crops and flips.

open_lth's loop trains our ResNet-18, wrapped as one of its models; data set, augmentation, data
loader and loop are its own. 4 consecutive steps a repetition, data loading included.
"""

from benchmarks.harness import Goal, Measured, Row, Settings
from benchmarks.steps import Problem, against_open_lth

ROW = Row(
    40, "Training step of ResNet-18, CIFAR-10, batch 64", "open_lth", [Goal("1 thread", ">=", 1.2)]
)
PROBLEM = Problem("resnet18", "cifar10", 64, augment={"crop": 4, "flip": True})


def measure(settings: Settings) -> Measured:
    return against_open_lth(PROBLEM, settings, warm=1, steps=4, repeats=12)
