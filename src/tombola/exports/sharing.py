"""Sharing: a weight that a model has under several names is masked under each of them.

A mask names a shared weight once, a state under each of its names: loaded in the model's order, a
name without the mask would bring the pruned weights back.
"""

from __future__ import annotations

from torch import Tensor

from tombola.ground.errors import TicketError
from tombola.tickets import Ticket


def mask_of_all_names(ticket: Ticket) -> dict[str, Tensor]:
    """Return a ticket's mask with an entry for every name of a weight, in the rewind point's order.

    The ticket says which names share a weight (`Ticket.shared`). Equal values do not show it:
    clones of a layer, or a teacher and its student, are equal at first. Where the ticket does not
    say it and values are equal, it is refused.

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
    # A weight that is masked under several names is pruned if any of the masks says so.
    by_first_name: dict[str, Tensor] = {}
    for name, keep in ticket.mask.items():
        first = shared.get(name, name)
        if first in by_first_name:
            keep = keep & by_first_name[first].to(keep.device)
        by_first_name[first] = keep
    keeps = {}
    for name in ticket.rewind_point:
        first = shared.get(name, name)
        if first in by_first_name:
            keeps[name] = by_first_name[first]
    return keeps


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
