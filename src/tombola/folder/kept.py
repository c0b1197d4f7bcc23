"""Kept: tensors of the test split that a task keeps beside a record, such as detections.

predictions/ARM/replicate-K/round-RRR.safetensors  -> [ read ] -> tensors by round and name
predictions.safetensors, all of them, of a packed run -> [ read ] -> tensors by round and name

A task that keeps none has no such files.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tombola.folder.opening import advising
from tombola.ground.errors import DamagedError
from tombola.records.layout import IN_ROUND, Layout, in_round
from tombola.records.seals import Seals

if TYPE_CHECKING:
    from torch import Tensor

_PACKED = re.compile(rf"({IN_ROUND})/(.+)")


@dataclass(frozen=True, eq=False)
class Kept:
    """The files of a run with what its task keeps of each test.

    Args:
        layout: Where they are.
        seals: Of the folder.
    """

    layout: Layout
    seals: Seals

    def path(self, arm: str, replicate: int, index: int) -> Path:
        """Where the tensors of a round are, unless the run is packed."""
        return in_round(self.layout.predictions, arm, replicate, index, ".safetensors")

    def of(self, arm: str, replicate: int, index: int) -> dict[str, Tensor]:
        """Return the tensors of a round by their names; empty where none were kept.

        Raises:
            ConfigError: The file is damaged.
        """
        return self.named(self._name(self.path(arm, replicate, index)))

    def names(self) -> list[str]:
        """List the rounds that there are tensors of: "arm/replicate-K/round-RRR"."""
        if self.layout.packed:
            return sorted(self._in_one_file)
        return [self._name(path) for path in self.files()]

    def named(self, name: str) -> dict[str, Tensor]:
        """Return the tensors of a round, see `of`; a round is called as in `names`."""
        if self.layout.packed:
            return self._in_one_file.get(name, {})
        path = self.layout.predictions / f"{name}.safetensors"
        return self.read(path) if path.exists() else {}

    def files(self) -> list[Path]:
        """Return the files of an unpacked run."""
        return sorted(self.layout.predictions.glob("*/*/*.safetensors"))

    def _name(self, path: Path) -> str:
        return path.relative_to(self.layout.predictions).with_suffix("").as_posix()

    def read(self, path: Path) -> dict[str, Tensor]:
        """Read the file of a round."""
        with advising("running the recipe makes it again"):
            return self.seals.read_tensors(path)

    def write(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        """Write the file of a round."""
        self.seals.write_tensors(path, tensors)

    @functools.cached_property
    def _in_one_file(self) -> dict[str, dict[str, Tensor]]:
        path = self.layout.packed_kept
        if not path.exists():
            return {}
        by_round: dict[str, dict[str, Tensor]] = {}
        with advising("pack the run again"):
            for name, values in self.seals.read_tensors(path).items():
                parts = _PACKED.fullmatch(name)
                if parts is None:
                    raise DamagedError(f"'{path}' holds '{name}', which is no round of an arm")
                by_round.setdefault(parts[1], {})[parts[2]] = values
        return by_round


def write_packed(to: Layout, seals: Seals, kept: Sequence[Kept]) -> None:
    """Write what runs keep into the one file of a packed run, if they keep anything.

    Args:
        to: The packed run.
        seals: Of the packed run.
        kept: What to write; of several that have a round the first counts.
    """
    packed: dict[str, Tensor] = {}
    for files in kept:
        known = {_PACKED.fullmatch(name)[1] for name in packed}  # type: ignore[index]
        for name in files.names():
            if name not in known:
                for key, values in files.named(name).items():
                    packed[f"{name}/{key}"] = values
    if packed:
        seals.write_tensors(to.packed_kept, packed)


def differing(first: Kept, second: Kept) -> list[str]:
    """Name the rounds of which two runs keep different tensors."""
    from tombola.masks.digests import digest_state

    different = []
    for name in sorted(set(first.names()) & set(second.names())):
        if digest_state(first.named(name)) != digest_state(second.named(name)):
            different.append(name)
    return different
