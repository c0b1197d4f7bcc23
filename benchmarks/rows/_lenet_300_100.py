"""A training step of LeNet-300-100 on MNIST, batch 60, SGD with momentum, no augmentation, a mask
of 20 % held.

open_lth's side is its own ``mnist_lenet_300_100`` in its ``PrunedModel``, its MNIST data set, data
loader and training loop, as its user gets them. 50 consecutive steps a repetition, data loading
included; judged with one thread on both sides, and shown with torch's default number of threads on
both.
"""

from benchmarks.harness import Goal, Measured, Row, Settings
from benchmarks.steps import Problem, against_open_lth

ROW = Row(
    10, "Training step of LeNet-300-100, MNIST, batch 60", "open_lth", [Goal("1 thread", ">=", 8)]
)
PROBLEM = Problem("lenet_300_100", "mnist", 60, density=0.2, peer_model="mnist_lenet_300_100")


def measure(settings: Settings) -> Measured:
    return against_open_lth(PROBLEM, settings, warm=10, steps=50, repeats=30)
