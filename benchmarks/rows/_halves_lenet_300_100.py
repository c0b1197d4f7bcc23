"""COLT-2's two halves of MNIST's classes, LeNet-300-100: two warm workers against one process.

Each training has some seconds; the one process trains them one after the other, with one or two
threads, whichever is quicker.
"""

from benchmarks.halves import against_one_process
from benchmarks.harness import Goal, Measured, Row, Settings

ROW = Row(
    80, "COLT-2's two halves, LeNet-300-100", "one after the other", [Goal("2 workers", ">=", 1.6)]
)


def measure(settings: Settings) -> Measured:
    return against_one_process("lenet_300_100", settings, epochs=5, repeats=8)
