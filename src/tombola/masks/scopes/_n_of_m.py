"""N of m: the inputs of a layer compete in small blocks, as sparse tensor cores need it."""

from __future__ import annotations

from torch import nn

from tombola.ground.errors import InputError
from tombola.ground.types import Mask
from tombola.masks.scope_choices import NOfM
from tombola.masks.scopes.groups import Group, Scope
from tombola.masks.scopes.shapes import inputs_first, shape_in, shapes_of


def n_of_m(model: nn.Module, n: int, m: int) -> Scope:
    """Rank the weights of every m consecutive inputs separately, and keep n of them.

    For each output, and for convolutions at each place of the kernel, the inputs 1 to m are one
    block, the next m another one. The density of such a layer is n/m, so no amount is needed. With
    N partitions the intersection keeps n of m, exactly.

    Layers whose number of inputs m does not divide stay dense: the first convolution of an RGB
    image, depthwise convolutions. So do layers whose weight has its outputs in dimension 1
    (transposed convolutions). A run names them at its start and in each record.

    Source:
        Mishra et al. 2021, arXiv:2104.08378, section 3.1: 2 of 4, along the dimension over which a
        layer sums.

    >>> import torch
    >>> from tombola.masks.masks import ones
    >>> from tombola.masks.pruning import prune
    >>> layer = nn.Linear(8, 1)
    >>> scores = {"weight": torch.tensor([[0.1, 0.9, 0.4, 0.2, 0.3, 0.3, 0.3, 0.3]])}
    >>> prune(scores, ones(layer, "all"), scope=n_of_m(layer, 2, 4))["weight"].int().tolist()
    [[0, 1, 1, 0, 0, 0, 1, 1]]
    """
    NOfM((n, m))  # refuses what is no pair of numbers
    shapes, without_inputs = shapes_of(model), inputs_first(model)

    def scope(mask: Mask) -> dict[str, Group]:
        groups, refused = {}, []
        for name, keep in mask.items():
            shape = shape_in(shapes, name)
            if name in without_inputs or shape[1] % m:
                refused.append(f"{name} has {shape[1]}")
            elif tuple(keep.shape) == shape:
                groups[name] = Group((name,), pattern=(n, m))
            else:
                # A sample of the weights, as estimates take it: as many, in no blocks.
                groups[name] = Group((name,))
        if not groups:
            more = f" and {len(refused) - 3} more" if len(refused) > 3 else ""
            raise InputError(
                f"n_of_m prunes {n} of every {m} inputs, and {m} divides the inputs of no layer: "
                f"{', '.join(refused[:3])}{more}; take another m or scope"
            )
        return groups

    return scope
