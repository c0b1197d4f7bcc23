"""Arms: one arm of one replicate, from its search to its tickets and records."""

from __future__ import annotations

import contextlib
import itertools
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from tombola import catalogue, rates
from tombola.errors import InputError, InvariantError, TrainingError
from tombola.executors import Pool
from tombola.jobs import Job, Measured, Trained
from tombola.masks import count, density, size
from tombola.partitions import Partition
from tombola.plans import Plans, replicate_seed
from tombola.rates import Amount, Count
from tombola.runs import RunFolder
from tombola.search import Round, find
from tombola.tickets import Ticket
from tombola.types import State

Cost = dict[str, tuple[int, float]]  # digest of a training -> examples seen, seconds


@runtime_checkable
class Display(Protocol):
    """What is told while arms run."""

    def label(self, digest: str, text: str) -> None:
        """Say what a training is for."""

    def result(self, record: Mapping[str, Any]) -> None:
        """Show a result."""

    def say(self, text: str) -> None:
        """Show a line."""


class Feed:
    """The masks of an arm's rounds as they come, for the arms that match it."""

    def __init__(self) -> None:
        self._masks: list[dict[str, Tensor]] = []
        self._changed = threading.Condition()
        self._failure: str | None = None

    def put(self, mask: dict[str, Tensor]) -> None:
        """Give the next round's mask."""
        with self._changed:
            self._masks.append(mask)
            self._changed.notify_all()

    def end(self, failure: str = "") -> None:
        """Say that no more come; with a failure the arms that match are skipped."""
        with self._changed:
            self._failure = failure
            self._changed.notify_all()

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for index in itertools.count():
            with self._changed:
                while len(self._masks) <= index and self._failure is None:
                    self._changed.wait()
                if len(self._masks) <= index:
                    if self._failure:
                        raise SourceFailedError(self._failure)
                    return
                mask = self._masks[index]
            yield mask


class SourceFailedError(Exception):
    """The arm that another one matches has failed."""


@dataclass(frozen=True)
class Shared:
    """What all arms of a run share."""

    plans: Plans
    pool: Pool
    folder: RunFolder
    display: Display
    origin: Mapping[str, Any]
    initial: Mapping[int, State]
    feeds: Mapping[tuple[str, int], Feed]
    stopped: threading.Event


@dataclass
class _Ticket:
    """A round whose evaluation is under way."""

    index: int
    digest: str
    facts: dict[str, Any]
    search: Cost
    future: Future[tuple[Trained, Measured]]


class ArmRun:
    """Drives one arm of one replicate, and turns every round into a ticket and a record."""

    def __init__(self, shared: Shared, name: str, replicate: int) -> None:
        self.shared, self.name, self.replicate = shared, name, replicate
        self.plans, self.pool, self.folder = shared.plans, shared.pool, shared.folder
        self.recipe = self.plans.recipe
        self.arm = self.recipe.arms[name]
        self.seed = replicate_seed(self.recipe, replicate)
        self.feed = shared.feeds[name, replicate]
        self._index = 0  # the round that is under way, for messages
        self._rounds = 0  # those that have a ticket
        self._waiting: list[_Ticket] = []
        self._search: Cost = {}
        self._evaluated: Cost = {}
        self._seconds = 0.0
        self._valid_accuracy: dict[int, float] = {}

    def run(self) -> str:
        """Run the arm to its end.

        Returns:
            "finished", "failed", "skipped", or "open" when the run was stopped; what an arm can meet is noted in the
            run folder and never raised.
        """
        how, why = "finished", ""
        try:
            why = self._run()
        except SourceFailedError as error:
            how, why = "skipped", f"source failed: {error}"
        except (TrainingError, InvariantError, InputError) as error:
            how, why = "failed", f"round {self._index}: {error}"
        except Exception as error:  # an arm's own code, such as a score of the user's
            if self.shared.stopped.is_set():
                return "open"  # whatever went wrong did so because the run is being stopped
            with (self.folder.path / "errors.log").open("a", encoding="utf-8") as log:
                log.write(f"arm {self.name}, replicate {self.replicate}, round {self._index}\n")
                traceback.print_exc(file=log)
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
        plans = self.plans
        if not self.arm.searches and self.folder.record(self.name, self.replicate, 0) is not None:
            return ""
        done = self.folder.rounds_done(self.name, self.replicate)
        job, parent = self._begin(done)
        for index, ticket in enumerate(done, 1):
            self.feed.put(dict(ticket.mask))
            self._rounds = index
            if (stopped := self._stop(index, ticket.mask)) is not None:
                return stopped
        if not self.arm.searches:
            self._write_until(0)
            return ""

        partitions = plans.partitions(self.arm, self.replicate)
        search = find(
            job,
            partitions,
            itertools.islice(self._amounts(), len(done), None),
            run_all=self._run_all,
            score=catalogue.entry("tombola.scores", self.arm.score),
            scope=plans.scope(self.arm),
            first=len(done) + 1,
            allow_collapse=self.arm.allow_collapse,
        )
        before, self._index = job.mask, len(done)
        while True:
            self._index += 1
            try:
                found = next(search)
            except StopIteration as end:
                why: str | None = end.value
                break
            parent = self._keep(found, before, parent, partitions)
            before = found.mask
            self.feed.put(found.mask)
            self._rounds = found.index
            if (why := self._stop(found.index, found.mask)) is not None:
                break
            self._write_done()
        self._write_until(self._index)
        return why or ""

    def _begin(self, done: list[Ticket]) -> tuple[Job, str | None]:
        """Return the training that the search starts from, and its ticket's digest, after the rounds that are done."""
        recipe, plans = self.recipe, self.plans
        initial = self.shared.initial[self.replicate]
        dense = Job(initial, plans.mask, recipe.training, self.seed)
        start = dense
        if done:
            self._take_up(done)
            last = done[-1]
            start = Job(last.rewind_point, dict(last.mask), recipe.training, self.seed, first=recipe.rewind)
            # What the arm has cost so far. The evaluation of the last ticket is LTH's search of the next round, so
            # it stands under its own digest and is counted once.
            record = self.folder.record(self.name, self.replicate, len(done))
            assert record is not None
            samples, seconds = record["samples_seen_search"], record["seconds_search"]
            self._search["before"] = samples, seconds
            rest = record["samples_seen"] - samples, record["seconds"] - seconds
            self._evaluated[self.pool.digest(start)] = rest
            self._seconds = record["seconds"]
            return start, last.digest
        if recipe.rewind:
            point = self._run_all([Job(initial, plans.mask, recipe.training, self.seed, last=recipe.rewind)])[0].final
            start = Job(point, plans.mask, recipe.training, self.seed, first=recipe.rewind)
        self._evaluate(0, dense, {"rewind_digest": start.start_digest, "kept_fraction": None, "invariant_seconds": 0.0})
        return start, None

    def _take_up(self, done: list[Ticket]) -> None:
        for index in range(len(done) + 1):
            record = self.folder.record(self.name, self.replicate, index)
            if record is not None and record["valid_accuracy"] is not None:
                self._valid_accuracy[index] = record["valid_accuracy"]

    def _amounts(self) -> Iterable[Amount]:
        if self.arm.match is None:
            return self.plans.amounts(self.arm)
        scope = self.plans.scope(self.arm)
        source = self.shared.feeds[self.arm.match, self.replicate]
        return (Count(rates.kept_by_group(mask, scope)) for mask in source)

    def _run_all(self, jobs: list[Job]) -> list[Trained]:
        for number, job in enumerate(jobs, 1):
            of = f", partition {number} of {len(jobs)}" if len(jobs) > 1 else ""
            self._label(job, f"round {self._index}{of}")
        trained = self.pool.run_all(jobs)
        for job, one in zip(jobs, trained, strict=True):
            self._search[self.pool.digest(job)] = one.samples, one.seconds
        return trained

    def _label(self, job: Job, what: str) -> None:
        self.shared.display.label(self.pool.digest(job), f"replicate {self.replicate} · {self.name} · {what}")

    def _evaluate(self, index: int, job: Job, facts: dict[str, Any]) -> None:
        """Have a ticket trained on the full data and tested; its record follows when that is done."""
        self._label(job, f"round {index}, evaluation" if index else "dense")
        facts |= {
            "kept": count(job.mask),
            "prunable": size(job.mask),
            "total": self.plans.total,
            "density": density(job.mask),
            "density_total": density(job.mask, self.plans.total),
            "mask_digest": job.mask_digest,
        }
        future = self.pool.evaluate(job)
        self._waiting.append(_Ticket(index, self.pool.digest(job), facts, dict(self._search), future))

    def _keep(self, found: Round, before: Mapping[str, Tensor], parent: str | None, partitions: list[Partition]) -> str:
        """Write the ticket of a round and have it evaluated; returns the ticket's digest."""
        origin = dict(self.shared.origin) | {
            "arm": self.name,
            "method": self.folder.definition(self.name),
            "round": found.index,
            "replicate": self.replicate,
            "seeds": {"recipe": self.recipe.seed, "replicate": self.seed},
            "partitions": [part.describe() for part in partitions],
            "parent": parent,
        }
        path = self.folder.ticket_path(self.name, self.replicate, found.index)
        digest = Ticket(found.mask, dict(found.job.start), origin, self.plans.total).save(path)
        facts = {
            "rewind_digest": found.job.start_digest,
            "kept_fraction": count(found.mask) / count(before),
            "candidate_densities": [density(candidate) for candidate in found.candidates],
            "collapsed": found.collapsed,
            "invariant_seconds": found.invariant_seconds,
        }
        self._evaluate(found.index, found.job, facts)
        return digest

    def _stop(self, index: int, mask: Mapping[str, Tensor]) -> str | None:
        """Return why the search stops after this round (nothing to say: an empty text), ``None`` to go on."""
        until = self.recipe.until
        if self.arm.match is not None:
            return None  # it ends when the arm that it follows ends
        if until.accuracy_drop is not None:
            self._write_until(index)
            if not self._passes(index):
                dense, ticket = self._valid_accuracy[0], self._valid_accuracy[index]
                result = f"round {index - 1} is the result" if index > 1 else "no ticket passes"
                return (
                    f"validation accuracy {ticket:.2%} in round {index} is more than {until.accuracy_drop:.2%} "
                    f"below dense ({dense:.2%}): {result}"
                )
        if until.rounds is not None and index >= until.rounds:
            return ""
        if until.density is not None and density(mask) <= until.density:
            return ""
        if until.density_total is not None and density(mask, self.plans.total) <= until.density_total:
            return ""
        return None

    def _passes(self, index: int) -> bool | None:
        """Whether a ticket is as accurate as the recipe asks, on validation data; ``None`` where it does not ask."""
        if self.recipe.until.accuracy_drop is None:
            return None
        # Differences of counts: without the little more, 0.97 would be more than 0.01 below 0.98.
        return self._valid_accuracy[0] - self._valid_accuracy[index] <= self.recipe.until.accuracy_drop + 1e-9

    def _write_what_succeeded(self) -> None:
        """Write the records of tickets whose evaluation succeeds, though the arm has failed."""
        for ticket in self._waiting:
            with contextlib.suppress(Exception):  # what this evaluation met is told already, or follows from it
                self._write(ticket)

    def _write_done(self) -> None:
        """Write the records whose evaluation is done, as far as they follow each other."""
        while self._waiting and self._waiting[0].future.done():
            self._write(self._waiting.pop(0))

    def _write_until(self, index: int) -> None:
        """Wait for the evaluations up to a round and write their records."""
        while self._waiting and self._waiting[0].index <= index:
            self._write(self._waiting.pop(0))

    def _write(self, ticket: _Ticket) -> None:
        self._index, under_way = ticket.index, self._index
        trained, measured = ticket.future.result()
        self._index = under_way
        self._evaluated[ticket.digest] = trained.samples, trained.seconds
        searched, both = ticket.search.values(), (ticket.search | self._evaluated).values()
        seconds = sum(s for _, s in both)
        valid = measured.valid
        record: dict[str, Any] = {
            "arm": self.name,
            "arm_digest": self.folder.arm_digest(self.name),
            "replicate": self.replicate,
            "round": ticket.index,
            **ticket.facts,
            "test_accuracy": measured.test.accuracy,
            "test_loss": measured.test.loss,
            "valid_accuracy": valid and valid.accuracy,
            "valid_loss": valid and valid.loss,
            "train_accuracy": measured.train.accuracy,
            "train_loss": measured.train.loss,
            "early_stop_step": trained.early_step,
            "test_accuracy_early": measured.early and measured.early.accuracy,
            "selected": trained.select if valid else f"{trained.select}, selected without validation data",
            "samples_seen": sum(s for s, _ in both),
            "samples_seen_search": sum(s for s, _ in searched),
            "seconds": seconds,
            "seconds_search": sum(s for _, s in searched),
            "round_seconds": seconds - self._seconds,
        }
        self._seconds = seconds
        if valid:
            self._valid_accuracy[ticket.index] = valid.accuracy
        record["passes"] = self._passes(ticket.index)
        predictions = measured.test.predictions.cpu().numpy()
        self.folder.keep_predictions(self.name, self.replicate, ticket.index, predictions)
        if self.folder.records.add(record):
            self.shared.display.result(record)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
