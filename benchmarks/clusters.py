"""What more workers bring: a recipe's own arms, rehearsed, on a simulated clock.

    python -m benchmarks.clusters cifar10-resnet18 --data synthetic

The arms of the recipe are driven as `tombola run --dry-run` drives them, and what they ask of their
pool is written down: which trainings, when, and what each waits for. That is then simulated with
any number of workers, each training and test in the time that its steps were measured to take. Only
the few steps that are measured are trained.
"""

from __future__ import annotations

import argparse
import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

from tombola.data.partitions import WHOLE
from tombola.experiments import rehearsal
from tombola.experiments.estimate import Measure
from tombola.experiments.experiment import _states, plan
from tombola.experiments.plans import Plans
from tombola.schema.recipe import read

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Ask:
    """What an arm asks for at one moment.

    Attributes:
        works: Names of pieces of work; the second and later ones of an evaluation follow the one
            before.
        waits: Whether the arm goes on only when all are done.
        after: A source's round that it needs first, from 1; 0 for none.
    """

    works: tuple[str, ...]
    waits: bool
    after: int = 0


@dataclass
class Arm:
    """The asks of an arm, and the arm that it follows."""

    asks: list[Ask]
    source: str | None = None


def makespan(arms: Mapping[str, Arm], seconds: Mapping[str, float], workers: int) -> float:
    """Return how long arms take on so many workers, the work in the order in which it is asked for.

    >>> chain = Arm([Ask(("a",), True), Ask(("b",), True)])
    >>> pair = Arm([Ask(("c", ), False), Ask(("d",), True)])
    >>> seconds = {"a": 3, "b": 3, "c": 2, "d": 2}
    >>> [makespan({"lth": chain, "colt": pair}, seconds, workers) for workers in (1, 2, 9)]
    [10, 6, 6]
    >>> follower = Arm([Ask(("e",), True, after=2)], source="lth")
    >>> makespan({"lth": chain, "matched": follower}, seconds | {"e": 1}, 9)
    7
    """
    state = _State(arms, seconds, workers)
    return state.run()


@dataclass
class _State:
    arms: Mapping[str, Arm]
    seconds: Mapping[str, float]
    workers: int
    now: float = 0
    ready: deque[str] = field(default_factory=deque)
    running: list[tuple[float, str]] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)
    # By work, what can begin when it is done.
    followed_by: dict[str, list[str]] = field(default_factory=dict)
    place: dict[str, int] = field(default_factory=dict)
    rounds: dict[str, int] = field(default_factory=dict)

    def run(self) -> float:
        self.place = dict.fromkeys(self.arms, 0)
        self.rounds = dict.fromkeys(self.arms, 0)
        while True:
            # Each arm does what it can, whatever the others did, until none moves.
            while sum(self._advance(name) for name in self.arms):
                pass
            while self.ready and len(self.running) < self.workers:
                work = self.ready.popleft()
                heapq.heappush(self.running, (self.now + self.seconds[work], work))
            if not self.running:
                return self.now
            self.now, work = heapq.heappop(self.running)
            self.done.add(work)
            self.ready.extend(self.followed_by.pop(work, []))

    def _advance(self, name: str) -> bool:
        """Let an arm do what it can; whether it did anything."""
        arm, moved = self.arms[name], False
        while self.place[name] < len(arm.asks):
            ask = arm.asks[self.place[name]]
            if ask.after and arm.source is not None and self.rounds[arm.source] < ask.after:
                return moved
            # A test follows its training; trainings that an arm waits for begin together.
            before: str | None = None
            for work in ask.works:
                if work not in self.asked:
                    self.asked.add(work)
                    moved = True
                    if ask.waits or before is None or before in self.done:
                        self.ready.append(work)
                    else:
                        self.followed_by.setdefault(before, []).append(work)
                before = work
            if ask.waits and not self.done.issuperset(ask.works):
                return moved
            self.place[name] += 1
            self.rounds[name] += ask.waits
            moved = True
        return moved


class _WritingPool(rehearsal._CountingPool):
    """A rehearsal's pool that writes down what it is asked for, and by which arm."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.asks: list[tuple[str, Ask]] = []

    def run_all(self, jobs: list[Any]) -> list[Any]:
        self.asks.append((self.arm, Ask(tuple(self.digest(job) for job in jobs), waits=True)))
        return super().run_all(jobs)

    def evaluate(self, job: Any) -> Any:
        digest = self.digest(job)
        self.asks.append((self.arm, Ask((digest, f"test of {digest}"), waits=False)))
        return super().evaluate(job)


def traced(plans: Plans, measure: Measure) -> tuple[dict[str, Arm], dict[str, float]]:
    """Return what the arms of one replicate ask for, and the seconds of each piece of work."""
    recipe = plans.recipe
    todo = [(name, 0) for name in recipe.arms]
    pools: list[_WritingPool] = []

    def make(*given: Any) -> _WritingPool:
        pools.append(_WritingPool(*given))
        return pools[-1]

    # The rehearsal makes its pools itself: they are replaced by ones that write down.
    with mock.patch.object(rehearsal, "_CountingPool", make):
        rehearsal.rehearse(plans, todo, _states(plans))
    [pool] = pools  # one replicate has one
    # Followers also wait for the rounds of the arm that they follow.
    arms = {name: Arm([], recipe.arms[name].source) for name in recipe.arms}
    for name, ask in pool.asks:
        arm = arms[name]
        arm.asks.append(replace(ask, after=_round_before(arm, ask)))
    task = plans.task
    tested = sum(task.size(WHOLE, which) for which in ("train", "valid", "test"))
    seconds: dict[str, float] = {}
    for digest, counted in pool.trained.items():
        seconds[digest] = counted.steps * measure.step + counted.looked_at * measure.example
    for digest in pool.tested:
        seconds[f"test of {digest}"] = tested * measure.example
    return arms, seconds


def _round_before(arm: Arm, ask: Ask) -> int:
    """Return the source's round that an arm needs before its next ask, from 1; 0 for none."""
    if arm.source is None:
        return 0
    searches = sum(earlier.waits for earlier in arm.asks)
    if ask.waits:
        return searches + 1
    # A control's ticket is made of the source's round; its round 0 is the dense network.
    return max(searches, len(arm.asks) - searches)


def replicated(
    arms: Mapping[str, Arm], seconds: Mapping[str, float], number: int
) -> tuple[dict[str, Arm], dict[str, float]]:
    """Return the arms of so many replicates alike; no two of them share a training."""
    all_arms: dict[str, Arm] = {}
    times: dict[str, float] = {}
    for k in range(number):
        for name, arm in arms.items():
            asks = []
            for ask in arm.asks:
                asks.append(replace(ask, works=tuple(f"{k} {work}" for work in ask.works)))
            all_arms[f"{k} {name}"] = Arm(asks, None if arm.source is None else f"{k} {arm.source}")
        for work, time in seconds.items():
            times[f"{k} {work}"] = time
    return all_arms, times


def table(
    arms: Mapping[str, Arm], seconds: Mapping[str, float], replicates: int, unit: float
) -> list[str]:
    """Return lines of Markdown: workers, time in dense trainings, speed-up, how busy they are."""
    all_arms, times = replicated(arms, seconds, replicates)
    alone = makespan(all_arms, times, 1)
    lines = ["| workers | dense trainings, one after the other | times as fast | busy |"]
    lines.append("|---|---|---|---|")
    for workers in WORKERS:
        took = makespan(all_arms, times, workers)
        lines.append(
            f"| {workers} | {took / unit:,.1f} | {alone / took:.1f} | "
            f"{100 * alone / took / workers:.0f} % |"
        )
    return lines


def longest(arms: Mapping[str, Arm], seconds: Mapping[str, float], unit: float) -> list[str]:
    """Say how long each arm takes with enough workers for all."""
    lines = []
    for name, arm in arms.items():
        alone = {name: arm} if arm.source is None else {name: arm, arm.source: arms[arm.source]}
        lines.append(f"{name}: {makespan(alone, seconds, 10**6) / unit:.1f}")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe")
    parser.add_argument(
        "--data", help="another data set of the same shape, such as synthetic, where it is not here"
    )
    parser.add_argument("--step", type=float, help="seconds of a step, measured elsewhere")
    parser.add_argument(
        "--example",
        type=float,
        default=0.0,
        help="seconds of testing an example, measured elsewhere",
    )
    options = parser.parse_args(arguments)
    overrides = []
    if options.data == "synthetic":
        sizes = "train: 50000, test: 10000, valid: 5000, classes: 10"
        overrides = [f"--data={{name: synthetic, image_shape: [3, 32, 32], {sizes}}}"]
    plans = plan(read(options.recipe, overrides))
    # Steps may have been measured on the machine that is asked about.
    measure = Measure.of(plans) if options.step is None else Measure(options.step, options.example)
    arms, seconds = traced(plans, measure)
    dense = seconds[next(iter(arms.values())).asks[0].works[0]]
    print(
        f"a step takes {measure.step * 1000:.1f} ms, testing an example "
        f"{measure.example * 1000:.2f} ms, a dense training {dense / 60:.1f} minutes"
    )
    print(
        f"all of it: {sum(seconds.values()) * plans.recipe.replicates / dense:.1f} dense trainings"
    )
    print("with enough workers for all, in dense trainings:")
    print("; ".join(longest(arms, seconds, dense)))
    for replicates in sorted({1, plans.recipe.replicates}):
        print(f"\n{replicates} replicates", *table(arms, seconds, replicates, dense), sep="\n")


if __name__ == "__main__":
    main()
