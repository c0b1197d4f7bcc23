"""A recipe on 1, 2 and more workers, to one a core: COLT-2, LTH and matched on the digits, three
replicates.

`tombola.run` from nothing to the report, each time in a fresh runs folder, starting the workers
included. The second line leaves out what comes before the first evaluation of the first training:
starting workers and loading data.
"""

from benchmarks.curves import points
from benchmarks.harness import Goal, Measured, NotRun, Row, Series, Settings, interleave, ratio
from benchmarks.recipes import Timed, recipe
from tombola.ground.devices import cores

ROW = Row(90, "A recipe on more workers", "1 worker", [Goal("2 workers", ">=", 1.8)])


def measure(settings: Settings) -> Measured:
    most = cores()
    if most < 2:
        raise NotRun(f"needs 2 cores; this process may use {most}")
    numbers = sorted({1, *(2**k for k in range(1, most.bit_length()) if 2**k <= most), most})
    sides = {n: Timed(recipe(settings), n, settings) for n in numbers}
    repeats = settings.times(3)
    times = interleave({str(n): side for n, side in sides.items()}, repeats, settings.seed, warm=0)
    facts = {"seed": settings.seed, "against": "1 worker"}
    lines = [ratio(f"{n} workers", times[str(n)], times["1"], **facts) for n in numbers[1:]]
    warm = {n: side.warm[-repeats:] for n, side in sides.items()}
    lines.append(ratio("2 workers, without starting", warm[2], warm[1], **facts))
    curve = points({n: times[str(n)] for n in numbers})
    return Measured(
        lines, [Series("A whole recipe over the number of workers", "Workers", "Seconds", curve)]
    )
