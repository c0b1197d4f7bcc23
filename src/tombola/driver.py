"""Driver: one arm of one replicate, from its rounds to its tickets and records.

plan -> [ search | another arm's tickets ] -> ticket -> evaluation -> record
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import threading
import traceback
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tombola import choosing, controls, flops, rates, seeds
from tombola.arms import starting
from tombola.comparisons import meets, reaches
from tombola.connectivity import Line
from tombola.errors import DiskError, InputError, InvariantError, TrainingError
from tombola.flops import Flops
from tombola.jobs import Job, Measured, Trained
from tombola.masks import count, density, empty_layers, intersect, size, unite
from tombola.metrics import Metric
from tombola.partitions import WHOLE, Partition
from tombola.plans import Plans, compared_at, replicate_seed
from tombola.rates import Amount, Count
from tombola.records import Cost, Record, costs_of
from tombola.search import Round, carried_on, find, find_at_once, find_gradually, rewound
from tombola.tasks.protocol import Metrics
from tombola.tickets import Ticket
from tombola.training import Schedule, stretched
from tombola.types import Mask, State

# What a record says of the ticket itself, whether it is evaluated or not.
_FACTS = (
    *("kept", "prunable", "total", "density", "density_total", "layers", "inference_flops"),
    *("mask_digest", "rewind_digest", "unmasked", "uncounted"),
    *("kept_fraction", "candidate_densities", "candidate_layers", "collapsed", "cut_seconds", "invariant_seconds"),
)


@runtime_checkable
class Display(Protocol):
    """What is told while arms run."""

    def label(self, digest: str, text: str) -> None:
        """Say what a training is for."""

    def result(self, record: Mapping[str, Any]) -> None:
        """Show a result."""

    def say(self, text: str) -> None:
        """Show a line."""


@dataclass(frozen=True, eq=False)
class Found:
    """What a round leaves for the arms that follow: the ticket, and the examples that its search saw.

    Attributes:
        job: The ticket: its mask, where it starts, and the steps that it has behind it there.
        samples: Training examples.
    """

    job: Job
    samples: int


class Feed:
    """The rounds of an arm as they come, for the arms that follow it."""

    def __init__(self) -> None:
        self._rounds: list[Found] = []
        self._changed = threading.Condition()
        self._failure: str | None = None

    def put(self, found: Found) -> None:
        """Give the next round."""
        with self._changed:
            self._rounds.append(found)
            self._changed.notify_all()

    def end(self, failure: str = "") -> None:
        """Say that no more come; with a failure the arms that follow are skipped."""
        with self._changed:
            self._failure = failure
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Found]:
        for index in itertools.count():
            with self._changed:
                while len(self._rounds) <= index and self._failure is None:
                    self._changed.wait()
                if len(self._rounds) <= index:
                    if self._failure:
                        raise SourceFailedError(self._failure)
                    return
                found = self._rounds[index]
            yield found


class SourceFailedError(Exception):
    """The arm that another one follows has failed."""


@runtime_checkable
class _Pool(Protocol):
    """What an arm asks of a pool: to have trainings done, kept and let go, see `executors.Pool`."""

    def digest(self, job: Job) -> str: ...
    def run_all(self, jobs: list[Job]) -> list[Trained]: ...
    def evaluate(self, job: Job) -> Future[tuple[Trained, Measured]]: ...
    def connect(self, one: Job, other: Job) -> Future[tuple[Trained, Trained, Line]]: ...
    def hold(self, digests: Iterable[str]) -> None: ...
    def let_go(self, digests: Collection[str]) -> None: ...
    def release(self, digests: Iterable[str]) -> None: ...


@runtime_checkable
class _Folder(Protocol):
    """Where an arm finds what it has done before, and writes down what it does, see `runs.RunFolder`."""

    @property
    def digest(self) -> str: ...
    def arm_digest(self, name: str, /) -> str: ...
    def definition(self, name: str, /) -> dict[str, Any]: ...
    def record(self, arm: str, replicate: int, index: int, /) -> Record | None: ...
    def rounds_done(self, arm: str, replicate: int, /) -> list[Ticket]: ...
    def candidates(self, arm: str, replicate: int, index: int, like: Mask, /) -> list[dict[str, Tensor]]: ...
    def add_record(self, record: Record, /, *, anyway: bool = False) -> bool: ...
    def keep_ticket(self, arm: str, replicate: int, index: int, ticket: Ticket, /) -> str: ...
    def keep_candidates(self, arm: str, replicate: int, index: int, candidates: Sequence[Mask], /) -> None: ...
    def keep_predictions(
        self, arm: str, replicate: int, index: int, predictions: NDArray[np.integer[Any]], /
    ) -> None: ...
    def log_error(self, text: str, /) -> None: ...
    def ended(self, arm: str, replicate: int, how: str, why: str, rounds: int, /) -> None: ...


@dataclass(frozen=True)
class Shared:
    """What all arms of a run share."""

    plans: Plans
    pool: _Pool
    folder: _Folder
    display: Display
    origin: Mapping[str, Any]
    initial: Mapping[tuple[int, bool], State]  # by replicate, and whether drawn anew
    flops: Mapping[int, Mapping[str, Flops]]  # of one example, by the number of outputs
    feeds: Mapping[tuple[str, int], Feed]
    todo: Collection[tuple[str, int]]  # arms and replicates that are driven
    stopped: threading.Event


@dataclass
class _Ticket:
    """A round on its way to its record; without a future nobody has decided yet that it is evaluated."""

    index: int
    job: Job
    facts: dict[str, Any]
    searched: dict[str, Cost]  # the trainings of the search up to here
    future: Future[tuple[Trained, Measured]] | None = None
    line: Future[tuple[Trained, Trained, Line]] | None = None
    record: Record | None = None  # of a round that was done before
    fresh: list[str] = field(default_factory=list)  # those of the search that the round before did not need

    @property
    def evaluated(self) -> bool:
        """Whether it is being evaluated, or was before."""
        return self.future is not None or (self.record is not None and bool(self.record["evaluated"]))

    @property
    def settled(self) -> bool:
        """Whether there is a result, or none is wanted."""
        return all(future is None or future.done() for future in (self.future, self.line))


class ArmRun:
    """Drives one arm of one replicate, and turns every round into a ticket and a record."""

    def __init__(self, shared: Shared, name: str, replicate: int) -> None:
        self.shared, self.name, self.replicate = shared, name, replicate
        self.plans, self.pool, self.folder = shared.plans, shared.pool, shared.folder
        self.recipe = self.plans.recipe
        self.arm = self.recipe.arms[name]
        self.seed = replicate_seed(self.recipe, replicate)
        self.whole = self.plans.whole(replicate)
        self.feed = shared.feeds[name, replicate]
        self._per_example = shared.flops[self.plans.task.outputs(WHOLE)]
        self._index = 0  # the round that is under way, for messages
        self._rounds = 0  # those that have a ticket
        self._waiting: list[_Ticket] = []
        self._last: _Ticket | None = None
        self._point: Job | None = None  # what tickets start from
        self._searched: dict[str, Cost] = {}
        self._evaluated: dict[int, list[Cost]] = {}
        self._headline = self.plans.task.metrics[0]
        self._valid: dict[int, float] = {}  # the headline on validation data, by round
        self._spent: list[tuple[int, str]] = []  # evaluations that are written down, by round
        self._results: dict[int, Record] = {}  # the records of evaluated rounds
        self._seen = 0  # rounds that the arm it follows has offered
        # Arms that train its tickets once more: each needs what the evaluation here gives, until its line is measured.
        followers = [self.recipe.arms[other] for other, k in shared.todo if k == replicate]
        self._again = sum(1 for other in followers if other.method == "reordered" and other.of == name)

    def run(self) -> str:
        """Run the arm to its end.

        Returns:
            "finished", "failed", "skipped", or "open" when the run was stopped; what an arm can meet is noted in the
            run folder and not raised.

        Raises:
            DiskError: Nothing more can be written; the run is to be stopped.
        """
        how, why = "finished", ""
        try:
            why = self._run()
        except DiskError:
            raise
        except SourceFailedError as error:
            how, why = "skipped", f"source failed: {error}"
        except (TrainingError, InvariantError, InputError) as error:
            how, why = "failed", f"round {self._index}: {error}"
        except Exception as error:  # an arm's own code, such as a score of the user's
            if self.shared.stopped.is_set():
                return "open"  # whatever went wrong did so because the run is being stopped
            self.folder.log_error(f"arm {self.name}, replicate {self.replicate}, round {self._index}\n"
                                  + traceback.format_exc())  # fmt: skip
            how, why = "failed", f"round {self._index}: {type(error).__name__}: {_line(error)} (more in errors.log)"
        if self.shared.stopped.is_set():
            return "open"
        if how != "finished":
            self._write_what_succeeded()
        self.feed.end("" if how == "finished" else f"arm {self.name}, replicate {self.replicate}")
        self.folder.ended(self.name, self.replicate, how, why, self._rounds)
        if why:
            self.shared.display.say(f"arm {self.name}, replicate {self.replicate}: {how}: {why}")
        return how

    def _run(self) -> str:
        initial = self.shared.initial[self.replicate, False]
        dense = Job(initial, self.plans.mask, self.recipe.training, self.seed, self.whole)
        point = self._rewind_point(dense)
        self._point = point
        self._begin(dense, point)
        if self.arm.method == "dense":
            self._train_long(dense)
            self._write_all()
            return ""
        done = self.folder.rounds_done(self.name, self.replicate)
        for index, ticket in enumerate(done, 1):
            self._take_up(index, ticket)
            if (stopped := self._stop(index, ticket.mask)) is not None:
                self._write_all()
                return self._with_missed(stopped)
        self._index = len(done)
        why = self._search(point, done) if self.arm.searches else self._follow(point, done)
        self._write_all()
        return self._with_missed(why)

    def _with_missed(self, why: str) -> str:
        """Add to why an arm ended that it was to be evaluated at densities which its rounds did not come to."""
        assert self._last is not None
        last = self._last.facts
        missed = ", ".join(f"{target:g}" for target in self.arm.evaluate_at or () if not reaches(last, target))
        told = f"no round reaches {missed} of evaluate_at; the last one leaves {last['density']:.4g}"
        return "; ".join(filter(None, (why, missed and told)))

    def _rewind_point(self, dense: Job) -> Job:
        """Return the training that tickets start from: the initial state, or the dense run's own at step k."""
        steps = self._behind()
        if not steps or self.arm.method == "dense":
            return dense
        point = self._run_all([replace(dense, last=steps)], "pretraining")[0].final
        return replace(dense, start=point, first=steps)

    def _begin(self, dense: Job, point: Job) -> None:
        """Have the dense network evaluated, or take up its record and what the arm has cost so far."""
        facts = self._facts(dense.mask, point, kept_fraction=None)
        self._add(_Ticket(0, dense, facts, {}, record=self.folder.record(self.name, self.replicate, 0)))

    def _take_up(self, index: int, ticket: Ticket) -> None:
        """Go through a round that was done before, as if it were found now."""
        record = self.folder.record(self.name, self.replicate, index)
        assert record is not None
        facts = {key: record[key] for key in _FACTS if key in record}
        searched = {cost.training: cost for cost in costs_of(record) if cost.role != "evaluation"}
        self._searched = searched if self.arm.by_itself else self._searched | searched
        start = self._start_of(ticket)
        ready = self._evaluation(index, start)
        self._offer(start, ready)
        self._add(_Ticket(index, ready, facts, dict(self._searched), record=record))

    def _start_of(self, ticket: Ticket) -> Job:
        """Return a ticket as the training that the next round of its search does."""
        first = ticket.origin.get("rewind_step", 0)
        training = self.plans.onward_training(self.arm)
        return Job(ticket.rewind_point, dict(ticket.mask), training, self.seed, self.whole, first)

    def _evaluation(self, index: int, job: Job) -> Job:
        """Return the training that evaluates a ticket: the recipe's own, whatever the search trained with."""
        if self.arm.method == "as_trained":  # no ticket is trained: the network that its source pruned is the result
            assert self._point is not None
            source = self.recipe.arms[self.arm.of or ""]
            [part] = self.plans.partitions(source, self.replicate)
            own = replace(self._point, training=self.plans.search_training(source), part=part)
            return replace(own, gradual=self.plans.schedules(source)[index - 1])
        if self.arm.method == "reordered":
            return self._reordered(job)
        return replace(job, training=self.recipe.training) if self.arm.training else job

    def _search(self, point: Job, done: list[Ticket]) -> str:
        """Search on from the rounds that are done, and keep each new one."""
        plans, arm = self.plans, self.arm
        partitions = plans.partitions(arm, self.replicate)
        first = len(done) + 1
        anew = arm.method in ("one_shot", "gradual")  # every round begins with the dense network
        job = self._start_of(done[-1]) if done and not anew else point
        job = replace(job, training=plans.search_training(arm)) if arm.training else job
        options: dict[str, Any] = {
            "run_all": self._run_all,
            "score": plans.scores(arm),
            "scope": plans.scope(arm),
            "scored": plans.scored(arm),
            "first": first,
            "allow_collapse": arm.allow_collapse,
        }
        amounts = itertools.islice(self._amounts(), len(done), None)
        if arm.method == "gradual":
            same = {key: options[key] for key in ("run_all", "first", "allow_collapse")}
            rounds = find_gradually(job, plans.schedules(arm)[len(done) :], part=partitions[0], **same)
        elif arm.method == "one_shot":
            rounds = find_at_once(job, partitions, amounts, **options)
        else:
            apart = arm.combine == "all_at_end"
            options["combine"] = unite if arm.combine == "any" else intersect
            options["after"] = rewound if arm.rewinds else carried_on(plans.onward_training(arm))
            if apart and done:
                options["candidates"] = self.folder.candidates(self.name, self.replicate, len(done), done[-1].mask)
            rounds = find(job, partitions, amounts, apart=apart, **options)
        before, parent = (job.mask, None) if not done else (done[-1].mask, done[-1].digest)
        while True:
            self._index += 1
            if arm.by_itself:
                self._searched = {of: cost for of, cost in self._searched.items() if cost.role == "pretraining"}
            try:
                found = next(rounds)
            except StopIteration as end:
                return end.value or ""
            parent = self._keep_round(found, before, parent, partitions)
            before = found.mask
            if (why := self._stop(found.index, found.mask)) is not None:
                return why
            self._write_done()

    def _follow(self, point: Job, done: list[Ticket]) -> str:
        """Make a control of each of another arm's tickets, after those that are done."""
        assert self.arm.of is not None
        parent = done[-1].digest if done else None
        before: Mask = point.mask
        for index, found in enumerate(self.shared.feeds[self.arm.of, self.replicate], 1):
            job, self._seen = self._control(point, found), index
            if index <= len(done) and not any(ticket.index == index for ticket in self._waiting):
                self._let_go_of_source(job)
            if index > len(done):
                self._index = index
                facts = {"kept_fraction": count(job.mask) / count(before), "collapsed": empty_layers(job.mask)}
                parent = self._keep_ticket(index, job, parent, [], facts)
                self._write_done()
            before = job.mask
        return ""

    def _control(self, point: Job, found: Found) -> Job:
        """Turn another arm's ticket into this arm's."""
        mask = found.job.mask
        if self.arm.method == "as_trained":
            return replace(point, mask=mask)
        if self.arm.method == "random_ticket":
            return replace(point, mask=controls.draw(mask, self.seed, self.plans.mask))
        if self.arm.method == "reinitialised":
            return replace(point, start=self.shared.initial[self.replicate, True], mask=mask, first=0)
        # All others start where the source's tickets do, with as many steps behind them.
        start, first = found.job.start, found.job.first
        if self.arm.method == "reordered":
            training = self.plans.onward_training(self.arm)
            return replace(point, start=start, mask=mask, first=first, training=training)
        start, mask = controls.shuffle(start, mask, self.seed, self.arm.shuffle, self.plans.mask)
        return replace(point, start=start, mask=mask, first=first)

    def _reordered(self, job: Job) -> Job:
        """Return a training in another order of the data: its augmentation and dropout are others, too."""
        return replace(job, seed=seeds.derive(self.seed, "reordered"))

    def _let_go_of_source(self, job: Job) -> None:
        """Let go of what the source's evaluation of a ticket gave: it was held for this arm when it was offered."""
        if self.arm.method == "reordered":
            self.pool.let_go([self.pool.digest(job)])

    def _behind(self) -> int:
        """Steps that its tickets have behind them when they start."""
        return self.recipe.rewind if starting(self.arm, self.recipe.arms).rewinds else 0

    def _train_long(self, dense: Job) -> None:
        """Train the dense network as long as another arm's whole search and the evaluation of its last ticket."""
        if self.arm.as_long_as is None:
            return
        rounds = list(self.shared.feeds[self.arm.as_long_as, self.replicate])
        if not rounds:
            return
        training, task = self.recipe.training, self.plans.task
        examples = task.size(self.whole, "train")
        own = self._schedule(dense).steps * examples / task.steps_per_epoch(training.batch_size, self.whole)
        self._index = len(rounds)
        # The last ticket is evaluated from its rewind point on.
        rewinds = self.recipe.arms[self.arm.as_long_as].rewinds
        full = Schedule.of(training, task.steps_per_epoch(training.batch_size)).steps
        last = 1 - (self.recipe.rewind / full if rewinds else 0)
        job = replace(dense, training=stretched(training, last + rounds[-1].samples / own))
        facts = self._facts(dense.mask, job, kept_fraction=None)
        record = self.folder.record(self.name, self.replicate, self._index)
        self._add(_Ticket(self._index, job, facts, {}, record=record))

    def _amounts(self) -> Iterable[Amount]:
        if self.arm.match is None:
            return self.plans.amounts(self.arm)
        scope = self.plans.scope(self.arm)
        source = self.shared.feeds[self.arm.match.arm, self.replicate]
        return (Count(rates.kept_by_group(found.job.mask, scope)) for found in source)

    def _run_all(self, jobs: list[Job], role: str = "search") -> list[Trained]:
        for number, job in enumerate(jobs, 1):
            of = f", partition {number} of {len(jobs)}" if len(jobs) > 1 else ""
            self._label(job, f"round {self._index}{of}")
        trained = self.pool.run_all(jobs)
        for job, one in zip(jobs, trained, strict=True):
            cost = self._cost(role, job, one)
            self._searched[cost.training] = cost
        return trained

    def _cost(self, role: str, job: Job, trained: Trained) -> Cost:
        per_example = self.shared.flops[self.plans.task.outputs(job.part)]
        return Cost(
            role=role,
            training=self.pool.digest(job),
            samples=trained.samples,
            seconds=trained.seconds,
            steps=trained.steps,
            flops=flops.training(per_example) * trained.samples,
            flops_sparse=_sparse_flops(per_example, job, trained),
            process_seconds=trained.process_seconds,
            peak_bytes=trained.peak_bytes,
        )

    def _label(self, job: Job, what: str) -> None:
        self.shared.display.label(self.pool.digest(job), f"replicate {self.replicate} · {self.name} · {what}")

    def _facts(self, mask: Mask, job: Job, **more: Any) -> dict[str, Any]:
        """Say what a ticket is, for its record."""
        left_out = {"unmasked": self.plans.unmasked, "uncounted": self.plans.task.uncounted}
        more |= {name: value for name, value in left_out.items() if value}
        return {
            "kept": count(mask),
            "prunable": size(mask),
            "total": self.plans.total,
            "density": density(mask),
            "density_total": density(mask, self.plans.total),
            "layers": {name: [int(keep.count_nonzero()), keep.numel()] for name, keep in mask.items()},
            "inference_flops": [flops.inference(self._per_example), flops.inference(self._per_example, mask)],
            "mask_digest": job.mask_digest,
            "rewind_digest": job.start_digest,
            "cut_seconds": 0.0,
            "invariant_seconds": 0.0,
        } | more

    def _keep_round(self, found: Round, before: Mask, parent: str | None, partitions: list[Partition]) -> str:
        """Write a round's ticket and candidates, and offer it to be evaluated; returns the ticket's digest."""
        facts = {
            "kept_fraction": count(found.mask) / count(before),
            "candidate_densities": [density(candidate) for candidate in found.candidates],
            "candidate_layers": {
                name: [int(candidate[name].count_nonzero()) for candidate in found.candidates] for name in found.mask
            },
            "collapsed": found.collapsed,
            "cut_seconds": found.cut_seconds,
            "invariant_seconds": found.invariant_seconds,
        }
        if len(found.candidates) > 1:
            self.folder.keep_candidates(self.name, self.replicate, found.index, found.candidates)
        digest = self._keep_ticket(found.index, found.job, parent, partitions, facts)
        # What was learnt is in the ticket now. Trainings of the dense mask may serve other arms.
        evaluated = {cost.training for costs in self._evaluated.values() for cost in costs}
        evaluated |= {self.pool.digest(ticket.job) for ticket in self._waiting if ticket.evaluated}
        spent = {self.pool.digest(job) for job in found.jobs if count(job.mask) < count(self.plans.mask)}
        self.pool.release(spent - evaluated)
        return digest

    def _keep_ticket(
        self, index: int, job: Job, parent: str | None, partitions: list[Partition], facts: dict[str, Any]
    ) -> str:
        facts = self._facts(job.mask, job) | facts
        origin = dict(self.shared.origin) | {
            "arm": self.name,
            "method": self.folder.definition(self.name),
            "round": index,
            "replicate": self.replicate,
            "rewind_step": job.first,
            "seeds": {"recipe": self.recipe.seed, "replicate": self.seed},
            "partitions": [part.describe() for part in partitions],
            "inference_flops": facts["inference_flops"],
            "parent": parent,
        }
        ticket = Ticket(job.mask, job.start, origin, self.plans.total)
        digest = self.folder.keep_ticket(self.name, self.replicate, index, ticket)
        ready = self._evaluation(index, job)
        self._offer(job, ready)
        self._add(_Ticket(index, ready, facts, dict(self._searched)))
        return digest

    def _offer(self, job: Job, ready: Job) -> None:
        """Give a round to the arms that follow; those that train it once more need what its evaluation gives."""
        if self._again:
            self.pool.hold([self.pool.digest(ready)] * self._again)
        self.feed.put(Found(job, sum(cost.samples for cost in self._searched.values())))
        self._rounds += 1

    def _add(self, ticket: _Ticket) -> None:
        """Take a round in, and have those evaluated of which that is certain now."""
        before, self._last = self._last, ticket
        ticket.fresh = [of for of in ticket.searched if before is None or of not in before.searched]
        self._waiting.append(ticket)
        self._release_spent()
        targets = self.arm.evaluate_at
        if ticket.index == 0 or not targets or self.arm.method == "dense":
            self._evaluate(ticket)
            return
        assert before is not None
        crossed = [target for target in targets if reaches(ticket.facts, target) and not reaches(before.facts, target)]
        if crossed:
            if not all(meets(ticket.facts, target) for target in crossed):
                self._evaluate(before)
            self._evaluate(ticket)

    def _evaluate(self, ticket: _Ticket) -> None:
        """Have a ticket trained on the full data and tested, unless that was done before."""
        if not ticket.evaluated:
            self._label(ticket.job, f"round {ticket.index}, evaluation" if ticket.index else "dense")
            self.pool.hold([self.pool.digest(ticket.job)])  # another arm may have the same training, and done with it
            ticket.future = self.pool.evaluate(ticket.job)
            if self.arm.method == "reordered":
                one, other = self._ends(ticket)
                self._label(other, f"round {ticket.index}, another order")
                ticket.line = self.pool.connect(one, other)

    def _ends(self, ticket: _Ticket) -> tuple[Job, Job]:
        """Return the two trainings of a ticket, the source's first; of round 0 those from where its tickets start."""
        assert self._point is not None
        job = ticket.job if ticket.index else self._point
        return replace(job, seed=self.seed), self._reordered(job)

    def _stop(self, index: int, mask: Mask) -> str | None:
        """Return why the search stops after this round (nothing to say: an empty text), ``None`` to go on."""
        until = self.recipe.until
        if self.arm.source is not None:
            return None  # it ends when the arm that it follows ends
        if until.accuracy_drop is not None:
            self._write_until(index)
            if not self._passes(index):
                return self._dropped(index, until.accuracy_drop)
        if until.rounds is not None and index >= until.rounds:
            return ""
        goals = [until.density] if until.density is not None else []
        if until.density_total is not None:
            goals.append(1 - (1 - until.density_total) * self.plans.total / size(mask))
        reached = {"density": density(mask), "prunable": size(mask), "layers": mask}
        return "" if any(reaches(reached, goal) for goal in goals) else None

    def _passes(self, index: int) -> bool | None:
        """Whether a ticket is as accurate as the recipe asks, on validation data; ``None`` where it does not ask."""
        if self.recipe.until.accuracy_drop is None:
            return None
        # Differences of counts: without the little more, 0.97 would be more than 0.01 below 0.98.
        drop = self._headline.sign * (self._valid[0] - self._valid[index])
        return drop <= self.recipe.until.accuracy_drop + 1e-9

    def _dropped(self, index: int, drop: float) -> str:
        """Say that a ticket is worse than the recipe allows, and which one is the result."""
        metric = self._headline
        dense, ticket, most = (_told(metric, value) for value in (self._valid[0], self._valid[index], drop))
        side = "below" if metric.higher else "above"
        result = f"round {index - 1} is the result" if index > 1 else "no ticket passes"
        return (
            f"validation {metric.title} {ticket} in round {index} is more than {most} {side} dense ({dense}): {result}"
        )

    def _worth(self, metrics: Metrics) -> float:
        return metrics.values[self._headline.name]

    def _measured(self, which: str, metrics: Metrics | None) -> dict[str, float | None]:
        """Say what was measured on a split, for a record: each metric of the task, then the loss."""
        names = [*(metric.name for metric in self.plans.task.metrics), "loss"]
        return {f"{which}_{name}": None if metrics is None else metrics.of(name) for name in names}

    def _write_what_succeeded(self) -> None:
        """Write the records of tickets whose evaluation succeeds, though the arm has failed."""
        for ticket in self._waiting:
            with contextlib.suppress(Exception):  # what this evaluation met is told already, or follows from it
                self._write(ticket)

    def _write_done(self) -> None:
        """Write the records that are certain, as far as they follow each other; the last round's may come to more."""
        while self._waiting and self._waiting[0] is not self._last and self._waiting[0].settled:
            self._write(self._waiting.pop(0))

    def _write_until(self, index: int) -> None:
        """Wait for the evaluations up to a round and write their records."""
        while self._waiting and self._waiting[0].index <= index:
            self._write(self._waiting.pop(0))

    def _write_all(self) -> None:
        while self._waiting:
            self._write(self._waiting.pop(0))

    def _write(self, ticket: _Ticket) -> None:
        """Write the record of a ticket: its evaluation, or that there is none."""
        self._index, under_way = ticket.index, self._index
        result = ticket.future.result() if ticket.future is not None else None
        line = ticket.line.result() if ticket.line is not None else None
        self._index = under_way
        if 0 < ticket.index <= self._seen:
            self._let_go_of_source(self._ends(ticket)[0])
        if result is None and ticket.record is not None:
            self._recall(ticket, ticket.record)
            return
        digest = self.pool.digest(ticket.job)
        new = [ticket.searched[of] for of in ticket.fresh]
        if result is not None:
            done = [(ticket.job, result[0])]
            if line is not None:
                done += zip(self._ends(ticket), line[:2], strict=True)
            costs = [self._cost("evaluation", job, trained) for job, trained in done]
            self._evaluated[ticket.index] = list({cost.training: cost for cost in costs}.values())
            new += self._evaluated[ticket.index]
        measured = None if result is None else result[1]
        valid = None if measured is None else measured.valid
        record: dict[str, Any] = {
            "arm": self.name,
            "run_digest": self.folder.digest,
            "arm_digest": self.folder.arm_digest(self.name),
            "replicate": self.replicate,
            "round": ticket.index,
            **ticket.facts,
            "by_itself": self.arm.by_itself,
            "evaluated": result is not None,
            **self._measured("test", None if measured is None else measured.test),
            **self._measured("valid", valid),
            **self._measured("train", None if measured is None else measured.train),
            "early_stop_step": result and result[0].early_step,
            "evaluate_every": self._schedule(ticket.job).evaluate_every,
            "curve": result and _curve(result[0], self.plans.task.metrics),
            "distance": result and _distance(ticket.job, result[0]),
            f"test_{self._headline.name}_early": measured and measured.early and self._worth(measured.early),
            "selected": result and self._selected(result[0].select),
            "training_digest": result and digest,
            **self._costs(ticket),
            "round_seconds": sum(cost.seconds for cost in new),
            "costs": [cost.plain() for cost in new],
        }
        if self.recipe.profile is not None:
            record |= {"profile": self.recipe.profile.name, "lifted": list(self.recipe.profile.lifted)}
        if self.recipe.data.skew is not None:
            record["class_examples"] = self._class_examples
        if self.arm.method == "reordered":
            record |= {"line": line and line[2].plain(), "barrier": line and line[2].barrier}
        if valid:
            self._valid[ticket.index] = self._worth(valid)
        record["passes"] = self._passes(ticket.index)
        if measured and measured.test.predictions is not None:
            predictions = measured.test.predictions.cpu().numpy()
            self.folder.keep_predictions(self.name, self.replicate, ticket.index, predictions)
        if self.folder.add_record(record):
            self.shared.display.result(record)
        if result is not None:
            self._results[ticket.index] = record
        if result is not None and ticket.index and self.recipe.keep != "all":
            self._spent.append((ticket.index, digest))
        self._release_spent()

    @functools.cached_property
    def _class_examples(self) -> list[int]:
        """Count the training examples that skew leaves of each class."""
        task = self.plans.task
        labels, classes = task.labels("train"), task.classes
        assert labels is not None
        assert classes is not None
        left = self.plans.searched(self.replicate).examples
        counts: list[int] = labels[list(left or ())].bincount(minlength=classes).tolist()
        return counts

    def _costs(self, ticket: _Ticket) -> dict[str, float]:
        """Add up what a ticket cost as if the arm ran alone: its search's trainings and its evaluations, each once."""
        earlier = [costs for index, costs in self._evaluated.items() if index <= ticket.index]
        chosen = earlier[-1:] if self.arm.method == "dense" or self.arm.by_itself else earlier
        both = ticket.searched | {cost.training: cost for costs in chosen for cost in costs}
        return {
            "samples_seen": sum(cost.samples for cost in both.values()),
            "samples_seen_search": sum(cost.samples for cost in ticket.searched.values()),
            "seconds": sum(cost.seconds for cost in both.values()),
            "seconds_search": sum(cost.seconds for cost in ticket.searched.values()),
        }

    def _schedule(self, job: Job) -> Schedule:
        """Return a training's numbers in its own steps; its early-stop step is known to one evaluation interval."""
        task, size = self.plans.task, job.training.batch_size
        batches = task.steps_per_epoch(size, job.part)
        return Schedule.of(job.training, batches, batches / task.steps_per_epoch(size))

    def _release_spent(self) -> None:
        """Let evaluations go whose record is written, once the next round stands: it may need one for its search."""
        assert self._last is not None
        # By what is written down: the last round that was evaluated need not be the last one.
        there = [self._results[index] for index in sorted(self._results)]
        at = compared_at(self.recipe)
        kept = {record["training_digest"] for record in choosing.kept(self.recipe.keep, [there], at)}
        gone = [spent for spent in self._spent if spent[0] < self._last.index and spent[1] not in kept]
        self.pool.let_go([digest for _, digest in gone])
        self._spent = [spent for spent in self._spent if spent not in gone]

    def _recall(self, ticket: _Ticket, record: Record) -> None:
        """Take the result of a round that was done before; it costs more if earlier rounds were evaluated since."""
        index = ticket.index
        evaluated = [cost for cost in costs_of(record) if cost.role == "evaluation"]
        if record["evaluated"]:
            self._results[index] = record
        if evaluated:
            self._evaluated[index] = evaluated
        if (valid := record[f"valid_{self._headline.name}"]) is not None:
            self._valid[index] = valid
        costs = self._costs(ticket)
        changed: dict[str, Any] = {"passes": self._passes(index)} if record["evaluated"] else {}
        changed |= costs if costs["samples_seen"] > record["samples_seen"] else {}
        if {**record, **changed} != record:
            self.folder.add_record({**record, **changed}, anyway=True)

    def _selected(self, select: str) -> str:
        """Say which weights were tested, and what is not as it should be about their choice."""
        task = self.plans.task
        if task.leaks:
            return f"{select}, selected on test data"
        return select if task.size(WHOLE, "valid") else f"{select}, selected without validation data"


def _curve(trained: Trained, metrics: Sequence[Metric]) -> dict[str, list[float]]:
    """Return the evaluations of a training as columns, to six digits."""
    names = ("step", "valid_loss", *(f"valid_{metric.name}" for metric in metrics))
    return {name: [float(f"{entry[name]:.6g}") for entry in trained.history] for name in names}


def _sparse_flops(per_example: Mapping[str, Flops], job: Job, trained: Trained) -> int:
    """Return the training FLOPs that the kept weights alone would need; of gradual pruning, cut by cut."""
    if not trained.cuts:
        return flops.training(per_example, job.mask) * trained.samples
    sizes = {name: keep.numel() for name, keep in job.mask.items()}
    first, last = trained.cuts[0][0], job.first + trained.steps
    found = max(0, first - job.first) * flops.training(per_example)
    for (step, kept), after in itertools.pairwise([*trained.cuts, (last, {})]):
        counts = {name: (kept[name], size) for name, size in sizes.items()}
        found += (after[0] - step) * flops.training_at(per_example, counts)
    return found * trained.samples // trained.steps


def _distance(job: Job, trained: Trained) -> float:
    """Return how far the kept weights went from where they began: the root of their mean squared change."""
    mask = trained.mask or job.mask
    moved = [(trained.state[name] - job.start[name])[keep].double() for name, keep in mask.items()]
    number = sum(part.numel() for part in moved)
    return math.sqrt(sum(float(part.square().sum()) for part in moved) / max(number, 1))


def _told(metric: Metric, value: float) -> str:
    return f"{value:.2%}" if metric.fraction else metric.shown(value)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
