"""What a ticket file and a rewind point's file hold, in memory and checked."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tombola.ground.errors import TicketError
from tombola.ticket_format import bits
from tombola.ticket_format.layout import GAPS_REFERRING, REFERRING, Entry
from tombola.ticket_format.texts import printable, shown_path

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class RewindPoint:
    """A rewind point as a file of its own, read and checked: a safetensors file of the plain state.

    Attributes:
        path: Where it was read from; where nothing was read, its name.
        digest: Digest of its tensors, which is its name too.
        tensors: Every tensor by its name in the model, in the header's order.
        file: The bytes of the file.
    """

    path: Path
    digest: str
    tensors: Mapping[str, Entry]
    file: bytes | bytearray = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self.file)

    def without_bytes(self) -> RewindPoint:
        """Return the same without its bytes, which is enough for a ticket to refer to it."""
        return replace(self, file=b"")

    def raw(self, name: str) -> memoryview:
        """Return the bytes of a tensor by its name in the model; read-only, not copied."""
        data = memoryview(self.file)[8 + int.from_bytes(self.file[:8], "little") :]
        return data[self.tensors[name].begin : self.tensors[name].end]


@dataclass(frozen=True, eq=False)
class TicketFile:
    """A ticket file that has been read into memory and whose digest is right.

    Attributes:
        path: Where it was read from.
        size: Bytes of the file.
        digest: sha256 over the file, its own 64 characters taken as zeros.
        format: Version of the format.
        shapes: The masks' names and shapes, in the model's order.
        origin: Where the ticket comes from: model, data, arm, round, seeds, parent. Free JSON, not
            trusted further.
        kept: Number of weights kept.
        prunable: Number of weights that have a mask.
        total: Number of all conv, linear and norm weights, or ``None`` where they were not counted.
        mask_digest: Digest of the mask alone.
        rewind_digest: Digest of the rewind point alone.
        tensors: Every tensor by its name in the file, in the header's order.
        gaps: How to read the masks that are written as gaps; the others are packed bits.
        rewind_point: The rewind point's own file where the ticket refers to one and `verify` has
            found it, else ``None``.
    """

    path: Path
    size: int
    digest: str
    format: int
    shapes: Mapping[str, tuple[int, ...]]
    origin: Mapping[str, Any]
    kept: int
    prunable: int
    total: int | None
    mask_digest: str
    rewind_digest: str
    tensors: Mapping[str, Entry]
    data: memoryview = field(repr=False)
    gaps: Mapping[str, bits.Gaps] = field(default_factory=dict)
    rewind_point: RewindPoint | None = field(default=None, repr=False)
    # Masks that are written as gaps, once they were read.
    _packed: dict[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def density(self) -> float:
        """Kept / prunable weights, 0 to 1."""
        return self.kept / self.prunable

    @property
    def density_total(self) -> float | None:
        """Not pruned / all conv, linear and norm weights, 0 to 1; ``None`` without a total."""
        return None if self.total is None else (self.total - self.prunable + self.kept) / self.total

    @property
    def refers(self) -> bool:
        """Whether the rewind point is in a file of its own."""
        return self.format in (REFERRING, GAPS_REFERRING)

    @property
    def rewind(self) -> dict[str, Entry]:
        """The tensors of the rewind point by their names in the model, in whichever file."""
        if self.rewind_point is not None:
            return dict(self.rewind_point.tensors)
        tensors = {}
        for name, entry in self.tensors.items():
            if name.startswith("rewind."):
                tensors[name.removeprefix("rewind.")] = entry
        return tensors

    @property
    def reference(self) -> str | None:
        """The path of the rewind point's own file, if any, seen from the ticket's folder."""
        return None if self.rewind_point is None else seen_from(self.path, self.rewind_point.path)

    def raw(self, tensor: str) -> memoryview:
        """Return the bytes of a tensor by its name in the file, such as ``"mask.fc.weight"``.

        They are read-only and not copied.
        """
        entry = self.tensors[tensor]
        return self.data[entry.begin : entry.end]

    def raw_rewind(self, name: str) -> memoryview:
        """Return the bytes of a tensor of the rewind point, by its name in the model; as `raw`."""
        point = self.rewind_point
        return self.raw(f"rewind.{name}") if point is None else point.raw(name)

    def packed(self, name: str) -> bytes:
        """Return a mask as packed bits, however it is written: the first weight in the highest bit.

        Raises:
            TicketError: It is written as gaps that do not add up; `verify` would have said so.
        """
        if name not in self.gaps:
            return bytes(self.raw(f"mask.{name}"))
        if name not in self._packed:
            import numpy as np

            self._packed[name] = np.packbits(self._from_gaps(name)).tobytes()
        return self._packed[name]

    def keep(self, name: str) -> NDArray[np.bool_]:
        """Return a mask as a new array of booleans in the weight's shape; True = kept.

        Raises:
            TicketError: As for `packed`.
        """
        import numpy as np

        shape = self.shapes[name]
        packed = np.frombuffer(self.packed(name), np.uint8)
        return np.unpackbits(packed, count=math.prod(shape)).reshape(shape).view(np.bool_)

    def kept_per_layer(self) -> dict[str, int]:
        """Count the kept weights of every mask, in the model's order."""
        counts = {}
        for name, shape in self.shapes.items():
            if name in self.gaps:
                gaps = self.gaps[name]
                counts[name] = gaps.marks if gaps.marked else math.prod(shape) - gaps.marks
            else:
                counts[name] = bits.ones(self.raw(f"mask.{name}"))
        return counts

    def _from_gaps(self, name: str) -> NDArray[np.bool_]:
        raw, elements = self.raw(f"mask.{name}"), math.prod(self.shapes[name])
        try:
            return bits.from_gaps(raw, self.gaps[name], elements)
        except (ValueError, MemoryError) as error:
            reason = str(error) or "it is larger than the memory"
            raise TicketError(
                f"{shown_path(self.path)} has a wrong mask: '{printable(name)}': {reason}"
            ) from None


def seen_from(ticket: Path, path: Path) -> str:
    """Return the path of a file as it is seen from a ticket's folder."""
    # Not Path.absolute: os.path.abspath takes ".." out, too.
    folder = os.path.dirname(os.path.abspath(ticket))  # noqa: PTH100, PTH120
    return Path(os.path.relpath(path, folder)).as_posix()
