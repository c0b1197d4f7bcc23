"""Storage: finished trainings and results as files, whole or not at all.

A training that is on disk is not done again, so a run that was stopped goes on where it was. A file that is not what
was written counts as not there, and that is told: what it held is done again where it is needed.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from tombola.checking import check_in_file
from tombola.connectivity import Line
from tombola.errors import ConfigError, DamagedError
from tombola.jobs import Measured, Trained
from tombola.metrics import ACCURACY, Metric
from tombola.seals import Seals
from tombola.tasks.protocol import Metrics

_Kind = TypeVar("_Kind", Trained, Measured, Line)


def log_error(folder: Path, text: str) -> None:
    """Add a traceback to a run's ``errors.log``; that it cannot be written must not hide what it tells of."""
    with contextlib.suppress(OSError), (folder / "errors.log").open("a", encoding="utf-8") as log:
        log.write(text)


# What a finished training says beside its tensors.
_FACTS: dict[str, Any] = {
    "early_step": int | None,
    "select": Literal["last", "best"],
    "history": list[dict[str, float]],
    "samples": int,
    "seconds": float,
    "steps": int,
    "process_seconds": float,
    "peak_bytes": int,
    "cuts": list[tuple[int, dict[str, int]]],
}
_SPLITS = ("train", "valid", "test", "early")


class Store:
    """A folder of finished trainings and measurements, by their job's digest, and of lines, by a digest of two jobs.

    Args:
        folder: The folder.
        tell: Told of each file that is not what was written, once: which, and what is wrong with it.
        sealed: Whether a file without a digest of its content is not what was written; `runs.Run` knows of its own.
    """

    def __init__(self, folder: Path, *, tell: Callable[[str], None] = lambda _: None, sealed: bool = True) -> None:
        self.folder, self._tell = folder, tell
        self._seals = Seals(folder, required=sealed)
        self._told: set[Path] = set()

    def trained(self, digest: str) -> Trained | None:
        """Return a finished training, or ``None`` where there is none, or one that is not what was written."""
        return self._if_whole(self._read_trained, digest, "training")

    def kept(self, digest: str) -> bool:
        """Whether there is a file of a finished training, whatever is in it."""
        return self._path(digest, "training").exists()

    def has_trained(self, digest: str) -> bool:
        """Whether a training is finished and can be read."""
        return self.trained(digest) is not None

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
        """Return a finished measurement, or ``None``, as `trained`."""
        return self._if_whole(self._read_measured, digest, "measured")

    def keep_measured(self, digest: str, measured: Measured) -> None:
        """Write a finished measurement."""
        metrics = {which: getattr(measured, which) for which in _SPLITS}
        facts = {which: m and {"loss": m.loss, **m.values} for which, m in metrics.items()}
        predicted = {which: m.predictions for which, m in metrics.items() if m and m.predictions is not None}
        self._write(digest, "measured", predicted, facts)

    def line(self, digest: str) -> Line | None:
        """Return a finished line between two trainings, or ``None``, as `trained`."""
        return self._if_whole(self._read_line, digest, "line")

    def keep_line(self, digest: str, line: Line) -> None:
        """Write a finished line."""
        self._write(digest, "line", {}, line.plain() | {"metric": line.metric.plain()})

    def verify(self, path: Path) -> None:
        """Check all of a file of the folder.

        Raises:
            ConfigError: It is none of the three kinds, or not what was written.
        """
        readers: dict[str, Callable[[str], object]] = {
            ".training": self._read_trained, ".measured": self._read_measured, ".line": self._read_line,
        }  # fmt: skip
        if path.suffix not in readers:
            raise ConfigError(f"'{path}' is no file of a run; take it away")
        readers[path.suffix](path.stem)

    def copy(self, path: Path, to: Store) -> None:
        """Write a file of this folder into another one, with its digest."""
        to._seals.write_tensors(to.folder / path.name, self._seals.read_tensors(path))

    def seal(self) -> None:
        """Write all files anew, each with its digest, for a folder of before there were any; what is damaged goes."""
        for path in sorted(self.folder.glob("*.*")):
            try:
                self.verify(path)
            except DamagedError as error:
                self._tell(str(error))
                path.unlink()
            except ConfigError:
                continue
            else:
                self.copy(path, self)

    def _read_trained(self, digest: str) -> Trained:
        path = self._path(digest, "training")
        tensors, facts = self._read(path)
        states: dict[str, dict[str, Tensor]] = {"final": {}, "early": {}, "mask": {}}
        for name, value in tensors.items():
            which, _, key = name.partition(".")
            if which not in states or not key:
                raise DamagedError(f"'{path}' is damaged: '{name}' is no tensor of a training")
            states[which][key] = value
        kinds = {state: {name: (value.dtype, value.shape) for name, value in states[state].items()} for state in states}
        masks = {name: value.shape for name, value in states["final"].items()}
        fits = all(keep.dtype == torch.bool and masks.get(name) == keep.shape for name, keep in states["mask"].items())
        if not kinds["final"] or kinds["early"] not in ({}, kinds["final"]) or not fits:
            raise DamagedError(f"'{path}' is damaged: its tensors are not those of one model")
        # Of before there were steps, clocks and cuts, a training has none.
        known = {"steps", "process_seconds", "peak_bytes", "cuts"}
        if (odd := facts.keys() - _FACTS.keys()) or (odd := _FACTS.keys() - known - facts.keys()):
            raise DamagedError(f"'{path}' is damaged: '{min(odd)}' is missing or no fact of a training")
        for name, value in facts.items():
            check_in_file(path, name, _finite(value), _FACTS[name])
        return Trained(states["final"], states["early"] or None, **facts, mask=states["mask"] or None)

    def _read_measured(self, digest: str) -> Measured:
        path = self._path(digest, "measured")
        tensors, facts = self._read(path)
        there = {which for which, fact in facts.items() if fact is not None}
        fits = tensors.keys() in (there, set())  # predictions, of all splits or of none
        if facts.keys() != {*_SPLITS} or not fits or not there >= {"train", "test"}:
            raise DamagedError(f"'{path}' is damaged: its splits are not those of a measurement")
        made: dict[str, Metrics | None] = dict.fromkeys(_SPLITS)
        for which in there:
            check_in_file(path, which, _finite(facts[which]), dict[str, float])
            values = dict(facts[which])
            if "loss" not in values or len(values) < 2 or values.keys() != facts["test"].keys():
                raise DamagedError(f"'{path}' is damaged: {which} is not a loss and the metrics of a task")
            made[which] = Metrics(values.pop("loss"), values, tensors.get(which))
        return Measured(**made)  # type: ignore[arg-type]

    def _read_line(self, digest: str) -> Line:
        path = self._path(digest, "line")
        _, facts = self._read(path)
        try:
            metric = Metric(**facts.pop("metric", ACCURACY.plain()))  # of before there were others it says nothing
        except (TypeError, ConfigError) as error:
            raise DamagedError(f"'{path}' is damaged: it has no metric") from error
        if facts.keys() != {"at", metric.name, "loss"}:
            raise DamagedError(f"'{path}' is damaged: its entries are not those of a line")
        for name, value in facts.items():
            check_in_file(path, name, _finite(value), list[float])
        if len({len(column) for column in facts.values()}) > 1 or not facts["at"]:
            raise DamagedError(f"'{path}' is damaged: its columns are empty or not as long as each other")
        return Line(facts["at"], facts[metric.name], facts["loss"], metric)

    def _if_whole(self, read: Callable[[str], _Kind], digest: str, kind: str) -> _Kind | None:
        try:
            return read(digest)
        except FileNotFoundError:
            return None
        except DamagedError as error:
            path = self._path(digest, kind)
            if path not in self._told:
                self._told.add(path)
                self._tell(str(error))
            return None

    def _path(self, digest: str, kind: str) -> Path:
        return self.folder / f"{digest}.{kind}"

    def _read(self, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = self._seals.read_tensors(path)
        try:
            facts = json.loads(bytes(tensors.pop("facts").numpy()))
            if not isinstance(facts, dict):
                raise ValueError(f"its facts are a {type(facts).__name__}")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamagedError(f"'{path}' is damaged: its facts cannot be read") from error
        return tensors, facts

    def _write(self, digest: str, kind: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        # Facts as a tensor, not as metadata: safetensors keeps no order there, and equal content gives equal files.
        text = torch.frombuffer(bytearray(json.dumps(facts).encode()), dtype=torch.uint8)
        path = self._path(digest, kind)
        self._seals.write_tensors(path, {**tensors, "facts": text})
        self._told.discard(path)


def _finite(value: Any) -> Any:
    """Put 0 in the place of what is no finite number: a loss may come to that, and its type is right."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return 0.0 if isinstance(value, float) and not math.isfinite(value) else value
