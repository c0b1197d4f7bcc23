"""Sharing: a weight that a model has under two names cannot be exported without the model."""

from __future__ import annotations

from tombola.digests import contents
from tombola.errors import TicketError
from tombola.tickets import Ticket


def check_unshared(ticket: Ticket) -> None:
    """Refuse a ticket whose model may share a pruned weight between layers.

    A mask names a shared weight once, a state under each of its names: loaded in the state's order, the second name
    would bring the pruned weights back. A ticket does not say what its model shares. But shared weights are equal to
    the last bit, and no others are, unless somebody made them so.

    Raises:
        TicketError: A weight without a mask equals one with a mask; the message says what to do instead.

    >>> import torch
    >>> w, keep = torch.ones(2), torch.tensor([True, False])
    >>> check_unshared(Ticket({"a": keep}, {"a": w, "b": w}, {}))
    Traceback (most recent call last):
    tombola.errors.TicketError: 'b' has no mask and equals 'a', which has one: if the model shares them, loading 'b' \
would bring pruned weights back; use Ticket.apply(model) and save the model's state
    """
    free = {name: value for name, value in ticket.rewind_point.items() if name not in ticket.mask}
    for name, keep in ticket.mask.items():
        value = ticket.rewind_point[name]
        alike = [n for n, v in free.items() if v.shape == value.shape and contents(n, v) == contents(name, value)]
        # Where all that is pruned is zero anyway, nothing can come back.
        if alike and bool(value[~keep.to(value.device)].any()):
            raise TicketError(
                f"'{alike[0]}' has no mask and equals '{name}', which has one: if the model shares them, loading "
                f"'{alike[0]}' would bring pruned weights back; use Ticket.apply(model) and save the model's state"
            )
