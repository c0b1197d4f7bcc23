"""Torch's pruning: the state dict of a model that ``torch.nn.utils.prune`` has pruned."""

from __future__ import annotations

import torch
from torch import Tensor

from tombola.errors import TicketError
from tombola.exports.sharing import check_unshared
from tombola.tickets import Ticket


def torch_prune(ticket: Ticket) -> dict[str, Tensor]:
    """Return the state of a model at the rewind point after ``custom_from_mask`` on every masked parameter.

    Instead of ``fc.weight`` it has ``fc.weight_orig``, the rewind point's values, and ``fc.weight_mask``, ones and
    zeros of the same dtype. It is loaded into a model whose masked parameters were prepared by
    ``torch.nn.utils.prune.identity(module, "weight")``. Of every module first come its other tensors, then the values,
    then the masks, which is torch's own order where the module has no buffers.

    torch multiplies value and mask. So a pruned weight that is infinite or NaN, of which a product would not be zero,
    is zero here; all others keep the rewind point's value.

    Raises:
        TicketError: Mask and rewind point are not of one piece, the model may share a pruned weight between two
            layers, or it has tensors of those names already.

    >>> point = {"fc.weight": torch.tensor([3.0, -2.0]), "fc.bias": torch.tensor([1.0])}
    >>> torch_prune(Ticket({"fc.weight": torch.tensor([True, False])}, point, {}))
    {'fc.bias': tensor([1.]), 'fc.weight_orig': tensor([ 3., -2.]), 'fc.weight_mask': tensor([1., 0.])}
    """
    ticket.check()
    check_unshared(ticket)
    modules: dict[str, list[str]] = {}
    for name in ticket.rewind_point:
        modules.setdefault(name.rpartition(".")[0], []).append(name)
    state: dict[str, Tensor] = {}
    for names in modules.values():
        masked = [name for name in names if name in ticket.mask]
        values = {name: ticket.rewind_point[name].detach().cpu() for name in names}
        keeps = {name: ticket.mask[name].cpu() for name in masked}
        state |= {name: values[name].clone() for name in names if name not in keeps}
        state |= {f"{name}_orig": _harmless(values[name], keeps[name]) for name in masked}
        state |= {f"{name}_mask": keeps[name].to(values[name].dtype) for name in masked}
    odd = [f"{name}{end}" for name in ticket.mask for end in ("_orig", "_mask")]
    odd = [name for name in odd if name in ticket.rewind_point]
    if odd:
        raise TicketError(f"the ticket's model has a tensor '{odd[0]}' already: torch's pruning wants that name")
    return state


def _harmless(value: Tensor, keep: Tensor) -> Tensor:
    zeros = torch.zeros_like(value)
    return torch.where(keep | (value * zeros == 0), value, zeros)
