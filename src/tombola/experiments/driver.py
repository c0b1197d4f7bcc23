"""Driver: one arm of one replicate, from its rounds to its tickets and records.

plan -> [ search | another arm's tickets ] -> ticket -> evaluation -> record
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
from tombola.tasks.protocol import Metrics
from tombola.tickets import Ticket
from tombola.training.jobs import Job, Measured, Trained, schedule_of

# What a record says of the ticket itself, whether it is evaluated or not.
_FACTS = (
    *("kept", "prunable", "total", "density", "density_total", "layers", "inference_flops"),
    *("mask_digest", "rewind_digest", "unmasked", "uncounted"),
    *(
        "kept_fraction",
        "candidate_densities",
        "candidate_layers",
        "collapsed",
        "cut_seconds",
        "invariant_seconds",
    ),
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


@runtime_checkable
class _Pool(Protocol):
    """What an arm asks of a pool: to have trainings done, kept and let go, see `executors.Pool`."""

    def digest(self, job: Job) -> str: ...
    def run_all(self, jobs: list[Job]) -> Sequence[Trained]: ...
    def evaluate(self, job: Job) -> Promise[tuple[Trained, Measured]]: ...
    def connect(self, one: Job, other: Job) -> Promise[tuple[Trained, Trained, Line]]: ...
    def cut(self, work: Cut) -> Promise[tuple[Pruned]]: ...
    def needs(self, who: Hashable, digests: Iterable[str]) -> None: ...


@runtime_checkable
class _Folder(Protocol):
    """Where an arm finds what it has done before, and writes down what it does, see
    `runs.RunFolder`.
    """

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
    """A round on its way to its record; without a future nobody has decided yet that it is
    evaluated.
    """

    index: int
    job: Job
    facts: dict[str, Any]
    searched: dict[str, Cost]  # the trainings of the search up to here
    future: Promise[tuple[Trained, Measured]] | None = None
    line: Promise[tuple[Trained, Trained, Line]] | None = None
    ends: tuple[Job, Job] | None = None  # the trainings between which it has a line
    record: Record | None = None  # of a round that was done before
    # those of the search that the round before did not need
    fresh: list[str] = field(default_factory=list)

    @property
    def evaluated(self) -> bool:
        """Whether it is being evaluated, or was before."""
        return self.future is not None or (
            self.record is not None and bool(self.record["evaluated"])
        )

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
        self.arm = self.recipe.arm(name)
        self.seed = self.plans.seed(replicate)
        self.whole = self.plans.whole(replicate)
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
            by_itself=self.arm.by_itself,
            cumulative=self.arm.has_tickets and not self.arm.by_itself,
        )
        skewed = self.recipe.data.skew is not None
        self._class_examples = (
            describing.class_examples(self.plans, replicate) if skewed else ABSENT
        )
        # The digests of the trainings whose results it still needs, see `_say_what_is_needed`.
        self._dense: set[str] = set()  # of the dense mask, which other arms may start from
        self._searching: set[str] = set()  # of the round that is under way
        self._evaluations: dict[int, str] = {}  # by round
        self._results: dict[int, Record] = {}  # the records of evaluated rounds
        # Arms that need what the evaluations here give until they have written down their own.
        self._retraining: list[str] = []
        for other, k in shared.todo:
            follower = self.recipe.arms[other]
            if k == replicate and follower.retrains and follower.source == name:
                self._retraining.append(other)

    def run(self) -> str:
        """Run the arm to its end.

        Returns:
            "finished", "failed", "skipped", or "open" when the run was stopped; what an arm can
            meet is noted in the run folder and not raised.

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
            self.folder.log_error(
                f"arm {self.name}, replicate {self.replicate}, round {self._index}\n"
                + traceback.format_exc()
            )
            what = f"{type(error).__name__}: {_line(error)}{catalogue.place_of(error)}"
            text = f"round {self._index}: {what} (more in errors.log)"
            how, end = "failed", End("error", text, self._index)
        if self.shared.stopped.is_set():
            return "open"
        if how != "finished":
            self._write_what_succeeded()
        self.feed.end("" if how == "finished" else f"arm {self.name}, replicate {self.replicate}")
        self.folder.ended(self.name, self.replicate, how, end, self._rounds)
        if end:
            self.shared.display.say(f"arm {self.name}, replicate {self.replicate}: {how}: {end}")
        return how

    def _run(self) -> End:
        initial = self.shared.initial[self.replicate, False]
        dense = Job(initial, self.plans.mask, self.recipe.training, self.seed, self.whole)
        point = self._rewind_point(dense)
        self.setting = self._setting(point)
        self._begin(dense, point)
        done = self.folder.rounds_done(self.name, self.replicate) if self.arm.has_tickets else []
        for index, ticket in enumerate(done, 1):
            self._take_up(index, ticket)
            if (stopped := self._stop(index, ticket.mask)) is not None:
                self._write_all()
                return self._with_missed(stopped)
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
        for index, found in enumerate(self.shared.feeds[self.arm.source, self.replicate], 1):
            if index <= self._rounds and not any(ticket.index == index for ticket in self._waiting):
                self._let_go_of_source(index)  # its record was written before
            yield found

    def _candidates(self) -> list[dict[str, Tensor]]:
        """Return where each partition stands after the last round that was done."""
        assert self._last is not None
        return self.folder.candidates(
            self.name, self.replicate, self._last.index, self._last.job.mask
        )

    def _with_missed(self, end: End) -> End:
        """Add to why an arm ended that it was to be evaluated at densities which its rounds did
        not come to.
        """
        assert self._last is not None
        last = self._last.facts
        missed = tuple(target for target in self.arm.evaluate_at or () if not reaches(last, target))
        return end.missing(missed, last["density"])

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
        """Have the dense network evaluated, or take up its record and what the arm has cost so
        far.
        """
        facts = self._facts(dense.mask, point) | {"kept_fraction": None}
        self._add(
            _Ticket(0, dense, facts, {}, record=self.folder.record(self.name, self.replicate, 0))
        )

    def _take_up(self, index: int, ticket: Ticket) -> None:
        """Go through a round that was done before, as if it were found now."""
        record = self.folder.record(self.name, self.replicate, index)
        assert record is not None
        facts = {key: record[key] for key in _FACTS if key in record}
        self._accounts.recall_search(record)
        start = self.setting.after(ticket, self.arm.onward(self.setting))
        ready = self.arm.evaluation(self.setting, index, start)
        self._offer(start, ready)
        self._add(_Ticket(index, ready, facts, dict(self._accounts.searched), record=record))

    def _search(self, done: list[Ticket]) -> End:
        """Go on from the rounds that are done, and keep each new one."""
        rounds = self.arm.rounds(self.setting, done)
        before, parent = (
            (done[-1].mask, done[-1].digest) if done else (self.setting.point.mask, None)
        )
        while True:
            self._index += 1
            self._accounts.begin_round()
            try:
                found = next(rounds)
            except StopIteration as end:
                return End.of(end.value)
            self._index = found.index
            parent = self._keep_round(found, before, parent)
            before = found.mask
            if (stopped := self._stop(found.index, found.mask)) is not None:
                return stopped
            self._write_done()

    def _let_go_of_source(self, index: int) -> None:
        """Let go of what the source's evaluation of a ticket gave: it was needed for this arm
        when it was offered.
        """
        if self.arm.retrains:
            self.pool.needs((self.name, self.replicate, index), [])

    def _run_all(self, jobs: list[Job], role: str = "search") -> Sequence[Trained]:
        for number, job in enumerate(jobs, 1):
            of = f", partition {number} of {len(jobs)}" if len(jobs) > 1 else ""
            self._label(job, f"round {self._index}{of}")
        for job in jobs:
            pruned = count(job.mask) < count(self.plans.mask)
            (self._searching if pruned else self._dense).add(self.pool.digest(job))
        self._say_what_is_needed()
        trained = self.pool.run_all(jobs)
        self._accounts.charge_search(jobs, trained, role)
        return trained

    def _cut(self, work: Cut) -> Pruned:
        """Have a cut made where the data is, and charge what its scores went through."""
        (pruned,) = self.pool.cut(work).result()
        self._accounts.charge_cut(work, pruned)
        return pruned

    def _label(self, job: Job, what: str) -> None:
        self.shared.display.label(
            self.pool.digest(job), f"replicate {self.replicate} · {self.name} · {what}"
        )

    def _facts(self, mask: Mask, job: Job) -> dict[str, Any]:
        return describing.ticket_facts(self.plans, mask, job, self._per_example)

    def _keep_round(self, found: Round, before: Mask, parent: str | None) -> str | None:
        """Keep what a round gave, and have it evaluated if that is wanted; returns the digest
        of its ticket, if any.
        """
        if not self.arm.has_tickets:
            facts = self._facts(found.mask, found.job) | {"kept_fraction": None}
            record = self.folder.record(self.name, self.replicate, found.index)
            self._add(_Ticket(found.index, found.job, facts, {}, record=record))
            return None
        if len(found.candidates) > 1:
            self.folder.keep_candidates(self.name, self.replicate, found.index, found.candidates)
        digest = self._keep_ticket(found, before, parent)
        self._searching.clear()  # what was learnt is in the ticket now
        self._say_what_is_needed()
        return digest

    def _say_what_is_needed(self) -> None:
        """Say which results the arm still needs: what is needed by no arm is dropped."""
        needed = self._dense | self._searching | set(self._evaluations.values())
        self.pool.needs((self.name, self.replicate), needed)

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
        ready = self.arm.evaluation(self.setting, index, job)
        self._offer(job, ready)
        self._add(_Ticket(index, ready, facts, dict(self._accounts.searched)))
        return digest

    def _offer(self, job: Job, ready: Job) -> None:
        """Give a round to the arms that follow; those that train it once more need what its
        evaluation gives.
        """
        self._rounds += 1
        for other in self._retraining:
            # In its name, and before this arm can let it go: the other one may come late.
            self.pool.needs((other, self.replicate, self._rounds), [self.pool.digest(ready)])
        self.feed.put(Found(job, self._accounts.samples))

    def _add(self, ticket: _Ticket) -> None:
        """Take a round in, and have those evaluated of which that is certain now."""
        before, self._last = self._last, ticket
        ticket.ends = self.arm.line(self.setting, ticket.index, ticket.job)
        ticket.fresh = [of for of in ticket.searched if before is None or of not in before.searched]
        self._waiting.append(ticket)
        self._forget_evaluations()
        targets = self.arm.evaluate_at
        if ticket.index == 0 or not targets:
            self._evaluate(ticket)
            return
        assert before is not None
        crossed = [
            target
            for target in targets
            if reaches(ticket.facts, target) and not reaches(before.facts, target)
        ]
        if crossed:
            if not all(meets(ticket.facts, target) for target in crossed):
                self._evaluate(before)
            self._evaluate(ticket)

    def _evaluate(self, ticket: _Ticket) -> None:
        """Have a ticket trained on the full data and tested, unless that was done before."""
        if not ticket.evaluated:
            self._label(
                ticket.job, f"round {ticket.index}, evaluation" if ticket.index else "dense"
            )
            self._evaluations[ticket.index] = self.pool.digest(ticket.job)
            self._say_what_is_needed()
            ticket.future = self.pool.evaluate(ticket.job)
            if ticket.ends is not None:
                self._label(ticket.ends[1], f"round {ticket.index}, trained once more")
                ticket.line = self.pool.connect(*ticket.ends)

    def _stop(self, index: int, mask: Mask) -> End | None:
        """Return why the search stops after this round, ``None`` to go on."""
        if self.arm.source is not None:
            return None  # it ends when the arm that it follows ends
        return self._until.after(index, mask, self._write_until)

    def _worth(self, metrics: Metrics) -> float:
        return metrics.values[self._headline.name]

    def _write_what_succeeded(self) -> None:
        """Write the records of tickets whose evaluation succeeds, though the arm has failed."""
        for ticket in self._waiting:
            # what this evaluation met is told already, or follows from it
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
        self._index, under_way = ticket.index, self._index
        result = ticket.future.result() if ticket.future is not None else None
        line = ticket.line.result() if ticket.line is not None else None
        self._index = under_way
        self._let_go_of_source(ticket.index)
        if result is None and ticket.record is not None:
            self._recall(ticket, ticket.record)
            return
        digest = self.pool.digest(ticket.job)
        new = [ticket.searched[of] for of in ticket.fresh]
        if result is not None:
            done = [(ticket.job, result[0])]
            if line is not None and ticket.ends is not None:
                done += zip(ticket.ends, line[:2], strict=True)
            new += self._accounts.charge_evaluation(ticket.index, done)
        measured = None if result is None else result[1]
        valid = None if measured is None else measured.valid
        if valid:
            self._until.valid[ticket.index] = self._worth(valid)
        early = None if measured is None or measured.early is None else self._worth(measured.early)
        profile, task = self.recipe.profile, self.plans.task
        record = Result(
            arm=self.name,
            run_digest=self.folder.digest,
            arm_digest=self.folder.arm_digest(self.name),
            replicate=self.replicate,
            round=ticket.index,
            **ticket.facts,
            by_itself=self.arm.by_itself,
            evaluated=result is not None,
            test=describing.numbers(None if measured is None else measured.test, task),
            valid=describing.numbers(valid, task),
            train=describing.numbers(None if measured is None else measured.train, task),
            early_stop_step=result and result[0].early_step,
            # Its early-stop step is known to one such interval.
            evaluate_every=schedule_of(ticket.job.training, task, ticket.job.part).evaluate_every,
            curve=result and describing.curve(result[0], task.metrics),
            distance=result and describing.distance(ticket.job, result[0]),
            early={self._headline.name: early},
            selected=result and describing.selected(result[0].select, task),
            training_digest=result and digest,
            **self._accounts.sums(ticket.index, ticket.searched),
            round_seconds=sum(cost.seconds for cost in new),
            costs=new,
            profile=ABSENT if profile is None else profile.name,
            lifted=ABSENT if profile is None else list(profile.lifted),
            class_examples=self._class_examples,
            line=ABSENT if ticket.ends is None else line and line[2].plain(),
            barrier=ABSENT if ticket.ends is None else line and line[2].barrier,
            passes=self._until.passes(ticket.index),
        ).plain()
        if measured and measured.test.predictions is not None:
            predictions = measured.test.predictions.cpu().numpy()
            self.folder.keep_predictions(self.name, self.replicate, ticket.index, predictions)
        if self.folder.add_record(record):
            self.shared.display.result(record)
        if result is not None:
            self._results[ticket.index] = record
        self._forget_evaluations()

    def _forget_evaluations(self) -> None:
        """Let evaluations go whose record is written, once the next round stands: it may need
        one for its search.
        """
        assert self._last is not None
        if self.recipe.keep == "all":
            return
        # By what is written down: the last round that was evaluated need not be the last one.
        there = [self._results[index] for index in sorted(self._results)]
        at = self.plans.recipe.compared_at
        kept = {
            record["training_digest"]
            for record in choosing.kept(self.recipe.keep, [there], at, self._headline)
        }
        for index, digest in list(self._evaluations.items()):
            if index in self._results and 0 < index < self._last.index and digest not in kept:
                del self._evaluations[index]
        self._say_what_is_needed()

    def _recall(self, ticket: _Ticket, record: Record) -> None:
        """Take the result of a round that was done before; it costs more if earlier rounds were
        evaluated since.
        """
        index = ticket.index
        if record["evaluated"]:
            self._results[index] = record
        self._accounts.recall_evaluation(index, record)
        if (valid := record[f"valid_{self._headline.name}"]) is not None:
            self._until.valid[index] = valid
        costs = self._accounts.sums(index, ticket.searched)
        changed: dict[str, Any] = (
            {"passes": self._until.passes(index)} if record["evaluated"] else {}
        )
        changed |= costs if costs["samples_seen"] > record["samples_seen"] else {}
        if {**record, **changed} != record:
            self.folder.add_record({**record, **changed}, anyway=True)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
