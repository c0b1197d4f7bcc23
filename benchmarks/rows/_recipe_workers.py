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
    powers = [2**k for k in range(most.bit_length())]
    numbers = sorted({*powers, most})
    sides = {str(number): Timed(recipe(settings), number, settings) for number in numbers}
    repeats = settings.times(3)
    times = interleave(sides, repeats, settings.seed, warm=0)
    # The last line leaves out starting the workers, which is not the recipe's.
    facts = {"seed": settings.seed, "against": "1 worker"}
    lines = []
    for number in numbers[1:]:
        lines.append(ratio(f"{number} workers", times[str(number)], times["1"], **facts))
    two, one = (sides[number].warm[-repeats:] for number in ("2", "1"))
    lines.append(ratio("2 workers, without starting", two, one, **facts))
    curve = points({number: times[str(number)] for number in numbers})
    title = "A whole recipe over the number of workers"
    return Measured(lines, [Series(title, "Workers", "Seconds", curve)])
