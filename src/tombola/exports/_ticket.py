"""Ticket: one file that holds all of it, to be copied out of its run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from tombola.masks.states import tensors
from tombola.tickets import Ticket


def ticket(ticket: Ticket) -> Ticket:
    """Return the same ticket; written, it holds its rewind point and needs no other file.

    It is the file that `Ticket.save` writes without a folder of rewind points, so its digest
    differs from that of a file which refers to its rewind point. The digests of mask and rewind
    point stay, and so does its origin: a ``parent`` there names a file of the run.

    >>> import torch
    >>> mask, point = {"w": torch.tensor([True, False])}, {"w": torch.ones(2)}
    >>> exported = ticket(Ticket(mask, point, {"arm": "lth"}))
    >>> exported.mask["w"].tolist(), exported.origin
    ([True, False], {'arm': 'lth'})
    """
    ticket.check()
    mask, point = _copies(ticket.mask), _copies(tensors(ticket.rewind_point))
    return replace(
        ticket, mask=mask, rewind_point=point, origin=ticket.completed_origin(), digest=None
    )


def _copies(tensors_by_name: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in tensors_by_name.items()}
