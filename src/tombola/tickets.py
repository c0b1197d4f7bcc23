"""Tickets: a mask, the rewind point it belongs to, and where both came from, in one verified file.

    search -> ticket -> file -> ticket -> transfer
                          |
         nothing in it is unpickled, imported or run

`tombola.ticket_format` says what the bytes of the file mean, and how they are checked.
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
from tombola.ground.notebooks import card, one_line
from tombola.ground.types import Mask, State
from tombola.masks import masks, names, states
from tombola.masks.digests import DTYPES, contents, digest_mask, digest_state, pack


class RewindPoints:
    """A folder of rewind points that many tickets share, each encoded, checked and written once.

    A state is recognised by its tensors while they live; one that torch's functions have changed is
    another state. A file that has changed since is read again, and replaced where it is damaged.
    Threads may share one.

    Args:
        folder: Where they are; a ticket finds them in a folder named ``rewind_points`` beside it or
            above.

    >>> import tempfile
    >>> state = {"w": torch.ones(2)}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     points = RewindPoints(f"{folder}/rewind_points")
    ...     for name, keep in (("a", [True, True]), ("b", [True, False])):
    ...         ticket = Ticket({"w": torch.tensor(keep)}, state)
    ...         _ = ticket.save(f"{folder}/{name}.safetensors", points)
    ...     len(list(points.folder.iterdir()))
    1
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._kept: list[_Kept] = []
        self._lock = threading.Lock()

    def known(self, state: State) -> ticket_format.RewindPoint | None:
        """Return the rewind point that was kept of these very tensors, without its bytes.

        ``None`` where there is none, or its file is gone.
        """
        with self._lock:
            self._kept = [kept for kept in self._kept if kept.lives() and kept.is_there()]
            for kept in self._kept:
                if kept.is_of(state):
                    return kept.point
        return None

    def keep(self, state: State, point: ticket_format.RewindPoint) -> None:
        """Write a state's rewind point, unless it is there, and recognise it from now on.

        Raises:
            DiskError: The file cannot be written.
        """
        path = ticket_format.write_rewind_point(self.folder, point)
        with self._lock:
            self._kept.append(_Kept(state, point.without_bytes(), path))


class _Kept:
    """A rewind point in a file, the tensors that it was made of, and the file's time and size."""

    def __init__(self, state: State, point: ticket_format.RewindPoint, path: Path) -> None:
        self.point, self._path, self._stamp = point, path, _stamp(path)
        # A module's extra state that is no tensor becomes a new one each time: such a state is
        # never recognised.
        self._tensors = {name: weakref.ref(value) for name, value in states.tensors(state).items()}
        self._versions = _versions(state)

    def lives(self) -> bool:
        return all(tensor() is not None for tensor in self._tensors.values())

    def is_of(self, state: State) -> bool:
        # In another order it is another file.
        if list(state) != list(self._tensors):
            return False
        same_tensors = all(self._tensors[name]() is state[name] for name in state)
        return same_tensors and _versions(state) == self._versions

    def is_there(self) -> bool:
        return self._stamp is not None and _stamp(self._path) == self._stamp


def _versions(state: State) -> list[int]:
    """Return how often torch's functions have changed each tensor.

    Tensors that were made in inference mode do not count that: -1.
    """
    versions = []
    for value in state.values():
        if isinstance(value, Tensor):
            versions.append(-1 if value.is_inference() else value._version)
    return versions


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


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
        """Read and verify a ticket file.

        Tensors are on the CPU, in the model's order, and belong to the caller.

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
        """Write the ticket to a safetensors file, whole or not at all; return the file's digest.

        The same ticket gives the same bytes. Missing folders are made; an existing file is
        replaced.

        Args:
            path: The file.
            rewind_points: Folder of rewind points, which many tickets share; without it the
                ticket's file holds its own. It must be named ``rewind_points`` and be beside the
                ticket or in one of the four folders above, where `load` looks for it. A rewind
                point that is there already is read and checked, not written; with `RewindPoints`
                only the first time.

        Raises:
            TicketError: The mask does not fit the rewind point, a value cannot be stored, the
                origin is not JSON, or the rewind point would not be found again.
            DiskError: A file cannot be written.

        >>> import tempfile
        >>> mask, point = {"w": torch.tensor([True, False])}, {"w": torch.ones(2)}
        >>> ticket = Ticket(mask, point, {"arm": "LTH"})
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
            mask = {}
            for name, keep in self.mask.items():
                mask[name] = tuple(keep.shape), pack(name, keep)
            rewind: dict[str, ticket_format.Contents] | ticket_format.RewindPoint
            known = None if points is None else points.known(self.rewind_point)
            if known is not None:
                rewind = known
            else:
                rewind = _contents(self.rewind_point)
                if points is not None:
                    rewind = ticket_format.encode_rewind_point(rewind)
            origin = self.completed_origin()
            raw = ticket_format.encode(mask, rewind, origin=origin, total=self.total)
        except TicketError:
            raise
        except InputError as error:
            raise TicketError(f"the ticket cannot be written: {error}") from None
        if points is not None and isinstance(rewind, ticket_format.RewindPoint) and known is None:
            # The rewind point first: there is never a ticket without it.
            points.keep(self.rewind_point, rewind)
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

        >>> ticket = Ticket({"weight": torch.tensor([[True, False]])}, nn.Linear(2, 1).state_dict())
        >>> model = nn.Linear(2, 1)
        >>> _ = ticket.apply(model)
        >>> (model.weight != 0).tolist()
        [[True, False]]
        """
        self.check()
        targets = states.state_of(model, keep_vars=True)
        point = names.named_like(self.rewind_point, targets)
        mask = names.named_like(self.mask, targets)
        # All is checked first, so that a model that does not fit stays as it was.
        _check_fits(point, mask, targets)
        keeps = {name: keep.to(targets[name].device, copy=True) for name, keep in mask.items()}
        with torch.no_grad():
            for name, value in point.items():
                if states.is_extra(name):
                    states.set_extra_(model, name, value)
                else:
                    targets[name].copy_(value)
            # After all values: a shared weight is loaded once under each of its names.
            for name, keep in keeps.items():
                targets[name].masked_fill_(~keep, 0)
        return masks.ShownMask(keeps)

    def __repr__(self) -> str:
        return one_line("Ticket", self._origin_in_words(), masks.kept_in_words(self.mask))

    def _repr_html_(self) -> str:
        origin = self.origin if isinstance(self.origin, Mapping) else {}
        facts = {"weights": masks.kept_in_words(self.mask)}
        for key in ("model", "data"):
            said = origin.get(key)
            if isinstance(said, Mapping) and isinstance(said.get("name"), str):
                facts[key] = said["name"]
        if isinstance(origin.get("prunable"), str):
            facts["prunable"] = origin["prunable"]
        if self.digest is not None:
            facts["digest"] = self.digest[:12]
        return card(f"Ticket of {self._origin_in_words() or 'unknown origin'}", facts)

    def _origin_in_words(self) -> str:
        """Say of which arm, replicate and round it is, as far as the origin says so."""
        origin = self.origin if isinstance(self.origin, Mapping) else {}
        words = []
        if isinstance(origin.get("arm"), str):
            words.append(origin["arm"])
        for key in ("replicate", "round"):
            if type(origin.get(key)) is int:
                words.append(f"{key} {origin[key]}")
        return ", ".join(words)

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
        """Names of one tensor: its first name by each of the others; ``None`` where unknown.

        The origin says it; else the state does, while it is the model's own ``state_dict`` and its
        names share memory. A state that was copied tensor by tensor has lost it: equal values do
        not mean shared ones.

        Raises:
            TicketError: What the origin says is no mapping of names that the rewind point has in
                one shape.
        """
        in_origin = self.origin.get("shared")
        if in_origin is None:
            in_state = states.shared_names(self.rewind_point)
            return in_state if in_state or hasattr(self.rewind_point, "_metadata") else None
        wrong = TicketError(
            "the ticket's origin names tensors as shared that its rewind point has not, or not "
            "alike"
        )
        if not isinstance(in_origin, Mapping):
            raise wrong
        point = self.rewind_point
        # The origin is a stranger's text: what it says must fit the rewind point.
        for name, first in in_origin.items():
            if not isinstance(first, str) or name not in point or first not in point:
                raise wrong
            if point[name].shape != point[first].shape:
                raise wrong
        return dict(in_origin)

    @property
    def versions(self) -> dict[str, int]:
        """The versions of the model's modules that are not 1, by name, as torch keeps them in a
        state.
        """
        metadata = getattr(self.rewind_point, "_metadata", None)
        if isinstance(metadata, Mapping):
            return states.versions(metadata)
        in_origin = self.origin.get("versions")
        if not isinstance(in_origin, Mapping):
            return {}
        return {str(name): number for name, number in in_origin.items() if type(number) is int}

    def completed_origin(self) -> dict[str, Any]:
        """Return the origin, completed by which names share a tensor and by modules' versions.

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
        """Return the names without a mask whose values equal those of a name with one.

        To the last bit; the name with a mask by each of them.
        """
        point = self.rewind_point
        unmasked = [name for name in point if name not in self.mask and not states.is_extra(name)]
        equal: dict[str, str] = {}
        for masked in self.mask:
            value = point[masked]
            for name in unmasked:
                # Shapes first: the contents are copies.
                if point[name].shape != value.shape:
                    continue
                if contents(name, point[name]) == contents(masked, value):
                    equal[name] = masked
        return equal

    def check(self) -> None:
        """Check that mask and rewind point fit each other.

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
    searched = {os.path.realpath(folder) for folder in ticket_format.rewind_folders(path)}
    if os.path.realpath(rewind_points) not in searched:
        raise TicketError(
            f"rewind_points is '{os.fspath(rewind_points)}'; a ticket finds its rewind point in a "
            f"folder named {ticket_format.FOLDER} beside it or in one of the "
            f"{ticket_format.LEVELS - 1} folders above, and this one is '{os.fspath(path)}'"
        )


def _check_fits(point: State, mask: Mask, targets: State) -> None:
    """Refuse a rewind point whose names, shapes or values are not a model's."""
    wrong = "the ticket does not fit the model:"
    for name, value in point.items():
        if name not in targets:
            raise TicketError(f"{wrong} the model has no '{name}' {_seen(value)}")
        if states.is_extra(name):
            continue  # its module takes it whole, whatever it is
        target = targets[name]
        if target.shape != value.shape:
            raise TicketError(
                f"{wrong} '{name}' is {_seen(value)} in the ticket and {_seen(target)} in the model"
            )
        same_kind = (
            target.is_floating_point() == value.is_floating_point()
            and target.is_complex() == value.is_complex()
        )
        if not same_kind:
            raise TicketError(
                f"{wrong} '{name}' is {value.dtype} in the ticket and {target.dtype} in the model"
            )
        if value.dtype != target.dtype:
            _check_values(name, value, mask.get(name), target.dtype)
    for name, target in targets.items():
        if name not in point:
            raise TicketError(f"{wrong} the ticket has no '{name}' {_seen(target)}")


def _check_values(name: str, value: Tensor, keep: Tensor | None, dtype: torch.dtype) -> None:
    """Refuse a kept value that the model's dtype cannot hold; a pruned one becomes zero anyway."""
    kept = value if keep is None else value[keep.to(value.device)]
    lost = states.lost(kept, dtype)
    if lost is not None:
        raise TicketError(
            f"the ticket does not fit the model: '{name}' holds {lost}, which {dtype} cannot hold; "
            f"a model of {value.dtype} can"
        )


def _tensor(entry: ticket_format.Entry, raw: memoryview) -> Tensor:
    if entry.begin == entry.end:
        return torch.empty(entry.shape, dtype=DTYPES[entry.dtype])
    return torch.frombuffer(bytearray(raw), dtype=DTYPES[entry.dtype]).reshape(entry.shape)


def _seen(tensor: Tensor) -> str:
    return f"[{', '.join(map(str, tensor.shape))}]"
