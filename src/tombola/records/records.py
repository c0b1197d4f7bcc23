"""Records: one JSON line per result, appended whole. The run folder is the source of truth.

Lines are checked when they are read: each carries a digest over what it says, and a file of before
there were any may have been edited, or damaged so that it still is JSON.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tombola.ground.errors import ConfigError, InvariantError
from tombola.ground.files import cannot_write, write_whole
from tombola.ground.metrics import CLASSIFIED, Metric
from tombola.records.results import Cost as Cost
from tombola.records.results import Kind, Result, kinds
from tombola.records.results import Record as Record
from tombola.records.results import costs_of as costs_of
from tombola.records.results import timeless as timeless
from tombola.records.seals import Seals

if TYPE_CHECKING:
    from tombola.ground.extras import pandas

# What every result says, of a run or a transfer, beside the headline metric; a line without is
# damaged.
_FIELDS = {
    "arm",
    "replicate",
    "round",
    "kept",
    "density",
    "mask_digest",
    "evaluated",
    "samples_seen",
}


_SHOWN = 60  # characters of a damaged value


class Records:
    """The results of a run, one per arm, replicate and round, on disk and in memory.

    A round whose ticket was not evaluated has a record too. When it is evaluated later, a second
    line takes its place; so do those of the rounds behind it, which have cost more since.

    Args:
        path: The file; it need not exist.
        repair: Cut off a last line that was not written to its end; else it is passed over.
        order: The arms in the order in which results are given, whichever was written first; arms
            that are not among them come last, by their names.
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
        self._kinds = kinds(metrics)
        self._seals = seals or Seals(path.parent, required=False)
        self._known: dict[tuple[str, int, int], Record] = {}
        # The same by arm and replicate, then by round: nobody looks through all results for those
        # of one arm.
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
                    f"line {number} of '{self.path}' is damaged: {error}; take it out, and its "
                    "round is done again"
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
        """Read the file without a last line that was cut short; its result is had again when
        the run goes on.
        """
        data = self.path.read_bytes()
        end = data.rfind(b"\n") + 1
        self.repaired = end < len(data)
        if self.repaired and repair:
            os.truncate(self.path, end)
        return data[:end]

    def add(self, record: Record, *, anyway: bool = False) -> bool:
        """Append a result; one that is there already must be of the same ticket. Returns whether it
        was new.

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
                    raise InvariantError(
                        "the run on disk has another mask for this round: it does not reproduce "
                        "here"
                    )
                more = record["samples_seen"] > before["samples_seen"]
                less = record["evaluated"] < before["evaluated"]
                if not anyway and (
                    less or (record["evaluated"] == before["evaluated"] and not more)
                ):
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

        What is a list or a mapping in a record (costs, layers, curve, candidates) is left out; see
        `costs_of`.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     records = Records(Path(folder, "records.jsonl"))
        ...     _ = records.add({"arm": "lth", "replicate": 0, "round": 1, "density": 0.8, "costs": []})
        ...     records.to_frame().to_dict("records")
        [{'arm': 'lth', 'replicate': 0, 'round': 1, 'density': 0.8}]
        """
        from tombola.ground.extras import pandas

        return pandas.DataFrame(
            [
                {key: value for key, value in record.items() if not isinstance(value, list | dict)}
                for record in self
            ]
        )

    def get(self, arm: str, replicate: int, index: int) -> Record | None:
        """Return the result of a round, or ``None``."""
        return self._known.get((arm, replicate, index))

    def results(self) -> list[Result]:
        """Return the results with a type, in the order of `all`."""
        return [Result.of_record(record, self._metrics) for record in self.all()]

    def of(self, arm: str, replicate: int) -> list[Record]:
        """Return the results of an arm of a replicate, by round."""
        with self._lock:  # arms of a run add to them meanwhile
            rounds = dict(self._rounds.get((arm, replicate), {}))
        return [rounds[index] for index in sorted(rounds)]

    def all(self) -> list[Record]:
        """Return the results in the order arm, replicate, round; which was written first does
        not matter.
        """
        with self._lock:
            if self._in_order is None:
                places = {arm: place for place, arm in enumerate(self.order)}
                last = len(places)
                keys = sorted(self._known, key=lambda key: (places.get(key[0], last), *key))
                self._in_order = [self._known[key] for key in keys]
            return list(self._in_order)


def _key(record: Record) -> tuple[str, int, int]:
    return record["arm"], record["replicate"], record["round"]


def _check(record: Any, fields: Collection[str], known: Mapping[str, Kind]) -> None:
    """Refuse a line that is no record, or whose entry is not what it must be."""
    if type(record) is not dict:
        raise ConfigError(f"it is {_shown(record)}; it must be a mapping")
    if missing := sorted({*_FIELDS, *fields} - record.keys()):
        raise ConfigError(f"it has no '{missing[0]}'")
    for name, value in record.items():
        kind = known.get(name)
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
    """Refuse a record whose layers are not those that the run's first record has, by name and
    size.
    """
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
    for entry, found in (
        ("layers", record["layers"]),
        ("candidate_layers", record.get("candidate_layers") or sizes),
    ):
        if missing := sizes.keys() ^ found.keys():
            raise ConfigError(f"{entry} and those of {where} differ in {_shown(min(missing))}")
    if len({len(kept) for kept in record.get("candidate_layers", {}).values()}) > 1:
        raise ConfigError("candidate_layers are not of as many candidates in every layer")


def _odd(name: str, value: Any, kind: Kind) -> str:
    """Say what of an entry is wrong: the entry itself or, if it is a list or mapping, the first
    part that is.
    """
    parts = (
        value.items() if type(value) is dict else enumerate(value) if type(value) is list else ()
    )
    if kind.part is not None:
        for key, part in parts:
            if not kind.part.holds(part):
                return _odd(f"{name}[{_shown(key)}]", part, kind.part)
    return f"{name} is {_shown(value)}; it must be {kind.told}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"
