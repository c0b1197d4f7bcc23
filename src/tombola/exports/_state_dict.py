"""State dict: what every torch program loads, with the pruned weights at zero."""

from __future__ import annotations

from typing import Any

import torch

from tombola.exports.sharing import mask_of_all_names
from tombola.masks import states
from tombola.tickets import Ticket


def state_dict(ticket: Ticket) -> dict[str, Any]:
    """Return the rewind point as a state dict, pruned weights exactly zero.

    ``model.load_state_dict`` takes it as it is. It holds no mask: whoever trains it must keep the
    zeros. The values are on the CPU, in the order and with the names of the rewind point, buffers
    included; a weight that the model shares is zero under each of its names.

    Raises:
        TicketError: Mask and rewind point do not fit each other, or the ticket does not say whether
            the model shares a pruned weight.

    >>> point = {"w": torch.tensor([3.0, float("inf")]), "steps": torch.tensor(7)}
    >>> state_dict(Ticket({"w": torch.tensor([True, False])}, point, {}))
    {'w': tensor([3., 0.]), 'steps': tensor(7)}
    """
    ticket.check()
    keeps = mask_of_all_names(ticket)
    state: dict[str, Any] = {}
    for name, value in ticket.rewind_point.items():
        state[name] = states.on_cpu(name, value)
    for name, keep in keeps.items():
        state[name] = torch.where(keep.cpu(), state[name], torch.zeros_like(state[name]))
    return states.versioned(state, ticket.versions)
