"""Masks: which weights a ticket keeps.

    trained models -> scores -> prune -> [ intersect ] -> rewind -> next round

A mask maps a parameter's name to a boolean tensor of that parameter's shape; True keeps
the weight. Parameters that are never pruned (biases, batch norm) have no entry.
Functions ending in ``_`` change a model in place; all others return something new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import Tensor, nn

from tombola import names
from tombola.errors import ConfigError, InputError, near
from tombola.types import Mask

_CONV = nn.modules.conv._ConvNd
_NORM = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def kinds(model: nn.Module) -> dict[str, str]:
    """Name the weights of a model by the kind of their layer: "conv", "linear" or "norm"; shared ones once.

    >>> kinds(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2)))
    {'0.weight': 'conv', '1.weight': 'norm', '3.weight': 'linear'}
    """
    found: dict[str, str] = {}
    named = {id(parameter): name for name, parameter in names.parameters(model).items()}
    for module in model.modules():
        kind = "conv" if isinstance(module, _CONV) else "linear" if isinstance(module, nn.Linear) else ""
        kind = kind or ("norm" if isinstance(module, _NORM) else "")
        weight = getattr(module, "weight", None)
        if kind and isinstance(weight, nn.Parameter):
            found.setdefault(named[id(weight)], kind)
    return found


def ones(model: nn.Module, prunable: str | Sequence[str] = "no_head", *, head: str | None = None) -> dict[str, Tensor]:
    """Keep every weight: the mask that a search starts from. It also says which weights may be pruned.

    Args:
        model: Any module; its convolutions and linear layers of any dimension are found by type.
        prunable: ``"no_head"``: convolutions and linear layers without the output layer; ``"conv"``: convolutions
            without an output layer, as in COLT's recipes; ``"all"``: the output layer too; or one or more patterns
            of their names, ``"features.*.weight"``; what else a pattern matches (biases, norm weights) is never pruned.
        head: Dotted name of the output layer; ``None`` takes the module's attribute ``head``.

    Raises:
        ConfigError: No weight is prunable, a pattern matches no convolution or linear layer, or the output layer is
            not known.

    >>> {name: m.numel() for name, m in ones(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), head="1").items()}
    {'0.weight': 12}
    """
    parameters = names.parameters(model)
    kind = {name: k for name, k in kinds(model).items() if k in ("conv", "linear")}
    if prunable == "all":
        chosen = list(kind)
    elif prunable in ("no_head", "conv"):
        output = head_weight(model, head)
        chosen = [name for name, k in kind.items() if name != output and prunable in ("no_head", k)]
    elif isinstance(prunable, str) and not set(prunable) & set(".*?["):
        known = ("no_head", "conv", "all")
        raise ConfigError(
            f"prunable is '{prunable}'; it is one of {', '.join(known)}, or a pattern of parameter names "
            f"such as '*.weight'.{near(prunable, known)}"
        )
    else:
        chosen = _matching([prunable] if isinstance(prunable, str) else prunable, kind, parameters)
    if not chosen:
        raise ConfigError(f"the model has no prunable weight (prunable: {prunable}); it has: {_some(parameters)}")
    return {name: torch.ones_like(parameters[name], dtype=torch.bool) for name in parameters if name in set(chosen)}


def _matching(patterns: Sequence[str], weights: Mapping[str, str], parameters: Mapping[str, Tensor]) -> list[str]:
    for pattern in patterns:
        matched = {name: name in weights for name in parameters if fnmatchcase(name, pattern)}
        if not matched:
            raise ConfigError(f"prunable: '{pattern}' matches no parameter; the model has: {_some(parameters)}")
        if not any(matched.values()):
            raise ConfigError(f"prunable: '{pattern}' matches {_some(matched)}; only the weights of convolutions and "
                              "linear layers are pruned, biases and norm weights never")  # fmt: skip
    return [name for name in weights if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _some(names: Mapping[str, object]) -> str:
    shown = list(names)[:6]
    return ", ".join(shown) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def head_weight(model: nn.Module, head: str | None) -> str:
    """Return the name of the output layer's weight, for the layer that is given or the attribute ``head``.

    A weight that the output layer shares with another layer has the name that it has in a mask, its first.

    Raises:
        ConfigError: There is no such layer, or it has no weight of its own.
    """
    modules = names.modules(model, shared=True)
    name = "head" if head is None else head
    if name not in modules:
        if head is None:
            raise ConfigError("the model has no attribute 'head'; name its output layer with head=, or prune it too "
                              "with prunable='all'")  # fmt: skip
        raise ConfigError(f"the model has no layer '{head}'.{near(head, modules)}")
    weight = getattr(modules[name], "weight", None)
    if not isinstance(weight, Tensor):
        raise ConfigError(f"head '{name}' is a {type(modules[name]).__name__} without a weight; name the output layer "
                          f"itself with head=")  # fmt: skip
    named = {id(parameter): of for of, parameter in names.parameters(model).items()}
    return named.get(id(weight), f"{name}.weight")


def count(mask: Mask) -> int:
    """Count the kept weights, exactly at any size.

    >>> count({"w": torch.tensor([True, False, True])})
    2
    """
    # On the CPU by numpy, which takes an eighth of the time that torch does.
    return sum(
        int(np.count_nonzero(keep.numpy()) if keep.device.type == "cpu" else torch.count_nonzero(keep))
        for keep in mask.values()
    )


def size(mask: Mask) -> int:
    """Count the prunable weights, kept or not."""
    return sum(keep.numel() for keep in mask.values())


def density(mask: Mask, total: int | None = None) -> float:
    """Return the fraction of weights kept, 0 to 1.

    Args:
        mask: The prunable weights.
        total: Number of all conv, linear and norm weights (`total_weights`); given it, the result is
            ``density_total``: not pruned / all. 1 minus it is COLT's PruneRate.

    Raises:
        InputError: There is no weight to take a fraction of.

    >>> mask = {"w": torch.tensor([True, False, True, False])}
    >>> density(mask), density(mask, total=10)
    (0.5, 0.8)
    """
    whole = size(mask) if total is None else total
    if whole == 0:
        raise InputError("no weight has no density; the mask names none, or total is 0")
    return (whole - size(mask) + count(mask)) / whole


def total_weights(model: nn.Module) -> int:
    """Count the weights of all conv, linear and norm layers, biases not: the denominator of COLT's PruneRate (Eq. 2).

    >>> total_weights(nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3)))
    15
    """
    parameters = names.parameters(model)
    return sum(parameters[name].numel() for name in kinds(model))


def intersect(candidates: Sequence[Mask]) -> dict[str, Tensor]:
    """Keep a weight only where every candidate keeps it.

    With one candidate this returns an equal mask, so LTH is COLT with one partition.
    The result is at most as dense as the sparsest candidate.

    Args:
        candidates: One mask per partition, all with the same names and shapes.

    Returns:
        One new mask of the same names and shapes; the candidates are not changed.

    Raises:
        InputError: No candidate is given, or names or shapes differ.

    Source:
        COLT, arXiv:2212.12770, section III-C: the overlap of the tickets of one round.

    >>> a = {"fc.weight": torch.tensor([True, True, False])}
    >>> b = {"fc.weight": torch.tensor([True, False, False])}
    >>> intersect([a, b])["fc.weight"].tolist()
    [True, False, False]
    """
    return _combined(candidates, Tensor.logical_and_, "intersect")


def unite(candidates: Sequence[Mask]) -> dict[str, Tensor]:
    """Keep a weight where any candidate keeps it.

    Args:
        candidates: One mask per partition, all with the same names and shapes.

    Returns:
        One new mask of the same names and shapes; the candidates are not changed.

    Raises:
        InputError: No candidate is given, or names or shapes differ.

    >>> a = {"fc.weight": torch.tensor([True, True, False])}
    >>> b = {"fc.weight": torch.tensor([True, False, False])}
    >>> unite([a, b])["fc.weight"].tolist()
    [True, True, False]
    """
    return _combined(candidates, Tensor.logical_or_, "unite")


def _combined(candidates: Sequence[Mask], combine_: Callable[[Tensor, Tensor], Tensor], what: str) -> dict[str, Tensor]:
    if not candidates:
        raise InputError(f"{what} needs at least one candidate; it was given none")
    first = candidates[0]
    for index, candidate in enumerate(candidates):
        _check_alike(candidate, first, f"candidate {index}", "candidate 0")
    result = {name: keep.to(torch.bool, copy=True) for name, keep in first.items()}
    for candidate in candidates[1:]:
        for name, keep in result.items():
            combine_(keep, candidate[name])
    return result


def _check_alike(one: Mapping[str, Tensor], other: Mapping[str, Tensor], one_is: str, other_is: str) -> None:
    if one.keys() != other.keys():
        odd = sorted(set(one) ^ set(other))
        raise InputError(f"{one_is} and {other_is} name different parameters: {', '.join(odd)}")
    for name in one:
        if one[name].shape != other[name].shape:
            raise InputError(
                f"{one_is} and {other_is} have different shapes for '{name}': "
                f"{tuple(one[name].shape)} and {tuple(other[name].shape)}"
            )


def masked_parameters(model: nn.Module, mask: Mask) -> list[tuple[nn.Parameter, Tensor]]:
    """Pair the model's parameters with their masks, in the mask's order.

    Raises:
        InputError: The mask names a parameter that the model has not, or one of another shape.
    """
    parameters = names.parameters(model, shared=True)
    mask = names.named_like(mask, parameters)
    pairs = []
    for name, keep in mask.items():
        if name not in parameters:
            raise InputError(f"the mask names '{name}', which the model has not.{near(name, parameters)}")
        keep = boolean(name, keep)
        if isinstance(parameters[name], nn.UninitializedParameter):
            raise InputError(f"'{name}' has no shape yet: its layer is lazy and must see an image first")
        if parameters[name].shape != keep.shape:
            shapes = f"{tuple(keep.shape)} in the mask and {tuple(parameters[name].shape)} in the model"
            raise InputError(f"'{name}' has the shape {shapes}")
        pairs.append((parameters[name], keep))
    return pairs


def boolean(name: str, keep: object) -> Tensor:
    """Return a parameter's mask as a boolean tensor; a boolean array of numpy's becomes one.

    Raises:
        InputError: It is no tensor, or not boolean.

    >>> boolean("fc.weight", np.array([True, False]))
    tensor([ True, False])
    """
    if isinstance(keep, np.ndarray) and keep.dtype == np.bool_:
        return torch.from_numpy(keep)
    if isinstance(keep, Tensor) and keep.dtype == torch.bool:
        return keep
    kind = str(getattr(keep, "dtype", type(keep).__name__)).removeprefix("torch.")
    what = " array of numpy's" if isinstance(keep, np.ndarray) else ""
    raise InputError(f"the mask of '{name}' is {kind}{what}; a mask is a boolean tensor, True = kept (mask != 0)")


def apply_(model: nn.Module, mask: Mask) -> None:
    """Set the pruned weights of a model to zero, in place.

    >>> layer = nn.Linear(2, 1)
    >>> apply_(layer, {"weight": torch.tensor([[True, False]])})
    >>> layer.weight[0, 1].item()
    0.0
    """
    with torch.no_grad():
        for parameter, keep in masked_parameters(model, mask):
            # Not a product: a weight that is infinite or NaN would stay so.
            parameter.masked_fill_(~keep.to(parameter.device), 0)


class Handle:
    """What keeps pruned weights at zero in tombola's own loop, `train`; for any other loop there is `hold_`.

    The loop calls it: on the gradients before they are clipped, and on the weights after the step. It multiplies by
    the mask, and 0 * NaN is NaN, as is 0 * infinity. A training that runs into one is lost anyway, and ``run_job`` says
    so by its loss; `apply_` and ``replace`` set even such weights to zero.
    """

    def __init__(self, model: nn.Module, mask: Mask) -> None:
        self._model = model
        self.mask: Mask = {}
        self.replace(mask)

    def replace(self, mask: Mask) -> None:
        """Hold another mask from now on; its pruned weights are set to zero at once."""
        apply_(self._model, mask)
        self.mask = mask
        # Where nothing is pruned there is nothing to hold: a dense training pays for no mask.
        pairs = [(parameter, keep) for parameter, keep in masked_parameters(self._model, mask) if not keep.all()]
        self._weights: list[Tensor] = [parameter for parameter, _ in pairs]
        # Float masks: a product with them is 6 to 40 times quicker than filling by a boolean mask. The price is that a
        # pruned weight that is infinite or NaN becomes NaN and not zero.
        self._keeps = [keep.to(device=parameter.device, dtype=parameter.dtype) for parameter, keep in pairs]

    def mask_gradients(self) -> None:
        """Zero the gradients of the pruned weights."""
        pairs = [(w.grad, keep) for w, keep in zip(self._weights, self._keeps, strict=True) if w.grad is not None]
        if pairs:
            torch._foreach_mul_([grad for grad, _ in pairs], [keep for _, keep in pairs])

    @torch.no_grad()
    def mask_weights(self) -> None:
        """Zero the pruned weights."""
        if self._weights:
            torch._foreach_mul_(self._weights, self._keeps)


def empty_layers(mask: Mask) -> list[str]:
    """Name the parameters of which no weight is kept: where a network has collapsed.

    >>> empty_layers({"a": torch.tensor([True]), "b": torch.tensor([False])})
    ['b']
    """
    return [name for name, keep in mask.items() if not keep.any()]


def nested(mask: Mask, within: Mask) -> Iterator[str]:
    """Yield the names of parameters where a mask keeps a weight that ``within`` has pruned; none when it is nested."""
    return (name for name, keep in mask.items() if bool((keep & ~within[name]).any()))
