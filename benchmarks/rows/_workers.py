"""How the recipe of ``recipe-workers`` scales from one worker to one a core; 2 is also what that row measures."""

from benchmarks.curves import points
from benchmarks.harness import Measured, NotRun, Row, Series, Settings, interleave, ratio
from benchmarks.recipes import Timed, recipe
from tombola.runs import cores

ROW = Row(230, "A recipe on 1 worker to one a core", "1 worker")


def measure(settings: Settings) -> Measured:
    most = cores()
    if most < 2:
        raise NotRun(f"needs 2 cores; this process may use {most}")
    numbers = sorted({1, *(2**k for k in range(1, most.bit_length()) if 2**k <= most), most})
    sides = {str(n): Timed(recipe(settings), n, settings) for n in numbers}
    times = interleave(sides, settings.times(3), settings.seed)
    lines = [
        ratio(f"{n} workers", times[str(n)], times["1"], seed=settings.seed, against="1 worker") for n in numbers[1:]
    ]
    curve = points({n: times[str(n)] for n in numbers})
    return Measured(lines, [Series("A whole recipe over the number of workers", "Workers", "Seconds", curve)])
