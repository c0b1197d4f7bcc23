"""A training step of LeNet-5 on MNIST, batch 60, SGD with momentum, no augmentation, a mask of 20 %
held.

open_lth has no LeNet-5: its loop trains ours, wrapped as one of its models and then in its
``PrunedModel``; data set, data loader and loop are its own. 50 consecutive steps a repetition, data
loading included.
"""

from benchmarks.harness import Goal, Measured, Row, Settings
from benchmarks.steps import Problem, against_open_lth

ROW = Row(20, "Training step of LeNet-5, MNIST, batch 60", "open_lth", [Goal("1 thread", ">=", 4)])
PROBLEM = Problem("lenet5", "mnist", 60, density=0.2)


def measure(settings: Settings) -> Measured:
    return against_open_lth(PROBLEM, settings, warm=10, steps=50, repeats=30)
