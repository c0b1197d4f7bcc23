"""Records: one JSON line per result, appended whole. The run folder is the source of truth."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tombola.errors import ConfigError, InvariantError

Record = Mapping[str, Any]


class Records:
    """The results of a run, one per arm, replicate and round, on disk and in memory."""

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.Lock()
        self._known: dict[tuple[str, int, int], Record] = {}
        if path.exists():
            self._repair()
            for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                try:
                    record = json.loads(line)
                    self._known[_key(record)] = record
                except (ValueError, KeyError, TypeError) as error:
                    raise ConfigError(
                        f"line {number} of '{path}' is damaged; take it out, and its round is done again"
                    ) from error

    def _repair(self) -> None:
        """Drop a last line that was not written to its end; its result is had again when the run goes on."""
        data = self.path.read_bytes()
        if not data.endswith(b"\n"):
            os.truncate(self.path, data.rfind(b"\n") + 1)

    def add(self, record: Record) -> bool:
        """Append a result; one that is there already must be of the same ticket. Returns whether it was new.

        Raises:
            InvariantError: The run found another mask for the same arm, replicate and round.
        """
        with self._lock:
            before = self._known.get(_key(record))
            if before is not None:
                if before["mask_digest"] != record["mask_digest"]:
                    raise InvariantError("the run on disk has another mask for this round: it does not reproduce here")
                return False
            line = (json.dumps(record, allow_nan=False) + "\n").encode()
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.write(handle, line)
                os.fsync(handle)
            finally:
                os.close(handle)
            self._known[_key(record)] = record
            return True

    def get(self, arm: str, replicate: int, index: int) -> Record | None:
        """Return the result of a round, or ``None``."""
        return self._known.get((arm, replicate, index))

    def all(self) -> list[Record]:
        """Return the results in the order arm, replicate, round; arms as they first came."""
        arms = list(dict.fromkeys(arm for arm, _, _ in self._known))
        return [self._known[key] for key in sorted(self._known, key=lambda key: (arms.index(key[0]), *key[1:]))]


def _key(record: Record) -> tuple[str, int, int]:
    return record["arm"], record["replicate"], record["round"]
