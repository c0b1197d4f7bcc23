"""Needs: which results of trainings an arm still needs; the pool drops what no arm needs.

    search -> needed in its round -> dropped once its ticket is written
    evaluation -> needed until its record is written, kept on if the recipe says so

A dropped result that is asked for again is computed again. So a need that ends too early costs
time, and one that never ends costs disk space; neither changes a result.
"""

from __future__ import annotations

from collections.abc import Sequence

from tombola.experiments.shared import Shared
from tombola.masks.masks import count
from tombola.records import choosing
from tombola.records.results import Record
from tombola.training.jobs import Job


class Needs:
    """The results of trainings that an arm of a replicate still needs.

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
        for follower_name, follower_replicate in shared.todo:
            follower = self._plans.recipe.arms[follower_name]
            follows = follower.source == name and follower_replicate == replicate
            if follows and follower.retrains:
                self._retraining.append(follower_name)

    def add_search(self, jobs: Sequence[Job]) -> None:
        """Need trainings for the round that is under way."""
        # Those of the dense mask are kept to the end of the arm, all others for one round.
        for job in jobs:
            pruned = count(job.mask) < count(self._plans.mask)
            (self._searching if pruned else self._dense).add(self._pool.digest(job))
        self._update_pool()

    def end_search(self) -> None:
        """Need the trainings of a round no more: what was learnt is in its ticket."""
        self._searching.clear()
        self._update_pool()

    def add_evaluation(self, index: int, job: Job) -> None:
        """Need the evaluation of a round."""
        self._evaluations[index] = self._pool.digest(job)
        self._update_pool()

    def add_result(self, index: int, record: Record) -> None:
        """Take note of the record of an evaluated round."""
        self._results[index] = record

    def offer(self, index: int, job: Job) -> None:
        """Need the evaluation of a round for the arms that train its ticket once more."""
        # In their names, and before this arm can drop it: they may come late.
        for follower_name in self._retraining:
            key = follower_name, self._replicate, index
            self._pool.needs(key, [self._pool.digest(job)])

    def drop_source(self, index: int) -> None:
        """Drop the source's evaluation of a ticket, which was needed for this arm when the source
        offered the ticket.
        """
        if self._retrains:
            self._pool.needs((self._name, self._replicate, index), [])

    def drop_evaluations(self, last: int) -> None:
        """Drop evaluations whose record is written, unless the recipe keeps them.

        Args:
            last: The last round; its search may still need its own evaluation.
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
        self._update_pool()

    def _update_pool(self) -> None:
        needed = self._dense | self._searching | set(self._evaluations.values())
        self._pool.needs((self._name, self._replicate), needed)
