"""Runs: the folder of one experiment.

    run.json          what made the folder: format, digest, and what its page says of the run
    recipe.yaml       the resolved recipe, every default written out
    environment.json  versions, machine, fingerprint of the data
    arms.json         the definition of every arm that ever ran here
    records.jsonl     one line per result
    state.json        how each arm of each replicate ended
    similarity.jsonl  what the tickets of two arms prune alike, see `tombola.similarity`
    tickets/          ARM/replicate-K/round-RRR.safetensors
    rewind_points/    DIGEST.safetensors, each once; tickets refer to them
    candidates/       ARM/replicate-K/round-RRR.safetensors, the packed mask of every partition
    predictions/      ARM/replicate-K/round-RRR.npy, the predicted class of every test example, and labels.npy, its own;
                      of a packed run in one predictions.npz
    trainings/        trained weights, by digest: all that is needed while the run is not complete, then those to keep
    summary.md report.html *.svg *.png

The folder is the source of truth: all that a report shows can be made from it again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import importlib.metadata
import inspect
import io
import json
import platform
import re
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as unpack_file
from safetensors.numpy import save as pack_file
from torch import Tensor

from tombola import catalogue, ticket_format
from tombola.devices import cores
from tombola.digests import digest_json
from tombola.errors import ConfigError, TicketError
from tombola.files import cannot_write, clear_parts, users_path, write_array, write_json, write_whole
from tombola.recipe import FORMAT, Recipe, parse
from tombola.records import Record, Records
from tombola.storage import Store, log_error
from tombola.tickets import Ticket
from tombola.types import Mask

# What all arms of a run share; a run whose recipe differs in one of these is another run.
SHARED = ("data", "model", "training", "prunable", "rewind", "seed", "device")
# Options that say where a user's own images are and how they are read; which they are, the data's fingerprint tells.
READING = {"image_folder": ("path", "workers"), "arrays": ("path",)}

_ROUND = r"[A-Za-z0-9][A-Za-z0-9._-]*/replicate-\d+/round-\d{3,}"  # what a packed run knows its predictions by
PACKED = "predictions.npz"  # the file that a packed run is known by, see `tombola.packing`
SIMILARITY = "similarity.jsonl"
LATENCY = "latency.json"
_AGAIN = "move it away, and running the recipe does its round again"
LABELS = "labels"  # what the classes of the test examples are called beside the predictions


def shared(recipe: Recipe) -> dict[str, Any]:
    """Return what all arms of a run share, as plain data: of a GPU its kind, of a checkpoint its content.

    Of a user's own images neither their place nor the number of processes that read them: images that were moved are
    still the same. That others are refused in their place is the business of `check_same_inputs`.
    """
    whole = recipe.plain()
    found = {key: whole[key] for key in SHARED}
    reading = READING.get(recipe.data.name, ())
    found["data"] = {key: value for key, value in found["data"].items() if key not in reading}
    found["device"] = found["device"].partition(":")[0]
    if recipe.model.weights is not None:
        path = users_path(recipe.model.weights, "model.weights")
        # Of a run that was made elsewhere, or long ago, the file need not be here.
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else f"{path}, which is not here"
        found["model"] = found["model"] | {"weights": content}
    return found


def run_digest(recipe: Recipe) -> str:
    """Digest of what all arms share: data, model, training, seed, kind of device; arms and rounds may be added."""
    return digest_json({"format": FORMAT, **shared(recipe)})


def folder_of(recipe: Recipe, parent: Path) -> Path:
    """Return where the run of a recipe is."""
    return parent / f"{recipe.name}-{run_digest(recipe)[:8]}"


def differing(now: Mapping[str, Any], was: Mapping[str, Any], where: str = "") -> list[str]:
    """Say in which fields two mappings differ, those within mappings by their dotted names.

    >>> differing({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "c": 2}})
    ['a.b was 3, is 1']
    """
    found = []
    for key in [*now, *(key for key in was if key not in now)]:
        one, other = now.get(key), was.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += differing(one, other, f"{where}{key}.")
        elif one != other:
            found.append(f"{where}{key} was {other}, is {one}")
    return found


@dataclass(frozen=True)
class Ending:
    """How an arm of a replicate ended.

    Attributes:
        state: "open", "finished", "failed" or "skipped".
        why: In words.
        rounds: After how many.
        goal: How far it was to go.
        packed: Whether it came from a packed run, without its tickets.
    """

    state: str
    why: str
    rounds: int
    goal: Mapping[str, Any]
    packed: bool = False

    @property
    def collapsed(self) -> tuple[int, tuple[str, ...]] | None:
        """The round whose cut left layers without a weight, which ended the arm, and these layers; else ``None``.

        >>> Ending("finished", "layer collapse in round 7: no weight is left in a.weight, b.weight", 6, {}).collapsed
        (7, ('a.weight', 'b.weight'))
        """
        found = re.search(r"layer collapse in round (\d+): no weight is left in ([^;]+)", self.why)
        return None if found is None else (int(found[1]), tuple(found[2].split(", ")))


class Run:
    """A run folder to be read: what it was, what it has.

    Args:
        path: The folder.

    Raises:
        ConfigError: It is no run folder, or one of another version, or something in it is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        path = self.path = Path(path)
        about = self._about()
        if about is None:
            raise ConfigError(f"'{path}' is no run folder: it has no run.json")
        try:
            self.recipe = parse(dict(yaml.safe_load((path / "recipe.yaml").read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
            raise ConfigError(f"'{path / 'recipe.yaml'}' cannot be read: {' '.join(str(error).split())}") from error
        self.facts: dict[str, str] = about.get("facts", {})
        self.digest: str = about.get("digest", "")
        self.records = Records(path / "records.jsonl", repair=False)
        self._state: dict[str, Any] = self._json("state.json", {})

    def _about(self) -> dict[str, Any] | None:
        """Return what the folder says of itself, ``None`` where it does not; refuse another version's."""
        if not (self.path / "run.json").exists():
            return None
        about: dict[str, Any] = self._json("run.json", {})
        if about.get("format") != FORMAT:
            raise ConfigError(f"'{self.path}' is a run of format {about.get('format')}, and this tombola makes and "
                              f"reads format {FORMAT}; run the recipe again under another --runs folder")  # fmt: skip
        return about

    def _json(self, name: str, default: Any) -> Any:
        """Read a file of the folder; it holds what kind the default is."""
        path = self.path / name
        if not path.exists():
            return default
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"'{path}' cannot be read: {error}; move the run folder away to begin anew") from error
        if not isinstance(value, type(default)):
            raise ConfigError(f"'{path}' is damaged; move the run folder away to begin anew")
        return value

    def environments(self) -> list[dict[str, Any]]:
        """Return what the run's figures were made with, one entry for each machine and version."""
        found: list[dict[str, Any]] = self._json("environment.json", [])
        return found

    def definitions(self) -> dict[str, Any]:
        """Return the definitions of all arms that ever ran here, by name."""
        found: dict[str, Any] = self._json("arms.json", {})
        return found

    def definition(self, name: str) -> dict[str, Any]:
        """Return what an arm is, as plain data; of one that follows another, that other's too."""
        arm = self.recipe.arms[name]
        plain: dict[str, Any] = json.loads(json.dumps(arm.definition()))
        return plain | {"source": self.definition(arm.source)} if arm.source else plain

    def arm_digest(self, name: str) -> str:
        """Digest of an arm's definition."""
        return digest_json(self.definition(name))

    def record(self, arm: str, replicate: int, index: int) -> Record | None:
        """Return the result of a round, or ``None`` where there is none yet."""
        return self.records.get(arm, replicate, index)

    def begun(self, arm: str, replicate: int) -> bool:
        """Whether there is a result of an arm of a replicate."""
        return bool(self.records.of(arm, replicate))

    def has_trained(self, digest: str) -> bool:
        """Whether a training is kept here, by its job's digest."""
        return Store(self.trainings).kept(digest)

    def rounds_done(self, arm: str, replicate: int) -> list[Ticket]:
        """Return the tickets of the first rounds that have both a ticket and a record, without a gap."""
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
            if ticket.mask_digest != record["mask_digest"]:
                raise ConfigError(f"'{path}' is not the ticket that the records tell of; {_AGAIN}")
            # Rounds that rewind to the same point hold it once.
            same = tickets and record["rewind_digest"] == before["rewind_digest"]
            tickets.append(replace(ticket, rewind_point=tickets[-1].rewind_point) if same else ticket)
            before = record
        return tickets

    def _of_round(self, kind: str, arm: str, replicate: int, index: int, suffix: str) -> Path:
        return self.path / kind / arm / f"replicate-{replicate}" / f"round-{index:03}{suffix}"

    def ticket_path(self, arm: str, replicate: int, index: int) -> Path:
        """Where the ticket of a round is kept."""
        return self._of_round("tickets", arm, replicate, index, ".safetensors")

    def mask(self, arm: str, replicate: int, index: int) -> Mask:
        """Return the mask of a round's ticket, by names of weights, without its values.

        Raises:
            TicketError: The file is missing or damaged.
        """
        path = self.ticket_path(arm, replicate, index)
        try:
            file = ticket_format.read(path)
        except TicketError as error:
            raise _advised(error, path) from error
        return {name: torch.from_numpy(file.keep(name)) for name in file.shapes}

    @property
    def rewind_points(self) -> Path:
        """Where the states that tickets start from are kept, each once."""
        return self.path / "rewind_points"

    def candidates(self, arm: str, replicate: int, index: int, like: Mask) -> list[dict[str, Tensor]]:
        """Return the mask of every partition of a round, before they were combined.

        Args:
            arm: Its name.
            replicate: Its number.
            index: The round.
            like: A mask of the same names and shapes.
        """
        path = self._of_round("candidates", arm, replicate, index, ".safetensors")
        try:
            packed = unpack_file(path.read_bytes())
            number = 1 + max(int(name.partition(".")[0]) for name in packed)
            return [
                {
                    name: torch.from_numpy(
                        np.unpackbits(packed[f"{one}.{name}"], count=keep.numel()).astype(bool)
                    ).view(keep.shape)
                    for name, keep in like.items()
                }
                for one in range(number)
            ]
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise ConfigError(f"'{path}' cannot be read: {error}; without it the arm cannot go on") from error

    def predictions_path(self, arm: str, replicate: int, index: int) -> Path:
        """Where the predicted classes of the test examples are kept, unless the run is packed."""
        return self._of_round("predictions", arm, replicate, index, ".npy")

    @property
    def packed(self) -> bool:
        """Whether the folder holds what a run found without its weights, see `tombola.packing`."""
        return (self.path / PACKED).exists()

    def predictions(self) -> dict[str, NDArray[np.integer[Any]]]:
        """Return the predicted class of every test example, shape [examples], by "arm/replicate-K/round-RRR".

        Raises:
            ConfigError: A file is damaged.
        """
        folder, where = self.path / "predictions", self.path / PACKED
        found: dict[str, NDArray[np.integer[Any]]] = {}
        try:
            if self.packed:
                with np.load(where, allow_pickle=False) as packed:
                    found |= {key: values for key, values in packed.items() if key != LABELS}
                if odd := [key for key in found if not re.fullmatch(_ROUND, key)]:
                    raise ValueError(f"'{odd[0]}' is no round of an arm")
            for where in sorted(folder.glob("*/*/*.npy")):
                found[where.relative_to(folder).with_suffix("").as_posix()] = np.load(where, allow_pickle=False)
        except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
            raise ConfigError(f"'{where}' cannot be read: {' '.join(str(error).split())}") from error
        return found

    def similarities(self) -> list[dict[str, Any]]:
        """Return what was counted of pairs of tickets, see `tombola.similarity`; nothing where no two arms search.

        Raises:
            ConfigError: The file is damaged.
        """
        path = self.path / SIMILARITY
        found: list[dict[str, Any]] = []
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines() if path.exists() else (), 1):
            try:
                line = json.loads(text)
                sizes = {len(counts) for counts in line["layers"].values()}
                if len(similarity_key(line)) != 5 or len(line["masks"]) != 2 or sizes != {6}:
                    raise ValueError("an entry is missing")
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ConfigError(f"line {number} of '{path}' is damaged; take the file away; where tickets are, "
                                  "running the recipe counts again") from error  # fmt: skip
            found.append(line)
        return found

    def latency(self) -> dict[str, Any]:
        """Return how long the dense network and tickets took, see `tombola.latency`; nothing where it is not known.

        Raises:
            ConfigError: The file is damaged.
        """
        path = self.path / LATENCY
        if not path.exists():
            return {}
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            clocks = [value for row in found["rows"] for key, value in row.items() if key.startswith("batch_")]
            told = {"device", "threads"} <= found.keys() and all("arm" in row for row in found["rows"])
            if not (told and clocks and all({"ms", "quartiles"} <= clock.keys() for clock in clocks)):
                raise ValueError("an entry is missing")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"'{path}' is damaged; take the file away; where tickets are, running the recipe "
                              "measures again") from error  # fmt: skip
        return found

    def labels(self) -> NDArray[np.integer[Any]] | None:
        """Return the class of every test example, shape [examples]; ``None`` in runs of before they were kept.

        Raises:
            ConfigError: The file is damaged.
        """
        where = self.path / PACKED if self.packed else self.labels_path
        found: NDArray[np.integer[Any]] | None = None
        try:
            if self.packed:
                with np.load(where, allow_pickle=False) as packed:
                    found = packed.get(LABELS)
            elif where.exists():
                found = np.load(where, allow_pickle=False)
        except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
            raise ConfigError(f"'{where}' cannot be read: {' '.join(str(error).split())}") from error
        return found

    @property
    def labels_path(self) -> Path:
        """Where the classes of the test examples are kept, unless the run is packed."""
        return self.path / "predictions" / f"{LABELS}.npy"

    @property
    def trainings(self) -> Path:
        """Where trained weights are kept."""
        return self.path / "trainings"

    def finished(self, arm: str, replicate: int) -> bool:
        """Whether an arm of a replicate has nothing left to do: it ended so, and what it made is still there."""
        ending = self.ending(arm, replicate)
        if ending.state != "finished" or ending.goal != self._goal(arm):
            return False
        rounds = [*range(ending.rounds + 1)]
        if (long := self.recipe.arms[arm].as_long_as) is not None:  # it has one more, of the number that the other has
            rounds.append(self.ending(long, replicate).rounds)
        if not all(self.record(arm, replicate, index) is not None for index in rounds):
            return False
        paths = (self.ticket_path(arm, replicate, index) for index in range(1, ending.rounds + 1))
        return ending.packed or self.packed or all(path.exists() for path in paths)

    def _goal(self, arm: str) -> dict[str, Any]:
        """Return how far an arm is to go: what may change without making it another arm."""
        plain: dict[str, Any] = json.loads(json.dumps(
            {"until": self.recipe.plain()["until"], "evaluate_at": self.recipe.arms[arm].evaluate_at}
        ))  # fmt: skip
        return plain

    def ending(self, arm: str, replicate: int) -> Ending:
        """How an arm of a replicate ended."""
        state = self._state.get(f"{arm}/{replicate}")
        if not isinstance(state, dict):
            return Ending("open", "", 0, {})
        known = {field.name for field in dataclasses.fields(Ending)}
        return Ending(**{"state": "open", "why": "", "rounds": 0, "goal": {}}
                      | {key: value for key, value in state.items() if key in known})  # fmt: skip

    def states(self) -> dict[str, Any]:
        """Return how all arms ended, by "arm/replicate"."""
        return dict(self._state)

    def going_on(self, recipe: Recipe) -> Run:
        """Return the run as a recipe takes it up again.

        Raises:
            ConfigError: It is the run of another recipe, whatever its name says, or it has no weights to go on from.
        """
        if self.packed:
            raise ConfigError(f"'{self.path}' is a packed run, without weights to go on from; run the recipe under "
                              "another --runs folder and merge")  # fmt: skip
        odd = differing(shared(recipe), shared(self.recipe))
        if self.digest == run_digest(recipe):  # the same weights, wherever their file was
            odd = [entry for entry in odd if not entry.startswith("model.weights ")]
        if odd:
            raise ConfigError(f"'{self.path}' holds the run of another recipe: {', '.join(odd)}; give this one another "
                              "name, or move that folder away")  # fmt: skip
        self.recipe = recipe
        return self


class RunFolder(Run):
    """The folder of a run to work in, made or found again; nobody else may work there meanwhile.

    Args:
        recipe: The recipe; with its name it says which folder.
        parent: Folder of all runs.
        fingerprint: Of the data.
        facts: What the page says of the run.

    Attributes:
        path: The folder.
        repaired: What was found half-written and put right, in words; empty if nothing was.

    Raises:
        ConfigError: Another process works there, it is of another version or recipe, the data differ from those it
            began with, or an arm has changed under its old name.
        DiskError: It cannot be written to.
    """

    def __init__(self, recipe: Recipe, parent: Path, fingerprint: str, facts: Mapping[str, str] | None = None) -> None:
        self.recipe = recipe
        self.digest = run_digest(recipe)
        self.path = folder_of(recipe, parent)
        self.facts = dict(facts or {})
        self._lock = lock(self.path)
        try:
            self._take(fingerprint)
        except BaseException:
            self.close()
            raise
        self._state_lock = threading.Lock()

    def _take(self, fingerprint: str) -> None:
        clear_parts(self.path)
        if self._about() is not None:
            Run(self.path).going_on(self.recipe)
        environments = self._check_environment(environment(self.recipe, fingerprint))
        arms = self._check_arms()
        self.records = Records(self.path / "records.jsonl")
        self.repaired = "the last record was half written; its round is done again" if self.records.repaired else ""
        self._state = self._json("state.json", {})
        write_json(self.path / "environment.json", environments)
        write_json(self.path / "arms.json", arms)
        write_whole(self.path / "recipe.yaml", yaml.safe_dump(self.recipe.plain(), sort_keys=False))
        write_json(self.path / "run.json", {"format": FORMAT, "digest": self.digest, "facts": self.facts})

    def _check_environment(self, now: dict[str, Any]) -> list[dict[str, Any]]:
        """Refuse other data or other code of the user's than the run began with; return all its environments."""
        known = self.environments()
        for before in known:
            check_same_inputs(now, before, self.path)
        return known if now in known else [*known, now]

    def _check_arms(self) -> dict[str, Any]:
        """Refuse an arm that changed under its name; return the definitions of all arms that ever ran here."""
        known = self.definitions()
        for name in self.recipe.arms:
            now, was = self.definition(name), known.get(name)
            if was is not None and was != now:
                raise ConfigError(f"arm '{name}' has changed since '{self.path}' began: "
                                  f"{', '.join(differing(now, was))}; give it another name")  # fmt: skip
            known[name] = now
        return known

    def add_record(self, record: Record, *, anyway: bool = False) -> bool:
        """Write a result down, see `Records.add`."""
        return self.records.add(record, anyway=anyway)

    def keep_ticket(self, arm: str, replicate: int, index: int, ticket: Ticket) -> str:
        """Write the ticket of a round and return its file's digest; the state it starts from is kept once."""
        return ticket.save(self.ticket_path(arm, replicate, index), rewind_points=self.rewind_points)

    def keep_candidates(self, arm: str, replicate: int, index: int, candidates: Sequence[Mask]) -> None:
        """Keep the mask of every partition, eight weights a byte."""
        packed = {
            f"{number}.{name}": np.packbits(keep.cpu().numpy())
            for number, candidate in enumerate(candidates)
            for name, keep in candidate.items()
        }
        write_whole(self._of_round("candidates", arm, replicate, index, ".safetensors"), pack_file(packed))

    def keep_predictions(self, arm: str, replicate: int, index: int, predictions: NDArray[np.integer[Any]]) -> None:
        """Keep what a ticket predicts for every test example, a byte or two each."""
        write_array(self.predictions_path(arm, replicate, index), _small(predictions))

    def keep_labels(self, labels: NDArray[np.integer[Any]]) -> None:
        """Keep the classes of the test examples, so that the report needs no data."""
        if not self.labels_path.exists():
            write_array(self.labels_path, _small(labels))

    def log_error(self, text: str) -> None:
        """Add a traceback to ``errors.log``."""
        log_error(self.path, text)

    def ended(self, arm: str, replicate: int, how: str, why: str, rounds: int) -> None:
        """Note how an arm of a replicate ended, and after how many rounds."""
        with self._state_lock:
            self._state[f"{arm}/{replicate}"] = {"state": how, "why": why, "rounds": rounds, "goal": self._goal(arm)}
            write_json(self.path / "state.json", self._state)

    def clear_trainings(self) -> None:
        """Drop the trainings of a complete run, but those that the recipe says to keep and the dense network's."""
        Store(self.trainings).keep_only(self.trainings_to_keep())

    def trainings_to_keep(self) -> set[str]:
        """Return the digests of the trainings that stay when nothing more is done."""
        evaluated = [record for record in self.records.all() if record["evaluated"]]
        last = {(record["arm"], record["replicate"]): record for record in evaluated}  # they come by round
        kept = {"all": evaluated, "last": list(last.values()), "none": []}[self.recipe.keep]
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


def similarity_key(line: Mapping[str, Any]) -> tuple[str, str, int, int, int]:
    """Return what a line of ``similarity.jsonl`` is about: two arms, a replicate, a round of each."""
    (one, other), (first, second) = line["arms"], line["rounds"]
    return one, other, line["replicate"], first, second


def _small(classes: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    return classes.astype(np.uint8 if classes.max(initial=0) < 256 else np.uint16)


def lock(path: Path) -> io.TextIOWrapper:
    """Take a run folder for this process, made if need be; closing what is returned gives it back.

    Raises:
        ConfigError: Another process works there.
        DiskError: It cannot be written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = (path / ".lock").open("w")
    except OSError as error:
        raise cannot_write(path, error) from error
    return _take(file, path)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Keep others from working in a run folder while it is read; nothing is written there.

    Raises:
        ConfigError: Another process works there.
    """
    if not (path / ".lock").exists():  # nobody ever worked there
        yield
        return
    with _take((path / ".lock").open(), path):
        yield


def _take(file: io.TextIOWrapper, path: Path) -> io.TextIOWrapper:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise ConfigError(f"another process works in '{path}'; wait for it, or stop it") from error
    return file


def check_same_inputs(now: Mapping[str, Any], before: Mapping[str, Any], path: Path) -> None:
    """Refuse other data or other code of the user's than a run began with.

    Raises:
        ConfigError: Which of them differs.
    """
    # Code that is new to the run is no change: an arm may be added with a score of its own.
    pairs = [("the data", before.get("data_fingerprint"), now["data_fingerprint"])]
    own = before.get("own_code", {})
    pairs += [(f"your own '{name}'", own[name], digest) for name, digest in now["own_code"].items() if name in own]
    for what, was, digest in pairs:
        if was != digest:
            raise ConfigError(f"{what} differs from what '{path}' began with (digest {str(digest)[:12]}, "
                              f"was {str(was)[:12]}); give the run another name")  # fmt: skip


def environment(recipe: Recipe, fingerprint: str) -> dict[str, Any]:
    """Return what a run's figures were made with."""
    packages = ("tombola", "torch", "torchvision", "numpy", "safetensors", "scikit-learn")
    scores = [arm.score for arm in recipe.arms.values()]
    names = {recipe.data.name, recipe.model.name}
    names |= {name for score in scores for name in ([score] if isinstance(score, str) else score)}
    return {
        "python": sys.version.split()[0],
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cores": cores(),
        "data_fingerprint": fingerprint,
        "own_code": {name: source_digest(name) for name in sorted(names) if catalogue.is_own(name)},
    }


def source_digest(name: str) -> str:
    """Digest of the file that the user's own ``package.module:function`` stands in."""
    function = catalogue.own(name)
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:  # no function and no class: something else that can be called, such as a partial
        file = sys.modules[name.partition(":")[0]].__file__
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""
