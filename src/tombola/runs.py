"""Runs: the folder of one experiment.

    recipe.yaml       the resolved recipe, every default written out
    environment.json  versions, machine, fingerprint of the data
    records.jsonl     one line per result
    state.json        how each arm of each replicate ended
    tickets/          ARM/replicate-K/round-RR.safetensors
    predictions/      ARM/replicate-K/round-RR.npy, the predicted class of every test example
    trainings/        finished trainings, while the run is not complete
    summary.md report.html *.svg *.png

The folder is the source of truth: all that a report shows can be made from it again.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import io
import json
import os
import platform
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from tombola.digests import digest_json
from tombola.errors import ConfigError
from tombola.files import write_whole
from tombola.recipe import FORMAT, Recipe
from tombola.records import Records


def run_digest(recipe: Recipe) -> str:
    """Digest of what all arms share: data, model, training, seed. Arms, rounds and replicates may be added to a run."""
    whole = recipe.plain()
    shared = {key: whole[key] for key in ("data", "model", "training", "prunable", "rewind", "seed")}
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
        write_whole(self.path / "recipe.yaml", yaml.safe_dump(recipe.plain(), sort_keys=False))
        write_whole(self.path / "environment.json", json.dumps(environment(fingerprint), indent=2) + "\n")
        self.records = Records(self.path / "records.jsonl")
        self._state_lock = threading.Lock()
        self._state: dict[str, Any] = self._json("state.json") or {}

    def _take(self, fingerprint: str) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"another process works in '{self.path}'; wait for it, or stop it") from error
        self._check_same(fingerprint)

    def _json(self, name: str) -> Any:
        path = self.path / name
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def _check_same(self, fingerprint: str) -> None:
        before = self._json("environment.json")
        if before is not None and before["data_fingerprint"] != fingerprint:
            old = before["data_fingerprint"]
            raise ConfigError(f"the data differ from those that '{self.path}' began with (fingerprint "
                              f"{fingerprint[:12]}, then {old[:12]}); give the run another name")  # fmt: skip
        if (self.path / "recipe.yaml").exists():
            old = yaml.safe_load((self.path / "recipe.yaml").read_text(encoding="utf-8"))["arms"]
            new = self.recipe.plain()["arms"]
            for name in old.keys() & new.keys():
                odd = [key for key in new[name] if new[name][key] != old[name].get(key)]
                if odd:
                    changes = ", ".join(f"{key} was {old[name].get(key)}, is {new[name][key]}" for key in odd)
                    raise ConfigError(f"arm '{name}' has changed since '{self.path}' began: {changes}; "
                                      "give it another name")  # fmt: skip

    def ticket_path(self, arm: str, replicate: int, index: int) -> Path:
        """Where the ticket of a round is kept."""
        return self.path / "tickets" / arm / f"replicate-{replicate}" / f"round-{index:02}.safetensors"

    def keep_predictions(self, arm: str, replicate: int, index: int, predictions: NDArray[np.integer[Any]]) -> None:
        """Keep what a ticket predicts for every test example, a byte or two each."""
        small = predictions.astype(np.uint8 if predictions.max(initial=0) < 256 else np.uint16)
        file = io.BytesIO()
        np.save(file, small, allow_pickle=False)
        path = self.path / "predictions" / arm / f"replicate-{replicate}" / f"round-{index:02}.npy"
        write_whole(path, file.getvalue())

    @property
    def trainings(self) -> Path:
        """Where finished trainings are kept while the run is not complete."""
        return self.path / "trainings"

    def ended(self, arm: str, replicate: int, how: str, why: str) -> None:
        """Note how an arm of a replicate ended: "finished", "failed" or "skipped"."""
        with self._state_lock:
            self._state[f"{arm}/{replicate}"] = {"state": how, "why": why, "until": self._until()}
            write_whole(self.path / "state.json", json.dumps(self._state, indent=2) + "\n")

    def finished(self, arm: str, replicate: int) -> bool:
        """Whether an arm of a replicate has nothing left to do under the present recipe."""
        state = self._state.get(f"{arm}/{replicate}", {})
        return bool(state.get("state") == "finished" and state["until"] == self._until())

    def state(self, arm: str, replicate: int) -> tuple[str, str]:
        """How an arm of a replicate ended, and why."""
        state = self._state.get(f"{arm}/{replicate}", {})
        return state.get("state", "open"), state.get("why", "")

    def _until(self) -> dict[str, Any]:
        until: dict[str, Any] = self.recipe.plain()["until"]
        return until

    def clear_trainings(self) -> None:
        """Drop the finished trainings of a complete run: its records and tickets say all."""
        shutil.rmtree(self.trainings, ignore_errors=True)

    def close(self) -> None:
        """Let go of the folder."""
        self._lock.close()


def environment(fingerprint: str) -> dict[str, Any]:
    """Return what a run's figures were made with."""
    packages = ("tombola", "torch", "torchvision", "numpy", "safetensors", "scikit-learn")
    return {
        "python": sys.version.split()[0],
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "data_fingerprint": fingerprint,
    }
