"""Tickets: a mask, the rewind point it belongs to, and where both came from, in one verified file.

    search -> ticket -> file -> ticket -> transfer
                          |
         nothing in it is unpickled, imported or run

What the bytes of the file mean, and how they are checked, stands in `tombola.ticket_format`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tombola import masks, names, states, ticket_format
from tombola.digests import DTYPES, contents, digest_mask, digest_state, pack
from tombola.errors import InputError, TicketError
from tombola.types import Mask, State


@dataclass(frozen=True, eq=False)
class Ticket:
    """What a search found: which weights to keep, and the values that training starts from.

    Attributes:
        mask: True = kept; no entry = never pruned.
        rewind_point: The full state, buffers and full-class head included; pruned weights may have any value.
        origin: Where it came from, as JSON data: model, data, training, arm, round, seeds, partitions, parent.
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
        """Read and verify a ticket file; tensors are on the CPU, in the model's order, and belong to the caller.

        Args:
            path: The file. One that refers to its rewind point has it in a folder ``rewind_points`` beside it or in
                one of the four folders above.
            rewind_points: Rewind points in files of their own that were read before; what is read is added. Give
                the tickets of a run the same dict, empty at first, and each file is read once.

        Raises:
            TicketError: The file is missing, truncated, altered, damaged or no ticket, or its rewind point is; one
                line says which.
        """
        file = ticket_format.verify(path, rewind_points)
        mask = {name: torch.from_numpy(file.keep(name)) for name in file.shapes}
        point = {name: _tensor(entry, file.raw_rewind(name)) for name, entry in file.rewind.items()}
        return cls(mask, point, file.origin, file.total, file.digest)

    def save(self, path: str | os.PathLike[str], rewind_points: str | os.PathLike[str] | None = None) -> str:
        """Write the ticket to a safetensors file, whole or not at all, and return the file's digest.

        The same ticket gives the same bytes. Missing folders are made; an existing file is replaced.

        Args:
            path: The file.
            rewind_points: Folder of rewind points, which many tickets share; without it the ticket's file holds its
                own. It is named ``rewind_points`` and is beside the ticket or in one of the four folders above, for
                there `load` looks for it. A rewind point that is there already is read and checked, not written.

        Raises:
            TicketError: The mask does not fit the rewind point, a value cannot be stored, the origin is not JSON, or
                the rewind point would not be found again.
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
        if rewind_points is not None:
            _check_found(path, rewind_points)
        try:
            packed = {name: (tuple(keep.shape), pack(name, keep)) for name, keep in self.mask.items()}
            state = {name: contents(name, tensor) for name, tensor in states.tensors(self.rewind_point).items()}
            point = None if rewind_points is None else ticket_format.encode_rewind_point(state)
            origin = self.told_origin()
            raw = ticket_format.encode(packed, state if point is None else point, origin=origin, total=self.total)
        except TicketError:
            raise
        except InputError as error:
            raise TicketError(f"the ticket cannot be written: {error}") from None
        if rewind_points is not None and point is not None:
            # The rewind point first: there is never a ticket without it.
            ticket_format.write_rewind_point(rewind_points, point)
        return ticket_format.write(path, raw)

    def apply(self, model: nn.Module) -> dict[str, Tensor]:
        """Load the rewind point into a model, in place, and set its pruned weights to zero.

        Values take the model's dtype and device. Names are the model's own, whatever it is wrapped in (see
        `tombola.names`); shared parameters may appear under each of their names.

        Returns:
            A new mask on the model's device, for `hold_` or for training.

        Raises:
            TicketError: A name or a shape differs; the first one is named and the model is as it was.

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
                raise TicketError(f"the ticket does not fit the model: the model has no '{name}' {_seen(value)}")
            target = targets[name]
            if name in extra:
                continue  # its module takes it whole, whatever it is
            if target.shape != value.shape:
                raise TicketError(
                    f"the ticket does not fit the model: '{name}' is {_seen(value)} in the ticket and {_seen(target)} "
                    "in the model"
                )
            if target.is_floating_point() != value.is_floating_point() or target.is_complex() != value.is_complex():
                raise TicketError(
                    f"the ticket does not fit the model: '{name}' is {value.dtype} in the ticket and {target.dtype} "
                    "in the model"
                )
            if value.dtype != target.dtype:
                _check_values(name, value, mask.get(name), target.dtype)
        for name, target in targets.items():
            if name not in point:
                raise TicketError(f"the ticket does not fit the model: the ticket has no '{name}' {_seen(target)}")
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

        The origin says it; else the state does, while it is the model's own ``state_dict`` and its names share memory.
        A state that was copied tensor by tensor has lost it: equal values are not sharing.

        Raises:
            TicketError: What the origin says is no mapping of names that the rewind point has in one shape.
        """
        said = self.origin.get("shared")
        if said is None:
            found = states.shared_names(self.rewind_point)
            return found if found or hasattr(self.rewind_point, "_metadata") else None
        point = self.rewind_point
        fits = isinstance(said, Mapping) and all(
            isinstance(first, str) and name in point and first in point and point[name].shape == point[first].shape
            for name, first in said.items()
        )
        if not fits:
            raise TicketError("the ticket's origin names tensors as shared that its rewind point has not, or not alike")
        return dict(said)

    @property
    def versions(self) -> dict[str, int]:
        """The versions of the model's modules where they are not 1, by their names, as torch notes them in a state."""
        noted = getattr(self.rewind_point, "_metadata", None)
        if isinstance(noted, Mapping):
            return states.versions(noted)
        said = self.origin.get("versions")
        known = said if isinstance(said, Mapping) else {}
        return {str(name): number for name, number in known.items() if type(number) is int}

    def told_origin(self) -> dict[str, Any]:
        """Return the origin with what else a file cannot show: which names share a tensor, and modules' versions.

        Raises:
            TicketError: The origin is no mapping.
        """
        given: Any = self.origin
        if not isinstance(given, Mapping):
            raise TicketError(f"the ticket's origin is a {type(given).__name__}; it is a mapping, {{}} where nothing "
                              "is to be said")  # fmt: skip
        origin = dict(given)
        shared, versions = self.shared, self.versions
        if "shared" not in origin and shared is not None and (shared or self.alike()):
            origin["shared"] = shared
        if versions and "versions" not in origin:
            origin["versions"] = versions
        return origin

    def alike(self) -> dict[str, str]:
        """Return names without a mask whose values equal those of a name with one, to the last bit, and that name."""
        free = [name for name in self.rewind_point if name not in self.mask and not states.is_extra(name)]
        found: dict[str, str] = {}
        for name in self.mask:
            value = self.rewind_point[name]
            like = [n for n in free if self.rewind_point[n].shape == value.shape]
            found |= {n: name for n in like if contents(n, self.rewind_point[n]) == contents(name, value)}
        return found

    def check(self) -> None:
        """Check that mask and rewind point are of one piece.

        Raises:
            TicketError: A mask is not boolean, has no weight in the rewind point or another shape than it.
        """
        point: Mapping[str, Any] = self.rewind_point
        for name, value in point.items():
            if not isinstance(value, Tensor) and not states.is_extra(name):
                raise TicketError(f"'{name}' of the rewind point is a {type(value).__name__}, not a tensor")
        for name, keep in self.mask.items():
            if not isinstance(keep, Tensor) or keep.dtype != torch.bool:
                kind = keep.dtype if isinstance(keep, Tensor) else type(keep).__name__
                raise TicketError(f"the mask of '{name}' is {kind}; it is torch.bool, True = kept")
            if name not in self.rewind_point:
                raise TicketError(f"the mask names '{name}', which is not in the rewind point")
            if keep.shape != self.rewind_point[name].shape:
                raise TicketError(
                    f"the mask of '{name}' is {_seen(keep)}, the rewind point has {_seen(self.rewind_point[name])}"
                )


def _check_found(path: str | os.PathLike[str], rewind_points: str | os.PathLike[str]) -> None:
    """Check that a ticket will find its rewind point in that folder."""
    places = {os.path.realpath(folder) for folder in ticket_format.rewind_folders(path)}
    if os.path.realpath(rewind_points) not in places:
        raise TicketError(
            f"rewind_points is '{os.fspath(rewind_points)}'; a ticket finds its rewind point in a folder named "
            f"{ticket_format.FOLDER} beside it or in one of the {ticket_format.LEVELS - 1} folders above, "
            f"and this one is '{os.fspath(path)}'"
        )


def _check_values(name: str, value: Tensor, keep: Tensor | None, dtype: torch.dtype) -> None:
    """Refuse a kept value that the model's dtype cannot hold; a pruned one becomes zero anyway."""
    if (seen := states.lost(value if keep is None else value[keep.to(value.device)], dtype)) is not None:
        raise TicketError(f"the ticket does not fit the model: '{name}' holds {seen}, which {dtype} cannot hold; "
                          f"a model of {value.dtype} can")  # fmt: skip


def _tensor(entry: ticket_format.Entry, raw: memoryview) -> Tensor:
    if entry.begin == entry.end:
        return torch.empty(entry.shape, dtype=DTYPES[entry.dtype])
    return torch.frombuffer(bytearray(raw), dtype=DTYPES[entry.dtype]).reshape(entry.shape)


def _seen(tensor: Tensor) -> str:
    return f"[{', '.join(map(str, tensor.shape))}]"
