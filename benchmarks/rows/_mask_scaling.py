"""Time of a global magnitude mask over the number of weights, 10 thousand to 100 million: is it
linear?

`tombola.prune` of 20 % of random normal weights in one process, torch's default threads. The
exponent is the slope of the line through the medians from a million weights on, on logarithmic
axes; 1 is linear.
"""

from __future__ import annotations

import functools
import math
import statistics
import time

import torch

from benchmarks.curves import points
from benchmarks.harness import Measured, Row, Series, Settings, exact, interleave, slope
from benchmarks.masks import RATE, need
from tombola.masks.pruning import prune
from tombola.scores._magnitude import magnitude

ROW = Row(210, "Time of a mask over the number of weights")


def measure(settings: Settings) -> Measured:
    largest = settings.scaled(8, 5)
    if not settings.quick:
        need(4e9)
    numbers = [10**k for k in range(4, largest + 1)]
    generator = torch.Generator().manual_seed(settings.seed)
    weights = torch.empty(numbers[-1]).normal_(generator=generator)

    def side(number: int) -> float:
        state = {"weight": weights[:number]}
        mask = {"weight": torch.ones(number, dtype=torch.bool)}
        began = time.perf_counter()
        prune(magnitude(state, mask), mask, RATE)
        return time.perf_counter() - began

    sides = {str(number): functools.partial(side, number) for number in numbers}
    times = interleave(sides, settings.times(7), settings.seed)
    lines = []
    # Below a million weights the time is that of the calls.
    large = [number for number in numbers if number >= 10**6] or numbers
    if len(large) > 1:
        medians = [statistics.median(times[str(number)]) for number in large]
        exponent = slope([*map(math.log10, large)], [*map(math.log10, medians)])
        lines.append(exact("exponent", exponent, note="1 is linear"))
    curve = points({number: times[str(number)] for number in numbers})
    return Measured(lines, [Series("Time of a global mask", "Weights", "Seconds", curve, log=True)])
