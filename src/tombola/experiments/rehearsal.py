"""Rehearsal: what a run will do, found by letting its arms do it on a pool that trains nothing.

    plans -> the arms themselves -> [ a pool that only counts ] -> trainings, rounds -> estimate

The arms are those of a run, so whatever decides there how many trainings are needed decides here,
too: which are shared, which rounds are evaluated, where a search stops. What a training would have
learnt is drawn. That matters in one place: how far the partitions of a search agree decides how
many weights a round prunes. So such a run is rehearsed three times: with partitions that agree as
far as chance has it, in everything, and in as little as they can.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tombola.data.partitions import WHOLE
from tombola.experiments.driver import ArmRun
from tombola.experiments.estimate import Estimate, Measure
from tombola.experiments.feeds import feeds_of
from tombola.experiments.plans import Plans
from tombola.experiments.shared import Shared
from tombola.folder.runs import Run
from tombola.ground.endings import End
from tombola.ground.seeds import derive
from tombola.ground.settings import Schedule
from tombola.ground.types import Mask, State
from tombola.masks.digests import digest_json
from tombola.masks.masks import density, size
from tombola.models import flops
from tombola.records.records import Record
from tombola.schema import arms
from tombola.scores.context import Context, Score
from tombola.search.connectivity import POINTS, Line
from tombola.search.work import Cut, Pruned
from tombola.tasks.protocol import Metrics
from tombola.tickets import Ticket
from tombola.training.during import driver_class
from tombola.training.jobs import Job, Measured, Trained, course

Key = tuple[str, int]  # an arm, and a replicate
Agreement = Literal["chance", "all", "least"]

# A rehearsal takes at most so many weights of a model, evenly; the counts are as good.
LARGEST = 300_000
_SECONDS = 20.0  # of a processor; a longer rehearsal is cut short and says so


class _EnoughError(BaseException):
    """The rehearsal takes too long; no failure of the arm under way, which must not catch it."""


@dataclass(frozen=True)
class Rehearsed:
    """What arms would still do.

    Attributes:
        trainings: Those that are not done yet, each once.
        steps: Their optimiser steps.
        examples: Their training examples, with repetitions, and those of scores.
        flops: What all of these need, with all weights.
        looked_at: Validation examples that are looked at while they train.
        evaluations: Tickets that are tested.
        lines: Measured lines between two trainings.
        scored: Training examples that scores go through.
        tickets: Tickets that are written.
        candidates: Masks of partitions that are written.
        starts: States that tickets start from.
        rounds: Of every arm the number of its rounds and the density after the last one.
        cut_short: Whether there is more than could be rehearsed: there was no time, or an arm
            failed.
    """

    trainings: int = 0
    steps: int = 0
    examples: int = 0
    flops: int = 0
    looked_at: int = 0
    evaluations: int = 0
    lines: int = 0
    scored: int = 0
    tickets: int = 0
    candidates: int = 0
    starts: int = 0
    rounds: Mapping[str, tuple[int, float | None]] = field(default_factory=dict)
    cut_short: bool = False

    def times(self, replicates: int) -> Rehearsed:
        """Return what this many such replicates would do."""
        counts: dict[str, Any] = self._counts()
        for name in counts:
            counts[name] *= replicates
        return replace(self, **counts)

    def plus(self, further: Rehearsed) -> Rehearsed:
        """Return what both together would do."""
        counts: dict[str, Any] = self._counts()
        for name, value in further._counts().items():
            counts[name] += value
        rounds = dict(further.rounds) | dict(self.rounds)
        cut_short = self.cut_short or further.cut_short
        return replace(self, **counts, rounds=rounds, cut_short=cut_short)

    def _counts(self) -> dict[str, int]:
        # By the exact type: a bool is an int, too.
        return {name: value for name, value in vars(self).items() if type(value) is int}


def rehearse(
    plans: Plans,
    todo: Sequence[Key],
    initial: Callable[[Iterable[int]], Mapping[tuple[int, bool], State]],
    run: Run | None = None,
    agreement: Agreement = "chance",
) -> Rehearsed:
    """Let arms do what they would do in a run, without training anything.

    Args:
        plans: What the arms work with.
        todo: Arms and replicates to drive, and those whose rounds they need.
        initial: Gives the states that replicates start from, see `shared.Shared`.
        run: The run so far; a new one if not given.
        agreement: How far the partitions of a search agree on what they prune.
    """
    rehearsed = Rehearsed()
    left = _SECONDS
    for replicate, number in _representatives(plans, todo, run).items():
        arms_of_replicate = [key for key in todo if key[1] == replicate]
        rehearsal = _Rehearsal(plans, arms_of_replicate, initial([replicate]), run, agreement)
        # Not from the beginning: to build a large model and count its FLOPs takes as long.
        began = time.process_time()
        rehearsed = rehearsed.plus(rehearsal.drive(left).times(number))
        left -= time.process_time() - began
        if rehearsed.cut_short:
            break
    return rehearsed


def estimate(
    plans: Plans,
    todo: Sequence[Key],
    initial: Callable[[Iterable[int]], Mapping[tuple[int, bool], State]],
    run: Run | None,
    workers: int,
) -> Estimate:
    """Estimate how many trainings a run needs and how long they take.

    Args:
        plans: What the arms work with.
        todo: Arms and replicates to drive.
        initial: Gives the states that replicates start from.
        run: The run so far; a new one if not given.
        workers: Number of workers.
    """
    expected = rehearse(plans, todo, initial, run)
    trainings = [expected.trainings]
    # Two further rehearsals give the bounds where agreement decides how many rounds there are.
    if any(plans.recipe.arm(name).varies for name, _ in todo):
        for agreement in ("least", "all"):
            trainings.append(rehearse(plans, todo, initial, run, agreement).trainings)
    recipe = plans.recipe
    until = recipe.until
    rounds_known = until.accuracy_drop is None or until.rounds is not None
    steps_per_epoch = plans.task.steps_per_epoch(recipe.training.batch_size)
    return Estimate(
        steps=expected.steps,
        trainings=expected.trainings,
        fewest=min(trainings),
        most=max(trainings),
        seconds=_seconds(plans, expected) / workers,
        bounded=rounds_known and not expected.cut_short,
        cut_short=expected.cut_short,
        epochs=Schedule.of(recipe.training, steps_per_epoch).steps / steps_per_epoch,
        bytes=_bytes(plans, todo, expected),
        rounds=expected.rounds,
        waits=recipe.training.patience is not None,
        examples=expected.examples,
        flops=expected.flops,
    )


def _seconds(plans: Plans, expected: Rehearsed) -> float:
    """Return the processor seconds of what is expected, from a few measured steps."""
    if not expected.trainings:
        return 0.0
    measured, task = Measure.of(plans), plans.task
    train, valid, test = (task.measures(WHOLE, split) for split in ("train", "valid", "test"))
    per_evaluation = train + valid + test
    examples = expected.looked_at
    examples += expected.evaluations * per_evaluation + expected.lines * POINTS * test
    # A score that needs data goes forward and back, as a step does.
    steps = expected.steps + expected.scored / plans.recipe.training.batch_size
    return steps * measured.step + examples * measured.example


def _representatives(plans: Plans, todo: Sequence[Key], run: Run | None) -> dict[int, int]:
    """Return the replicates to rehearse, each with the number of replicates that it stands for."""
    replicates = list(dict.fromkeys(replicate for _, replicate in todo))
    # Skew leaves out other examples in every replicate, and in a run that has begun each replicate
    # may have got to another point.
    alike = plans.recipe.data.skew is None and (run is None or not run.begun)
    if alike and replicates:
        return {replicates[0]: len(replicates)}
    return dict.fromkeys(replicates, 1)


class _Rehearsal:
    """One replicate, rehearsed."""

    def __init__(
        self,
        plans: Plans,
        todo: Sequence[Key],
        initial: Mapping[tuple[int, bool], State],
        run: Run | None,
        agreement: Agreement,
    ) -> None:
        thinned = _Thinned(plans.mask)
        mask = thinned.state(plans.mask)
        total = round(plans.total * size(mask) / size(plans.mask))
        self._plans = replace(plans, mask=mask, total=total)
        # Thinned jobs have other digests than those of the run, so what it has done is not found.
        known = run if thinned.complete else None
        per_example = {}
        for outputs, layers in plans.flops(todo).items():
            per_example[outputs] = flops.training(layers)
        self._pool = _CountingPool(self._plans, known, per_example, agreement)
        self._folder = _UnwrittenFolder(run, thinned, todo)
        feeds = feeds_of(plans.recipe.arms, todo)
        self._shared = Shared(
            self._plans,
            self._pool,
            self._folder,
            _Silence(),
            origin={},
            initial={key: thinned.state(state) for key, state in initial.items()},
            flops={outputs: {} for outputs in per_example},
            feeds=feeds,
            todo=todo,
            stopped=threading.Event(),
        )
        self._todo = todo

    def drive(self, seconds: float) -> Rehearsed:
        """Drive the arms one after the other, for at most so many seconds of a processor."""
        self._pool.deadline = time.process_time() + seconds
        cut_short = False
        # Each after the one that it follows: there are no threads here in which it could wait.
        order = arms.order(self._plans.recipe.arms)
        rounds: dict[str, tuple[int, float | None]] = {}
        try:
            for name, replicate in sorted(self._todo, key=lambda key: order.index(key[0])):
                self._pool.arm = name
                ArmRun(self._shared, name, replicate).run()
                rounds[name] = self._folder.reached(name)
        except _EnoughError:
            cut_short = True
        folder = self._folder
        return replace(
            self._pool.counted(),
            tickets=folder.tickets,
            candidates=folder.masks,
            starts=len(folder.starts),
            rounds=rounds,
            # What an arm that failed would have gone on to do is not counted.
            cut_short=cut_short or folder.failed,
        )


class _Thinned:
    """Takes so few of a model's weights that a rehearsal is quick, the same of each state and
    mask.
    """

    def __init__(self, mask: Mask) -> None:
        # The same stride in each layer, so that layers keep their shares of the model.
        self._stride = max(1, math.ceil(size(mask) / LARGEST))
        self._names = tuple(mask)

    @property
    def complete(self) -> bool:
        """Whether it takes all weights, so that trainings have the digests of the run."""
        return self._stride == 1

    def state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights that a rehearsal takes."""
        if self.complete:
            return dict(state)
        thinned = {}
        for name in self._names:
            thinned[name] = state[name].flatten()[:: self._stride].clone()
        return thinned

    def ticket(self, ticket: Ticket) -> Ticket:
        """Return a ticket with these weights alone."""
        if self.complete:
            return ticket
        mask, rewind_point = self.state(ticket.mask), self.state(ticket.rewind_point)
        return replace(ticket, mask=mask, rewind_point=rewind_point)


class _CountingPool:
    """Counts what it is asked to train, and gives weights that nobody has trained."""

    def __init__(
        self,
        plans: Plans,
        run: Run | None,
        flops: Mapping[int, int],
        agreement: Agreement,
    ) -> None:
        self._plans, self._run = plans, run
        self._flops = flops  # of training on one example, by the number of outputs
        self._agreement = agreement
        self.deadline = math.inf  # by the clock of the process
        self._task = plans.task.digest
        self.arm = ""  # the one that is driven
        self.trained: dict[str, Rehearsed] = {}  # what is counted of each training
        self.tested: set[str] = set()
        self.lines: set[str] = set()
        self.cuts: dict[str, Rehearsed] = {}  # what is counted of each cut's scores

    def counted(self) -> Rehearsed:
        """Return what the pool was asked for, each piece of work once."""
        total = Rehearsed(evaluations=len(self.tested), lines=len(self.lines))
        for counted in (*self.trained.values(), *self.cuts.values()):
            total = total.plus(counted)
        return total

    def digest(self, job: Job) -> str:
        return job.digest(self._task)

    def run_all(self, jobs: list[Job]) -> list[Trained]:
        digests = [self.digest(job) for job in jobs]
        if len(jobs) == 1:
            return [self._train(jobs[0])]
        # Partitions that agree have drawn the same weights. These are the arm's own: in another arm
        # the same training learns something else. A training that occurs twice is still one.
        common_address = digest_json([self.arm, digests[0]])
        results = []
        for job, digest in zip(jobs, digests, strict=True):
            share = digests.index(digest) / len(jobs)
            results.append(self._train(job, common_address, share))
        return results

    def evaluate(self, job: Job) -> Future[tuple[Trained, Measured]]:
        self.tested.add(self.digest(job))
        nothing = Metrics(0.0, {metric.name: 0.0 for metric in self._plans.task.metrics})
        return _done((self._train(job), Measured(nothing, nothing, nothing, None)))

    def connect(self, first: Job, second: Job) -> Future[tuple[Trained, Trained, Line]]:
        self.lines.add(digest_json([self.digest(first), self.digest(second)]))
        flat = Line([0.0, 1.0], [0.0, 0.0], [0.0, 0.0])
        return _done((self._train(first), self._train(second), flat))

    def cut(self, work: Cut) -> Future[tuple[Pruned]]:
        task, jobs = self._plans.task, list(work.jobs)
        states = [trained.state for trained in self.run_all(jobs)]
        # By the weights that were drawn instead of the score: it decides which weights are pruned,
        # not how many.
        cut = work.cut([_dealt_out(digest_json(work.ranked_by))])
        context = Context(jobs[0].start, jobs[0].seed)
        mask, candidates = cut(work.mask, states, work.amount, context)
        samples = work.foreseen(task)
        per_example = self._flops[task.outputs(jobs[0].part)]
        self.cuts[work.digest(self._task)] = Rehearsed(
            scored=samples, examples=samples, flops=per_example * samples
        )
        return _done((Pruned(mask, candidates, samples),))

    def needs(self, who: Hashable, digests: Iterable[str]) -> None:
        pass

    def _train(self, job: Job, common_address: str | None = None, share: float = 0.0) -> Trained:
        """Count a training, unless it was done or counted before, and draw what it learns.

        Args:
            job: The training.
            common_address: Where partitions that agree draw from.
            share: How far, of 1, partitions that agree as little as they can are moved on.
        """
        # Checked here, as every round trains something.
        if time.process_time() > self.deadline:
            raise _EnoughError
        digest, task = self.digest(job), self._plans.task
        batches = task.batches(job.part, job.training.batch_size, job.seed)
        schedule, first, last = course(job, task, len(batches))
        examples = batches.examples(first, last)
        done = self._run is not None and self._run.has_trained(digest)
        if digest not in self.trained and not done:
            every = schedule.evaluate_every
            looks = (last - 1) // every - first // every + 1  # in between, and at the end
            self.trained[digest] = Rehearsed(
                trainings=1,
                steps=last - first,
                examples=examples,
                flops=self._flops[task.outputs(job.part)] * examples,
                looked_at=looks * task.size(job.part, "valid"),
            )

        # What the training learns; where the mask changes while it runs, its last mask, too.
        by_chance = common_address is None or self._agreement == "chance"
        learnt = self._weights(job, digest if by_chance else common_address, share)
        pruned = None
        if job.during is not None:
            driver = driver_class(job.during)
            pruned = driver.end(job.during, task.model, task.head, job.mask, learnt)
            for name, keep in pruned.items():
                learnt[name] = learnt[name] * keep
        return Trained(
            final={**job.start, **learnt},
            early=None,
            early_step=None,
            select="last",
            history=[],
            samples=examples,
            seconds=0.0,
            steps=last - first,
            mask=pruned,
            gathered=learnt,
        )

    def _weights(self, job: Job, address: str | None, share: float) -> dict[str, Tensor]:
        """Draw what a partition has learnt, so that it agrees with the others as asked."""
        draw = torch.Generator().manual_seed(derive(job.seed, "rehearsal", address))
        learnt = {}
        for name, keep in job.mask.items():
            # Above zero, so that no kept weight looks like a pruned one.
            values = torch.rand(keep.shape, generator=draw) + 1e-6
            if self._agreement == "least":
                values = _moved_on(values, keep, share)
            learnt[name] = (values * keep).to(job.start[name].dtype)
        return learnt


def _dealt_out(address: str) -> Score:
    """Make a score that deals each layer's magnitudes out among its kept weights.

    Another address deals them otherwise, as another score ranks the same weights otherwise;
    partitions that agree go on agreeing.
    """

    def score(state: State, mask: Mask, context: Context) -> dict[str, Tensor]:
        scores = {}
        for name, keep in mask.items():
            draw = torch.Generator().manual_seed(derive(context.seed, "dealt out", address, name))
            values = state[name].abs()
            kept = values[keep]
            values[keep] = kept[torch.randperm(len(kept), generator=draw)]
            scores[name] = values
        return scores

    return score


def _moved_on(values: Tensor, keep: Tensor, share: float) -> Tensor:
    """Rank a layer's kept weights and rotate the ranks by a share of them, so that other weights
    are the lowest.
    """
    number = int(keep.count_nonzero())
    ranks = torch.argsort(torch.argsort(values[keep]))
    moved = torch.zeros_like(values)
    moved[keep] = ((ranks + round(share * number)) % max(number, 1) + 1.0) / (number + 1)
    return moved


class _UnwrittenFolder:
    """A run folder in which nothing is written; what was done before is read from the real one."""

    def __init__(self, run: Run | None, thinned: _Thinned, todo: Sequence[Key]) -> None:
        self._run, self._thinned = run, thinned
        # Read before any arm is driven: what cannot be read is no failure of an arm.
        self._done = {key: [] if run is None else run.rounds_done(*key) for key in todo}
        self._last: Counter[str] = Counter()
        self._density: dict[str, float | None] = {}
        self.digest = ""
        self.tickets = self.masks = 0
        self.failed = False
        self.starts: set[str] = set()

    def reached(self, name: str) -> tuple[int, float | None]:
        """Return the number of an arm's rounds, and the density after the last one."""
        return self._last[name], self._density.get(name)

    def arm_digest(self, name: str) -> str:
        return name

    def definition(self, name: str) -> dict[str, Any]:
        return {"name": name}

    def record(self, arm: str, replicate: int, index: int) -> Record | None:
        return None if self._run is None else self._run.record(arm, replicate, index)

    def rounds_done(self, arm: str, replicate: int) -> list[Ticket]:
        done = self._done[arm, replicate]
        for index, ticket in enumerate(done, 1):
            self._reach(arm, index, ticket.mask)
        return [self._thinned.ticket(ticket) for ticket in done]

    def candidates(self, arm: str, replicate: int, index: int, _: Mask) -> list[dict[str, Tensor]]:
        assert self._run is not None
        mask = self._run.mask(arm, replicate, index)
        candidates = self._run.candidates(arm, replicate, index, mask)
        return [self._thinned.state(candidate) for candidate in candidates]

    def add_record(self, _: Record, *, anyway: bool = False) -> bool:  # noqa: ARG002
        return False

    def keep_ticket(self, arm: str, _: int, index: int, ticket: Ticket) -> str:
        self._reach(arm, index, ticket.mask)
        self.tickets += 1
        self.starts.add(ticket.rewind_digest)
        return ""

    def _reach(self, arm: str, index: int, mask: Mask) -> None:
        self._last[arm], self._density[arm] = index, density(mask)

    def keep_candidates(
        self, _arm: str, _replicate: int, _index: int, candidates: Sequence[Mask]
    ) -> None:
        self.masks += len(candidates)

    def keep_predictions(
        self, arm: str, replicate: int, index: int, predictions: NDArray[np.integer[Any]]
    ) -> None:
        pass

    def keep_tensors(
        self, arm: str, replicate: int, index: int, tensors: Mapping[str, Tensor]
    ) -> None:
        pass

    def log_error(self, text: str) -> None:
        pass

    def ended(self, _arm: str, _replicate: int, how: str, _end: End, _rounds: int) -> None:
        self.failed = self.failed or how == "failed"


class _Silence:
    """No progress output."""

    def label(self, digest: str, text: str) -> None:
        pass

    def result(self, record: Mapping[str, Any]) -> None:
        pass

    def say(self, text: str) -> None:
        pass


def _done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future


def _bytes(plans: Plans, todo: Sequence[Key], expected: Rehearsed) -> int:
    """Estimate the bytes of a run folder when the run is complete."""
    recipe, task = plans.recipe, plans.task
    state = sum(value.nbytes for value in task.model.state_dict().values())
    trained = state * (2 if task.size(WHOLE, "valid") else 1)  # the last and the early-stop state
    replicates = len({replicate for _, replicate in todo})
    with_tickets = [name for name, _ in todo if recipe.arms[name].has_tickets]
    # Of evaluations, by what the recipe keeps; the dense network of each replicate stays anyway.
    at_most = {
        "all": expected.evaluations,
        "best": 5 * len(with_tickets),
        "last": len(with_tickets),
        "none": 0,
    }
    kept = min(expected.evaluations, at_most[recipe.keep]) + replicates
    masks = (expected.tickets + expected.candidates) * size(plans.mask) / 8
    labels = task.labels("test")
    predictions = 0 if labels is None else expected.evaluations * len(labels)
    return int(masks + expected.starts * state + kept * trained + predictions)
