"""Driver: one arm of one replicate, from its rounds to its tickets and records.

    plan -> [ search | another arm's tickets ] -> ticket -> evaluation -> record

Each round becomes a ticket file and is handed over to be evaluated, see `evaluations`, while the
search goes on. A run that continues goes through the rounds that were done before as if they were
new, so there is one way to decide what is evaluated and where the search stops.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from tombola.data.partitions import WHOLE
from tombola.evidence.comparisons import reaches
from tombola.experiments import describing
from tombola.experiments.accounts import Accounts
from tombola.experiments.evaluations import Evaluation, Evaluations
from tombola.experiments.needs import Needs
from tombola.experiments.shared import Shared
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
from tombola.ground.types import Mask
from tombola.methods.setting import Found, Setting
from tombola.records.results import Cost, Record
from tombola.schema.arms import rewinds
from tombola.search.rounds import Round
from tombola.search.work import Cut, Pruned
from tombola.tickets import Ticket
from tombola.training.jobs import Job, Trained
from tombola.training.statistics import untrained


class ArmRun:
    """Drives one arm of one replicate, and turns every round into a ticket and a record.

    Args:
        shared: What all arms share.
        name: The arm.
        replicate: Its replicate.
    """

    def __init__(self, shared: Shared, name: str, replicate: int) -> None:
        self.shared, self.name, self.replicate = shared, name, replicate
        self.plans, self.pool, self.folder = shared.plans, shared.pool, shared.folder
        self.recipe = self.plans.recipe
        self.arm = self.recipe.arm(name)
        self.seed = self.plans.seed(replicate)
        self.full_partition = self.plans.full_partition(replicate)
        self.feed = shared.feeds[name, replicate]
        self._per_example = shared.flops[self.plans.task.outputs(WHOLE)]
        self._index = 0  # the round that is searched, for messages
        self._rounds = 0  # those that have a ticket
        self._needs = Needs(shared, name, replicate)
        self._accounts = Accounts(
            self.plans.task,
            self.pool.digest,
            shared.flops,
            independent_tickets=self.arm.independent_tickets,
            cumulative=self.arm.has_tickets and not self.arm.independent_tickets,
        )
        self._until = Stop(self.recipe.until, self.plans.total, self.plans.task.metrics[0])
        self._evaluations = Evaluations(
            shared,
            name,
            replicate,
            accounts=self._accounts,
            needs=self._needs,
            stop=self._until,
        )

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
            how, end = "failed", self._failure(str(error))
        except Exception as error:
            # Whatever goes wrong while a run is being stopped goes wrong because of that.
            if self.shared.stopped.is_set():
                return "open"
            how, end = "failed", self._unforeseen(error)
        if self.shared.stopped.is_set():
            return "open"
        title = f"arm {self.name}, replicate {self.replicate}"
        if how != "finished":
            self._evaluations.write_what_succeeded()
        # Arms that follow this one are skipped when it failed.
        self.feed.end("" if how == "finished" else title)
        self.folder.ended(self.name, self.replicate, how, end, self._rounds)
        if end:
            self.shared.display.say(f"{title}: {how}: {end}")
        return how

    @property
    def _failed_round(self) -> int:
        """The round that a failure belongs to: the search may be ahead of what is evaluated."""
        waited_for = self._evaluations.waited_for
        return self._index if waited_for is None else waited_for

    def _failure(self, message: str) -> End:
        return End("error", f"round {self._failed_round}: {message}", self._failed_round)

    def _unforeseen(self, error: Exception) -> End:
        """Log an error that nobody foresaw, as in a user's own score, and shorten it to a line."""
        place = f"arm {self.name}, replicate {self.replicate}, round {self._failed_round}"
        self.folder.log_error(f"{place}\n{traceback.format_exc()}")
        message = " ".join(str(error).split())
        what = f"{type(error).__name__}: {message}{catalogue.place_of(error)}"
        return self._failure(f"{what} (more in errors.log)")

    def _run(self) -> End:
        initial = self.shared.initial[self.replicate, False]
        dense = Job(initial, self.plans.mask, self.recipe.training, self.seed, self.full_partition)
        point = self._rewind_point(dense)
        self.setting = self._setting(point)
        self._begin(dense, point)

        # An arm without tickets goes through its rounds again: their records say what was done.
        done: list[Ticket] = []
        if self.arm.has_tickets:
            done = self.folder.rounds_done(self.name, self.replicate)
        # A run that continues may ask for less than was done before.
        for index, ticket in enumerate(done, 1):
            self._repeat(index, ticket)
            end = self._stop(index, ticket.mask)
            if end is not None:
                break
        else:
            self._index = len(done)
            end = self._search(done)
        self._evaluations.write_all()
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
            pace=self._pace(),
            candidates=self._candidates,
            drawn_anew=anew,
        )

    def _offered(self) -> Iterator[Found]:
        """Give the rounds of the arm that it follows as they come; none where it follows nobody."""
        if self.arm.source is None:
            return
        feed = self.shared.feeds[self.arm.source, self.replicate]
        for index, offered in enumerate(feed, 1):
            has_record = index <= self._rounds and not self._evaluations.is_waiting(index)
            if has_record:
                self._needs.drop_source(index)
            yield offered

    def _pace(self) -> Iterator[Found]:
        """Give the rounds of the arm that it is paced by as they come; usually there is none."""
        if self.arm.paced_by is not None:
            _, name = self.arm.paced_by
            yield from self.shared.feeds[name, self.replicate]

    def _candidates(self) -> list[dict[str, Tensor]]:
        """Return where each partition stands after the last round that was done."""
        last = self._evaluations.last
        assert last is not None
        return self.folder.candidates(self.name, self.replicate, last.index, last.job.mask)

    def _with_missed(self, end: End) -> End:
        """Add to why an arm ended the densities of ``evaluate_at`` that it did not reach."""
        assert self._evaluations.last is not None
        facts = self._evaluations.last.facts
        targets = self.arm.evaluate_at or ()
        missed = tuple(target for target in targets if not reaches(facts, target))
        return end.missing(missed, facts["density"])

    def _rewind_point(self, dense: Job) -> Job:
        """Return the training from the rewind point: the initial state, or the dense network's
        state at step k.
        """
        steps = self.recipe.rewind if rewinds(self.arm, self.recipe.arms) else 0
        if not steps or not self.arm.has_tickets:
            return dense
        # All arms of a replicate ask for this training, and the pool does equal ones once.
        point = self._run_all([replace(dense, last=steps)], "pretraining")[0].final
        return replace(dense, start=point, first=steps)

    def _begin(self, dense: Job, point: Job) -> None:
        """Have the dense network evaluated, or take its record."""
        facts = self._facts(dense.mask, point) | {"kept_fraction": None}
        self._add(0, dense, facts, {}, self.folder.record(self.name, self.replicate, 0))

    def _repeat(self, index: int, ticket: Ticket) -> None:
        """Go through a round that was done before as if it were new."""
        record = self.folder.record(self.name, self.replicate, index)
        assert record is not None
        self._accounts.recall_search(record)
        start = self.arm.resumed(self.setting, ticket)
        ready = self._evaluation(index, start)
        self._offer(start, ready)
        searched = dict(self._accounts.searched)
        self._add(index, ready, describing.facts_of(record), searched, record)

    def _search(self, done: list[Ticket]) -> End:
        """Continue from the rounds that are done, and keep each new one."""
        rounds = self.arm.rounds(self.setting, done)
        mask = done[-1].mask if done else self.setting.point.mask
        parent = done[-1].digest if done else None
        while True:
            # Before the method is asked: it may fail without giving a round.
            self._index += 1
            self._accounts.begin_round()
            # Not a for loop: why a search ended is its generator's return value.
            try:
                new = next(rounds)
            except StopIteration as stop:
                return End.of(stop.value)
            self._index = new.index
            parent = self._keep_round(new, mask, parent)
            mask = new.mask
            end = self._stop(new.index, mask)
            if end is not None:
                return end
            self._evaluations.write_done()

    def _run_all(self, jobs: list[Job], role: str = "search") -> Sequence[Trained]:
        for number, job in enumerate(jobs, 1):
            which = f", partition {number} of {len(jobs)}" if len(jobs) > 1 else ""
            purpose = f"round {self._index}{which}"
            self.shared.label(self.name, self.replicate, job, purpose)
        # Before they are asked for, so that no other arm's end drops a result in between.
        self._needs.add_search(jobs)
        trained = self.pool.run_all(jobs)
        self._accounts.charge_search(jobs, trained, role)
        return trained

    def _cut(self, work: Cut) -> Pruned:
        """Have a cut made where the data is, and charge what its scores went through."""
        (pruned,) = self.pool.cut(work).result()
        self._accounts.charge_cut(work, pruned)
        return pruned

    def _facts(self, mask: Mask, job: Job) -> dict[str, Any]:
        facts = describing.ticket_facts(self.plans, mask, job, self._per_example)
        never_pruned = self.plans.never_pruned[self.name]
        return facts | ({"never_pruned": never_pruned} if never_pruned else {})

    def _keep_round(self, new: Round, before: Mask, parent: str | None) -> str | None:
        """Keep what a round gave and have it evaluated if that is wanted.

        Args:
            new: The round.
            before: The mask before it.
            parent: Digest of the ticket before it.

        Returns:
            The digest of its ticket; ``None`` for an arm that has none.
        """
        index = new.index
        if not self.arm.has_tickets:
            facts = self._facts(new.mask, new.job) | {"kept_fraction": None}
            record = self.folder.record(self.name, self.replicate, index)
            self._add(index, new.job, facts, {}, record)
            return None
        # Before its ticket and its record, which together say that the round is done.
        if len(new.candidates) > 1:
            self.folder.keep_candidates(self.name, self.replicate, index, new.candidates)
        facts = self._facts(new.job.mask, new.job) | describing.round_facts(new, before)
        ticket = Ticket(
            new.job.mask, new.job.start, self._origin(new, facts, parent), self.plans.total
        )
        digest = self.folder.keep_ticket(self.name, self.replicate, index, ticket)
        ready = self._evaluation(index, new.job)
        self._offer(new.job, ready)
        self._add(index, ready, facts, dict(self._accounts.searched))
        self._needs.end_search()
        return digest

    def _origin(self, new: Round, facts: dict[str, Any], parent: str | None) -> dict[str, Any]:
        """Describe where the ticket of a round comes from."""
        trained_on = self.arm.trained_on(self.setting)
        # Of how a round trains there is nothing to say, unless it trains longer than others.
        length = {} if new.length is None else {"length": list(new.length)}
        return dict(self.shared.origin) | {
            "arm": self.name,
            "method": self.folder.definition(self.name),
            "round": new.index,
            "replicate": self.replicate,
            "rewind_step": new.job.first,
            "seeds": {"recipe": self.recipe.seed, "replicate": self.seed},
            "partitions": [part.describe() for part in trained_on],
            "inference_flops": facts["inference_flops"],
            "parent": parent,
            **length,
        }

    def _evaluation(self, index: int, job: Job) -> Job:
        """Return the training that a ticket is evaluated by; of no step if it stays untrained."""
        evaluation = self.arm.evaluation(self.setting, index, job)
        if self.arm.evaluate == "untrained":
            return untrained(evaluation, self.plans.task.model)
        return evaluation

    def _offer(self, job: Job, ready: Job) -> None:
        """Give a round to the arms that follow, once they are sure to find its evaluation."""
        # In this order: a follower may ask for the evaluation as soon as it is given the round.
        self._rounds += 1
        self._needs.offer(self._rounds, ready)
        self.feed.put(Found(job, self._accounts.samples))

    def _add(
        self,
        index: int,
        job: Job,
        facts: dict[str, Any],
        searched: dict[str, Cost],
        record: Record | None = None,
    ) -> None:
        """Hand a round over to be evaluated, with the ends of its line if the method has one."""
        ends = self.arm.line(self.setting, index, job)
        self._evaluations.add(Evaluation(index, job, facts, searched, record, ends))

    def _stop(self, index: int, mask: Mask) -> End | None:
        """Return why the search stops after this round, ``None`` to go on."""
        if self.arm.source is not None:
            # It ends when the arm that it follows ends.
            return None
        return self._until.after(index, mask, self._evaluations.write_until)
