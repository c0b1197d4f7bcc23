"""Tickets: a mask, the rewind point it belongs to, and where both came from, in one verified file.

    search -> ticket -> file -> ticket -> transfer
                          |
         nothing in it is unpickled, imported or run

What the bytes of the file mean, and how they are checked, stands in `tombola.ticket_format`.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tombola import ticket_format
from tombola.ground.errors import InputError, TicketError
from tombola.ground.types import Mask, State
from tombola.masks import masks, names, states
from tombola.masks.digests import DTYPES, contents, digest_mask, digest_state, pack


class RewindPoints:
    """A folder of rewind points that many tickets share: each state is encoded, checked and written
    once.

    A state is known again by its tensors while they live; one that torch's functions have changed
    is another state. A file that is not as it was left is read again, and replaced where it is
    damaged. Threads may share one.

    Args:
        folder: Where they are; a ticket finds them in a folder named ``rewind_points`` beside it or
            above.

    >>> import tempfile
    >>> state = {"w": torch.ones(2)}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     points = RewindPoints(f"{folder}/rewind_points")
    ...     for keep in (torch.tensor([True, True]), torch.tensor([True, False])):
    ...         _ = Ticket({"w": keep}, state).save(f"{folder}/{int(keep.sum())}.safetensors", points)
    ...     len(list(points.folder.iterdir()))
    1
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._kept: list[_Kept] = []
        self._lock = threading.Lock()

    def known(self, state: State) -> ticket_format.RewindPoint | None:
        """Return the rewind point that was kept of these very tensors, without its bytes, while
        its file is there.
        """
        with self._lock:
            self._kept = [kept for kept in self._kept if kept.lives() and kept.is_there()]
            return next((kept.point for kept in self._kept if kept.is_of(state)), None)

    def keep(self, state: State, point: ticket_format.RewindPoint) -> None:
        """Write a state's rewind point, unless it is there, and know it from now on.

        Raises:
            DiskError: The file cannot be written.
        """
        path = ticket_format.write_rewind_point(self.folder, point)
        with self._lock:
            self._kept.append(_Kept(state, point.without_bytes(), path))


class _Kept:
    """A rewind point that is in a file, the tensors that it was made of, and how its file was
    left.
    """

    def __init__(self, state: State, point: ticket_format.RewindPoint, path: Path) -> None:
        self.point, self._path, self._left = point, path, _stamp(path)
        # What a module says of itself and is no tensor becomes a new one each time: such a state is
        # never known again.
        self._tensors = {name: weakref.ref(value) for name, value in states.tensors(state).items()}
        self._versions = _versions(state)

    def lives(self) -> bool:
        return all(tensor() is not None for tensor in self._tensors.values())

    def is_of(self, state: State) -> bool:
        same = list(state) == list(self._tensors) and all(
            self._tensors[name]() is state[name] for name in state
        )
        return same and _versions(state) == self._versions

    def is_there(self) -> bool:
        return self._left is not None and _stamp(self._path) == self._left


def _versions(state: State) -> list[int]:
    """Return how often torch's functions have changed each tensor; one made for inference alone
    does not count them.
    """
    return [
        -1 if value.is_inference() else value._version
        for value in state.values()
        if isinstance(value, Tensor)
    ]


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _contents(state: State) -> dict[str, ticket_format.Contents]:
    return {name: contents(name, tensor) for name, tensor in states.tensors(state).items()}


@dataclass(frozen=True, eq=False)
class Ticket:
    """What a search found: which weights to keep, and the values that training starts from.

    Attributes:
        mask: True = kept; no entry = never pruned.
        rewind_point: The full state, buffers and full-class head included; pruned weights may have
            any value.
        origin: Where it came from, as JSON data: model, data, training, arm, round, seeds,
            partitions, parent.
        total: Number of all conv, linear and norm weights of the model, for `density_total`.
        digest: Digest of the file it was loaded from, else ``None``.
    """

    mask: Mask
    rewind_point: State
    origin: Mapping[str, Any] = field(default_factory=dict)
    total: int | None = None
    digest: str | None = None

    def __post_init__(self) -> None:
        # The state of a model in a wrapper has names that its mask has not.
        mask, point = names.agreed(self.mask, self.rewind_point)
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "rewind_point", states.noted_as(point, self.rewind_point))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        rewind_points: MutableMapping[Path, ticket_format.RewindPoint] | None = None,
    ) -> Ticket:
        """Read and verify a ticket file; tensors are on the CPU, in the model's order, and belong
        to the caller.

        Args:
            path: The file. One that refers to its rewind point has it in a folder ``rewind_points``
                beside it or in one of the four folders above.
            rewind_points: Rewind points in files of their own that were read before; what is read
                is added. Give the tickets of a run the same dict, empty at first, and each file is
                read once.

        Raises:
            TicketError: The file is missing, truncated, altered, damaged or no ticket, or its
                rewind point is; one line says which.
        """
        file = ticket_format.verify(path, rewind_points)
        mask = {name: torch.from_numpy(file.keep(name)) for name in file.shapes}
        point = {name: _tensor(entry, file.raw_rewind(name)) for name, entry in file.rewind.items()}
        return cls(mask, point, file.origin, file.total, file.digest)

    def save(
        self,
        path: str | os.PathLike[str],
        rewind_points: RewindPoints | str | os.PathLike[str] | None = None,
    ) -> str:
        """Write the ticket to a safetensors file, whole or not at all, and return the file's
        digest.

        The same ticket gives the same bytes. Missing folders are made; an existing file is
        replaced.

        Args:
            path: The file.
            rewind_points: Folder of rewind points, which many tickets share; without it the
                ticket's file holds its own. It is named ``rewind_points`` and is beside the ticket
                or in one of the four folders above, for there `load` looks for it. A rewind point
                that is there already is read and checked, not written; with `RewindPoints` only the
                first time.

        Raises:
            TicketError: The mask does not fit the rewind point, a value cannot be stored, the
                origin is not JSON, or the rewind point would not be found again.
            DiskError: A file cannot be written.

        >>> import tempfile
        >>> ticket = Ticket({"w": torch.tensor([True, False])}, {"w": torch.ones(2)}, {"arm": "LTH"})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     digest = ticket.save(f"{folder}/ticket.safetensors")
        ...     again = Ticket.load(f"{folder}/ticket.safetensors")
        >>> again.digest == digest, again.mask["w"].tolist(), again.density
        (True, [True, False], 0.5)
        """
        self.check()
        points = rewind_points
        if points is not None and not isinstance(points, RewindPoints):
            points = RewindPoints(points)
        if points is not None:
            _check_found(path, points.folder)
        try:
            packed = {
                name: (tuple(keep.shape), pack(name, keep)) for name, keep in self.mask.items()
            }
            known = None if points is None else points.known(self.rewind_point)
            state = {} if known is not None else _contents(self.rewind_point)
            point = (
                known
                if points is None or known is not None
                else ticket_format.encode_rewind_point(state)
            )
            origin = self.told_origin()
            raw = ticket_format.encode(
                packed, state if point is None else point, origin=origin, total=self.total
            )
        except TicketError:
            raise
        except InputError as error:
            raise TicketError(f"the ticket cannot be written: {error}") from None
        if points is not None and point is not None and known is None:
            # The rewind point first: there is never a ticket without it.
            points.keep(self.rewind_point, point)
        return ticket_format.write(path, raw)

    def apply(self, model: nn.Module) -> dict[str, Tensor]:
        """Load the rewind point into a model, in place, and set its pruned weights to zero.

        Values take the model's dtype and device. Names are the model's own, whatever it is wrapped
        in (see `tombola.masks.names`); shared parameters may appear under each of their names.

        Returns:
            A new mask on the model's device, for `hold_` or for training.

        Raises:
            TicketError: A name or a shape differs; the first one is named and the model is as it
                was.

        >>> ticket = Ticket({"weight": torch.tensor([[True, False]])}, nn.Linear(2, 1).state_dict(), {})
        >>> model = nn.Linear(2, 1)
        >>> _ = ticket.apply(model)
        >>> (model.weight != 0).tolist()
        [[True, False]]
        """
        self.check()
        targets = states.state_of(model, keep_vars=True)
        extra = {name for name in targets if states.is_extra(name)}
        point = names.named_like(self.rewind_point, targets)
        mask = names.named_like(self.mask, targets)
        for name, value in point.items():
            if name not in targets:
                raise TicketError(
                    f"the ticket does not fit the model: the model has no '{name}' {_seen(value)}"
                )
            target = targets[name]
            if name in extra:
                continue  # its module takes it whole, whatever it is
            if target.shape != value.shape:
                raise TicketError(
                    f"the ticket does not fit the model: '{name}' is {_seen(value)} in the ticket "
                    f"and {_seen(target)} in the model"
                )
            if (
                target.is_floating_point() != value.is_floating_point()
                or target.is_complex() != value.is_complex()
            ):
                raise TicketError(
                    f"the ticket does not fit the model: '{name}' is {value.dtype} in the ticket "
                    f"and {target.dtype} in the model"
                )
            if value.dtype != target.dtype:
                _check_values(name, value, mask.get(name), target.dtype)
        for name, target in targets.items():
            if name not in point:
                raise TicketError(
                    f"the ticket does not fit the model: the ticket has no '{name}' {_seen(target)}"
                )
        keeps = {name: keep.to(targets[name].device, copy=True) for name, keep in mask.items()}
        with torch.no_grad():
            for name, value in point.items():
                if name in extra:
                    states.set_extra_(model, name, value)
                else:
                    targets[name].copy_(value)
            # After all values: a shared weight is loaded once under each of its names.
            for name, keep in keeps.items():
                targets[name].masked_fill_(~keep, 0)
        return keeps

    @property
    def density(self) -> float:
        """Kept / prunable weights, 0 to 1."""
        return masks.density(self.mask)

    @property
    def density_total(self) -> float | None:
        """Not pruned / all conv, linear and norm weights, 0 to 1; ``None`` without `total`."""
        return None if self.total is None else masks.density(self.mask, self.total)

    @property
    def mask_digest(self) -> str:
        """Digest of the mask alone: equal for equal masks, wherever they came from."""
        return digest_mask(self.mask)

    @property
    def rewind_digest(self) -> str:
        """Digest of the rewind point alone."""
        return digest_state(states.tensors(self.rewind_point))

    @property
    def shared(self) -> dict[str, str] | None:
        """Names of one tensor: the first one by each of its others; ``None`` where nobody can tell.

        The origin says it; else the state does, while it is the model's own ``state_dict`` and its
        names share memory. A state that was copied tensor by tensor has lost it: equal values are
        not sharing.

        Raises:
            TicketError: What the origin says is no mapping of names that the rewind point has in
                one shape.
        """
        said = self.origin.get("shared")
        if said is None:
            found = states.shared_names(self.rewind_point)
            return found if found or hasattr(self.rewind_point, "_metadata") else None
        point = self.rewind_point
        fits = isinstance(said, Mapping) and all(
            isinstance(first, str)
            and name in point
            and first in point
            and point[name].shape == point[first].shape
            for name, first in said.items()
        )
        if not fits:
            raise TicketError(
                "the ticket's origin names tensors as shared that its rewind point has not, or not "
                "alike"
            )
        return dict(said)

    @property
    def versions(self) -> dict[str, int]:
        """The versions of the model's modules where they are not 1, by their names, as torch
        notes them in a state.
        """
        noted = getattr(self.rewind_point, "_metadata", None)
        if isinstance(noted, Mapping):
            return states.versions(noted)
        said = self.origin.get("versions")
        known = said if isinstance(said, Mapping) else {}
        return {str(name): number for name, number in known.items() if type(number) is int}

    def told_origin(self) -> dict[str, Any]:
        """Return the origin with what else a file cannot show: which names share a tensor, and
        modules' versions.

        Raises:
            TicketError: The origin is no mapping.
        """
        given: Any = self.origin
        if not isinstance(given, Mapping):
            raise TicketError(
                f"the ticket's origin is a {type(given).__name__}; it is a mapping, {{}} where "
                "nothing is to be said"
            )
        origin = dict(given)
        shared, versions = self.shared, self.versions
        if "shared" not in origin and shared is not None and (shared or self.alike()):
            origin["shared"] = shared
        if versions and "versions" not in origin:
            origin["versions"] = versions
        return origin

    def alike(self) -> dict[str, str]:
        """Return names without a mask whose values equal those of a name with one, to the last
        bit, and that name.
        """
        free = [
            name
            for name in self.rewind_point
            if name not in self.mask and not states.is_extra(name)
        ]
        found: dict[str, str] = {}
        for name in self.mask:
            value = self.rewind_point[name]
            like = [n for n in free if self.rewind_point[n].shape == value.shape]
            found |= {
                n: name for n in like if contents(n, self.rewind_point[n]) == contents(name, value)
            }
        return found

    def check(self) -> None:
        """Check that mask and rewind point are of one piece.

        Raises:
            TicketError: A mask is not boolean, has no weight in the rewind point or another shape
                than it.
        """
        point: Mapping[str, Any] = self.rewind_point
        for name, value in point.items():
            if not isinstance(value, Tensor) and not states.is_extra(name):
                raise TicketError(
                    f"'{name}' of the rewind point is a {type(value).__name__}, not a tensor"
                )
        for name, keep in self.mask.items():
            if not isinstance(keep, Tensor) or keep.dtype != torch.bool:
                kind = keep.dtype if isinstance(keep, Tensor) else type(keep).__name__
                raise TicketError(f"the mask of '{name}' is {kind}; it is torch.bool, True = kept")
            if name not in self.rewind_point:
                raise TicketError(f"the mask names '{name}', which is not in the rewind point")
            if keep.shape != self.rewind_point[name].shape:
                raise TicketError(
                    f"the mask of '{name}' is {_seen(keep)}, the rewind point has "
                    f"{_seen(self.rewind_point[name])}"
                )


def _check_found(path: str | os.PathLike[str], rewind_points: str | os.PathLike[str]) -> None:
    """Check that a ticket will find its rewind point in that folder."""
    places = {os.path.realpath(folder) for folder in ticket_format.rewind_folders(path)}
    if os.path.realpath(rewind_points) not in places:
        raise TicketError(
            f"rewind_points is '{os.fspath(rewind_points)}'; a ticket finds its rewind point in a "
            f"folder named {ticket_format.FOLDER} beside it or in one of the "
            f"{ticket_format.LEVELS - 1} folders above, and this one is '{os.fspath(path)}'"
        )


def _check_values(name: str, value: Tensor, keep: Tensor | None, dtype: torch.dtype) -> None:
    """Refuse a kept value that the model's dtype cannot hold; a pruned one becomes zero anyway."""
    if (
        seen := states.lost(value if keep is None else value[keep.to(value.device)], dtype)
    ) is not None:
        raise TicketError(
            f"the ticket does not fit the model: '{name}' holds {seen}, which {dtype} cannot hold; "
            f"a model of {value.dtype} can"
        )


def _tensor(entry: ticket_format.Entry, raw: memoryview) -> Tensor:
    if entry.begin == entry.end:
        return torch.empty(entry.shape, dtype=DTYPES[entry.dtype])
    return torch.frombuffer(bytearray(raw), dtype=DTYPES[entry.dtype]).reshape(entry.shape)


def _seen(tensor: Tensor) -> str:
    return f"[{', '.join(map(str, tensor.shape))}]"
