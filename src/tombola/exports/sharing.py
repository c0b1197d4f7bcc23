"""Sharing: a weight that a model has under several names is masked under each of them.

A mask names a shared weight once, a state under each of its names: loaded in the model's order, a
name without the mask would bring the pruned weights back.
"""

from __future__ import annotations

from torch import Tensor

from tombola.ground.errors import TicketError
from tombola.tickets import Ticket


def mask_of_all_names(ticket: Ticket) -> dict[str, Tensor]:
    """Return the ticket's mask with an entry for every name of a weight that it masks, in the
    rewind point's order.

    Which names share a weight is what the ticket knows (`Ticket.shared`). Equal values are no
    sharing: clones of a layer, a teacher and its student are equal at first. Where nobody can tell,
    such a ticket is refused.

    Raises:
        TicketError: The ticket does not know what its model shares, and a weight without a mask
            equals one with a mask.

    >>> import torch
    >>> w, keep = torch.ones(2), torch.tensor([True, False])
    >>> list(mask_of_all_names(Ticket({"a": keep}, {"a": w, "b": w}, {})))
    ['a', 'b']
    >>> list(mask_of_all_names(Ticket({"a": keep}, {"a": w, "b": w.clone()}, {"shared": {}})))
    ['a']
    """
    shared = ticket.shared
    if shared is None:
        _check_nothing_alike(ticket)
        shared = {}
    keeps: dict[str, Tensor] = {}
    for name, keep in ticket.mask.items():
        first = shared.get(name, name)
        keeps[first] = keep & keeps[first].to(keep.device) if first in keeps else keep
    return {
        name: keeps[of] for name in ticket.rewind_point if (of := shared.get(name, name)) in keeps
    }


def _check_nothing_alike(ticket: Ticket) -> None:
    for name, masked in ticket.alike().items():
        keep, value = ticket.mask[masked], ticket.rewind_point[masked]
        # Where all that is pruned is zero anyway, nothing can come back.
        if bool(value[~keep.to(value.device)].any()):
            raise TicketError(
                f"'{name}' has no mask and equals '{masked}', which has one, and the ticket does "
                f"not say whether the model shares them: loading '{name}' might bring pruned "
                "weights back; make the ticket of model.state_dict() itself, or say it in its "
                "origin: {'shared': {}} where nothing is shared"
            )
