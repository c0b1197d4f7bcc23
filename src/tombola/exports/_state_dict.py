"""State dict: what every torch program loads, with the pruned weights at zero."""

from __future__ import annotations

import torch
from torch import Tensor

from tombola.exports.sharing import check_unshared
from tombola.tickets import Ticket


def state_dict(ticket: Ticket) -> dict[str, Tensor]:
    """Return the state of a model that stands at the rewind point, its pruned weights exactly zero.

    ``model.load_state_dict`` takes it as it is. It holds no mask: what trains on has to keep the zeros by itself. The
    values are on the CPU, in the order and with the names of the rewind point, buffers included.

    Raises:
        TicketError: Mask and rewind point are not of one piece, or the model may share a pruned weight between two
            layers.

    >>> point = {"w": torch.tensor([3.0, float("inf")]), "steps": torch.tensor(7)}
    >>> state_dict(Ticket({"w": torch.tensor([True, False])}, point, {}))
    {'w': tensor([3., 0.]), 'steps': tensor(7)}
    """
    ticket.check()
    check_unshared(ticket)
    state = {name: value.detach().cpu().clone() for name, value in ticket.rewind_point.items()}
    for name, keep in ticket.mask.items():
        state[name] = torch.where(keep.cpu(), state[name], torch.zeros_like(state[name]))
    return state
