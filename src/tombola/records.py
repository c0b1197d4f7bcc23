"""Records: one JSON line per result, appended whole. The run folder is the source of truth.

Lines are checked when they are read: each carries a digest over what it says, and a file of before there were any may
have been edited, or damaged so that it still is JSON.
"""

from __future__ import annotations

import errno
import math
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tombola.errors import ConfigError, InvariantError
from tombola.files import cannot_write, write_whole
from tombola.metrics import CLASSIFIED, Metric
from tombola.seals import Seals

if TYPE_CHECKING:
    from tombola.extras import pandas

Record = Mapping[str, Any]

# What every result says, of a run or a transfer, beside the headline metric; a line without is damaged.
_FIELDS = {"arm", "replicate", "round", "kept", "density", "mask_digest", "evaluated", "samples_seen"}


_SHOWN = 60  # characters of a damaged value
_CLOCKS = ("seconds", "seconds_search", "round_seconds", "cut_seconds", "invariant_seconds")


@dataclass(frozen=True)
class Cost:
    """What one training cost, as a record has it.

    Attributes:
        role: "search" (on a partition), "evaluation" (of a ticket), "pretraining" (up to the rewind point), or "cut"
            (no training: what scores that need data went through).
        training: Its digest; arms that share it say the same.
        samples: Training examples seen.
        seconds: Wall time.
        steps: Optimiser steps; ``None`` in records of before they were counted, as all below.
        flops: Of its steps, forward and backward, with all weights.
        flops_sparse: Those that the kept weights alone would need.
        process_seconds: Processor time.
        peak_bytes: The most memory, see `jobs.Trained`.
    """

    role: str
    training: str
    samples: int
    seconds: float
    steps: int | None = None
    flops: int | None = None
    flops_sparse: int | None = None
    process_seconds: float | None = None
    peak_bytes: int | None = None

    def plain(self) -> dict[str, Any]:
        """Return it as it stands in a record."""
        return asdict(self)

    def timeless(self) -> Cost:
        """Return it without what hangs on the machine and its load."""
        return replace(self, seconds=0.0, process_seconds=None, peak_bytes=None)


def costs_of(record: Record) -> list[Cost]:
    """Return what a round needed that no round of its arm needed before.

    >>> costs_of({"costs": [["search", "ab", 600, 1.5]]})[0].samples
    600
    """
    return [Cost(**one) if isinstance(one, dict) else Cost(*one) for one in record.get("costs", ())]


def timeless(record: Record) -> dict[str, Any]:
    """Return what a record says that is the same on every machine: all but clocks and memory."""
    rest = {key: value for key, value in record.items() if key not in _CLOCKS}
    return rest | {"costs": [cost.timeless().plain() for cost in costs_of(record)]}


class Records:
    """The results of a run, one per arm, replicate and round, on disk and in memory.

    A round whose ticket was not evaluated has a record too. When it is evaluated later, a second line takes its place;
    so do those of the rounds behind it, which have cost more since.

    Args:
        path: The file; it need not exist.
        repair: Cut off a last line that was not written to its end; else it is passed over.
        order: The arms in the order in which results are given, whichever was written first; arms that are not among
            them come last, by their names.
        seals: Of the folder; by default those of one whose lines may have no digest.
        fields: What each record must have beside what all have.
        metrics: What its networks were measured by, the headline first.

    Attributes:
        repaired: Whether there was such a line.

    Raises:
        ConfigError: A line is damaged; the message says which.
    """

    def __init__(
        self,
        path: Path,
        *,
        repair: bool = True,
        order: Sequence[str] = (),
        seals: Seals | None = None,
        fields: Collection[str] = (),
        metrics: Sequence[Metric] = CLASSIFIED,
    ) -> None:
        self.path, self._lock = path, threading.Lock()
        self.order, self._fields, self._metrics = tuple(order), fields, metrics
        self._kinds = _KINDS | _measured(metrics)
        self._seals = seals or Seals(path.parent, required=False)
        self._known: dict[tuple[str, int, int], Record] = {}
        # The same by arm and replicate, then by round: nobody looks through all results for those of one arm.
        self._rounds: dict[tuple[str, int], dict[int, Record]] = {}
        self._in_order: list[Record] | None = None  # all of them, until one is added
        self.repaired = False
        if path.exists():
            self._read(repair)

    def _read(self, repair: bool) -> None:
        layers: tuple[int, Record] | None = None  # the first line that says which there are
        for number, line in enumerate(self._whole_lines(repair).split(b"\n")[:-1], 1):
            try:
                record = self._seals.read_line(self.path, line)
                self._check(record)
                layers = layers or ((number, record) if "layers" in record else None)
                if layers is not None:
                    _check_layers(record, layers[1], f"line {layers[0]}")
            except ConfigError as error:
                raise ConfigError(
                    f"line {number} of '{self.path}' is damaged: {error}; take it out, and its round is done again"
                ) from error
            self._keep(record)

    def _keep(self, record: Record) -> None:
        self._known[_key(record)] = record
        self._rounds.setdefault((record["arm"], record["replicate"]), {})[record["round"]] = record
        self._in_order = None

    def _check(self, record: Any) -> None:
        """Refuse a line that is no record, or whose entry is not what it must be."""
        _check(record, {*self._fields, self._metrics[0].test}, self._kinds)
        if record["evaluated"] and record[self._metrics[0].test] is None:
            raise ConfigError(f"it is evaluated and has no {self._metrics[0].test}")

    def write(self, path: Path, seals: Seals) -> None:
        """Write the results into a file, each line with its digest."""
        write_whole(path, [seals.line(path, record) for record in self._known.values()])

    def seal(self, seals: Seals) -> None:
        """Write the file anew, each line with its digest: for a folder of before there were any."""
        if self.path.exists():
            self.write(self.path, seals)
        self._seals = seals

    def _whole_lines(self, repair: bool) -> bytes:
        """Read the file without a last line that was cut short; its result is had again when the run goes on."""
        data = self.path.read_bytes()
        end = data.rfind(b"\n") + 1
        self.repaired = end < len(data)
        if self.repaired and repair:
            os.truncate(self.path, end)
        return data[:end]

    def add(self, record: Record, *, anyway: bool = False) -> bool:
        """Append a result; one that is there already must be of the same ticket. Returns whether it was new.

        Args:
            record: The result.
            anyway: It takes the place of one that is there, though that says as much.

        Raises:
            InvariantError: The run found another mask for the same arm, replicate and round.
            DiskError: The line cannot be written; the file is as it was.
        """
        with self._lock:
            before = self._known.get(_key(record))
            if before is not None:
                if before["mask_digest"] != record["mask_digest"]:
                    raise InvariantError("the run on disk has another mask for this round: it does not reproduce here")
                more = record["samples_seen"] > before["samples_seen"]
                less = record["evaluated"] < before["evaluated"]
                if not anyway and (less or (record["evaluated"] == before["evaluated"] and not more)):
                    return False
            self._append(self._seals.line(self.path, record))
            self._keep(record)
            return True

    def _append(self, line: bytes) -> None:
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                before = os.fstat(handle).st_size
                written = os.write(handle, line)
                if written < len(line):  # a disk that fills up takes what fits
                    os.truncate(handle, before)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def __iter__(self) -> Iterator[Record]:
        return iter(self.all())

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, record: object) -> bool:
        return record in self.all()

    def to_frame(self) -> pandas.DataFrame:
        """Return the results as a table of pandas: one row a result, what is one value as it is.

        What is a list or a mapping in a record (costs, layers, curve, candidates) is left out; see `costs_of`.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     records = Records(Path(folder, "records.jsonl"))
        ...     _ = records.add({"arm": "lth", "replicate": 0, "round": 1, "density": 0.8, "costs": []})
        ...     records.to_frame().to_dict("records")
        [{'arm': 'lth', 'replicate': 0, 'round': 1, 'density': 0.8}]
        """
        from tombola.extras import pandas

        return pandas.DataFrame(
            [{key: value for key, value in record.items() if not isinstance(value, list | dict)} for record in self]
        )

    def get(self, arm: str, replicate: int, index: int) -> Record | None:
        """Return the result of a round, or ``None``."""
        return self._known.get((arm, replicate, index))

    def of(self, arm: str, replicate: int) -> list[Record]:
        """Return the results of an arm of a replicate, by round."""
        with self._lock:  # arms of a run add to them meanwhile
            rounds = dict(self._rounds.get((arm, replicate), {}))
        return [rounds[index] for index in sorted(rounds)]

    def all(self) -> list[Record]:
        """Return the results in the order arm, replicate, round; which was written first does not matter."""
        with self._lock:
            if self._in_order is None:
                places = {arm: place for place, arm in enumerate(self.order)}
                last = len(places)
                keys = sorted(self._known, key=lambda key: (places.get(key[0], last), *key))
                self._in_order = [self._known[key] for key in keys]
            return list(self._in_order)


def _key(record: Record) -> tuple[str, int, int]:
    return record["arm"], record["replicate"], record["round"]


@dataclass(frozen=True)
class _Kind:
    """What an entry must be: the test, in words, and what its parts must be if it is a list or a mapping of them."""

    holds: Callable[[Any], bool]
    told: str
    part: _Kind | None = None


def _or_null(kind: _Kind) -> _Kind:
    return _Kind(lambda value: value is None or kind.holds(value), f"{kind.told}, or null", kind.part)


def _list(kind: _Kind, told: str, numbers: range = range(1_000_000_000)) -> _Kind:
    """Return the kind of a list of parts, of which there are so many."""
    holds = kind.holds
    return _Kind(lambda value: type(value) is list and len(value) in numbers and all(map(holds, value)), told, kind)


def _mapping(kind: _Kind, told: str) -> _Kind:
    holds = kind.holds
    return _Kind(lambda value: type(value) is dict and all(map(holds, value.values())), told, kind)


# By type: true is an int to isinstance. A comparison is false of NaN, and holds integers of any length.
_TEXT = _Kind(lambda value: type(value) is str, "a text")
_FACT = _Kind(lambda value: type(value) is bool, "true or false")
_COUNT = _Kind(lambda value: type(value) is int and value >= 0, "a whole number, 0 or above")
_SIZE = _Kind(lambda value: type(value) is int and value > 0, "a whole number above 0")
_NUMBER = _Kind(lambda value: type(value) in (int, float) and -math.inf < value < math.inf, "a finite number")
_FRACTION = _Kind(lambda value: type(value) in (int, float) and 0 <= value <= 1, "a fraction from 0 to 1")

_COSTS = {field.name: _NUMBER if field.default is MISSING else _or_null(_NUMBER) for field in fields(Cost)} | {
    "role": _TEXT, "training": _TEXT, "samples": _COUNT,
}  # fmt: skip
_LEAST = {field.name for field in fields(Cost) if field.default is MISSING}


def _is_cost(value: Any) -> bool:
    if type(value) is list:
        if len(value) > len(_COSTS):
            return False
        value = dict(zip(_COSTS, value, strict=False))
    return (
        type(value) is dict
        and _LEAST <= value.keys() <= _COSTS.keys()
        and all(_COSTS[name].holds(part) for name, part in value.items())
    )


_COST = _Kind(_is_cost, f"a training's cost: {', '.join(_COSTS)}, of which the first {len(_LEAST)} must be there")
_COLUMNS = _mapping(_list(_NUMBER, "a list of finite numbers"), "lists of finite numbers by name")

# What is read anywhere. An entry that a record lacks is one that its version did not write.
_KINDS = {
    **dict.fromkeys(("arm", "mask_digest", "run_digest", "arm_digest", "rewind_digest"), _TEXT),
    **dict.fromkeys(("of", "data", "data_fingerprint", "found_on", "model", "profile", "ticket_path"), _TEXT),
    **dict.fromkeys(("selected", "training_digest", "ticket"), _or_null(_TEXT)),
    **dict.fromkeys(("replicate", "round", "kept", "seed"), _COUNT),
    **dict.fromkeys(("prunable", "total", "classes"), _SIZE),
    **dict.fromkeys(("samples_seen", "samples_seen_search"), _COUNT),
    **dict.fromkeys(("early_stop_step", "evaluate_every"), _or_null(_COUNT)),
    **dict.fromkeys(("density", "density_total"), _FRACTION),
    "kept_fraction": _or_null(_FRACTION),
    **dict.fromkeys(("test_loss", "valid_loss", "train_loss", "distance", "barrier"), _or_null(_NUMBER)),
    **dict.fromkeys(_CLOCKS, _NUMBER),
    **dict.fromkeys(("evaluated", "by_itself", "control"), _FACT),
    "passes": _or_null(_FACT),
    "layers": _mapping(_list(_COUNT, "two whole numbers, [kept, all]", range(2, 3)), "[kept, all] by layer"),
    "candidate_layers": _mapping(_list(_COUNT, "whole numbers, one a candidate"), "lists of whole numbers by layer"),
    "candidate_densities": _list(_FRACTION, "a list of fractions"),
    "inference_flops": _list(_COUNT, "two whole numbers, [all weights, kept ones]", range(2, 3)),
    "class_examples": _list(_COUNT, "a list of whole numbers"),
    **dict.fromkeys(("collapsed", "notes", "lifted", "unmasked", "uncounted"), _list(_TEXT, "a list of texts")),
    "training": _Kind(lambda value: type(value) is dict, "a mapping"),
    "costs": _list(_COST, "a list of costs"),
    "curve": _or_null(_COLUMNS),
    "line": _or_null(_COLUMNS),
}


def _measured(metrics: Sequence[Metric]) -> dict[str, _Kind]:
    """Return what the entries of metrics must be; the headline is there at the early stop, too."""
    kinds: dict[str, _Kind] = {}
    for metric in metrics:
        kind = _or_null(_FRACTION if metric.fraction else _NUMBER)
        kinds |= dict.fromkeys((metric.test, metric.valid, metric.train, metric.early), kind)
    return kinds


def _check(record: Any, fields: Collection[str], kinds: Mapping[str, _Kind]) -> None:
    """Refuse a line that is no record, or whose entry is not what it must be."""
    if type(record) is not dict:
        raise ConfigError(f"it is {_shown(record)}; it must be a mapping")
    if missing := sorted({*_FIELDS, *fields} - record.keys()):
        raise ConfigError(f"it has no '{missing[0]}'")
    for name, value in record.items():
        kind = kinds.get(name)
        if kind is not None and not kind.holds(value):
            raise ConfigError(_odd(name, value, kind))
    if not record["evaluated"] and record["round"] == 0:
        raise ConfigError("it is the dense network's and not evaluated")
    for name in ("curve", "line"):
        columns = record.get(name) or {}
        if len({len(column) for column in columns.values()}) > 1:
            lengths = ", ".join(f"{len(column)} {key}" for key, column in columns.items())
            raise ConfigError(f"{name} has {lengths}; they must be as many")


def _check_layers(record: Record, first: Record, where: str) -> None:
    """Refuse a record whose layers are not those that the run's first record has, by name and size."""
    sizes = {name: size for name, (_, size) in first["layers"].items()}
    if "layers" not in record:
        if record.get("candidate_layers"):
            raise ConfigError("it has candidate_layers and no layers")
        return  # of before they were counted
    for name, (kept, size) in record["layers"].items():
        if sizes.get(name) != size:
            there = f"{sizes[name]} in {where}" if name in sizes else f"{where} has no such layer"
            raise ConfigError(f"layers[{_shown(name)}] has {size} weights, and {there}")
        if kept > size:
            raise ConfigError(f"layers[{_shown(name)}] keeps {kept} of {size} weights")
    # A round of one partition, or of another arm's tickets, has no candidates.
    for entry, found in (("layers", record["layers"]), ("candidate_layers", record.get("candidate_layers") or sizes)):
        if missing := sizes.keys() ^ found.keys():
            raise ConfigError(f"{entry} and those of {where} differ in {_shown(min(missing))}")
    if len({len(kept) for kept in record.get("candidate_layers", {}).values()}) > 1:
        raise ConfigError("candidate_layers are not of as many candidates in every layer")


def _odd(name: str, value: Any, kind: _Kind) -> str:
    """Say what of an entry is wrong: the entry itself or, if it is a list or mapping, the first part that is."""
    parts = value.items() if type(value) is dict else enumerate(value) if type(value) is list else ()
    if kind.part is not None:
        for key, part in parts:
            if not kind.part.holds(part):
                return _odd(f"{name}[{_shown(key)}]", part, kind.part)
    return f"{name} is {_shown(value)}; it must be {kind.told}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"
