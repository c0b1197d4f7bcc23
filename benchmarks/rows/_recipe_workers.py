"""A whole recipe on two workers against one: COLT-2, LTH and matched, three replicates, synthetic data.

`tombola.run` from nothing to the report, each time in a fresh runs folder, starting the workers included. The second
line leaves out what comes before the first evaluation of the first training: starting workers and loading data.
"""

from benchmarks.harness import Goal, Measured, NotRun, Row, Settings, interleave, ratio
from benchmarks.recipes import Timed, recipe
from tombola.runs import cores

ROW = Row(90, "A recipe on 2 workers", "1 worker", [Goal("whole run", ">=", 1.8)])


def measure(settings: Settings) -> Measured:
    if cores() < 2:
        raise NotRun(f"needs 2 cores; this process may use {cores()}")
    two, one = Timed(recipe(settings), 2, settings), Timed(recipe(settings), 1, settings)
    repeats = settings.times(5)
    times = interleave({"two": two, "one": one}, repeats, settings.seed)
    facts = {"seed": settings.seed, "against": "1 worker"}
    return Measured(
        [
            ratio("whole run", times["two"], times["one"], **facts),
            ratio("without starting", two.warm[-repeats:], one.warm[-repeats:], **facts),
        ]
    )
