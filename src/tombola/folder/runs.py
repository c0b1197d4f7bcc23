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
      predictions/      ARM/replicate-K/round-RRR.npy, the predicted class of every test example, and
                        labels.npy, its own; of a packed run in one predictions.npz
      trainings/        trained weights, by digest: all that is needed while the run is not complete,
                        then those to keep

Where each of them lies, in older folders too, is known to `tombola.records.layout` alone.

The folder is the source of truth: all that a report shows can be made from it again. So every file
of it that is read back carries a digest over its content, see `tombola.records.seals`; tickets and
rewind points have their own. Folders of before there were any have a ``run.json`` without
``seals``; one that is worked in again gets them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import io
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tombola import ticket_format
from tombola.folder.contents import (
    check_endings,
    check_entries,
    check_environments,
    check_latency,
    check_similarity,
    checked_classes,
)
from tombola.folder.environments import check_same_inputs, environment
from tombola.folder.identity import definition_of, differing, folder_of, run_digest, shared
from tombola.ground import catalogue
from tombola.ground.checking import check_in_file
from tombola.ground.endings import End, Ending
from tombola.ground.errors import ConfigError, DamagedError, TicketError, near
from tombola.ground.files import cannot_write, clear_parts
from tombola.ground.metrics import CLASSIFIED, Metric
from tombola.ground.notebooks import card, one_line
from tombola.methods.own import facts_of
from tombola.records import choosing, seals
from tombola.records.best import Best, of_record
from tombola.records.layout import Layout, in_round
from tombola.records.records import Record, Records
from tombola.records.results import lacking
from tombola.records.seals import Seals
from tombola.records.storage import Store, log_error
from tombola.schema.recipe import FORMAT, Decision, Recipe, parse, section

if TYPE_CHECKING:
    from torch import Tensor

    from tombola.ground.types import Mask
    from tombola.tickets import Ticket


# what a packed run knows its predictions by
_ROUND = r"[A-Za-z0-9][A-Za-z0-9._-]*/replicate-\d+/round-\d{3,}"
_AGAIN = "move it away, and running the recipe does its round again"
_ANEW = "take it away, and running the recipe writes it anew"
_ABOUT = {
    "format": int,
    "digest": str,
    "facts": dict[str, str],
    "shared": dict[str, Any],
    "seals": int,
    "metrics": list[dict[str, Any]],
    "methods": dict[str, dict[str, Any]],
}
# of a run's records, too
_FIELDS = ("density_total", "kept_fraction", "early_stop_step", "selected", "seconds")
_UNSEALED = (
    "this run was made before files carried digests of their contents: one that was altered or "
    "damaged since is seen only where it cannot be read any more"
)
_BACK = "put it back as it was"
LABELS = "labels"  # what the classes of the test examples are called beside the predictions


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
        about = self._about()
        if about is None:
            raise ConfigError(f"'{path}' is no run folder: it has no run.json")
        self.facts: dict[str, str] = about.get("facts", {})
        self.metrics = choosing.metrics_of(path)
        self.digest: str = about["digest"]
        self.seals = Seals(path, self.digest, required="seals" in about)
        self.told: list[str] = []
        self.recipe = self._recipe(about)
        self.records = self._records(repair=False)
        self._state = self._states()
        if self.records.repaired:
            self.told.append(
                "the last record is half written, and left out; running the recipe does its round "
                "again"
            )
        self.told += self._gone()
        if absent := lacking(self.records.all()):
            self.told.append(
                f"the records are of an older version and have no {', '.join(absent)}: what rests "
                "on these is left out"
            )
        if not self.sealed:
            self.told.append(_UNSEALED)

    def __repr__(self) -> str:
        return one_line("Run", str(self.path), self._size, self._progress)

    def _repr_html_(self) -> str:
        facts = {**self.facts, "arms": ", ".join(self.recipe.arms), "results": self._size}
        facts |= {"state": self._progress, "folder": str(self.path)}
        return card(self.path.name, facts, "; ".join(self.told))

    @property
    def _size(self) -> str:
        arms, replicates = len(self.recipe.arms), self.recipe.replicates
        return f"{arms} arms x {replicates} replicates, {len(self.records)} results"

    @property
    def _progress(self) -> str:
        keys = [(arm, k) for arm in self.recipe.arms for k in range(self.recipe.replicates)]
        finished = sum(self.finished(*key) for key in keys)
        return "complete" if finished == len(keys) else f"{finished} of {len(keys)} finished"

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

    def _about(self) -> dict[str, Any] | None:
        """Return what the folder says of itself, ``None`` where it does not; refuse another
        version's.
        """
        path = self.layout.about
        if not path.exists():
            return None
        with _advising(_ANEW):
            about: dict[str, Any] = Seals(self.path, required=False).read_json(path)
            check_in_file(path, "it", about, dict[str, Any])
            if "seals" in about:
                Seals(self.path).read_json(path)  # then it must have one itself
            check_entries(path, about, _ABOUT)
        if about.get("format") != FORMAT:
            raise ConfigError(
                f"'{self.path}' is a run of format {about.get('format')}, and this tombola makes "
                f"and reads format {FORMAT}; run the recipe again under another --runs folder"
            )
        if about.get("seals", seals.VERSION) != seals.VERSION:
            raise ConfigError(
                f"'{self.path}' has digests of version {about['seals']}, and this tombola reads "
                f"version {seals.VERSION}: a newer one is needed"
            )
        if "digest" not in about:
            raise DamagedError(f"'{path}' is damaged: it has no digest of the recipe; {_ANEW}")
        return about

    def _recipe(self, about: Mapping[str, Any]) -> Recipe:
        """Read the recipe, and hold it to what the folder knows of it."""
        path = self.layout.recipe
        try:
            plain, wrong = self.seals.read_yaml(path)
            recipe = parse(dict(plain), about.get("methods", {}))
        except DamagedError as error:
            raise DamagedError(f"{error}; {_BACK}") from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            why = getattr(error, "strerror", None) or " ".join(str(error).split())
            raise ConfigError(f"'{path}' cannot be read: {why}; {_BACK}") from error
        odd = self._other_shared(recipe, about) or self._other_arms(recipe)
        if odd:
            raise ConfigError(
                f"'{path}' is not the recipe that its run was made with: {', '.join(odd)}; {_BACK}"
            )
        if wrong is not None:
            raise DamagedError(f"{wrong}; {_BACK}")
        return recipe

    def _other_shared(self, recipe: Recipe, about: Mapping[str, Any]) -> list[str]:
        """Say in what a recipe is not that of the digest which names the run."""
        known = about.get("shared")
        if known is None:  # of before it was kept
            if run_digest(recipe) == self.digest:
                return []
            if recipe.model.weights is not None:
                self.told.append(
                    "the recipe cannot be compared with the digest that names the run: the "
                    f"checkpoint '{recipe.model.weights}' is not here, or is another one now"
                )
                return []
            return [f"its digest is {run_digest(recipe)[:12]}, run.json has {self.digest[:12]}"]
        # A checkpoint counts by its content, and need not be here; what the run began with is not
        # changed by that.
        bare = replace(recipe, model=replace(recipe.model, weights=None))
        now = json.loads(json.dumps(shared(bare)))
        return [entry for entry in differing(now, known) if not entry.startswith("model.weights ")]

    def _other_arms(self, recipe: Recipe) -> list[str]:
        """Say in what the arms of a recipe are not those that ran."""
        known = self.definitions()
        odd: list[str] = []
        if not self.layout.arms.exists():
            self.told.append(
                "there is no arms.json: whether the arms are those that ran is not known"
            )
            return odd
        for name in recipe.arms:
            if name not in known:
                odd.append(f"arms.json has no arm '{name}'")
                continue
            odd += [
                f"arm '{name}': {entry}"
                for entry in differing(definition_of(recipe, name), known[name])
            ]
        return odd

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
        advice: str = _ANEW,
    ) -> Any:
        """Read a file of the folder, whose value is of a type and passes a check; ``None``
        where there is none.
        """
        with _advising(advice):
            try:
                value = self.seals.read_json(path)
            except FileNotFoundError:
                return None
            check_in_file(path, "it", value, hint)
            if check is not None:
                check(path, value)
        return value

    def _states(self) -> dict[str, Any]:
        """Read how arms ended."""
        return self._json(self.layout.states, dict[str, dict[str, Any]], check_endings) or {}

    def _gone(self) -> list[str]:
        """Say of which rounds there were results once, since an arm is finished, and now are
        none.
        """
        told = []
        for key, ending in self._state.items():
            arm, _, replicate = key.rpartition("/")
            if ending["state"] != "finished" or arm not in self.recipe.arms:
                continue
            rounds = range(ending.get("rounds", 0) + 1)
            gone = [
                str(index)
                for index in rounds
                if self.records.get(arm, int(replicate), index) is None
            ]
            if gone:
                told.append(
                    f"arm {arm}, replicate {replicate}, has no results of round {', '.join(gone)} "
                    "any more; running the recipe has them again"
                )
        return told

    def judge_by(self, changes: Mapping[str, Any]) -> None:
        """Judge by other entries of ``verdict`` than the recipe's own, which the report says; the
        folder's recipe stays as it is.

        Raises:
            ConfigError: There is no such entry, or its value will not do.
        """
        own = dataclasses.asdict(self.recipe.verdict)
        verdict = section(Decision, own | dict(changes), "verdict")
        for name, value in dataclasses.asdict(verdict).items():
            if value != own[name]:
                self.told.append(
                    f"judged by verdict.{name} {_in_yaml(value)}; the recipe of the run has "
                    f"{_in_yaml(own[name])}"
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
        from tombola.tickets import Ticket

        tickets: list[Ticket] = []
        points: dict[Path, Any] = {}
        before: Record | None = self.record(arm, replicate, 0)
        if before is None:
            return tickets
        while (record := self.record(arm, replicate, len(tickets) + 1)) is not None:
            path = self.ticket_path(arm, replicate, len(tickets) + 1)
            if not path.exists():
                break
            try:
                ticket = Ticket.load(path, points)
            except TicketError as error:
                raise _advised(error, path) from error
            same_round = is_of_round(ticket.origin, arm, replicate, record["round"])
            if not same_round or ticket.mask_digest != record["mask_digest"]:
                raise ConfigError(f"'{path}' is not the ticket that the records tell of; {_AGAIN}")
            # Rounds that rewind to the same point hold it once.
            same = tickets and record["rewind_digest"] == before["rewind_digest"]
            tickets.append(
                replace(ticket, rewind_point=tickets[-1].rewind_point) if same else ticket
            )
            before = record
        # Partitions that search apart go on with their own candidates, so a round without them is
        # done again.
        apart = self.recipe.arms[arm].apart and not self.finished(arm, replicate)
        while (
            apart
            and tickets
            and not self._has_candidates(arm, replicate, len(tickets), tickets[-1].mask)
        ):
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
        """Tell what somebody who works in the folder must know; who only reads there has it in
        ``told``.
        """
        if text not in self.told:
            self.told.append(text)

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
        other = record is not None and record["mask_digest"] != file.mask_digest
        if other or not is_of_round(file.origin, arm, replicate, index):
            raise TicketError(f"'{path}' is not the ticket that the records tell of; {_AGAIN}")
        return {name: torch.from_numpy(file.keep(name)) for name in file.shapes}

    @property
    def rewind_points(self) -> Path:
        """Where the states that tickets start from are kept, each once."""
        return self.layout.rewind_points

    def _candidates_path(self, arm: str, replicate: int, index: int) -> Path:
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
        import torch

        path = self._candidates_path(arm, replicate, index)
        try:
            packed = self.seals.read_tensors(path)
        except FileNotFoundError as error:
            raise ConfigError(f"'{path}' is not there") from error
        number = len({name.partition(".")[0] for name in packed})
        sizes = {
            f"{one}.{name}": -(-keep.numel() // 8)
            for one in range(number)
            for name, keep in like.items()
        }
        plain = all(bits.dtype == torch.uint8 and bits.ndim == 1 for bits in packed.values())
        if not plain or {name: bits.numel() for name, bits in packed.items()} != sizes:
            raise DamagedError(
                f"'{path}' is damaged: its masks are not those of the round's weights"
            )
        return [
            {name: _unpacked(packed[f"{one}.{name}"], keep) for name, keep in like.items()}
            for one in range(number)
        ]

    def predictions_path(self, arm: str, replicate: int, index: int) -> Path:
        """Where the predicted classes of the test examples are kept, unless the run is packed."""
        return in_round(self.layout.predictions, arm, replicate, index, ".npy")

    @property
    def packed(self) -> bool:
        """Whether the folder holds what a run found without its weights, see
        `tombola.folder.packing`.
        """
        return self.layout.packed_predictions.exists()

    def predictions(self) -> dict[str, NDArray[np.integer[Any]]]:
        """Return the predicted class of every test example, shape [examples], by
        "arm/replicate-K/round-RRR".

        Raises:
            ConfigError: A file is damaged.
        """
        return self.tested()[1]

    def tested(self) -> tuple[NDArray[np.integer[Any]] | None, dict[str, NDArray[np.integer[Any]]]]:
        """Return the labels and the predictions, read once; see `labels` and `predictions`.

        Raises:
            ConfigError: A file is damaged.
        """
        found = self._predicted()
        labels = found.pop(LABELS, None)
        number = None if labels is None else len(labels)
        for key, values in found.items():
            if not re.fullmatch(_ROUND, key):
                raise DamagedError(
                    f"'{self.path}' has predictions of '{key}'; '{key}' is no round of an arm"
                )
            number = len(values) if number is None else number
            if len(values) != number:
                raise DamagedError(
                    f"'{self.path}' has {len(values)} predictions of {key}, and {number} test "
                    "examples"
                )
        places = {arm: place for place, arm in enumerate(self.recipe.arms)}
        ordered = sorted(
            found, key=lambda key: (places.get(key.partition("/")[0], len(places)), key)
        )
        return labels, {key: found[key] for key in ordered}

    def _predicted(self) -> dict[str, NDArray[np.integer[Any]]]:
        """Read the predictions and the labels, wherever they are."""
        folder = self.layout.predictions
        if self.packed:
            return self._in_one_file()
        files = [*folder.glob("*/*/*.npy"), *filter(Path.exists, [self.labels_path])]
        return {
            path.relative_to(folder).with_suffix("").as_posix(): self._classes(path)
            for path in files
        }

    def _in_one_file(self) -> dict[str, NDArray[np.integer[Any]]]:
        path = self.layout.packed_predictions
        with _advising("pack the run again"):
            return {
                key: checked_classes(path, values)
                for key, values in self.seals.read_arrays(path).items()
            }

    def _classes(self, path: Path) -> NDArray[np.integer[Any]]:
        """Read a file of classes."""
        with _advising("running the recipe makes it again"):
            return checked_classes(path, self.seals.read_array(path))

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
        with _advising("take the file away; where tickets are, running the recipe counts again"):
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

    def labels(self) -> NDArray[np.integer[Any]] | None:
        """Return the class of every test example, shape [examples]; ``None`` in runs of before they
        were kept.

        Raises:
            ConfigError: The file is damaged.
        """
        if self.packed:
            return self._in_one_file().get(LABELS)
        return self._classes(self.labels_path) if self.labels_path.exists() else None

    @property
    def labels_path(self) -> Path:
        """Where the classes of the test examples are kept, unless the run is packed."""
        return self.layout.predictions / f"{LABELS}.npy"

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
        # it has one more, of the number that the other has
        if method.source is not None and not method.has_tickets:
            rounds.append(self.ending(method.source, replicate).rounds)
        if not all(self.record(arm, replicate, index) is not None for index in rounds):
            return False
        paths = (self.ticket_path(arm, replicate, index) for index in range(1, ending.rounds + 1))
        return ending.packed or self.packed or all(path.exists() for path in paths)

    def _goal(self, arm: str) -> dict[str, Any]:
        """Return how far an arm is to go: what may change without making it another arm."""
        plain: dict[str, Any] = json.loads(
            json.dumps(
                {
                    "until": dataclasses.asdict(self.recipe.until),
                    "evaluate_at": self.recipe.arms[arm].evaluate_at,
                }
            )
        )
        return plain

    def ending(self, arm: str, replicate: int) -> Ending:
        """How an arm of a replicate ended."""
        state = self._state.get(f"{arm}/{replicate}", {})
        known = {field.name for field in dataclasses.fields(Ending)}
        return Ending(
            **{"state": "open", "why": "", "rounds": 0, "goal": {}}
            | {key: value for key, value in state.items() if key in known}
        )

    def states(self) -> dict[str, Any]:
        """Return how all arms ended, by "arm/replicate"."""
        return dict(self._state)

    def going_on(self, recipe: Recipe) -> Run:
        """Return the run as a recipe takes it up again.

        Raises:
            ConfigError: It is the run of another recipe, whatever its name says, or it has no
                weights to go on from.
        """
        if self.packed:
            raise ConfigError(
                f"'{self.path}' is a packed run, without weights to go on from; run the recipe "
                "under another --runs folder and merge"
            )
        odd = differing(shared(recipe), shared(self.recipe))
        if self.digest == run_digest(recipe):  # the same weights, wherever their file was
            odd = [entry for entry in odd if not entry.startswith("model.weights ")]
        if odd:
            raise ConfigError(
                f"'{self.path}' holds the run of another recipe: {', '.join(odd)}; give this one "
                "another name, or move that folder away"
            )
        self.recipe = recipe
        return self

    def write_about(self, to: Layout | None = None) -> None:
        """Write ``recipe.yaml`` and what the folder says of itself, into another folder if it
        is given.
        """
        to = to or self.layout
        now = Seals(to.top, self.digest)
        # The recipe first: it is held to what the other says, which knows only of what never
        # changes.
        now.write_yaml(to.recipe, self.recipe.plain())
        bare = replace(self.recipe, model=replace(self.recipe.model, weights=None))
        about = {
            "format": FORMAT,
            "digest": self.digest,
            "facts": self.facts,
            "shared": shared(bare),
        }
        arms = self.recipe.arms.items()
        if own := {
            f"arms.{name}": facts_of(arm) for name, arm in arms if catalogue.is_own(arm.method)
        }:
            about["methods"] = own  # by which the folder is read where they are not
        if self.metrics != CLASSIFIED:  # what a run has that names none
            about["metrics"] = [metric.plain() for metric in self.metrics]
        Seals(to.top).write_json(to.about, {**about, "seals": seals.VERSION})

    def write_findings(self, to: Layout) -> None:
        """Write all that the run knows without its tickets, predictions and weights, each file with
        its digest.

        Args:
            to: The folder; it may be the run's own, if it is of before there were digests.

        Raises:
            ConfigError: A file of the run is damaged; nothing was written.
        """
        now = Seals(to.top, self.digest)
        environments, arms, states = self.environments(), self.definitions(), self.states()
        similar, measured = self.similarities(), self.latency()
        now.write_json(to.environments, environments)
        now.write_json(to.arms, arms)
        now.write_json(to.states, states)
        if similar:
            now.write_lines(to.similarities, similar)
        if measured:
            now.write_json(to.latency, measured)
        self.records.write(to.records, now)
        self.write_about(to)  # last: from now on a file without a digest is refused

    def seal(self) -> None:
        """Give every file of a folder of before there were digests its own; nobody else may work
        there.

        Raises:
            ConfigError: A file is seen to be damaged. Trainings that are go, and are done again.
        """
        before, now = self.seals, Seals(self.path, self.digest)
        predicted = self._predicted()
        masks = {
            path: before.read_tensors(path)
            for path in sorted(self.layout.candidates.rglob("*.safetensors"))
        }
        self.told = [text for text in self.told if text != _UNSEALED]
        self.say(
            f"'{self.path}' was made before files carried digests of their contents; from now on "
            "they do"
        )
        for path, tensors in masks.items():
            now.write_tensors(path, tensors)
        if self.packed:
            now.write_arrays(self.layout.packed_predictions, predicted)
        for key, values in predicted.items() if not self.packed else ():
            now.write_array(self.layout.predictions / f"{key}.npy", values)
        Store(self.trainings, tell=self.say, sealed=False).seal()
        self.write_findings(self.layout)
        self.seals = now
        self.records.seal(now)


class RunFolder(Run):
    """The folder of a run to work in, made or found again; nobody else may work there meanwhile.

    Args:
        recipe: The recipe; with its name it says which folder.
        parent: Folder of all runs.
        fingerprint: Of the data.
        facts: What the page says of the run.
        tell: Told what was found damaged or half-written, and is done again.
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
        from tombola.tickets import RewindPoints

        self.recipe = recipe
        self.metrics = tuple(metrics)
        self.digest = run_digest(recipe)
        self.path = folder_of(recipe, parent)
        self.facts = dict(facts or {})
        self.told = []
        self._tell = tell
        # evaluated rounds whose predictions are gone
        self._again: set[tuple[str, int, int]] = set()
        self._lock = lock(self.path)
        self.layout = Layout.of(self.path)
        try:
            self._take(fingerprint)
        except BaseException:
            self.close()
            raise
        self._state_lock = threading.Lock()
        # each start is encoded and checked once in a run
        self._points = RewindPoints(self.rewind_points)

    def _take(self, fingerprint: str) -> None:
        clear_parts(self.path)
        about = self._about()
        if about is not None:
            Run(self.path).going_on(self.recipe)
        self.seals = Seals(self.path, self.digest, required=about is None or "seals" in about)
        environments = self._check_environment(environment(self.recipe, fingerprint))
        arms = self._check_arms()
        self.records = self._records(repair=True)
        self._state = self._states()
        if self.records.repaired:
            self.say("the last record was half written; its round is done again")
        self._check_results()
        if not self.sealed:
            self.seal()
        self.seals.write_json(self.layout.environments, environments)
        self.seals.write_json(self.layout.arms, arms)
        self.write_about()

    def say(self, text: str) -> None:
        """Tell something, and note it in ``errors.log``; each text once."""
        if text not in self.told:
            self.told.append(text)
            self.log_error(f"{text}\n")
            self._tell(text)

    def _check_results(self) -> None:
        """Say which results are gone, and have rounds evaluated again whose predictions are."""
        for text in self._gone():
            self.say(text)
        for record in self.records.all():
            arm, replicate, index = record["arm"], record["replicate"], record["round"]
            path = self.predictions_path(arm, replicate, index)
            if not record["evaluated"] or not path.exists():
                continue
            try:
                self._classes(path)
            except DamagedError as error:
                self.say(
                    f"{error}: arm {arm}, replicate {replicate}, round {index} is evaluated again"
                )
                self._again.add((arm, replicate, index))
                path.unlink()

    def record(self, arm: str, replicate: int, index: int) -> Record | None:
        """Return the result of a round; one whose predictions are gone counts as not evaluated."""
        found = super().record(arm, replicate, index)
        return (
            {**found, "evaluated": False}
            if found and (arm, replicate, index) in self._again
            else found
        )

    def finished(self, arm: str, replicate: int) -> bool:
        """Whether an arm of a replicate has nothing left to do."""
        again = any(key[:2] == (arm, replicate) for key in self._again)
        return not again and super().finished(arm, replicate)

    def _check_environment(self, now: dict[str, Any]) -> list[dict[str, Any]]:
        """Refuse other data or other code of the user's than the run began with; return all its
        environments.
        """
        known = self.environments()
        for before in known:
            check_same_inputs(now, before, self.path)
        return known if now in known else [*known, now]

    def _check_arms(self) -> dict[str, Any]:
        """Refuse an arm that changed under its name; return the definitions of all arms that
        ever ran here.
        """
        known = self.definitions()
        for name in self.recipe.arms:
            now, was = self.definition(name), known.get(name)
            if was is not None and was != now:
                raise ConfigError(
                    f"arm '{name}' has changed since '{self.path}' began: "
                    f"{', '.join(differing(now, was))}; give it another name"
                )
            known[name] = now
        return known

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
        import torch

        packed = {
            f"{number}.{name}": torch.from_numpy(np.packbits(keep.cpu().numpy()))
            for number, candidate in enumerate(candidates)
            for name, keep in candidate.items()
        }
        self.seals.write_tensors(self._candidates_path(arm, replicate, index), packed)

    def keep_predictions(
        self, arm: str, replicate: int, index: int, predictions: NDArray[np.integer[Any]]
    ) -> None:
        """Keep what a ticket predicts for every test example, a byte or two each."""
        self.seals.write_array(self.predictions_path(arm, replicate, index), _small(predictions))
        self._again.discard((arm, replicate, index))

    def keep_labels(self, labels: NDArray[np.integer[Any]]) -> None:
        """Keep the classes of the test examples, so that the report needs no data."""
        try:
            if self.labels_path.exists() and np.array_equal(
                self._classes(self.labels_path), labels
            ):
                return
        except DamagedError as error:
            self.say(str(error))
        self.seals.write_array(self.labels_path, _small(labels))

    def log_error(self, text: str) -> None:
        """Add a traceback to ``errors.log``."""
        log_error(self.path, text)

    def ended(self, arm: str, replicate: int, how: str, end: End, rounds: int) -> None:
        """Note how an arm of a replicate ended, and after how many rounds."""
        with self._state_lock:
            state = {"state": how, "why": str(end), "rounds": rounds, "goal": self._goal(arm)}
            self._state[f"{arm}/{replicate}"] = state | ({"end": end.plain()} if end else {})
            self.seals.write_json(self.layout.states, self._state)

    def clear_trainings(self) -> None:
        """Drop the trainings of a complete run, but those that the recipe says to keep and the
        dense network's.
        """
        self.store(self.say).keep_only(self.trainings_to_keep())

    def trainings_to_keep(self) -> set[str]:
        """Return the digests of the trainings that stay when nothing more is done."""
        evaluated = [record for record in self.records.all() if record["evaluated"]]
        each: dict[tuple[str, int], list[Record]] = {}
        for record in evaluated:  # they come by round
            each.setdefault((record["arm"], record["replicate"]), []).append(record)
        kept = choosing.kept(
            self.recipe.keep, each.values(), self.recipe.compared_at, self.metrics[0]
        )
        dense = [record for record in evaluated if record["round"] == 0]
        return {record["training_digest"] for record in (*dense, *kept)}

    def close(self) -> None:
        """Let go of the folder."""
        self._lock.close()


def _advised(error: TicketError, path: Path) -> TicketError:
    """Add to what is wrong with a run's ticket what can be done about it there."""
    try:
        ticket_format.read(path)
    except TicketError:
        return TicketError(f"{error}; {_AGAIN}") if path.exists() else error
    return error  # the ticket is whole; it is its rewind point that is not


@contextlib.contextmanager
def _advising(advice: str) -> Iterator[None]:
    """Add to what is wrong with a file what can be done about it."""
    try:
        yield
    except DamagedError as error:
        raise DamagedError(f"{error}; {advice}") from error


def similarity_key(line: Mapping[str, Any]) -> tuple[str, str, int, int, int]:
    """Return what a line of ``similarity.jsonl`` is about: two arms, a replicate, a round of
    each.
    """
    (one, other), (first, second) = line["arms"], line["rounds"]
    return one, other, line["replicate"], first, second


def is_of_round(origin: Mapping[str, Any], arm: str, replicate: int, index: int) -> bool:
    """Whether a ticket says of itself that it is of this round, as far as it says anything."""
    said = {"arm": arm, "replicate": replicate, "round": index}
    return all(origin.get(name, value) == value for name, value in said.items())


def _unpacked(bits: Tensor, like: Tensor) -> Tensor:
    """Return a mask of a weight's shape from its bits."""
    import torch

    return torch.from_numpy(np.unpackbits(bits.numpy(), count=like.numel()).astype(bool)).view(
        like.shape
    )


def _in_yaml(value: Any) -> str:
    """Say a value as a recipe does."""
    if value is None:
        return "none"
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _small(classes: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    return classes.astype(np.uint8 if classes.max(initial=0) < 256 else np.uint16)


def lock(path: Path) -> io.TextIOWrapper:
    """Take a run folder for this process, made if need be; closing what is returned gives it back.

    Raises:
        ConfigError: Another process works there.
        DiskError: It cannot be written to.
    """
    found = Layout.of(path).lock
    try:
        found.parent.mkdir(parents=True, exist_ok=True)
        file = found.open("w")
    except OSError as error:
        raise cannot_write(path, error) from error
    return _take(file, path)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Keep others from working in a run folder while it is read; nothing is written there.

    Raises:
        ConfigError: Another process works there.
    """
    found = Layout.of(path).lock
    if not found.exists():  # nobody ever worked there
        yield
        return
    with _take(found.open(), path):
        yield


def _take(file: io.TextIOWrapper, path: Path) -> io.TextIOWrapper:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise ConfigError(f"another process works in '{path}'; wait for it, or stop it") from error
    return file
