"""Runs: the folder of one experiment.

    recipe.yaml       the resolved recipe, every default written out
    environment.json  versions, machine, fingerprint of the data
    arms.json         the definition of every arm that ever ran here
    records.jsonl     one line per result
    state.json        how each arm of each replicate ended
    tickets/          ARM/replicate-K/round-RRR.safetensors
    predictions/      ARM/replicate-K/round-RRR.npy, the predicted class of every test example
    trainings/        finished trainings, while the run is not complete
    summary.md report.html *.svg *.png

The folder is the source of truth: all that a report shows can be made from it again.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import inspect
import io
import json
import os
import platform
import shutil
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from tombola import catalogue
from tombola.digests import digest_json
from tombola.errors import ConfigError
from tombola.files import write_whole
from tombola.recipe import FORMAT, Recipe
from tombola.records import Record, Records
from tombola.tickets import Ticket


def run_digest(recipe: Recipe) -> str:
    """Digest of what all arms share: data, model, training, seed, kind of device; arms and rounds may be added."""
    whole = recipe.plain()
    shared = {key: whole[key] for key in ("data", "model", "training", "prunable", "rewind", "seed", "device")}
    return digest_json({"format": FORMAT, **shared})


class RunFolder:
    """The folder of a run, made or found again.

    Args:
        recipe: The recipe; with its name it says which folder.
        parent: Folder of all runs.
        fingerprint: Of the data.

    Raises:
        ConfigError: Another process works there, the data differ from those it began with, or an arm has
            changed under its old name.
    """

    def __init__(self, recipe: Recipe, parent: Path, fingerprint: str) -> None:
        self.recipe = recipe
        self.path = parent / f"{recipe.name}-{run_digest(recipe)[:8]}"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / ".lock").open("w")
        except OSError as error:
            raise ConfigError(f"cannot write to the run folder '{self.path}': {error.strerror}") from error
        try:
            self._take(fingerprint)
        except ConfigError:
            self.close()
            raise
        self._state_lock = threading.Lock()

    def _take(self, fingerprint: str) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"another process works in '{self.path}'; wait for it, or stop it") from error
        environments = self._check_data(environment(self.recipe, fingerprint))
        arms = self._check_arms()
        self.records = Records(self.path / "records.jsonl")
        self._state = self._json("state.json", {})
        self._write("environment.json", environments)
        self._write("arms.json", arms)
        write_whole(self.path / "recipe.yaml", yaml.safe_dump(self.recipe.plain(), sort_keys=False))

    def _write(self, name: str, value: Any) -> None:
        write_whole(self.path / name, json.dumps(value, indent=2) + "\n")

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

    def _check_data(self, now: dict[str, Any]) -> list[dict[str, Any]]:
        """Refuse other data or other code of the user's than the run began with; return all its environments."""
        known: list[dict[str, Any]] = self._json("environment.json", [])
        for before in known:
            # Code that is new to the run is no change: an arm may be added with a score of its own.
            pairs = [("the data", before.get("data_fingerprint"), now["data_fingerprint"])]
            own = before.get("own_code", {})
            pairs += [
                (f"your own '{name}'", own[name], digest) for name, digest in now["own_code"].items() if name in own
            ]
            for what, was, digest in pairs:
                if was != digest:
                    raise ConfigError(f"{what} differs from what '{self.path}' began with (digest {digest[:12]}, "
                                      f"was {str(was)[:12]}); give the run another name")  # fmt: skip
        return known if now in known else [*known, now]

    def _check_arms(self) -> dict[str, Any]:
        """Refuse an arm that changed under its name; return the definitions of all arms that ever ran here."""
        known: dict[str, Any] = self._json("arms.json", {})
        for name in self.recipe.arms:
            now, was = self.definition(name), known.get(name)
            if was is not None and was != now:
                odd = [key for key in now if now[key] != was.get(key)]
                changes = ", ".join(f"{key} was {was.get(key)}, is {now[key]}" for key in odd)
                raise ConfigError(f"arm '{name}' has changed since '{self.path}' began: {changes}; "
                                  "give it another name")  # fmt: skip
            known[name] = now
        return known

    def definition(self, name: str) -> dict[str, Any]:
        """Return what an arm is, as plain data; of one that matches another, that other's too."""
        arm: dict[str, Any] = self.recipe.plain()["arms"][name]
        return arm | {"source": self.definition(arm["match"])} if arm["match"] else arm

    def arm_digest(self, name: str) -> str:
        """Digest of an arm's definition."""
        return digest_json(self.definition(name))

    def record(self, arm: str, replicate: int, index: int) -> Record | None:
        """Return the result of a round, or ``None`` where there is none yet."""
        return self.records.get(arm, replicate, index)

    def rounds_done(self, arm: str, replicate: int) -> list[Ticket]:
        """Return the tickets of the first rounds that have both a ticket and a record, without a gap."""
        tickets: list[Ticket] = []
        if self.record(arm, replicate, 0) is None:
            return tickets
        while (record := self.record(arm, replicate, len(tickets) + 1)) is not None:
            path = self.ticket_path(arm, replicate, len(tickets) + 1)
            if not path.exists():
                break
            ticket = Ticket.load(path)
            if ticket.mask_digest != record["mask_digest"]:
                raise ConfigError(f"'{path}' is not the ticket that the records tell of; move it away")
            # All rounds rewind to the same point: it is held once.
            tickets.append(replace(ticket, rewind_point=tickets[0].rewind_point) if tickets else ticket)
        return tickets

    def ticket_path(self, arm: str, replicate: int, index: int) -> Path:
        """Where the ticket of a round is kept."""
        return self.path / "tickets" / arm / f"replicate-{replicate}" / f"round-{index:03}.safetensors"

    def keep_predictions(self, arm: str, replicate: int, index: int, predictions: NDArray[np.integer[Any]]) -> None:
        """Keep what a ticket predicts for every test example, a byte or two each."""
        small = predictions.astype(np.uint8 if predictions.max(initial=0) < 256 else np.uint16)
        file = io.BytesIO()
        np.save(file, small, allow_pickle=False)
        path = self.path / "predictions" / arm / f"replicate-{replicate}" / f"round-{index:03}.npy"
        write_whole(path, file.getvalue())

    @property
    def trainings(self) -> Path:
        """Where finished trainings are kept while the run is not complete."""
        return self.path / "trainings"

    def ended(self, arm: str, replicate: int, how: str, why: str, rounds: int) -> None:
        """Note how an arm of a replicate ended, "finished", "failed" or "skipped", and after how many rounds."""
        with self._state_lock:
            until = self.recipe.plain()["until"]
            self._state[f"{arm}/{replicate}"] = {"state": how, "why": why, "rounds": rounds, "until": until}
            self._write("state.json", self._state)

    def finished(self, arm: str, replicate: int) -> bool:
        """Whether an arm of a replicate has nothing left to do: it ended so, and what it made is still there."""
        state = self._state.get(f"{arm}/{replicate}")
        if not isinstance(state, dict) or state.get("state") != "finished":
            return False
        rounds, until = state.get("rounds", -1), self.recipe.plain()["until"]
        there = all(self.record(arm, replicate, index) is not None for index in range(rounds + 1))
        there = there and all(self.ticket_path(arm, replicate, index).exists() for index in range(1, rounds + 1))
        return there and state.get("until") == until

    def state(self, arm: str, replicate: int) -> tuple[str, str]:
        """How an arm of a replicate ended, and why."""
        state = self._state.get(f"{arm}/{replicate}")
        if not isinstance(state, dict):
            return "open", ""
        return state.get("state", "open"), state.get("why", "")

    def clear_trainings(self) -> None:
        """Drop the finished trainings of a complete run: its records and tickets say all."""
        shutil.rmtree(self.trainings, ignore_errors=True)

    def close(self) -> None:
        """Let go of the folder."""
        self._lock.close()


def environment(recipe: Recipe, fingerprint: str) -> dict[str, Any]:
    """Return what a run's figures were made with."""
    packages = ("tombola", "torch", "torchvision", "numpy", "safetensors", "scikit-learn")
    names = {recipe.data.name, recipe.model.name, *(arm.score for arm in recipe.arms.values())}
    return {
        "python": sys.version.split()[0],
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cores": cores(),
        "data_fingerprint": fingerprint,
        "own_code": {name: source_digest(name) for name in sorted(names) if ":" in name},
    }


def source_digest(name: str) -> str:
    """Digest of the file that the user's own ``package.module:function`` stands in."""
    file = inspect.getsourcefile(inspect.unwrap(catalogue.own(name)))
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
