"""Run folder: the folder of a run to work in, made or found again.

recipe, data -> [ lock, check what is there ] -> tickets, candidates, predictions, records
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from tombola.folder.candidates import pack
from tombola.folder.contents import wrong_with_pictures
from tombola.folder.environments import check_same_inputs, environment
from tombola.folder.identity import folder_of, run_digest
from tombola.folder.locking import lock
from tombola.folder.opening import read_about
from tombola.folder.predictions import Classes
from tombola.folder.runs import Run
from tombola.folder.sealing import seal, write_about
from tombola.ground.endings import End
from tombola.ground.errors import ConfigError, DamagedError
from tombola.ground.files import clear_parts
from tombola.ground.metrics import CLASSIFIED, Metric
from tombola.ground.types import Mask
from tombola.records import choosing
from tombola.records.layout import Layout
from tombola.records.records import Record
from tombola.records.seals import Seals
from tombola.records.storage import log_error
from tombola.schema.recipe import Recipe
from tombola.tickets import RewindPoints, Ticket

if TYPE_CHECKING:
    from torch import Tensor


class RunFolder(Run):
    """The folder of a run to work in, made or found again; nobody else may work there meanwhile.

    Args:
        recipe: The recipe; with its name it says which folder.
        parent: Folder of all runs.
        fingerprint: Of the data.
        facts: What the page says of the run.
        tell: Called with a line about each file that is damaged or half-written.
        metrics: What the task measures, the headline first.

    Attributes:
        path: The folder.

    Raises:
        ConfigError: Another process works there, it is of another version or recipe, the data
            differ from those it began with, or an arm has changed under its old name.
        DiskError: It cannot be written to.
    """

    def __init__(
        self,
        recipe: Recipe,
        parent: Path,
        fingerprint: str,
        facts: Mapping[str, str] | None = None,
        tell: Callable[[str], None] = lambda _: None,
        metrics: Sequence[Metric] = CLASSIFIED,
    ) -> None:
        self.recipe = recipe
        self.metrics = tuple(metrics)
        self.digest = run_digest(recipe)
        self.path = folder_of(recipe, parent)
        self.facts = dict(facts or {})
        self.notes = []
        self._tell = tell
        # Evaluated rounds whose predictions were damaged: they are evaluated again.
        self._to_evaluate_again: set[tuple[str, int, int]] = set()
        self._lock = lock(self.path)
        self.layout = Layout.of(self.path)
        try:
            self._open(fingerprint)
        except BaseException:
            self.close()
            raise
        self._endings_lock = threading.Lock()
        # One object for the whole run, so that each start is encoded and checked once.
        self._points = RewindPoints(self.rewind_points)

    def _open(self, fingerprint: str) -> None:
        clear_parts(self.path)
        # All reasons to refuse the folder come before the first change to a file of it.
        about = read_about(self.layout)
        if about is not None:
            Run(self.path).going_on(self.recipe)
        self.seals = Seals(self.path, self.digest, required=about is None or "seals" in about)
        environments = self._check_environment(environment(self.recipe, fingerprint))
        arms = self.definitions() | {name: self.definition(name) for name in self.recipe.arms}

        self.records = self._records(repair=True)
        self._endings = self._read_endings()
        if self.records.repaired:
            self.say("the last record was half written; its round is done again")
        self._check_results()
        # The digests first: what is written from here on has them.
        if not self.sealed:
            seal(self)
        self.seals.write_json(self.layout.environments, environments)
        self.seals.write_json(self.layout.arms, arms)
        write_about(self)

    def say(self, text: str) -> None:
        """Tell something, and note it in ``errors.log``; each text once."""
        if text not in self.notes:
            self.notes.append(text)
            self.log_error(f"{text}\n")
            self._tell(text)

    def _check_results(self) -> None:
        """Say which results are gone; rounds whose predictions are damaged are evaluated again."""
        for text in self._lost_rounds():
            self.say(text)
        for record in self.records.all():
            arm, replicate, index = record["arm"], record["replicate"], record["round"]
            if not record["evaluated"]:
                continue
            for files in (self.prediction_files, self.kept_files):
                path = files.path(arm, replicate, index)
                if not path.exists():
                    continue
                try:
                    files.read(path)
                except DamagedError as error:
                    self.say(
                        f"{error}: arm {arm}, replicate {replicate}, round {index} is evaluated "
                        "again"
                    )
                    self._to_evaluate_again.add((arm, replicate, index))
                    path.unlink()

    def record(self, arm: str, replicate: int, index: int) -> Record | None:
        """Return the result of a round; one whose predictions were damaged counts as not
        evaluated.
        """
        record = super().record(arm, replicate, index)
        if record is not None and (arm, replicate, index) in self._to_evaluate_again:
            return {**record, "evaluated": False}
        return record

    def finished(self, arm: str, replicate: int) -> bool:
        """Whether an arm of a replicate has nothing left to do."""
        has_damaged = any(round_[:2] == (arm, replicate) for round_ in self._to_evaluate_again)
        return not has_damaged and super().finished(arm, replicate)

    def _check_environment(self, now: dict[str, Any]) -> list[dict[str, Any]]:
        """Refuse data or code of the user's that differs from what the run began with; return all
        its environments.
        """
        known = self.environments()
        for before in known:
            check_same_inputs(now, before, self.path)
        return known if now in known else [*known, now]

    def add_record(self, record: Record, *, anyway: bool = False) -> bool:
        """Write a result down, see `Records.add`."""
        return self.records.add(record, anyway=anyway)

    def keep_ticket(self, arm: str, replicate: int, index: int, ticket: Ticket) -> str:
        """Write the ticket of a round and return its file's digest; the state it starts from is
        kept once.
        """
        path = self.layout.ticket(arm, replicate, index, ticket.density)
        return ticket.save(path, self._points)

    def keep_candidates(
        self, arm: str, replicate: int, index: int, candidates: Sequence[Mask]
    ) -> None:
        """Keep the mask of every partition, eight weights a byte."""
        self.seals.write_tensors(self.candidates_path(arm, replicate, index), pack(candidates))

    def keep_predictions(self, arm: str, replicate: int, index: int, predictions: Classes) -> None:
        """Keep what a ticket predicts for every test example, a byte or two each."""
        self.prediction_files.write(self.prediction_files.path(arm, replicate, index), predictions)
        self._to_evaluate_again.discard((arm, replicate, index))

    def keep_tensors(
        self, arm: str, replicate: int, index: int, tensors: Mapping[str, Tensor]
    ) -> None:
        """Keep what the task keeps of a ticket's test besides."""
        self.kept_files.write(self.kept_files.path(arm, replicate, index), tensors)
        self._to_evaluate_again.discard((arm, replicate, index))

    def keep_labels(self, labels: Classes) -> None:
        """Keep the classes of the test examples, so that the report needs no data."""
        try:
            known = self.labels()
            if known is not None and np.array_equal(known, labels):
                return
        except DamagedError as error:
            self.say(str(error))
        self.prediction_files.write(self.prediction_files.labels_path, labels)

    def keep_pictures(self, pictures: Mapping[str, Tensor]) -> None:
        """Keep a few test pictures with what they show, so that the report needs no data."""
        if reason := wrong_with_pictures(pictures):
            raise ConfigError(f"examples_shown of the task {reason}")
        try:
            if self.pictures():
                return
        except DamagedError as error:
            self.say(str(error))
        self.seals.write_tensors(self.layout.pictures, pictures)

    def log_error(self, text: str) -> None:
        """Add a traceback to ``errors.log``."""
        log_error(self.path, text)

    def ended(self, arm: str, replicate: int, how: str, end: End, rounds: int) -> None:
        """Note how an arm of a replicate ended, and after how many rounds."""
        with self._endings_lock:
            state = {"state": how, "why": str(end), "rounds": rounds, "goal": self._goal(arm)}
            if end:
                state["end"] = end.to_dict()
            self._endings[f"{arm}/{replicate}"] = state
            self.seals.write_json(self.layout.states, self._endings)

    def clear_trainings(self) -> None:
        """Drop the trainings of a complete run, but those that the recipe says to keep and the
        dense network's.
        """
        self.store(self.say).keep_only(self.trainings_to_keep())

    def trainings_to_keep(self) -> set[str]:
        """Return the digests of the trainings that stay when nothing more is done."""
        dense: list[Record] = []
        by_arm: dict[tuple[str, int], list[Record]] = {}
        for record in self.records.all():  # they come by round
            if record["evaluated"]:
                by_arm.setdefault((record["arm"], record["replicate"]), []).append(record)
                if record["round"] == 0:
                    dense.append(record)
        recipe = self.recipe
        kept = choosing.kept(recipe.keep, by_arm.values(), recipe.compared_at, self.metrics[0])
        return {record["training_digest"] for record in (*dense, *kept)}

    def close(self) -> None:
        """Release the folder."""
        self._lock.close()
