"""Shared: what the arms of a run share, and what an arm asks of pool, folder and display.

A run gives its arms a real pool and a real folder; a rehearsal gives them a pool that only counts
and a folder in which nothing is written.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tombola.executors.pool import Promise
from tombola.experiments.feeds import Feed
from tombola.experiments.plans import Plans
from tombola.ground.endings import End
from tombola.ground.types import Mask, State
from tombola.models.flops import Flops
from tombola.records.results import Record
from tombola.search.connectivity import Line
from tombola.search.work import Cut, Pruned
from tombola.tickets import Ticket
from tombola.training.jobs import Job, Measured, Trained


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
class Trainings(Protocol):
    """What an arm asks of a pool: trainings to be done, kept and dropped, see `executors.Pool`."""

    def digest(self, job: Job) -> str:
        """Digest of a job on the pool's task."""

    def run_all(self, jobs: list[Job]) -> Sequence[Trained]:
        """Train jobs and return their results in order."""

    def evaluate(self, job: Job) -> Promise[tuple[Trained, Measured]]:
        """Train a ticket and test it; the result is not waited for."""

    def connect(self, first: Job, second: Job, /) -> Promise[tuple[Trained, Trained, Line]]:
        """Train two jobs and measure the line between them; the result is not waited for."""

    def cut(self, work: Cut) -> Promise[tuple[Pruned]]:
        """Train jobs and cut what they have learnt; the result is not waited for."""

    def needs(self, who: Hashable, digests: Iterable[str]) -> None:
        """Say which results somebody still needs: these, and no others any more."""


@runtime_checkable
class Folder(Protocol):
    """Where an arm finds what it did before and writes what it does, see `run_folder.RunFolder`."""

    @property
    def digest(self) -> str:
        """Digest of the recipe, which names the folder."""

    def arm_digest(self, name: str, /) -> str:
        """Digest of all that an arm's results depend on."""

    def definition(self, name: str, /) -> dict[str, Any]:
        """Return what an arm is, as its tickets say it."""

    def record(self, arm: str, replicate: int, index: int, /) -> Record | None:
        """Return the record of a round, if there is one."""

    def rounds_done(self, arm: str, replicate: int, /) -> list[Ticket]:
        """Return the tickets of an arm's rounds that are complete, in order."""

    def candidates(
        self, arm: str, replicate: int, index: int, like: Mask, /
    ) -> list[dict[str, Tensor]]:
        """Return the masks that a round's ticket was combined from."""

    def add_record(self, record: Record, /, *, anyway: bool = False) -> bool:
        """Write a record; returns whether it says anything new."""

    def keep_ticket(self, arm: str, replicate: int, index: int, ticket: Ticket, /) -> str:
        """Write a round's ticket and return its digest."""

    def keep_candidates(
        self, arm: str, replicate: int, index: int, candidates: Sequence[Mask], /
    ) -> None:
        """Write the masks that a round's ticket was combined from."""

    def keep_predictions(
        self, arm: str, replicate: int, index: int, predictions: NDArray[np.integer[Any]], /
    ) -> None:
        """Write what a round's ticket predicted for the test examples."""

    def keep_tensors(
        self, arm: str, replicate: int, index: int, tensors: Mapping[str, Tensor], /
    ) -> None:
        """Write what the task keeps of the test of a round's ticket besides."""

    def log_error(self, text: str, /) -> None:
        """Add to ``errors.log``."""

    def ended(self, arm: str, replicate: int, how: str, end: End, rounds: int, /) -> None:
        """Write how an arm ended."""


@dataclass(frozen=True)
class Shared:
    """What all arms of a run share.

    Attributes:
        plans: What the recipe says, checked.
        pool: Does the trainings of all arms, equal ones once.
        folder: Has what was done before, and takes what is done now.
        display: Shows progress.
        origin: What every ticket says of where it comes from.
        initial: Initial states, by replicate and by whether they were drawn anew.
        flops: Of one example, by the number of outputs, layer by layer.
        feeds: The rounds of each arm, for the arms that follow it.
        todo: Arms and replicates that are driven.
        stopped: Set when the run is stopped.
    """

    plans: Plans
    pool: Trainings
    folder: Folder
    display: Display
    origin: Mapping[str, Any]
    initial: Mapping[tuple[int, bool], State]
    flops: Mapping[int, Mapping[str, Flops]]
    feeds: Mapping[tuple[str, int], Feed]
    todo: Collection[tuple[str, int]]
    stopped: threading.Event

    def label(self, name: str, replicate: int, job: Job, purpose: str) -> None:
        """Show what a training of an arm is for."""
        text = f"replicate {replicate} · {name} · {purpose}"
        self.display.label(self.pool.digest(job), text)
