"""Driver: one arm of one replicate, from its rounds to its tickets and records.

    plan -> [ search | another arm's tickets ] -> ticket -> evaluation -> record

A round becomes a `_Ticket` that waits for its evaluation, while the search goes on. Records are
written in the order of the rounds.
"""

from __future__ import annotations

import contextlib
import threading
import traceback
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tombola.data.partitions import WHOLE
from tombola.evidence.comparisons import meets, reaches
from tombola.executors.pool import Promise
from tombola.experiments import describing
from tombola.experiments.accounts import Accounts
from tombola.experiments.feeds import Feed
from tombola.experiments.plans import Plans
from tombola.experiments.stopping import Stop
from tombola.ground import catalogue
from tombola.ground.endings import End
from tombola.ground.errors import (
    DiskError,
    InputError,
    InvariantError,
    SourceFailedError,
    TrainingError,
)
from tombola.ground.types import Mask, State
from tombola.masks.masks import count
from tombola.methods.setting import Found, Setting
from tombola.models.flops import Flops
from tombola.records import choosing
from tombola.records.results import ABSENT, Cost, Record, Result
from tombola.schema.arms import rewinds
from tombola.search.connectivity import Line
from tombola.search.rounds import Round
from tombola.search.work import Cut, Pruned
from tombola.tickets import Ticket
from tombola.training.jobs import Job, Measured, Trained, schedule_of
from tombola.training.statistics import untrained

# What a record says of the ticket itself, whether it is evaluated or not.
_FACTS = (
    "kept",
    "prunable",
    "total",
    "density",
    "density_total",
    "layers",
    "inference_flops",
    "mask_digest",
    "rewind_digest",
    "unmasked",
    "uncounted",
    "kept_fraction",
    "candidate_densities",
    "candidate_layers",
    "collapsed",
    "cut_seconds",
    "invariant_seconds",
)


@runtime_checkable
class Display(Protocol):
    """Progress output."""

    def label(self, digest: str, text: str) -> None:
        """Say what a training is for."""

    def result(self, record: Mapping[str, Any]) -> None:
        """Show a result."""

    def say(self, text: str) -> None:
        """Show a line."""


@runtime_checkable
class _Pool(Protocol):
    """What an arm asks of a pool: trainings to be done, kept and dropped, see `executors.Pool`."""

    def digest(self, job: Job) -> str: ...
    def run_all(self, jobs: list[Job]) -> Sequence[Trained]: ...
    def evaluate(self, job: Job) -> Promise[tuple[Trained, Measured]]: ...
    def connect(self, one: Job, other: Job) -> Promise[tuple[Trained, Trained, Line]]: ...
    def cut(self, work: Cut) -> Promise[tuple[Pruned]]: ...
    def needs(self, who: Hashable, digests: Iterable[str]) -> None: ...


@runtime_checkable
class _Folder(Protocol):
    """Where an arm finds what it did before and writes what it does, see `run_folder.RunFolder`."""

    @property
    def digest(self) -> str: ...
    def arm_digest(self, name: str, /) -> str: ...
    def definition(self, name: str, /) -> dict[str, Any]: ...
    def record(self, arm: str, replicate: int, index: int, /) -> Record | None: ...
    def rounds_done(self, arm: str, replicate: int, /) -> list[Ticket]: ...
    def candidates(
        self, arm: str, replicate: int, index: int, like: Mask, /
    ) -> list[dict[str, Tensor]]: ...
    def add_record(self, record: Record, /, *, anyway: bool = False) -> bool: ...
    def keep_ticket(self, arm: str, replicate: int, index: int, ticket: Ticket, /) -> str: ...
    def keep_candidates(
        self, arm: str, replicate: int, index: int, candidates: Sequence[Mask], /
    ) -> None: ...
    def keep_predictions(
        self, arm: str, replicate: int, index: int, predictions: NDArray[np.integer[Any]], /
    ) -> None: ...
    def log_error(self, text: str, /) -> None: ...
    def ended(self, arm: str, replicate: int, how: str, end: End, rounds: int, /) -> None: ...


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
    """A round on its way to its record.

    Attributes:
        index: The round.
        job: The training that evaluates it.
        facts: What its record says of the ticket itself.
        searched: The trainings of the search up to here, by their digests.
        future: Its evaluation; without one nobody has decided yet that it is evaluated.
        line: The line between two trainings of it, where the method measures one.
        ends: These two trainings.
        record: Its record, where the round was done before.
        fresh: Digests of the trainings that the search did not need before this round.
    """

    index: int
    job: Job
    facts: dict[str, Any]
    searched: dict[str, Cost]
    future: Promise[tuple[Trained, Measured]] | None = None
    line: Promise[tuple[Trained, Trained, Line]] | None = None
    ends: tuple[Job, Job] | None = None
    record: Record | None = None
    fresh: list[str] = field(default_factory=list)

    @property
    def evaluated(self) -> bool:
        """Whether it is being evaluated, or was before."""
        before = self.record is not None and bool(self.record["evaluated"])
        return before or self.future is not None

    @property
    def settled(self) -> bool:
        """Whether there is a result, or none is wanted."""
        promises = [promise for promise in (self.future, self.line) if promise is not None]
        return all(promise.done() for promise in promises)


class _Needs:
    """Which results of trainings an arm still needs; the pool drops what no arm needs.

    Args:
        shared: What all arms share.
        name: The arm.
        replicate: Its replicate.
    """

    def __init__(self, shared: Shared, name: str, replicate: int) -> None:
        self._pool, self._plans = shared.pool, shared.plans
        self._name, self._replicate = name, replicate
        self._retrains = self._plans.recipe.arm(name).retrains
        self._dense: set[str] = set()  # of the dense mask, which other arms may start from
        self._searching: set[str] = set()  # of the round that is under way
        self._evaluations: dict[int, str] = {}  # by round
        self._results: dict[int, Record] = {}  # the records of evaluated rounds
        # Arms that need what the evaluations here give until they have written their own records.
        self._retraining: list[str] = []
        for other, other_replicate in shared.todo:
            follower = self._plans.recipe.arms[other]
            follows = follower.source == name and other_replicate == replicate
            if follows and follower.retrains:
                self._retraining.append(other)

    def add_search(self, jobs: Sequence[Job]) -> None:
        """Need trainings for the round that is under way."""
        for job in jobs:
            pruned = count(job.mask) < count(self._plans.mask)
            (self._searching if pruned else self._dense).add(self._pool.digest(job))
        self._tell_pool()

    def end_search(self) -> None:
        """Need the trainings of a round no more: what was learnt is in its ticket."""
        self._searching.clear()
        self._tell_pool()

    def add_evaluation(self, index: int, job: Job) -> None:
        """Need the evaluation of a round."""
        self._evaluations[index] = self._pool.digest(job)
        self._tell_pool()

    def add_result(self, index: int, record: Record) -> None:
        """Take note of the record of an evaluated round."""
        self._results[index] = record

    def offer(self, index: int, job: Job) -> None:
        """Need the evaluation of a round for the arms that train its ticket once more.

        In their names, and before this arm can drop it: they may come late.
        """
        for other in self._retraining:
            self._pool.needs((other, self._replicate, index), [self._pool.digest(job)])

    def drop_source(self, index: int) -> None:
        """Drop the source's evaluation of a ticket: it was needed for this arm when the ticket
        was offered.
        """
        if self._retrains:
            self._pool.needs((self._name, self._replicate, index), [])

    def drop_evaluations(self, last: int) -> None:
        """Drop evaluations whose record is written, before the last round: that one may need its
        own for its search.
        """
        recipe = self._plans.recipe
        if recipe.keep == "all":
            return
        # By the records: the last round that was evaluated need not be the last one.
        records = [self._results[index] for index in sorted(self._results)]
        headline = self._plans.task.metrics[0]
        kept = set()
        for record in choosing.kept(recipe.keep, [records], recipe.compared_at, headline):
            kept.add(record["training_digest"])
        for index, digest in list(self._evaluations.items()):
            if index in self._results and 0 < index < last and digest not in kept:
                del self._evaluations[index]
        self._tell_pool()

    def _tell_pool(self) -> None:
        needed = self._dense | self._searching | set(self._evaluations.values())
        self._pool.needs((self._name, self._replicate), needed)


class ArmRun:
    """Drives one arm of one replicate, and turns every round into a ticket and a record."""

    def __init__(self, shared: Shared, name: str, replicate: int) -> None:
        self.shared, self.name, self.replicate = shared, name, replicate
        self.plans, self.pool, self.folder = shared.plans, shared.pool, shared.folder
        self.recipe = self.plans.recipe
        self.arm = self.recipe.arm(name)
        self.seed = self.plans.seed(replicate)
        self.full_partition = self.plans.full_partition(replicate)
        self.feed = shared.feeds[name, replicate]
        self._per_example = shared.flops[self.plans.task.outputs(WHOLE)]
        self._index = 0  # the round that is under way, for messages
        self._rounds = 0  # those that have a ticket
        self._waiting: list[_Ticket] = []
        self._last: _Ticket | None = None
        self._headline = self.plans.task.metrics[0]
        self._until = Stop(self.recipe.until, self.plans.total, self._headline)
        self._accounts = Accounts(
            self.plans.task,
            self.pool.digest,
            shared.flops,
            independent_tickets=self.arm.independent_tickets,
            cumulative=self.arm.has_tickets and not self.arm.independent_tickets,
        )
        self._needs = _Needs(shared, name, replicate)
        self._class_examples: Any = ABSENT
        if self.recipe.data.skew is not None:
            self._class_examples = describing.class_examples(self.plans, replicate)

    def run(self) -> str:
        """Run the arm to its end.

        Returns:
            "finished", "failed", "skipped", or "open" when the run was stopped. Errors of the arm
            are noted in the run folder and not raised.

        Raises:
            DiskError: Nothing more can be written; the run is to be stopped.
        """
        how, end = "finished", End()
        try:
            end = self._run()
        except DiskError:
            raise
        except SourceFailedError as error:
            how, end = "skipped", End("source", f"source failed: {error}")
        except (TrainingError, InvariantError, InputError) as error:
            how, end = "failed", End("error", f"round {self._index}: {error}", self._index)
        except Exception as error:  # an arm's own code, such as a score of the user's
            if self.shared.stopped.is_set():
                return "open"  # whatever went wrong did so because the run is being stopped
            how, end = "failed", self._own_error(error)
        if self.shared.stopped.is_set():
            return "open"
        title = f"arm {self.name}, replicate {self.replicate}"
        if how != "finished":
            self._write_what_succeeded()
        self.feed.end("" if how == "finished" else title)
        self.folder.ended(self.name, self.replicate, how, end, self._rounds)
        if end:
            self.shared.display.say(f"{title}: {how}: {end}")
        return how

    def _own_error(self, error: Exception) -> End:
        """Log an error that nobody foresaw, and say in one line what it was."""
        place = f"arm {self.name}, replicate {self.replicate}, round {self._index}"
        self.folder.log_error(f"{place}\n{traceback.format_exc()}")
        message = " ".join(str(error).split())
        what = f"{type(error).__name__}: {message}{catalogue.place_of(error)}"
        return End("error", f"round {self._index}: {what} (more in errors.log)", self._index)

    def _run(self) -> End:
        initial = self.shared.initial[self.replicate, False]
        dense = Job(initial, self.plans.mask, self.recipe.training, self.seed, self.full_partition)
        point = self._rewind_point(dense)
        self.setting = self._setting(point)
        self._begin(dense, point)
        done: list[Ticket] = []
        if self.arm.has_tickets:
            done = self.folder.rounds_done(self.name, self.replicate)
        # A run that continues may ask for less than was done before.
        for index, ticket in enumerate(done, 1):
            self._take_up(index, ticket)
            end = self._stop(index, ticket.mask)
            if end is not None:
                self._write_all()
                return self._with_missed(end)
        self._index = len(done)
        end = self._search(done)
        self._write_all()
        return self._with_missed(end)

    def _setting(self, point: Job) -> Setting:
        """Return what the method works with, with tickets that start where this training does."""
        anew = self.shared.initial[self.replicate, True] if self.arm.draws_anew else None
        return Setting.on(
            self.plans.ground(self.name, self.replicate),
            point=point,
            run_all=self._run_all,
            cut=self._cut,
            followed=self._offered(),
            candidates=self._candidates,
            drawn_anew=anew,
        )

    def _offered(self) -> Iterator[Found]:
        """Give the rounds of the arm that it follows as they come; none where it follows nobody."""
        if self.arm.source is None:
            return
        feed = self.shared.feeds[self.arm.source, self.replicate]
        for index, found in enumerate(feed, 1):
            waiting = any(ticket.index == index for ticket in self._waiting)
            if index <= self._rounds and not waiting:  # its record was written before
                self._needs.drop_source(index)
            yield found

    def _candidates(self) -> list[dict[str, Tensor]]:
        """Return where each partition stands after the last round that was done."""
        assert self._last is not None
        index, mask = self._last.index, self._last.job.mask
        return self.folder.candidates(self.name, self.replicate, index, mask)

    def _with_missed(self, end: End) -> End:
        """Add to the reason why an arm ended the densities of ``evaluate_at`` that its rounds did
        not come to.
        """
        assert self._last is not None
        facts = self._last.facts
        targets = self.arm.evaluate_at or ()
        missed = tuple(target for target in targets if not reaches(facts, target))
        return end.missing(missed, facts["density"])

    def _rewind_point(self, dense: Job) -> Job:
        """Return the training that tickets start from: the initial state, or the dense run's
        own at step k.
        """
        steps = self.recipe.rewind if rewinds(self.arm, self.recipe.arms) else 0
        if not steps or not self.arm.has_tickets:
            return dense
        point = self._run_all([replace(dense, last=steps)], "pretraining")[0].final
        return replace(dense, start=point, first=steps)

    def _begin(self, dense: Job, point: Job) -> None:
        """Have the dense network evaluated, or take up its record."""
        facts = self._facts(dense.mask, point) | {"kept_fraction": None}
        record = self.folder.record(self.name, self.replicate, 0)
        self._add(_Ticket(0, dense, facts, {}, record=record))

    def _take_up(self, index: int, ticket: Ticket) -> None:
        """Go through a round that was done before as if it were new."""
        record = self.folder.record(self.name, self.replicate, index)
        assert record is not None
        facts = {key: record[key] for key in _FACTS if key in record}
        self._accounts.recall_search(record)
        start = self.setting.after(ticket, self.arm.onward(self.setting))
        ready = self._evaluation(index, start)
        self._offer(start, ready)
        self._add(_Ticket(index, ready, facts, dict(self._accounts.searched), record=record))

    def _search(self, done: list[Ticket]) -> End:
        """Go on from the rounds that are done, and keep each new one."""
        rounds = self.arm.rounds(self.setting, done)
        mask = done[-1].mask if done else self.setting.point.mask
        parent = done[-1].digest if done else None
        while True:
            self._index += 1
            self._accounts.begin_round()
            try:
                found = next(rounds)
            except StopIteration as end:
                return End.of(end.value)
            self._index = found.index
            parent = self._keep_round(found, mask, parent)
            mask = found.mask
            end_now = self._stop(found.index, found.mask)
            if end_now is not None:
                return end_now
            self._write_done()

    def _run_all(self, jobs: list[Job], role: str = "search") -> Sequence[Trained]:
        for number, job in enumerate(jobs, 1):
            which = f", partition {number} of {len(jobs)}" if len(jobs) > 1 else ""
            self._label(job, f"round {self._index}{which}")
        self._needs.add_search(jobs)
        trained = self.pool.run_all(jobs)
        self._accounts.charge_search(jobs, trained, role)
        return trained

    def _cut(self, work: Cut) -> Pruned:
        """Have a cut made where the data is, and charge what its scores went through."""
        (pruned,) = self.pool.cut(work).result()
        self._accounts.charge_cut(work, pruned)
        return pruned

    def _label(self, job: Job, what: str) -> None:
        text = f"replicate {self.replicate} · {self.name} · {what}"
        self.shared.display.label(self.pool.digest(job), text)

    def _facts(self, mask: Mask, job: Job) -> dict[str, Any]:
        return describing.ticket_facts(self.plans, mask, job, self._per_example)

    def _keep_round(self, found: Round, before: Mask, parent: str | None) -> str | None:
        """Keep what a round gave and have it evaluated if that is wanted.

        Returns:
            The digest of its ticket; ``None`` for an arm that has none.
        """
        if not self.arm.has_tickets:
            facts = self._facts(found.mask, found.job) | {"kept_fraction": None}
            record = self.folder.record(self.name, self.replicate, found.index)
            self._add(_Ticket(found.index, found.job, facts, {}, record=record))
            return None
        if len(found.candidates) > 1:
            self.folder.keep_candidates(self.name, self.replicate, found.index, found.candidates)
        digest = self._keep_ticket(found, before, parent)
        self._needs.end_search()
        return digest

    def _keep_ticket(self, found: Round, before: Mask, parent: str | None) -> str:
        index, job = found.index, found.job
        facts = self._facts(job.mask, job) | describing.round_facts(found, before)
        origin = dict(self.shared.origin) | {
            "arm": self.name,
            "method": self.folder.definition(self.name),
            "round": index,
            "replicate": self.replicate,
            "rewind_step": job.first,
            "seeds": {"recipe": self.recipe.seed, "replicate": self.seed},
            "partitions": [part.describe() for part in self.arm.trained_on(self.setting)],
            "inference_flops": facts["inference_flops"],
            "parent": parent,
        }
        ticket = Ticket(job.mask, job.start, origin, self.plans.total)
        digest = self.folder.keep_ticket(self.name, self.replicate, index, ticket)
        ready = self._evaluation(index, job)
        self._offer(job, ready)
        self._add(_Ticket(index, ready, facts, dict(self._accounts.searched)))
        return digest

    def _evaluation(self, index: int, job: Job) -> Job:
        """Return the training that a ticket is evaluated by; of no step if it stays untrained."""
        evaluation = self.arm.evaluation(self.setting, index, job)
        if self.arm.evaluate == "untrained":
            return untrained(evaluation, self.plans.task.model)
        return evaluation

    def _offer(self, job: Job, ready: Job) -> None:
        """Give a round to the arms that follow, once they are sure to find its evaluation."""
        self._rounds += 1
        self._needs.offer(self._rounds, ready)
        self.feed.put(Found(job, self._accounts.samples))

    def _add(self, ticket: _Ticket) -> None:
        """Add a round, and have those evaluated that are now certain to need it."""
        before, self._last = self._last, ticket
        ticket.ends = self.arm.line(self.setting, ticket.index, ticket.job)
        known = {} if before is None else before.searched
        ticket.fresh = [digest for digest in ticket.searched if digest not in known]
        self._waiting.append(ticket)
        self._needs.drop_evaluations(ticket.index)
        targets = self.arm.evaluate_at
        if before is None or ticket.index == 0 or not targets:
            self._evaluate(ticket)
            return
        # A round that jumps over a target is evaluated, and so is the one on its other side.
        crossed = []
        for target in targets:
            if reaches(ticket.facts, target) and not reaches(before.facts, target):
                crossed.append(target)
        if crossed:
            if not all(meets(ticket.facts, target) for target in crossed):
                self._evaluate(before)
            self._evaluate(ticket)

    def _evaluate(self, ticket: _Ticket) -> None:
        """Have a ticket trained on the full data and tested, unless that was done before."""
        if ticket.evaluated:
            return
        self._label(ticket.job, f"round {ticket.index}, evaluation" if ticket.index else "dense")
        self._needs.add_evaluation(ticket.index, ticket.job)
        ticket.future = self.pool.evaluate(ticket.job)
        if ticket.ends is not None:
            self._label(ticket.ends[1], f"round {ticket.index}, trained once more")
            ticket.line = self.pool.connect(*ticket.ends)

    def _stop(self, index: int, mask: Mask) -> End | None:
        """Return why the search stops after this round, ``None`` to go on."""
        if self.arm.source is not None:
            return None  # it ends when the arm that it follows ends
        return self._until.after(index, mask, self._write_until)

    def _write_what_succeeded(self) -> None:
        """Write the records of tickets whose evaluation succeeds, though the arm has failed."""
        for ticket in self._waiting:
            # why this evaluation failed was said before, or follows from it
            with contextlib.suppress(Exception):
                self._write(ticket)

    def _write_done(self) -> None:
        """Write the records that are certain, as far as they follow each other; the last
        round's may come to more.
        """
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
        # A failure in here belongs to this round, not to the one under way.
        self._index, under_way = ticket.index, self._index
        result = ticket.future.result() if ticket.future is not None else None
        line = ticket.line.result() if ticket.line is not None else None
        self._index = under_way
        self._needs.drop_source(ticket.index)
        if result is None and ticket.record is not None:
            self._recall(ticket, ticket.record)
            return
        record = self._result(ticket, result, line).to_dict()
        if result is not None and result[1].test.predictions is not None:
            predictions = result[1].test.predictions.cpu().numpy()
            self.folder.keep_predictions(self.name, self.replicate, ticket.index, predictions)
        if self.folder.add_record(record):
            self.shared.display.result(record)
        if result is not None:
            self._needs.add_result(ticket.index, record)
        assert self._last is not None
        self._needs.drop_evaluations(self._last.index)

    def _result(
        self,
        ticket: _Ticket,
        result: tuple[Trained, Measured] | None,
        line: tuple[Trained, Trained, Line] | None,
    ) -> Result:
        """Put together what the record of a ticket says, and charge its evaluation."""
        trained, measured = (None, None) if result is None else result
        new_costs = [ticket.searched[digest] for digest in ticket.fresh]
        if trained is not None:
            trainings = [(ticket.job, trained)]
            if line is not None and ticket.ends is not None:
                trainings += zip(ticket.ends, line[:2], strict=True)
            new_costs += self._accounts.charge_evaluation(ticket.index, trainings)
        task, profile = self.plans.task, self.recipe.profile
        headline = self._headline.name
        valid = None if measured is None else measured.valid
        early = None if measured is None else measured.early
        if valid is not None:
            self._until.valid[ticket.index] = valid.values[headline]
        return Result(
            arm=self.name,
            run_digest=self.folder.digest,
            arm_digest=self.folder.arm_digest(self.name),
            replicate=self.replicate,
            round=ticket.index,
            **ticket.facts,
            by_itself=self.arm.independent_tickets,
            untrained=True if self.arm.evaluate == "untrained" else ABSENT,
            evaluated=result is not None,
            test=describing.numbers(None if measured is None else measured.test, task),
            valid=describing.numbers(valid, task),
            train=describing.numbers(None if measured is None else measured.train, task),
            early={headline: None if early is None else early.values[headline]},
            **self._of_training(ticket.job, trained),
            # Its early-stop step is known to one such interval.
            evaluate_every=schedule_of(ticket.job.training, task, ticket.job.part).evaluate_every,
            **self._accounts.sums(ticket.index, ticket.searched),
            round_seconds=sum(cost.seconds for cost in new_costs),
            costs=new_costs,
            profile=ABSENT if profile is None else profile.name,
            lifted=ABSENT if profile is None else list(profile.lifted),
            class_examples=self._class_examples,
            line=ABSENT if ticket.ends is None else line and line[2].to_dict(),
            barrier=ABSENT if ticket.ends is None else line and line[2].barrier,
            passes=self._until.passes(ticket.index),
        )

    def _of_training(self, job: Job, trained: Trained | None) -> dict[str, Any]:
        """Say what the training that evaluates a ticket did; without one, that there is nothing
        to say.
        """
        if trained is None:
            return dict.fromkeys(
                ("early_stop_step", "curve", "distance", "selected", "training_digest")
            )
        task = self.plans.task
        return {
            "early_stop_step": trained.early_step,
            "curve": describing.curve(trained, task.metrics),
            "distance": describing.distance(job, trained),
            "selected": describing.selected(trained.select, task),
            "training_digest": self.pool.digest(job),
        }

    def _recall(self, ticket: _Ticket, record: Record) -> None:
        """Take the result of a round that was done before; it costs more if earlier rounds were
        evaluated since.
        """
        index = ticket.index
        self._accounts.recall_evaluation(index, record)
        valid = record[f"valid_{self._headline.name}"]
        if valid is not None:
            self._until.valid[index] = valid
        changed = dict(record)
        if record["evaluated"]:
            self._needs.add_result(index, record)
            changed["passes"] = self._until.passes(index)
        costs = self._accounts.sums(index, ticket.searched)
        if costs["samples_seen"] > record["samples_seen"]:
            changed |= costs
        if changed != record:
            self.folder.add_record(changed, anyway=True)
