"""Storage: finished trainings and results as files, whole or not at all.

A training that is on disk is not done again, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from tombola.connectivity import Line
from tombola.evaluation import Metrics
from tombola.files import write_whole
from tombola.jobs import Measured, Trained


def log_error(folder: Path, text: str) -> None:
    """Add a traceback to a run's ``errors.log``; that it cannot be written must not hide what it tells of."""
    with contextlib.suppress(OSError), (folder / "errors.log").open("a", encoding="utf-8") as log:
        log.write(text)


# What a finished training says beside its tensors.
_FACTS = (
    *("early_step", "select", "history", "samples", "seconds"),
    *("steps", "process_seconds", "peak_bytes", "cuts"),
)


class Store:
    """A folder of finished trainings and measurements, by their job's digest, and of lines, by a digest of two jobs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def trained(self, digest: str) -> Trained | None:
        """Return a finished training, or ``None`` where there is none that can be read."""
        read = self._read(digest, "training")
        if read is None:
            return None
        tensors, facts = read
        states: dict[str, dict[str, Tensor]] = {"final": {}, "early": {}, "mask": {}}
        for name, value in tensors.items():
            which, _, key = name.partition(".")
            states[which][key] = value
        return Trained(states["final"], states["early"] or None, **facts, mask=states["mask"] or None)

    def kept(self, digest: str) -> bool:
        """Whether there is a file of a finished training, whatever is in it."""
        return self._path(digest, "training").exists()

    def has_trained(self, digest: str) -> bool:
        """Whether a training is finished and can be read."""
        return self._path(digest, "training").exists() and self.trained(digest) is not None

    def keep_trained(self, digest: str, trained: Trained) -> None:
        """Write a finished training."""
        tensors = {f"final.{name}": value for name, value in trained.final.items()}
        tensors |= {f"early.{name}": value for name, value in (trained.early or {}).items()}
        tensors |= {f"mask.{name}": keep for name, keep in (trained.mask or {}).items()}
        self._write(digest, "training", tensors, {name: getattr(trained, name) for name in _FACTS})

    def drop(self, digest: str) -> None:
        """Remove a training and its measurement."""
        for kind in ("training", "measured"):
            self._path(digest, kind).unlink(missing_ok=True)

    def keep_only(self, digests: Collection[str]) -> None:
        """Remove all trainings but these, and all measurements and lines; without any, the folder too."""
        for path in self.folder.glob("*.*"):
            if path.suffix != ".training" or path.stem not in digests:
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it is not empty, or not there
            self.folder.rmdir()

    def measured(self, digest: str) -> Measured | None:
        """Return a finished measurement, or ``None``."""
        read = self._read(digest, "measured")
        if read is None:
            return None
        tensors, facts = read
        made: dict[str, Any] = {
            which: fact and Metrics(**fact, predictions=tensors[which]) for which, fact in facts.items()
        }
        return Measured(**made)

    def keep_measured(self, digest: str, measured: Measured) -> None:
        """Write a finished measurement."""
        metrics = {which: getattr(measured, which) for which in ("train", "valid", "test", "early")}
        facts = {which: m and {"loss": m.loss, "accuracy": m.accuracy} for which, m in metrics.items()}
        self._write(digest, "measured", {w: m.predictions for w, m in metrics.items() if m is not None}, facts)

    def line(self, digest: str) -> Line | None:
        """Return a finished line between two trainings, or ``None``."""
        read = self._read(digest, "line")
        return None if read is None else Line(**read[1])

    def keep_line(self, digest: str, line: Line) -> None:
        """Write a finished line."""
        self._write(digest, "line", {}, asdict(line))

    def _path(self, digest: str, kind: str) -> Path:
        return self.folder / f"{digest}.{kind}"

    def _read(self, digest: str, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        path = self._path(digest, kind)
        try:
            tensors = load_file(path)
            facts = json.loads(bytes(tensors.pop("facts").numpy()))
        except (FileNotFoundError, SafetensorError, ValueError, KeyError):
            return None
        return tensors, facts

    def _write(self, digest: str, kind: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        # Facts as a tensor, not as metadata: safetensors keeps no order there, and equal content gives equal files.
        text = torch.frombuffer(bytearray(json.dumps(facts).encode()), dtype=torch.uint8)
        # Copies: safetensors refuses tensors that share memory, as the test results of the best state do with "early".
        whole = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()} | {"facts": text}
        write_whole(self._path(digest, kind), save(whole))
