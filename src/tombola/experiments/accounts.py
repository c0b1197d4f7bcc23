"""Accounts: what an arm has cost so far, as if it ran alone.

training done -> [ cost ] -> searched, evaluated -> sums of a ticket -> record
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tombola.models import flops
from tombola.models.flops import Flops
from tombola.records.records import Cost, Record, costs_of
from tombola.search.work import Cut, Pruned
from tombola.tasks.protocol import Task
from tombola.training.during import driver_class
from tombola.training.jobs import Job, Trained


class Accounts:
    """The trainings that an arm has needed, each once.

    Args:
        task: What is trained.
        digest: Gives the digest of a training.
        per_example: What an example costs, layer by layer, by the number of outputs.
        independent_tickets: Whether a ticket needs nothing from earlier rounds.
        cumulative: Whether a ticket is charged the evaluations before its own, too.

    Attributes:
        searched: What the search cost, by the training's digest.
        evaluated: What evaluations cost, by round.
    """

    def __init__(
        self,
        task: Task,
        digest: Callable[[Job], str],
        per_example: Mapping[int, Mapping[str, Flops]],
        *,
        independent_tickets: bool,
        cumulative: bool,
    ) -> None:
        self._task, self._digest, self._per_example = task, digest, per_example
        self._independent_tickets, self._cumulative = independent_tickets, cumulative
        self.searched: dict[str, Cost] = {}
        self.evaluated: dict[int, list[Cost]] = {}

    @property
    def samples(self) -> int:
        """Training examples that the search saw."""
        return _sums(self.searched)[0]

    def begin_round(self) -> None:
        """Forget the rounds before, where a ticket needs nothing of them."""
        if not self._independent_tickets:
            return
        # The training up to the rewind point is common to all rounds.
        for digest, cost in list(self.searched.items()):
            if cost.role != "pretraining":
                del self.searched[digest]

    def charge_search(self, jobs: Sequence[Job], trained: Sequence[Trained], role: str) -> None:
        """Charge trainings to the search."""
        for job, result in zip(jobs, trained, strict=True):
            cost = self._cost(role, job, result)
            self.searched[cost.training] = cost

    def charge_cut(self, work: Cut, pruned: Pruned) -> None:
        """Charge the search what the scores of a cut went through."""
        digest = work.digest(self._task.digest)
        layers = self._per_example[self._task.outputs(work.jobs[0].part)]
        self.searched[digest] = Cost(
            role="cut",
            training=digest,
            samples=pruned.samples,
            seconds=pruned.seconds,
            steps=0,
            flops=flops.training(layers) * pruned.samples,
            flops_sparse=flops.training(layers, work.mask) * pruned.samples,
            process_seconds=pruned.process_seconds,
            peak_bytes=pruned.peak_bytes,
        )

    def charge_evaluation(self, index: int, done: Sequence[tuple[Job, Trained]]) -> list[Cost]:
        """Charge the evaluation of a round, each of its trainings once."""
        costs: dict[str, Cost] = {}
        for job, trained in done:
            cost = self._cost("evaluation", job, trained)
            costs[cost.training] = cost
        self.evaluated[index] = list(costs.values())
        return self.evaluated[index]

    def recall_search(self, record: Record) -> None:
        """Read from its record what the search for a round cost."""
        if self._independent_tickets:
            self.searched = {}
        for cost in costs_of(record):
            if cost.role != "evaluation":
                self.searched[cost.training] = cost

    def recall_evaluation(self, index: int, record: Record) -> None:
        """Read from its record what the evaluation of a round cost."""
        evaluated = [cost for cost in costs_of(record) if cost.role == "evaluation"]
        if evaluated:
            self.evaluated[index] = evaluated

    def sums(self, index: int, searched: Mapping[str, Cost]) -> dict[str, Any]:
        """Add up what a ticket cost: the trainings of its search and its evaluations, each once.

        Args:
            index: Its round.
            searched: What its search cost up to there.
        """
        rounds = [round_ for round_ in self.evaluated if round_ <= index]
        if not self._cumulative:
            rounds = rounds[-1:]
        # A training of the search that an evaluation needs, too, is charged once.
        all_costs = dict(searched)
        for round_ in rounds:
            for cost in self.evaluated[round_]:
                all_costs[cost.training] = cost
        samples, seconds = _sums(all_costs)
        samples_of_search, seconds_of_search = _sums(searched)
        return {
            "samples_seen": samples,
            "samples_seen_search": samples_of_search,
            "seconds": seconds,
            "seconds_search": seconds_of_search,
        }

    def _cost(self, role: str, job: Job, trained: Trained) -> Cost:
        layers = self._per_example[self._task.outputs(job.part)]
        return Cost(
            role=role,
            training=self._digest(job),
            samples=trained.samples,
            seconds=trained.seconds,
            steps=trained.steps,
            flops=flops.training(layers) * trained.samples,
            flops_sparse=_sparse_flops(layers, job, trained),
            process_seconds=trained.process_seconds,
            peak_bytes=trained.peak_bytes,
        )


def _sums(costs: Mapping[str, Cost]) -> tuple[int, float]:
    """Add up the examples and the seconds of trainings."""
    return (
        sum(cost.samples for cost in costs.values()),
        sum(cost.seconds for cost in costs.values()),
    )


def _sparse_flops(per_example: Mapping[str, Flops], job: Job, trained: Trained) -> int:
    """Return the training FLOPs that the kept weights alone would need."""
    if not trained.cuts:
        return flops.training(per_example, job.mask) * trained.samples
    # The mask changed while it trained: until the first change it was the job's, and then what each
    # change left until the next one.
    dense_gradients = job.during is not None and driver_class(job.during).dense_gradients
    first_cut, end = trained.cuts[0][0], job.first + trained.steps
    total = max(0, first_cut - job.first) * flops.training(per_example, job.mask)
    for (step, kept), (next_step, _) in itertools.pairwise([*trained.cuts, (end, {})]):
        counts = {name: (kept[name], keep.numel()) for name, keep in job.mask.items()}
        total += (next_step - step) * flops.training_at(per_example, counts)
        if dense_gradients:
            # Beside those of the kept weights, which the step had in any case.
            total += flops.weight_gradients(per_example)
            total -= flops.weight_gradients(per_example, counts)
    return total * trained.samples // trained.steps
