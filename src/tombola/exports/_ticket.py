"""Ticket: one file that holds all of it, to be copied out of its run."""

from __future__ import annotations

from dataclasses import replace

from tombola.masks.states import tensors
from tombola.tickets import Ticket


def ticket(ticket: Ticket) -> Ticket:
    """Return the same ticket; written, it holds its rewind point and needs no other file.

    It is the file that `Ticket.save` writes without a folder of rewind points, so its digest is
    another one than that of a file which refers to its rewind point. The digests of mask and rewind
    point stay, and so does its origin: a ``parent`` there names a file of the run.

    >>> import torch
    >>> exported = ticket(Ticket({"w": torch.tensor([True, False])}, {"w": torch.ones(2)}, {"arm": "lth"}))
    >>> exported.mask["w"].tolist(), exported.origin
    ([True, False], {'arm': 'lth'})
    """
    ticket.check()
    mask = {name: keep.detach().cpu().clone() for name, keep in ticket.mask.items()}
    point = {
        name: value.detach().cpu().clone() for name, value in tensors(ticket.rewind_point).items()
    }
    return replace(ticket, mask=mask, rewind_point=point, origin=ticket.told_origin(), digest=None)
