"""COLT-2's two halves of MNIST's classes, LeNet-5: two warm workers against one process.

Each training has some seconds; the one process trains them one after the other, with one or two
threads, whichever is quicker.
"""

from benchmarks.halves import against_one_process
from benchmarks.harness import Goal, Measured, Row, Settings

ROW = Row(81, "COLT-2's two halves, LeNet-5", "one after the other", [Goal("2 workers", ">=", 1.5)])


def measure(settings: Settings) -> Measured:
    return against_one_process("lenet5", settings, epochs=2, repeats=8)
