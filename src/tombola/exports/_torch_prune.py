"""Torch's pruning: the state dict of a model that ``torch.nn.utils.prune`` has pruned."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tombola.exports.sharing import mask_of_all_names
from tombola.ground.errors import TicketError
from tombola.masks import states
from tombola.tickets import Ticket

# The projections by which an attention is recognised. It reads them itself, and its output layer's
# weight, too.
_ATTENTION = (("in_proj_weight",), ("q_proj_weight", "k_proj_weight", "v_proj_weight"))


def torch_prune(ticket: Ticket) -> dict[str, Any]:
    """Return the rewind point as a model has it that ``torch.nn.utils.prune`` has pruned.

    It is the state after ``custom_from_mask`` on every masked parameter: instead of ``fc.weight``
    it has ``fc.weight_orig``, the rewind point's values, and ``fc.weight_mask``, ones and zeros of
    the same dtype. It is loaded into a model whose masked parameters were prepared by
    ``torch.nn.utils.prune.identity(module, "weight")``. Of every module first come its other
    tensors, then the values, then the masks, which is torch's own order where the module has no
    buffers. A weight that the model shares is masked under each of its names.

    torch multiplies value and mask when a layer's forward is called. So a pruned weight that is
    infinite or NaN, of which a product would not be zero, is zero here; all others keep the rewind
    point's value. And a layer whose weight is read by another module, without its own forward,
    would go on with whatever weight it had: the output layer of a ``MultiheadAttention`` is one,
    and a run's ticket names others.

    Raises:
        TicketError: Mask and rewind point do not fit each other, the ticket does not say whether
            the model shares a pruned weight, a masked weight is read without its layer's forward,
            or the model has tensors of those names already.

    >>> point = {"w": torch.tensor([3.0, -2.0]), "b": torch.tensor([1.0])}
    >>> torch_prune(Ticket({"w": torch.tensor([True, False])}, point, {}))
    {'b': tensor([1.]), 'w_orig': tensor([ 3., -2.]), 'w_mask': tensor([1., 0.])}
    """
    ticket.check()
    keeps = mask_of_all_names(ticket)
    _check_read_by_forward(ticket, keeps)
    # torch renames the masked parameters: its names must be free.
    for name in keeps:
        for new_name in (f"{name}_orig", f"{name}_mask"):
            if new_name in ticket.rewind_point:
                raise TicketError(
                    f"the ticket's model has a tensor '{new_name}' already: torch's pruning wants "
                    "that name"
                )

    names_by_module: dict[str, list[str]] = {}
    for name in ticket.rewind_point:
        names_by_module.setdefault(name.rpartition(".")[0], []).append(name)
    # torch's own order: of every module its other tensors, the values, the masks.
    state: dict[str, Any] = {}
    for names in names_by_module.values():
        originals, masks = {}, {}
        for name in names:
            value = states.on_cpu(name, ticket.rewind_point[name])
            if name in keeps:
                keep = keeps[name].cpu()
                originals[f"{name}_orig"] = _harmless(value, keep)
                masks[f"{name}_mask"] = keep.to(value.dtype)
            else:
                state[name] = value
        state |= originals | masks
    return states.versioned(state, ticket.versions)


def _check_read_by_forward(ticket: Ticket, keeps: dict[str, Tensor]) -> None:
    """Refuse a pruned weight that is read without its layer's forward: torch never masks it."""
    in_origin = ticket.origin.get("read_elsewhere")
    known = set(in_origin) if isinstance(in_origin, list) else set()
    for name, keep in keeps.items():
        if (name in known or _of_attention(name, ticket)) and not bool(keep.all()):
            raise TicketError(
                f"'{name}' is read without its layer's forward, where torch's pruning would never "
                "mask it: the model would compute something else; export --to state_dict holds the "
                "same network"
            )


def _of_attention(name: str, ticket: Ticket) -> bool:
    """Whether a weight is that of an attention's output layer."""
    prefix = name.removesuffix("out_proj.weight")
    if prefix == name:
        return False
    for projections in _ATTENTION:
        if all(prefix + projection in ticket.rewind_point for projection in projections):
            return True
    return False


def _harmless(value: Tensor, keep: Tensor) -> Tensor:
    """Replace pruned values that a mask would not turn into zero."""
    zeros = torch.zeros_like(value)
    return torch.where(keep | (value * zeros == 0), value, zeros)
