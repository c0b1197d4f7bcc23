"""Storage: the results of finished work as files, whole or not at all.

    work -> [ do ] -> result -> [ keep ] -> DIGEST.kind -> [ read ] -> result

What is on disk is not done again, so a run that was stopped continues where it was. A file that is
not what was written counts as missing, with a warning: what it held is done again where it is
needed.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tombola.ground.errors import ConfigError, DamagedError
from tombola.ground.files import write_whole
from tombola.records.layout import MACHINE
from tombola.records.seals import Seals

if TYPE_CHECKING:
    from torch import Tensor

    from tombola.ground.types import State
    from tombola.search.work import Work
    from tombola.training.jobs import Trained


Result = TypeVar("Result")
_STARTS = "starts"  # a folder of their own: they are no results


def log_error(folder: Path, text: str) -> None:
    """Add a traceback to a run's ``errors.log``, if that can be written: the error itself matters
    more.

    Args:
        folder: The run's, or that of the files that tombola reads back, which is in it.
        text: The traceback.
    """
    top = folder.parent if folder.name == MACHINE else folder
    with contextlib.suppress(OSError), (top / "errors.log").open("a", encoding="utf-8") as log:
        log.write(text)


class Store:
    """A folder of results, each by its kind of work and its digest.

    Args:
        folder: The folder.
        tell: Called once for each file that is not what was written, with a line that says which
            it is and what is wrong.
        sealed: Whether a file without a digest of its content counts as damaged; `runs.Run` knows
            of its own.
    """

    def __init__(
        self, folder: Path, *, tell: Callable[[str], None] = lambda _: None, sealed: bool = True
    ) -> None:
        self.folder, self._tell = folder, tell
        self._seals = Seals(folder, required=sealed)
        self._reported: set[Path] = set()

    def read(self, kind: type[Work[Result]], digest: str) -> Result | None:
        """Return a finished result, or ``None`` where there is none or its file is damaged."""
        path = self._path(kind, digest)
        try:
            result: Result = self._read(path)
        except FileNotFoundError:
            return None
        except DamagedError as error:
            if path not in self._reported:
                self._reported.add(path)
                self._tell(str(error))
            return None
        return result

    def keep(self, kind: type[Work[Result]], digest: str, result: Result) -> None:
        """Write a finished result."""
        self.write(kind, digest, self.pack(kind, digest, result))

    def pack(
        self, kind: type[Work[Result]], digest: str, result: Result
    ) -> list[bytes | memoryview]:
        """Return the file of a result, in pieces; it is the same in every store."""
        import torch

        tensors, facts = kind.to_file(result)
        # Facts as a tensor, not as metadata: safetensors keeps no order there, and equal content
        # gives equal files.
        text = torch.frombuffer(bytearray(json.dumps(facts).encode()), dtype=torch.uint8)
        return self._seals.tensor_file(self._path(kind, digest), {**tensors, "facts": text})

    def write(
        self, kind: type[Work[Any]], digest: str, file: bytes | list[bytes | memoryview]
    ) -> None:
        """Write what `pack` has returned, in this store or another one."""
        path = self._path(kind, digest)
        write_whole(path, file)
        self._reported.discard(path)

    def kept(self, kind: type[Work[Any]], digest: str) -> bool:
        """Whether there is a file of a result, whatever is in it."""
        return self._path(kind, digest).exists()

    def trained(self, digest: str) -> Trained | None:
        """Return a finished training, as `read`."""
        from tombola.search.work import Train

        return self.read(Train, digest)

    def remove(self, kind: type[Work[Any]], digest: str) -> None:
        """Remove a result."""
        self._path(kind, digest).unlink(missing_ok=True)

    def keep_only(self, digests: Collection[str]) -> None:
        """Remove all trainings but these, and all other results; without any, the folder too."""
        from tombola.search.work import Train

        for path in self.folder.glob("*.*"):
            if path.suffix != f".{Train.kind}" or path.stem not in digests:
                path.unlink(missing_ok=True)
        self.clear_starts()  # those of a run that was killed
        with contextlib.suppress(OSError):  # it is not empty, or not there
            self.folder.rmdir()

    def verify(self, path: Path) -> None:
        """Check all of a file of the folder.

        Raises:
            ConfigError: It is no result of any kind of work, or not what was written.
        """
        from tombola.search.work import KINDS

        if path.suffix[1:] not in KINDS:
            raise ConfigError(f"'{path}' is no file of a run; take it away")
        self._read(path)

    def keep_start(self, digest: str, state: State) -> None:
        """Write a start state for the workers, unless it is there; `clear_starts` removes it."""
        if not self._start_path(digest).exists():
            self._seals.write_tensors(self._start_path(digest), state)

    def start(self, digest: str) -> State:
        """Return a start state that `keep_start` has written.

        Raises:
            DamagedError: It is not what was written.
        """
        return self._seals.read_tensors(self._start_path(digest))

    def clear_starts(self) -> None:
        """Remove all start states."""
        shutil.rmtree(self.folder / _STARTS, ignore_errors=True)

    def _start_path(self, digest: str) -> Path:
        return self.folder / _STARTS / f"{digest}.safetensors"

    def copy(self, path: Path, to: Store) -> None:
        """Write a file of this folder into another one, with its digest."""
        to._seals.write_tensors(to.folder / path.name, self._seals.read_tensors(path))

    def seal(self) -> None:
        """Rewrite all files with digests, for a folder that has none; damaged files are removed."""
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

    def file(self, kind: type[Work[Any]], digest: str) -> bytes | None:
        """Return the file of a result as it is, or ``None`` where there is none."""
        with contextlib.suppress(FileNotFoundError):
            return self._path(kind, digest).read_bytes()
        return None

    def _raw(self, path: Path) -> bytes:
        return self._seals.raw(path)

    def _path(self, kind: type[Work[Any]], digest: str) -> Path:
        return self.folder / f"{digest}.{kind.kind}"

    def _read(self, path: Path) -> Any:
        from tombola.search.work import KINDS

        tensors: dict[str, Tensor] = self._seals.tensors_in(path, self._raw(path))
        try:
            facts = json.loads(bytes(tensors.pop("facts").numpy()))
            if not isinstance(facts, dict):
                raise ValueError(f"its facts are a {type(facts).__name__}")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamagedError(f"'{path}' is damaged: its facts cannot be read") from error
        try:
            return KINDS[path.suffix[1:]].from_file(tensors, facts)
        except DamagedError as error:
            raise DamagedError(f"'{path}' is damaged: {error}") from error


class Handed(Store):
    """Results in memory, as bytes: those that a worker was sent, and the one that it makes.

    Args:
        files: The files of results, by kind and digest.
    """

    def __init__(self, files: Mapping[tuple[type[Work[Any]], str], bytes]) -> None:
        super().__init__(Path())
        self._files = {self._path(*key).name: file for key, file in files.items()}

    def write(
        self, kind: type[Work[Any]], digest: str, file: bytes | list[bytes | memoryview]
    ) -> None:
        """Keep a file."""
        self._files[self._path(kind, digest).name] = (
            file if isinstance(file, bytes) else b"".join(file)
        )

    def file(self, kind: type[Work[Any]], digest: str) -> bytes | None:
        """Return a file."""
        return self._files.get(self._path(kind, digest).name)

    def _raw(self, path: Path) -> bytes:
        if path.name not in self._files:
            raise FileNotFoundError(path.name)
        return self._files[path.name]
