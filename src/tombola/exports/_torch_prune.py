"""Torch's pruning: the state dict of a model that ``torch.nn.utils.prune`` has pruned."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tombola.exports.sharing import mask_of_all_names
from tombola.ground.errors import TicketError
from tombola.masks import states
from tombola.tickets import Ticket

# By these an attention is known: its own projections, which it reads itself, as it does its output
# layer's.
_ATTENTION = (("in_proj_weight",), ("q_proj_weight", "k_proj_weight", "v_proj_weight"))


def torch_prune(ticket: Ticket) -> dict[str, Any]:
    """Return the state of a model at the rewind point after ``custom_from_mask`` on every masked
    parameter.

    Instead of ``fc.weight`` it has ``fc.weight_orig``, the rewind point's values, and
    ``fc.weight_mask``, ones and zeros of the same dtype. It is loaded into a model whose masked
    parameters were prepared by ``torch.nn.utils.prune.identity(module, "weight")``. Of every module
    first come its other tensors, then the values, then the masks, which is torch's own order where
    the module has no buffers. A weight that the model shares is masked under each of its names.

    torch multiplies value and mask when a layer's forward is called. So a pruned weight that is
    infinite or NaN, of which a product would not be zero, is zero here; all others keep the rewind
    point's value. And a layer whose weight is read by another module, without its own forward,
    would go on with whatever weight it had: the output layer of a ``MultiheadAttention`` is one,
    and a run's ticket names others.

    Raises:
        TicketError: Mask and rewind point are not of one piece, the ticket does not say whether the
            model shares a pruned weight, a masked weight is read without its layer's forward, or
            the model has tensors of those names already.

    >>> point = {"fc.weight": torch.tensor([3.0, -2.0]), "fc.bias": torch.tensor([1.0])}
    >>> torch_prune(Ticket({"fc.weight": torch.tensor([True, False])}, point, {}))
    {'fc.bias': tensor([1.]), 'fc.weight_orig': tensor([ 3., -2.]), 'fc.weight_mask': tensor([1., 0.])}
    """
    ticket.check()
    keeps = mask_of_all_names(ticket)
    _check_read_by_forward(ticket, keeps)
    modules: dict[str, list[str]] = {}
    for name in ticket.rewind_point:
        modules.setdefault(name.rpartition(".")[0], []).append(name)
    state: dict[str, Any] = {}
    for names in modules.values():
        masked = [name for name in names if name in keeps]
        values = {name: states.on_cpu(name, ticket.rewind_point[name]) for name in names}
        state |= {name: values[name] for name in names if name not in keeps}
        state |= {f"{name}_orig": _harmless(values[name], keeps[name].cpu()) for name in masked}
        state |= {f"{name}_mask": keeps[name].cpu().to(values[name].dtype) for name in masked}
    odd = [f"{name}{end}" for name in keeps for end in ("_orig", "_mask")]
    odd = [name for name in odd if name in ticket.rewind_point]
    if odd:
        raise TicketError(
            f"the ticket's model has a tensor '{odd[0]}' already: torch's pruning wants that name"
        )
    return states.versioned(state, ticket.versions)


def _check_read_by_forward(ticket: Ticket, keeps: dict[str, Tensor]) -> None:
    """Refuse a pruned weight that its model reads without the forward of its layer, where torch
    never masks it.
    """
    said = ticket.origin.get("read_elsewhere")
    known = set(said) if isinstance(said, list) else set()
    for name, keep in keeps.items():
        attention = name.removesuffix("out_proj.weight")
        beside = any(
            all(attention + own in ticket.rewind_point for own in every) for every in _ATTENTION
        )
        if (name in known or (attention != name and beside)) and not bool(keep.all()):
            raise TicketError(
                f"'{name}' is read without its layer's forward, where torch's pruning would never "
                "mask it: the model would compute something else; export --to state_dict holds the "
                "same network"
            )


def _harmless(value: Tensor, keep: Tensor) -> Tensor:
    zeros = torch.zeros_like(value)
    return torch.where(keep | (value * zeros == 0), value, zeros)
