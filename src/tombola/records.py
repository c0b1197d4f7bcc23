"""Records: one JSON line per result, appended whole. The run folder is the source of truth."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tombola.errors import ConfigError, InvariantError
from tombola.files import cannot_write

if TYPE_CHECKING:
    import pandas

Record = Mapping[str, Any]

# What every result says, of a run or a transfer; a line without is damaged.
_FIELDS = {"arm", "replicate", "round", "kept", "density", "mask_digest", "evaluated", "test_accuracy", "samples_seen"}


_CLOCKS = ("seconds", "seconds_search", "round_seconds", "cut_seconds", "invariant_seconds")


@dataclass(frozen=True)
class Cost:
    """What one training cost, as a record has it.

    Attributes:
        role: "search" (on a partition), "evaluation" (of a ticket), or "pretraining" (up to the rewind point).
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

    Attributes:
        repaired: Whether there was such a line.
    """

    def __init__(self, path: Path, *, repair: bool = True) -> None:
        self.path, self._lock = path, threading.Lock()
        self._known: dict[tuple[str, int, int], Record] = {}
        self.repaired = False
        if path.exists():
            whole = self._whole_lines(repair)
            for number, line in enumerate(whole.decode("utf-8", errors="replace").splitlines(), 1):
                try:
                    record = json.loads(line)
                    if not record.keys() >= _FIELDS:
                        raise ValueError("a field is missing")
                    self._known[_key(record)] = record
                except (ValueError, AttributeError, TypeError) as error:
                    raise ConfigError(
                        f"line {number} of '{path}' is damaged; take it out, and its round is done again"
                    ) from error

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
            self._append((json.dumps(record, allow_nan=False) + "\n").encode())
            self._known[_key(record)] = record
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
        import pandas

        return pandas.DataFrame(
            [{key: value for key, value in record.items() if not isinstance(value, list | dict)} for record in self]
        )

    def get(self, arm: str, replicate: int, index: int) -> Record | None:
        """Return the result of a round, or ``None``."""
        return self._known.get((arm, replicate, index))

    def of(self, arm: str, replicate: int) -> list[Record]:
        """Return the results of an arm of a replicate, by round."""
        return [record for record in self.all() if (record["arm"], record["replicate"]) == (arm, replicate)]

    def all(self) -> list[Record]:
        """Return the results in the order arm, replicate, round; arms as they first came."""
        with self._lock:  # arms of a run add to them meanwhile
            known = dict(self._known)
        arms = list(dict.fromkeys(arm for arm, _, _ in known))
        return [known[key] for key in sorted(known, key=lambda key: (arms.index(key[0]), *key[1:]))]


def _key(record: Record) -> tuple[str, int, int]:
    return record["arm"], record["replicate"], record["round"]
