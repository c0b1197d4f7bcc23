"""Evaluations: the tickets of an arm on their way to their records.

    round -> [ is it evaluated? ] -> train on all data, test once -> record, in the order of rounds

The search goes on meanwhile. Whether a round is evaluated may only be known when the next one has
jumped over a density of ``evaluate_at``, so the last round waits until then.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

from tombola.evidence.comparisons import meets, reaches
from tombola.executors.pool import Promise
from tombola.experiments import describing
from tombola.experiments.accounts import Accounts
from tombola.experiments.needs import Needs
from tombola.experiments.shared import Shared
from tombola.experiments.stopping import Stop
from tombola.records.results import ABSENT, Cost, Record, Result
from tombola.search.connectivity import Line
from tombola.tasks.protocol import Metrics
from tombola.training.jobs import Job, Measured, Trained, schedule_of


@dataclass
class Evaluation:
    """A round on its way to its record.

    Attributes:
        index: The round.
        job: The training that evaluates it.
        facts: What its record says of the ticket itself.
        searched: The trainings of the search up to here, by their digests.
        record: Its record, where the round was done before.
        ends: The two trainings of it between which the method measures a line, if it does.
        future: Its result; without one nobody has decided yet that it is evaluated.
        line: The line between its ends.
        fresh: Digests of the trainings that the search did not need before this round.
    """

    index: int
    job: Job
    facts: dict[str, Any]
    searched: dict[str, Cost]
    record: Record | None = None
    ends: tuple[Job, Job] | None = None
    future: Promise[tuple[Trained, Measured]] | None = None
    line: Promise[tuple[Trained, Trained, Line]] | None = None
    fresh: list[str] = field(default_factory=list)

    @property
    def begun(self) -> bool:
        """Whether it is being evaluated, or was before."""
        before = self.record is not None and bool(self.record["evaluated"])
        return before or self.future is not None

    @property
    def settled(self) -> bool:
        """Whether there is a result, or none is wanted."""
        if self.future is not None and not self.future.done():
            return False
        return self.line is None or self.line.done()


class Evaluations:
    """Has the rounds of an arm evaluated and writes their records in order.

    Args:
        shared: What all arms share.
        name: The arm.
        replicate: Its replicate.
        accounts: What the arm has cost.
        needs: Which results it still needs.
        stop: Says when its search stops; it is told what was measured on validation data.

    Attributes:
        last: The latest round, which may still have to be evaluated.
        waited_for: The round whose result is waited for; a failure meanwhile belongs to it and
            not to the round that is searched.
    """

    def __init__(
        self,
        shared: Shared,
        name: str,
        replicate: int,
        *,
        accounts: Accounts,
        needs: Needs,
        stop: Stop,
    ) -> None:
        self._shared, self._name, self._replicate = shared, name, replicate
        self._plans, self._pool, self._folder = shared.plans, shared.pool, shared.folder
        self._arm = self._plans.recipe.arm(name)
        self._headline = self._plans.task.metrics[0]
        self._accounts, self._needs, self._stop = accounts, needs, stop
        self._waiting: list[Evaluation] = []
        self.last: Evaluation | None = None
        self.waited_for: int | None = None
        self._class_examples: Any = ABSENT
        if self._plans.recipe.data.skew is not None:
            self._class_examples = describing.class_examples(self._plans, replicate)

    def is_waiting(self, index: int) -> bool:
        """Whether a round's record is still to be written."""
        return any(evaluation.index == index for evaluation in self._waiting)

    def add(self, evaluation: Evaluation) -> None:
        """Add a round, and have those evaluated that are now certain to need it."""
        before, self.last = self.last, evaluation
        known = {} if before is None else before.searched
        evaluation.fresh = [digest for digest in evaluation.searched if digest not in known]
        self._waiting.append(evaluation)
        self._needs.drop_evaluations(evaluation.index)
        targets = self._arm.evaluate_at
        if before is None or evaluation.index == 0 or not targets:
            self._begin(evaluation)
            return
        # A round that jumps over a target is evaluated, and so is the one on its other side.
        crossed = []
        for target in targets:
            if reaches(evaluation.facts, target) and not reaches(before.facts, target):
                crossed.append(target)
        if crossed:
            if not all(meets(evaluation.facts, target) for target in crossed):
                self._begin(before)
            self._begin(evaluation)

    def _begin(self, evaluation: Evaluation) -> None:
        """Have a ticket trained on the full data and tested, unless that was done before."""
        if evaluation.begun:
            return
        index, job = evaluation.index, evaluation.job
        self._label(job, f"round {index}, evaluation" if index else "dense")
        self._needs.add_evaluation(index, job)
        evaluation.future = self._pool.evaluate(job)
        if evaluation.ends is not None:
            self._label(evaluation.ends[1], f"round {index}, trained once more")
            evaluation.line = self._pool.connect(*evaluation.ends)

    def _label(self, job: Job, purpose: str) -> None:
        self._shared.label(self._name, self._replicate, job, purpose)

    def write_done(self) -> None:
        """Write the records that are certain, as far as they follow each other."""
        # The last round's is not certain: the next round may show that it has to be evaluated.
        while self._waiting and self._waiting[0] is not self.last and self._waiting[0].settled:
            self._write(self._waiting.pop(0))

    def write_until(self, index: int) -> None:
        """Wait for the evaluations up to a round and write their records."""
        while self._waiting and self._waiting[0].index <= index:
            self._write(self._waiting.pop(0))

    def write_all(self) -> None:
        """Wait for all evaluations and write their records."""
        while self._waiting:
            self._write(self._waiting.pop(0))

    def write_what_succeeded(self) -> None:
        """Write the records of tickets whose evaluation succeeds, though the arm has failed."""
        for evaluation in self._waiting:
            # Why this evaluation failed was said before, or follows from it.
            with contextlib.suppress(Exception):
                self._write(evaluation)

    def _write(self, evaluation: Evaluation) -> None:
        """Write the record of a ticket: its evaluation, or that there is none."""
        # Not in a finally clause: after a failure it must still be known whose it was.
        self.waited_for = evaluation.index
        result = evaluation.future.result() if evaluation.future is not None else None
        line = evaluation.line.result() if evaluation.line is not None else None
        self.waited_for = None

        self._needs.drop_source(evaluation.index)
        if result is None and evaluation.record is not None:
            self._recall(evaluation, evaluation.record)
            return
        record = self._result(evaluation, result, line).to_dict()
        # Predictions first: a record says that its round is done.
        if result is not None:
            self._keep_predictions(evaluation.index, result[1].test)
        if self._folder.add_record(record):
            self._shared.display.result(record)
        if result is not None:
            self._needs.add_result(evaluation.index, record)
        assert self.last is not None
        self._needs.drop_evaluations(self.last.index)

    def _keep_predictions(self, index: int, test: Metrics) -> None:
        """Write what a ticket was seen to do on the test split."""
        if test.predictions is not None:
            predictions = test.predictions.cpu().numpy()
            self._folder.keep_predictions(self._name, self._replicate, index, predictions)
        if test.kept:
            self._folder.keep_tensors(self._name, self._replicate, index, test.kept)

    def _result(
        self,
        evaluation: Evaluation,
        result: tuple[Trained, Measured] | None,
        line: tuple[Trained, Trained, Line] | None,
    ) -> Result:
        """Put together what the record of a ticket says, and charge its evaluation."""
        index, job = evaluation.index, evaluation.job
        trained, measured = (None, None) if result is None else result
        # What this round was the first to need; sums of all rounds are worked out by the accounts.
        new_costs = [evaluation.searched[digest] for digest in evaluation.fresh]
        if trained is not None:
            trainings = [(job, trained)]
            if line is not None and evaluation.ends is not None:
                trainings += zip(evaluation.ends, line[:2], strict=True)
            new_costs += self._accounts.charge_evaluation(index, trainings)

        task, profile = self._plans.task, self._plans.recipe.profile
        headline = self._headline.name
        valid = None if measured is None else measured.valid
        early = None if measured is None else measured.early
        if valid is not None:
            self._stop.valid[index] = valid.values[headline]
        return Result(
            arm=self._name,
            run_digest=self._folder.digest,
            arm_digest=self._folder.arm_digest(self._name),
            replicate=self._replicate,
            round=index,
            **evaluation.facts,
            by_itself=self._arm.independent_tickets,
            # Round 0 is the trained dense network in every arm.
            untrained=True if index and self._arm.evaluate == "untrained" else ABSENT,
            evaluated=result is not None,
            test=describing.numbers(None if measured is None else measured.test, task),
            valid=describing.numbers(valid, task),
            train=describing.numbers(None if measured is None else measured.train, task),
            test_more=ABSENT if measured is None else describing.more(measured.test, task),
            early={headline: None if early is None else early.values[headline]},
            **self._training_facts(job, trained),
            # Its early-stop step is known to one such interval.
            evaluate_every=schedule_of(job.training, task, job.part).evaluate_every,
            **self._accounts.sums(index, evaluation.searched),
            round_seconds=sum(cost.seconds for cost in new_costs),
            costs=new_costs,
            profile=ABSENT if profile is None else profile.name,
            lifted=ABSENT if profile is None else list(profile.lifted),
            class_examples=self._class_examples,
            partition_shares=ABSENT if index else self._shares(),
            line=ABSENT if evaluation.ends is None else line and line[2].to_dict(),
            barrier=ABSENT if evaluation.ends is None else line and line[2].barrier,
            passes=self._stop.passes(index),
        )

    def _shares(self) -> Any:
        """Return how much of the data each class partition has, where the task says it."""
        if not self._arm.searches:
            return ABSENT
        parts = self._arm.trained_on(self._plans.ground(self._name, self._replicate))
        return describing.shares(parts, self._plans.task)

    def _training_facts(self, job: Job, trained: Trained | None) -> dict[str, Any]:
        """Describe the training that evaluates a ticket; all entries are empty without one."""
        if trained is None:
            return dict.fromkeys(
                ("early_stop_step", "curve", "distance", "selected", "training_digest")
            )
        task = self._plans.task
        return {
            "early_stop_step": trained.early_step,
            "curve": describing.curve(trained, task.metrics),
            "distance": describing.distance(job, trained),
            "selected": describing.selected(trained.select, task),
            "training_digest": self._pool.digest(job),
        }

    def _recall(self, evaluation: Evaluation, record: Record) -> None:
        """Take the result of a round that was done before."""
        index = evaluation.index
        self._accounts.recall_evaluation(index, record)
        valid = record[f"valid_{self._headline.name}"]
        if valid is not None:
            self._stop.valid[index] = valid
        changed = dict(record)
        # The recipe may ask for another accuracy than when the record was written.
        if record["evaluated"]:
            self._needs.add_result(index, record)
            changed["passes"] = self._stop.passes(index)
        # It costs more where earlier rounds were evaluated since.
        costs = self._accounts.sums(index, evaluation.searched)
        if costs["samples_seen"] > record["samples_seen"]:
            changed |= costs
        if changed != record:
            self._folder.add_record(changed, anyway=True)
