"""Runs: the folder of one experiment.

    recipe.yaml         the resolved recipe, every default written out
    tickets/            the masks that were found, and the states that they start from
    report.html ...     tables, figures and page

    machine/
      run.json          what made the folder: format, digest, and what its page says of the run
      environment.json  versions, machine, fingerprint of the data
      arms.json         the definition of every arm that ever ran here
      records.jsonl     one line per result
      state.json        how each arm of each replicate ended
      similarity.jsonl  what the tickets of two arms prune alike, see `tombola.folder.similarity`
      latency.json      how long networks took, see `tombola.experiments.latency`
      candidates/       ARM/replicate-K/round-RRR.safetensors, the packed mask of every partition
      predictions/      ARM/replicate-K/round-RRR.npy, the predicted class of every test example,
                        and labels.npy, its own; of a packed run in one predictions.npz;
                        round-RRR.safetensors, what else the task keeps of a test;
                        pictures.safetensors, test pictures that the page shows
      trainings/        trained weights, by digest: all that is needed while the run is not
                        complete, then those to keep

Where each of them lies, in older folders too, is known to `tombola.records.layout` alone.

The folder is the source of truth: all that a report shows can be made from it again. So every file
of it that is read back carries a digest over its content, see `tombola.records.seals`; tickets and
rewind points have their own. Folders of before there were any have a ``run.json`` without
``seals``; one that is worked in again gets them.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tombola import ticket_format
from tombola.folder.contents import (
    check_endings,
    check_environments,
    check_latency,
    check_similarity,
    wrong_with_pictures,
)
from tombola.folder.identity import definition_of, differing, run_digest, shared
from tombola.folder.kept import Kept
from tombola.folder.opening import (
    WRITTEN_ANEW,
    advising,
    read_about,
    read_recipe,
    without_weights,
)
from tombola.folder.predictions import Classes, Predictions
from tombola.ground.checking import check_in_file
from tombola.ground.endings import Ending
from tombola.ground.errors import ConfigError, DamagedError, TicketError, near
from tombola.ground.notebooks import card, one_line
from tombola.records import choosing
from tombola.records.best import Best, of_record
from tombola.records.layout import Layout, in_round
from tombola.records.records import Record, Records
from tombola.records.results import lacking
from tombola.records.seals import Seals
from tombola.records.storage import Store
from tombola.schema.recipe import Decision, Recipe, section

if TYPE_CHECKING:
    from torch import Tensor

    from tombola.ground.types import Mask
    from tombola.tickets import Ticket

_AGAIN = "move it away, and running the recipe does its round again"
# of a run's records, too
_FIELDS = ("density_total", "kept_fraction", "early_stop_step", "selected", "seconds")
UNSEALED = (
    "this run was made before files carried digests of their contents: one that was altered or "
    "damaged since is seen only where it cannot be read any more"
)


class Run:
    """A run folder to be read: what it was, what it has.

    Args:
        path: The folder.

    Raises:
        ConfigError: It is no run folder, or one of another version, or something in it is damaged.
    """

    # What the recipe says, of a run that is judged by other entries of ``verdict``.
    own_verdict: Decision | None = None

    def __init__(self, path: str | Path) -> None:
        path = self.path = Path(path)
        self.layout = Layout.of(path)
        about = read_about(self.layout)
        if about is None:
            raise ConfigError(f"'{path}' is no run folder: it has no run.json")
        self.facts: dict[str, str] = about.get("facts", {})
        self.metrics = choosing.metrics_of(path)
        self.digest: str = about["digest"]
        self.seals = Seals(path, self.digest, required="seals" in about)
        self.notes: list[str] = []
        self.recipe = read_recipe(self, about)
        self.records = self._records(repair=False)
        self._endings = self._read_endings()
        if self.records.repaired:
            self.notes.append(
                "the last record is half written, and left out; running the recipe does its round "
                "again"
            )
        self.notes += self._lost_rounds()
        if absent := lacking(self.records.all()):
            self.notes.append(
                f"the records are of an older version and have no {', '.join(absent)}: what rests "
                "on these is left out"
            )
        if not self.sealed:
            self.notes.append(UNSEALED)

    def __repr__(self) -> str:
        return one_line("Run", str(self.path), self._size, self._progress)

    def _repr_html_(self) -> str:
        facts = {**self.facts, "arms": ", ".join(self.recipe.arms), "results": self._size}
        facts |= {"state": self._progress, "folder": str(self.path)}
        return card(self.path.name, facts, "; ".join(self.notes))

    @property
    def _size(self) -> str:
        arms, replicates = len(self.recipe.arms), self.recipe.replicates
        return f"{arms} arms x {replicates} replicates, {len(self.records)} results"

    @property
    def _progress(self) -> str:
        arms_of_replicates = itertools.product(self.recipe.arms, range(self.recipe.replicates))
        finished = list(itertools.starmap(self.finished, arms_of_replicates))
        return "complete" if all(finished) else f"{sum(finished)} of {len(finished)} finished"

    @property
    def own_recipe(self) -> Recipe:
        """The recipe as it is in the folder, whatever the run is judged by."""
        if self.own_verdict is None:
            return self.recipe
        return replace(self.recipe, verdict=self.own_verdict)

    @property
    def sealed(self) -> bool:
        """Whether every file carries a digest over its content, see `tombola.records.seals`."""
        return self.seals.required

    def _records(self, *, repair: bool) -> Records:
        return Records(
            self.layout.records,
            repair=repair,
            order=list(self.recipe.arms),
            seals=self.seals,
            fields=_FIELDS,
            metrics=self.metrics,
        )

    def _json(
        self,
        path: Path,
        hint: Any,
        check: Callable[[Path, Any], None] | None = None,
        advice: str = WRITTEN_ANEW,
    ) -> Any:
        """Read a file of the folder, whose value is of a type and passes a check; ``None``
        where there is none.
        """
        with advising(advice):
            try:
                value = self.seals.read_json(path)
            except FileNotFoundError:
                return None
            check_in_file(path, "it", value, hint)
            if check is not None:
                check(path, value)
        return value

    def _read_endings(self) -> dict[str, Any]:
        """Read how arms ended."""
        return self._json(self.layout.states, dict[str, dict[str, Any]], check_endings) or {}

    def _lost_rounds(self) -> list[str]:
        """Say which rounds of finished arms have lost their results."""
        notes = []
        for key, ending in self._endings.items():
            arm, _, replicate = key.rpartition("/")
            if ending["state"] != "finished" or arm not in self.recipe.arms:
                continue
            lost = []
            for index in range(ending.get("rounds", 0) + 1):
                if self.records.get(arm, int(replicate), index) is None:
                    lost.append(str(index))
            if lost:
                notes.append(
                    f"arm {arm}, replicate {replicate}, has no results of round {', '.join(lost)} "
                    "any more; running the recipe has them again"
                )
        return notes

    def judge_by(self, changes: Mapping[str, Any]) -> None:
        """Judge by other entries of ``verdict`` than the recipe's own, which the report says; the
        folder's recipe stays as it is.

        Raises:
            ConfigError: There is no such entry, or its value will not do.
        """
        in_recipe = dataclasses.asdict(self.recipe.verdict)
        verdict = section(Decision, in_recipe | dict(changes), "verdict")
        for name, value in dataclasses.asdict(verdict).items():
            if value != in_recipe[name]:
                self.notes.append(
                    f"judged by verdict.{name} {_in_yaml(value)}; the recipe of the run has "
                    f"{_in_yaml(in_recipe[name])}"
                )
        self.own_verdict = self.recipe.verdict
        self.recipe = replace(self.recipe, verdict=verdict)

    def environments(self) -> list[dict[str, Any]]:
        """Return what the run's figures were made with, one entry for each machine and version."""
        path = self.layout.environments
        return self._json(path, list[dict[str, Any]], check_environments) or []

    def definitions(self) -> dict[str, Any]:
        """Return the definitions of all arms that ever ran here, by name."""
        return self._json(self.layout.arms, dict[str, dict[str, Any]]) or {}

    def definition(self, name: str) -> dict[str, Any]:
        """Return what an arm is, as plain data; of one that follows another, that other's too."""
        return definition_of(self.recipe, name)

    def arm_digest(self, name: str) -> str:
        """Digest of an arm's definition."""
        return ticket_format.digest_json(self.definition(name))

    def best(
        self,
        arm: str | None = None,
        at: float | None = None,
        *,
        replicate: int | None = None,
        round: int | None = None,
    ) -> Best:
        """Return the ticket that is best on validation data, with its trained weights.

        The test split chooses nothing. ``best().test`` is what the report has of it there.

        Args:
            arm: Of this arm; of all that search, and of no control, if not given.
            at: Of at most this density, 0 to 1.
            replicate: Of this one.
            round: Of this one; 0 is the dense network.

        Raises:
            InputError: There is no such ticket, or its trained weights were not kept (``keep`` of
                the recipe).
        """
        if arm is not None and arm not in self.definitions():
            raise ConfigError(
                f"'{self.path}' has no arm '{arm}'; it has: {', '.join(self.definitions())}."
                f"{near(arm, self.definitions())}"
            )
        arms = choosing.searching(self.definitions(), dense=round == 0) if arm is None else [arm]
        record = choosing.best(
            self.records.all(),
            arms=arms,
            at=at,
            replicate=replicate,
            round=round,
            metric=self.metrics[0],
        )
        return of_record(self.path, record, self.recipe.keep)

    def record(self, arm: str, replicate: int, index: int) -> Record | None:
        """Return the result of a round, or ``None`` where there is none yet."""
        return self.records.get(arm, replicate, index)

    @property
    def begun(self) -> bool:
        """Whether there is a result, or a finished training whose result is still to be taken."""
        return len(self.records) > 0 or any(self.trainings.glob("*.training"))

    def has_trained(self, digest: str) -> bool:
        """Whether a training is kept here, by its job's digest."""
        from tombola.search.work import Train

        return Store(self.trainings).kept(Train, digest)

    def rounds_done(self, arm: str, replicate: int) -> list[Ticket]:
        """Return the tickets of the first rounds that have both a ticket and a record, without
        a gap.
        """
        tickets: list[Ticket] = []
        points: dict[Path, ticket_format.RewindPoint] = {}
        before: Record | None = self.record(arm, replicate, 0)
        if before is None:
            return tickets
        while (record := self.record(arm, replicate, len(tickets) + 1)) is not None:
            path = self.ticket_path(arm, replicate, len(tickets) + 1)
            if not path.exists():
                break
            ticket = _ticket_of(record, path, points)
            # Rounds that rewind to the same point hold it once.
            if tickets and record["rewind_digest"] == before["rewind_digest"]:
                ticket = replace(ticket, rewind_point=tickets[-1].rewind_point)
            tickets.append(ticket)
            before = record
        # Partitions that search independently go on with their own candidates, so a round without
        # them is done again.
        if self.recipe.arms[arm].independent_partitions and not self.finished(arm, replicate):
            while tickets:
                if self._has_candidates(arm, replicate, len(tickets), tickets[-1].mask):
                    break
                tickets.pop()
        return tickets

    def _has_candidates(self, arm: str, replicate: int, index: int, like: Mask) -> bool:
        try:
            self.candidates(arm, replicate, index, like)
        except ConfigError as error:
            self.say(f"{error}; arm {arm}, replicate {replicate}, does round {index} again")
            return False
        return True

    def say(self, text: str) -> None:
        """Note in ``notes`` what somebody who works in the folder must know."""
        if text not in self.notes:
            self.notes.append(text)

    def ticket_path(self, arm: str, replicate: int, index: int) -> Path:
        """Where the ticket of a round is kept."""
        record = self.records.get(arm, replicate, index)
        density = None if record is None else record["density"]
        return self.layout.ticket(arm, replicate, index, density)

    def mask(self, arm: str, replicate: int, index: int) -> Mask:
        """Return the mask of a round's ticket, by names of weights, without its values.

        Raises:
            TicketError: The file is missing or damaged.
        """
        import torch

        path = self.ticket_path(arm, replicate, index)
        try:
            file = ticket_format.read(path)
        except TicketError as error:
            raise _advised(error, path) from error
        record = self.record(arm, replicate, index)
        differs = record is not None and record["mask_digest"] != file.mask_digest
        if differs or not is_of_round(file.origin, arm, replicate, index):
            raise TicketError(f"'{path}' is not the ticket that the records tell of; {_AGAIN}")
        return {name: torch.from_numpy(file.keep(name)) for name in file.shapes}

    @property
    def rewind_points(self) -> Path:
        """Where the states that tickets start from are kept, each once."""
        return self.layout.rewind_points

    def candidates_path(self, arm: str, replicate: int, index: int) -> Path:
        """Where the masks of a round's partitions are kept."""
        return in_round(self.layout.candidates, arm, replicate, index, ".safetensors")

    def candidates(
        self, arm: str, replicate: int, index: int, like: Mask
    ) -> list[dict[str, Tensor]]:
        """Return the mask of every partition of a round, before they were combined.

        Args:
            arm: Its name.
            replicate: Its number.
            index: The round.
            like: A mask of the same names and shapes.

        Raises:
            ConfigError: The file is not there, or not what was written.
        """
        from tombola.folder.candidates import unpack

        path = self.candidates_path(arm, replicate, index)
        try:
            packed = self.seals.read_tensors(path)
        except FileNotFoundError as error:
            raise ConfigError(f"'{path}' is not there") from error
        return unpack(path, packed, like)

    @property
    def packed(self) -> bool:
        """Whether the folder holds what a run found without its weights, see
        `tombola.folder.packing`.
        """
        return self.layout.packed

    @property
    def prediction_files(self) -> Predictions:
        """The files with what tickets predict for the test examples, and with the labels."""
        # Made anew each time: a folder of before there were digests gets other seals.
        return Predictions(self.layout, self.seals, tuple(self.recipe.arms))

    @property
    def kept_files(self) -> Kept:
        """The files with what the task keeps of each test besides."""
        return Kept(self.layout, self.seals)

    def kept(self, arm: str, replicate: int, index: int) -> dict[str, Tensor]:
        """Return what the task keeps of the test of a round, by name, such as detections; empty
        where it keeps nothing.

        Raises:
            ConfigError: The file is damaged.
        """
        return self.kept_files.of(arm, replicate, index)

    def predictions(self) -> dict[str, Classes]:
        """Return the predicted class of every test example, shape [examples], by
        "arm/replicate-K/round-RRR".

        Raises:
            ConfigError: A file is damaged.
        """
        return self.tested()[1]

    def tested(self) -> tuple[Classes | None, dict[str, Classes]]:
        """Return the labels and the predictions, read once; see `labels` and `predictions`.

        Raises:
            ConfigError: A file is damaged.
        """
        return self.prediction_files.with_labels()

    def labels(self) -> Classes | None:
        """Return the class of every test example, shape [examples]; ``None`` in runs of before they
        were kept.

        Raises:
            ConfigError: The file is damaged.
        """
        return self.prediction_files.labels()

    def pictures(self) -> dict[str, Tensor]:
        """Return a few test pictures with what they show (`Task.examples_shown`); nothing where
        there are none.

        Raises:
            ConfigError: The file is damaged.
        """
        path = self.layout.pictures
        if not path.exists():
            return {}
        with advising("running the recipe makes it again"):
            pictures = self.seals.read_tensors(path)
            if reason := wrong_with_pictures(pictures):
                raise DamagedError(f"'{path}' is damaged: it {reason}")
        return pictures

    def similarities(self) -> list[dict[str, Any]]:
        """Return what was counted of pairs of tickets (`tombola.folder.similarity`); nothing where
        no two arms search.

        Raises:
            ConfigError: The file is damaged.
        """
        path = self.layout.similarities
        if not path.exists():
            return []
        lines: list[dict[str, Any]] = []
        with advising("take the file away; where tickets are, running the recipe counts again"):
            for number, line in enumerate(self.seals.read_lines(path), 1):
                check_similarity(line, f"line {number} of '{path}' is damaged")
                lines.append(line)
        return lines

    def latency(self) -> dict[str, Any]:
        """Return how long the dense network and tickets took (`tombola.experiments.latency`);
        nothing where not known.

        Raises:
            ConfigError: The file is damaged.
        """
        advice = "take the file away; where tickets are, running the recipe measures again"
        return self._json(self.layout.latency, dict[str, Any], check_latency, advice) or {}

    @property
    def trainings(self) -> Path:
        """Where trained weights are kept."""
        return self.layout.trainings

    def store(self, tell: Callable[[str], None]) -> Store:
        """Return the finished trainings that are kept, which tell of each file that is not what
        was written.
        """
        return Store(self.trainings, tell=tell, sealed=self.sealed)

    def finished(self, arm: str, replicate: int) -> bool:
        """Whether an arm of a replicate has nothing left to do: it ended so, and what it made
        is still there.
        """
        ending = self.ending(arm, replicate)
        if ending.state != "finished" or ending.goal != self._goal(arm):
            return False
        rounds = [*range(ending.rounds + 1)]
        method = self.recipe.arms[arm]
        # A network that is trained as long as a search has one more result, under the number of
        # that search's last round.
        if method.source is not None and not method.has_tickets:
            rounds.append(self.ending(method.source, replicate).rounds)
        if any(self.record(arm, replicate, index) is None for index in rounds):
            return False
        if ending.packed or self.packed:
            return True
        tickets = (self.ticket_path(arm, replicate, k) for k in range(1, ending.rounds + 1))
        return all(path.exists() for path in tickets)

    def _goal(self, arm: str) -> dict[str, Any]:
        """Return how far an arm is to go: what may change without making it another arm."""
        goal = {
            "until": dataclasses.asdict(self.recipe.until),
            "evaluate_at": self.recipe.arms[arm].evaluate_at,
        }
        plain: dict[str, Any] = json.loads(json.dumps(goal))  # as it stands in the file
        return plain

    def ending(self, arm: str, replicate: int) -> Ending:
        """How an arm of a replicate ended."""
        ending: dict[str, Any] = {"state": "open", "why": "", "rounds": 0, "goal": {}}
        in_file = self._endings.get(f"{arm}/{replicate}", {})
        # Entries that another version has written beside these are left out.
        for field in dataclasses.fields(Ending):
            if field.name in in_file:
                ending[field.name] = in_file[field.name]
        return Ending(**ending)

    def states(self) -> dict[str, Any]:
        """Return how all arms ended, by "arm/replicate"."""
        return dict(self._endings)

    def going_on(self, recipe: Recipe) -> Run:
        """Return the run as a recipe takes it up again.

        Raises:
            ConfigError: It is the run of another recipe, whatever its name says, one of its arms
                is now another under the same name, or it has no weights to go on from.
        """
        if self.packed:
            raise ConfigError(
                f"'{self.path}' is a packed run, without weights to go on from; run the recipe "
                "under another --runs folder and merge"
            )
        different = differing(shared(recipe), shared(self.recipe))
        if self.digest == run_digest(recipe):  # the same weights, wherever their file was
            different = without_weights(different)
        if different:
            raise ConfigError(
                f"'{self.path}' holds the run of another recipe: {', '.join(different)}; give this "
                "one another name, or move that folder away"
            )
        self._check_arms(recipe)
        self.recipe = recipe
        return self

    def _check_arms(self, recipe: Recipe) -> None:
        """Refuse an arm that changed under its name."""
        known = self.definitions()
        for name in recipe.arms:
            now, was = definition_of(recipe, name), known.get(name)
            if was is not None and was != now:
                raise ConfigError(
                    f"arm '{name}' has changed since '{self.path}' began: "
                    f"{', '.join(differing(now, was))}; give it another name"
                )


def _ticket_of(
    record: Record, path: Path, points: MutableMapping[Path, ticket_format.RewindPoint]
) -> Ticket:
    """Return the ticket in a file, if it is that of a record."""
    from tombola.tickets import Ticket

    try:
        ticket = Ticket.load(path, points)
    except TicketError as error:
        raise _advised(error, path) from error
    same_round = is_of_round(ticket.origin, record["arm"], record["replicate"], record["round"])
    if not same_round or ticket.mask_digest != record["mask_digest"]:
        raise ConfigError(f"'{path}' is not the ticket that the records tell of; {_AGAIN}")
    return ticket


def _advised(error: TicketError, path: Path) -> TicketError:
    """Add to what is wrong with a run's ticket what can be done about it there."""
    try:
        ticket_format.read(path)
    except TicketError:
        return TicketError(f"{error}; {_AGAIN}") if path.exists() else error
    return error  # the ticket is whole; it is its rewind point that is not


def is_of_round(origin: Mapping[str, Any], arm: str, replicate: int, index: int) -> bool:
    """Whether a ticket says of itself that it is of this round, as far as it says anything."""
    place = {"arm": arm, "replicate": replicate, "round": index}
    return all(origin.get(name, value) == value for name, value in place.items())


def _in_yaml(value: Any) -> str:
    """Say a value as a recipe does."""
    if value is None:
        return "none"
    return str(list(value)) if isinstance(value, tuple) else str(value)
