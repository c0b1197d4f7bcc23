"""Records: one JSON line per result, appended whole. The run folder is the source of truth.

Lines are checked when they are read: each has a digest of its content. Older files have no digests,
and may have been edited, or damaged so that they are still JSON.
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
from tombola.ground.notebooks import one_line
from tombola.records.results import Cost as Cost
from tombola.records.results import Kind, Result, kinds
from tombola.records.results import Record as Record
from tombola.records.results import costs_of as costs_of
from tombola.records.results import timeless as timeless
from tombola.records.seals import Seals

if TYPE_CHECKING:
    from tombola.ground.extras import pandas

# What every result has, of a run or a transfer, beside the headline metric; a line without is
# damaged.
_FIELDS = {"arm", "replicate", "round", "kept", "density"}
_FIELDS |= {"mask_digest", "evaluated", "samples_seen"}

_SHOWN = 60  # characters of a damaged value


class Records:
    """The results of a run, one per arm, replicate and round, on disk and in memory.

    A round whose ticket was not evaluated has a record too. When it is evaluated later, a second
    line replaces it, and so do those of the rounds after it, which have cost more since.

    Args:
        path: The file; it need not exist.
        repair: Cut off a last line that was not written to its end; else it is ignored.
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
        self.path = path
        self.order = tuple(order)
        self._fields = fields
        self._metrics = metrics
        self._lock = threading.Lock()
        self._kinds = kinds(metrics)
        self._seals = seals or Seals(path.parent, required=False)
        self._known: dict[tuple[str, int, int], Record] = {}
        # The same by arm and replicate, then by round, so that `of` need not look through all.
        self._rounds: dict[tuple[str, int], dict[int, Record]] = {}
        self._in_order: list[Record] | None = None  # all of them, until one is added
        self.repaired = False
        if path.exists():
            self._read(repair)

    def __repr__(self) -> str:
        arms = dict.fromkeys(arm for arm, _ in self._rounds)
        return one_line("Records", f"{len(self)} results", ", ".join(arms))

    def _read(self, repair: bool) -> None:
        first: Record | None = None  # with layers: all others must have the same
        first_line = ""
        for number, line in enumerate(self._complete_lines(repair), 1):
            try:
                record = self._seals.read_line(self.path, line)
                self._check(record)
                if first is None and "layers" in record:
                    first, first_line = record, f"line {number}"
                if first is not None:
                    _check_layers(record, first, first_line)
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
        headline = self._metrics[0].test
        _check(record, {*self._fields, headline}, self._kinds)
        if record["evaluated"] and record[headline] is None:
            raise ConfigError(f"it is evaluated and has no {headline}")

    def write(self, path: Path, seals: Seals) -> None:
        """Write the results into a file, each line with its digest."""
        write_whole(path, [seals.line(path, record) for record in self._known.values()])

    def seal(self, seals: Seals) -> None:
        """Rewrite the file, each line with a digest, for a folder that has none."""
        if self.path.exists():
            self.write(self.path, seals)
        self._seals = seals

    def _complete_lines(self, repair: bool) -> list[bytes]:
        """Read the lines, without a last one that was cut short.

        The result that was cut short is found again when the run goes on.
        """
        data = self.path.read_bytes()
        end = data.rfind(b"\n") + 1
        self.repaired = end < len(data)
        if self.repaired and repair:
            os.truncate(self.path, end)
        return data[:end].split(b"\n")[:-1]

    def add(self, record: Record, *, anyway: bool = False) -> bool:
        """Append a result unless it is there; return whether it was new.

        Args:
            record: The result.
            anyway: Replace one that is there even if that says as much.

        Raises:
            InvariantError: The run found another mask for the same arm, replicate and round.
            DiskError: The line cannot be written; the file is as it was.
        """
        with self._lock:
            known = self._known.get(_key(record))
            if known is not None:
                if known["mask_digest"] != record["mask_digest"]:
                    raise InvariantError(
                        "the run on disk has another mask for this round: it does not reproduce "
                        "here"
                    )
                if not anyway and not _says_more(record, known):
                    return False
            self._append(self._seals.line(self.path, record))
            self._keep(record)
            return True

    def _append(self, line: bytes) -> None:
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                size = os.fstat(handle).st_size
                written = os.write(handle, line)
                if written < len(line):  # a disk that fills up takes what fits
                    os.truncate(handle, size)
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
        """Return the results as a table of pandas, one row a result.

        What is a list or a mapping in a record (costs, layers, curve, candidates) is left out; see
        `costs_of`.

        >>> import tempfile
        >>> record = {"arm": "lth", "replicate": 0, "round": 1, "density": 0.8, "costs": []}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     records = Records(Path(folder, "records.jsonl"))
        ...     _ = records.add(record)
        ...     records.to_frame().to_dict("records")
        [{'arm': 'lth', 'replicate': 0, 'round': 1, 'density': 0.8}]
        """
        from tombola.ground.extras import pandas

        rows = []
        for record in self:
            row = {}
            for name, value in record.items():
                if not isinstance(value, list | dict):
                    row[name] = value
            rows.append(row)
        return pandas.DataFrame(rows)

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
        """Return the results by arm, replicate and round, whichever was written first."""
        with self._lock:
            if self._in_order is None:
                rank = {arm: place for place, arm in enumerate(self.order)}
                keys = sorted(self._known, key=lambda key: (rank.get(key[0], len(rank)), *key))
                self._in_order = [self._known[key] for key in keys]
            return list(self._in_order)


def _key(record: Record) -> tuple[str, int, int]:
    return record["arm"], record["replicate"], record["round"]


def _says_more(record: Record, known: Record) -> bool:
    """Whether a record says more of a ticket than one that is there: an evaluation, or costs."""
    if record["evaluated"] != known["evaluated"]:
        return bool(record["evaluated"])
    return bool(record["samples_seen"] > known["samples_seen"])


def _check(record: Any, fields: Collection[str], known: Mapping[str, Kind]) -> None:
    """Refuse a line that is no record, or whose entry is not what it must be."""
    if type(record) is not dict:
        raise ConfigError(f"it is {_shown(record)}; it must be a mapping")
    if missing := sorted({*_FIELDS, *fields} - record.keys()):
        raise ConfigError(f"it has no '{missing[0]}'")
    for name, value in record.items():
        kind = known.get(name)
        if kind is not None and not kind.holds(value):
            raise ConfigError(_what_is_wrong(name, value, kind))
    # Every comparison needs the dense network.
    if not record["evaluated"] and record["round"] == 0:
        raise ConfigError("it is the dense network's and not evaluated")
    for name in ("curve", "line"):
        columns: Mapping[str, Sequence[float]] = record.get(name) or {}
        if len(set(map(len, columns.values()))) > 1:
            listed = ", ".join(f"{len(column)} {key}" for key, column in columns.items())
            raise ConfigError(f"{name} has {listed}; they must be as many")


def _check_layers(record: Record, first: Record, where: str) -> None:
    """Refuse a record whose layers are not those of the run's first record, by name and size."""
    if "layers" not in record:
        if record.get("candidate_layers"):
            raise ConfigError("it has candidate_layers and no layers")
        return  # older records did not count them
    sizes = {name: size for name, (_, size) in first["layers"].items()}
    for name, (kept, size) in record["layers"].items():
        if name not in sizes:
            raise ConfigError(
                f"layers[{_shown(name)}] has {size} weights, and {where} has no such layer"
            )
        if size != sizes[name]:
            raise ConfigError(
                f"layers[{_shown(name)}] has {size} weights, and {sizes[name]} in {where}"
            )
        if kept > size:
            raise ConfigError(f"layers[{_shown(name)}] keeps {kept} of {size} weights")

    # A round of one partition, or of another arm's tickets, has no candidates.
    candidates = record.get("candidate_layers") or {}
    for entry, layers in (("layers", record["layers"]), ("candidate_layers", candidates or sizes)):
        if differing := sizes.keys() ^ layers.keys():
            raise ConfigError(f"{entry} and those of {where} differ in {_shown(min(differing))}")
    if len({len(kept) for kept in candidates.values()}) > 1:
        raise ConfigError("candidate_layers are not of as many candidates in every layer")


def _what_is_wrong(name: str, value: Any, kind: Kind) -> str:
    """Say what of an entry is wrong: of a list or a mapping the first part that is."""
    if kind.part is not None and type(value) in (list, dict):
        parts = value.items() if type(value) is dict else enumerate(value)
        for key, part in parts:
            if not kind.part.holds(part):
                return _what_is_wrong(f"{name}[{_shown(key)}]", part, kind.part)
    return f"{name} is {_shown(value)}; it must be {kind.described}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"
