"""Masks: which weights a ticket keeps.

    trained models -> scores -> prune -> [ intersect ] -> rewind -> next round

A mask maps a parameter's name to a boolean tensor of that parameter's shape; True keeps
the weight. Parameters that are never pruned (biases, batch norm) have no entry.
Functions ending in ``_`` change a model in place; all others return something new.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import Tensor, nn

from tombola.ground.errors import ConfigError, InputError, UnmaskedWarning, near
from tombola.ground.types import Mask
from tombola.masks import names
from tombola.masks.weights import find_weights, length_of, weight_parameter


def kinds(model: nn.Module) -> dict[str, str]:
    """Name the weights of a model by the kind of their layer, shared ones once.

    The kinds are "conv", "linear" (attention and recurrent layers too), "norm", and "own" for
    tensors of modules of unknown kind; `tombola.masks.weights` has the rule.

    >>> kinds(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2)))
    {'0.weight': 'conv', '1.weight': 'norm', '3.weight': 'linear'}
    """
    return {name: weight.kind for name, weight in find_weights(model).items()}


def ones(
    model: nn.Module, prunable: str | Sequence[str] = "no_head", *, head: str | None = None
) -> dict[str, Tensor]:
    """Keep every weight: the mask that a search starts from. It also says which weights may be
    pruned.

    Args:
        model: Any module; what counts as a weight is found by the kinds of its layers, see
            `tombola.masks.weights`.
        prunable: ``"no_head"``: convolutions and linear layers (those of attention and recurrent
            layers too) without the output layer; ``"conv"``: convolutions without an output layer,
            as in COLT's recipes; ``"all"``: the output layer too; or one or more patterns of their
            names, ``"features.*.weight"``. A pattern that matches none of these takes what else it
            matches with two dimensions or more: so embeddings, tables and tensors of a module's own
            are pruned when they are asked for by name. Biases and norm weights are never pruned.
        head: Dotted name of the output layer; ``None`` takes the module's attribute ``head``.

    Raises:
        ConfigError: No weight is prunable, a pattern matches nothing that can be, or the output
            layer is not known.

    Warns:
        UnmaskedWarning: Weights are left out because nothing tells how their layer uses them; they are named, see
            `unmasked`. Embeddings and norm weights are left out as a matter of course.

    >>> {name: m.numel() for name, m in ones(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), head="1").items()}
    {'0.weight': 12}
    """
    told = unmasked_in_words(model, prunable)
    if told:
        warnings.warn(told, UnmaskedWarning, stacklevel=2)
    return all_kept(model, prunable, head=head)


def all_kept(
    model: nn.Module, prunable: str | Sequence[str], *, head: str | None
) -> dict[str, Tensor]:
    """Return what `ones` does, for who says by itself what is left out."""
    parameters, weights = names.parameters(model), find_weights(model)
    maskable = {name: weight.kind for name, weight in weights.items() if weight.maskable}
    if prunable == "all":
        chosen = list(maskable)
    elif prunable in ("no_head", "conv"):
        output = head_weight(model, head)
        chosen = [
            name
            for name, kind in maskable.items()
            if name != output and prunable in ("no_head", kind)
        ]
    elif isinstance(prunable, str) and not set(prunable) & set(".*?["):
        known = ("no_head", "conv", "all")
        raise ConfigError(
            f"prunable is '{prunable}'; it is one of {', '.join(known)}, or a pattern of parameter "
            f"names such as '*.weight'.{near(prunable, known)}"
        )
    else:
        patterns = [prunable] if isinstance(prunable, str) else prunable
        norms = {name for name, weight in weights.items() if weight.kind == "norm"}
        chosen = _matching(patterns, maskable, parameters, norms)
    if not chosen:
        raise ConfigError(
            f"the model has no prunable weight (prunable: {prunable}); it has: {_some(parameters)}"
        )
    wanted = set(chosen)
    return {
        name: torch.ones_like(p, dtype=torch.bool)
        for name, p in parameters.items()
        if name in wanted
    }


def from_zeros(state: Mapping[str, Tensor], mask: Mask) -> dict[str, Tensor]:
    """Leave out of a mask the weights that are zero in a state: the mask that a pruned checkpoint
    was made with.

    Args:
        state: The weights, a ``state_dict``.
        mask: What may be pruned, such as `ones` gives.

    Raises:
        InputError: The state has no weight of a name and shape of the mask.

    >>> from_zeros({"w": torch.tensor([0.5, 0.0])}, {"w": torch.tensor([True, True])})
    {'w': tensor([ True, False])}
    """
    state = names.covering(state, mask)
    for name, keep in mask.items():
        if name not in state:
            raise InputError(
                f"the mask names '{name}', which the state has not.{near(name, state)}"
            )
        if state[name].shape != keep.shape:
            shapes = f"{tuple(keep.shape)} in the mask and {tuple(state[name].shape)} in the state"
            raise InputError(f"'{name}' has the shape {shapes}")
    return {name: keep & (state[name].detach() != 0).to(keep.device) for name, keep in mask.items()}


def unmasked(model: nn.Module, prunable: str | Sequence[str] = "all") -> dict[str, str]:
    """Name the weights that are left out of a model's masks, though a layer may multiply by them,
    and say why.

    Args:
        model: Any module.
        prunable: As of `ones`. Where patterns name what is pruned, nothing is left out but what
            they leave out.

    >>> net = nn.Module()
    >>> net.mix = nn.Parameter(torch.ones(3, 4))
    >>> unmasked(net)
    {'mix': 'a Module holds it itself and may use it in any way'}
    """
    if prunable not in ("all", "no_head", "conv"):
        return {}
    return {name: weight.reason for name, weight in find_weights(model).items() if weight.reason}


def unmasked_in_words(model: nn.Module, prunable: str | Sequence[str] = "all") -> str:
    """Say in one line what is left out of a model's masks, see `unmasked`; nothing where nothing
    is.

    >>> unmasked_in_words(nn.Linear(2, 2))
    ''
    """
    left = unmasked(model, prunable)
    if not left:
        return ""
    first, number = next(iter(left)), len(left)
    many = (
        "1 weight has no mask and is" if number == 1 else f"{number} weights have no mask and are"
    )
    return f"{many} not pruned: {_some(left)} ({left[first]}); prunable: ['{first}'] names it"


def _matching(
    patterns: Sequence[str],
    weights: Mapping[str, str],
    parameters: Mapping[str, Tensor],
    norms: Collection[str],
) -> list[str]:
    found: list[str] = []
    for pattern in patterns:
        matched = {name: p for name, p in parameters.items() if fnmatchcase(name, pattern)}
        if not matched:
            raise ConfigError(
                f"prunable: '{pattern}' matches no parameter; the model has: {_some(parameters)}"
            )
        chosen = [name for name in matched if name in weights]
        # What is no weight by the rule is pruned on request: by a pattern that means nothing else.
        chosen = chosen or [
            name for name, p in matched.items() if p.dim() >= 2 and not _is_bias(name, norms)
        ]
        if not chosen:
            raise ConfigError(
                f"prunable: '{pattern}' matches {_some(matched)}; only the weights of convolutions "
                "and linear layers are pruned, biases and norm weights never (and, where a pattern "
                "means nothing else, other tensors of two or more dimensions)"
            )
        found += chosen
    return found


def _is_bias(name: str, norms: Collection[str]) -> bool:
    return name in norms or "bias" in name.rpartition(".")[2]


def _some(names: Mapping[str, object]) -> str:
    shown = list(names)[:6]
    return ", ".join(shown) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def head_weight(model: nn.Module, head: str | None) -> str:
    """Return the name of the output layer's weight, for the layer that is given or the attribute
    ``head``.

    A weight that the output layer shares with another layer has the name that it has in a mask, its
    first.

    Raises:
        ConfigError: There is no such layer, or it has no weight of its own.
    """
    modules = names.modules(model, shared=True)
    name = "head" if head is None else head
    if name not in modules:
        if head is None:
            raise ConfigError(
                "the model has no attribute 'head'; name its output layer with head=, or prune it "
                "too with prunable='all'"
            )
        raise ConfigError(f"the model has no layer '{head}'.{near(head, modules)}")
    source = weight_parameter(modules[name])
    if source is None:
        raise ConfigError(
            f"head '{name}' is a {type(modules[name]).__name__} without a weight; name the output "
            "layer itself with head="
        )
    named = {id(parameter): of for of, parameter in names.parameters(model).items()}
    return named[id(source[0])]


def count(mask: Mask) -> int:
    """Count the kept weights, exactly at any size.

    >>> count({"w": torch.tensor([True, False, True])})
    2
    """
    # On the CPU by numpy, which takes an eighth of the time that torch does.
    return sum(
        int(
            np.count_nonzero(keep.numpy())
            if keep.device.type == "cpu"
            else torch.count_nonzero(keep)
        )
        for keep in mask.values()
    )


def size(mask: Mask) -> int:
    """Count the prunable weights, kept or not."""
    return sum(keep.numel() for keep in mask.values())


class Total(int):
    """How many weights a model has, and which: what a mask names beyond them, on request,
    `density` counts too.
    """

    names: frozenset[str]

    def __new__(cls, number: int, names: Collection[str] = ()) -> Total:
        """Make the number, of the weights of these names."""
        total = super().__new__(cls, number)
        total.names = frozenset(names)
        return total


def density(mask: Mask, total: int | None = None) -> float:
    """Return the fraction of weights kept, 0 to 1.

    Args:
        mask: The prunable weights.
        total: Number of all weights (`total_weights`), at least those of the mask; given it, the
            result is ``density_total``: not pruned / all. 1 minus it is COLT's PruneRate.

    Raises:
        InputError: There is no weight to take a fraction of, or the mask names more than all
            weights.

    >>> mask = {"w": torch.tensor([True, False, True, False])}
    >>> density(mask), density(mask, total=10)
    (0.5, 0.8)
    """
    whole = size(mask) if total is None else int(total)
    if isinstance(total, Total):
        known = names.named_like(mask, total.names)
        whole += size({name: keep for name, keep in known.items() if name not in total.names})
    if whole == 0:
        raise InputError("no weight has no density; the mask names none, or total is 0")
    if whole < size(mask):
        raise InputError(
            f"total is {whole}, and the mask alone names {size(mask)} weights; "
            "total_weights(model, mask) counts all of them"
        )
    return (whole - size(mask) + count(mask)) / whole


def total_weights(model: nn.Module, mask: Mask | None = None) -> Total:
    """Count all weights, biases not: the denominator of COLT's PruneRate (Eq. 2).

    Those of convolutions, linear layers and norms count, and tensors that modules of unknown kind
    hold themselves, masked or not; `tombola.masks.weights` has the rule.

    Args:
        model: Any module.
        mask: What counts beside: a mask may name on request what is no weight by the rule, such as
            an embedding. `density` does so by itself.

    >>> total_weights(nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3)))
    15
    """
    sizes = {name: weight.parameter.numel() for name, weight in find_weights(model).items()}
    asked = names.named_like(mask or {}, names.parameters(model))
    sizes |= {name: keep.numel() for name, keep in asked.items()}
    return Total(sum(sizes.values()), sizes)


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


def _combined(
    candidates: Sequence[Mask], combine_: Callable[[Tensor, Tensor], Tensor], what: str
) -> dict[str, Tensor]:
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


def _check_alike(
    one: Mapping[str, Tensor], other: Mapping[str, Tensor], one_is: str, other_is: str
) -> None:
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
        InputError: The mask names a parameter that the model has not, or one of another shape, or
            it leaves a weight-normed layer nothing of a row that it divides by the length of.
    """
    parameters = names.parameters(model, shared=True)
    mask = names.named_like(mask, parameters)
    pairs = []
    for name, keep in mask.items():
        if name not in parameters:
            raise InputError(
                f"the mask names '{name}', which the model has not.{near(name, parameters)}"
            )
        keep = boolean(name, keep)
        if isinstance(parameters[name], nn.UninitializedParameter):
            raise InputError(
                f"'{name}' has no shape yet: its layer is lazy and must see an image first"
            )
        if parameters[name].shape != keep.shape:
            shapes = (
                f"{tuple(keep.shape)} in the mask and {tuple(parameters[name].shape)} in the model"
            )
            raise InputError(f"'{name}' has the shape {shapes}")
        _check_lengths(name, keep, parameters)
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
    raise InputError(
        f"the mask of '{name}' is {kind}{what}; a mask is a boolean tensor, True = kept (mask != 0)"
    )


def _check_lengths(name: str, keep: Tensor, parameters: Mapping[str, Tensor]) -> None:
    """Refuse a mask that makes weight norm divide by zero, which would be told as a loss that
    is no number.
    """
    lengths = parameters.get(length_of(name) or "")
    if lengths is None:
        return
    dims = [dim for dim in range(keep.dim()) if lengths.dim() == 0 or lengths.shape[dim] == 1]
    empty = ~keep.amax(dims).flatten() if dims else keep.new_zeros(1)
    if bool(empty.any()):
        row = int(empty.nonzero()[0])
        raise InputError(
            f"the mask keeps no weight of row {row} of '{name}', and weight norm divides by that "
            "row's length; keep one, or take the norm off the layer"
        )


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


_LARGE = 4_000_000  # weights of a layer, from where on its mask is not kept as numbers
_PIECE = 1 << 15  # weights whose mask is made at a time: it stays in the cache


class Handle:
    """What keeps pruned weights at zero in tombola's own loop, `train`; for any other loop there is
    `hold_`.

    The loop calls it: on the gradients before they are clipped, and on the weights after the step.
    It multiplies by the mask, and 0 * NaN is NaN, as is 0 * infinity. A training that runs into one
    is lost anyway, and ``run_job`` says so by its loss; `apply_` and ``replace`` set even such
    weights to zero.
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
        pairs = [
            (parameter, keep)
            for parameter, keep in masked_parameters(self._model, mask)
            if not keep.all()
        ]
        # Float masks: a product with them is 6 to 40 times quicker than filling by a boolean mask.
        # The price is that a pruned weight that is infinite or NaN becomes NaN and not zero. They
        # are as large as the weights, so those of large layers are made piece by piece, each time
        # anew: a small part of what a step of such a layer takes.
        self._large = [(parameter, keep) for parameter, keep in pairs if self._in_pieces(parameter)]
        pairs = [(parameter, keep) for parameter, keep in pairs if not self._in_pieces(parameter)]
        self._weights: list[Tensor] = [parameter for parameter, _ in pairs]
        self._keeps = [
            keep.to(device=parameter.device, dtype=parameter.dtype) for parameter, keep in pairs
        ]

    def mask_gradients(self) -> None:
        """Zero the gradients of the pruned weights."""
        pairs = [
            (w.grad, keep)
            for w, keep in zip(self._weights, self._keeps, strict=True)
            if w.grad is not None
        ]
        if pairs:
            torch._foreach_mul_([grad for grad, _ in pairs], [keep for _, keep in pairs])
        for weight, keep in self._large:
            if weight.grad is not None:
                _multiply_(weight.grad, keep)

    @torch.no_grad()
    def mask_weights(self) -> None:
        """Zero the pruned weights."""
        if self._weights:
            torch._foreach_mul_(self._weights, self._keeps)
        for weight, keep in self._large:
            _multiply_(weight, keep)

    @staticmethod
    def _in_pieces(weight: Tensor) -> bool:
        return weight.device.type == "cpu" and weight.numel() > _LARGE


def _multiply_(values: Tensor, keep: Tensor) -> None:
    """Multiply by a boolean mask, with a float mask of a piece of it at a time."""
    if not values.is_contiguous():
        values.mul_(keep.to(values.dtype))
        return
    flat, kept = values.view(-1), keep.reshape(-1)
    for first in range(0, len(flat), _PIECE):
        flat[first : first + _PIECE].mul_(kept[first : first + _PIECE].to(values.dtype))


def empty_layers(mask: Mask) -> list[str]:
    """Name the parameters of which no weight is kept: where a network has collapsed.

    >>> empty_layers({"a": torch.tensor([True]), "b": torch.tensor([False])})
    ['b']
    """
    return [name for name, keep in mask.items() if not keep.any()]


def nested(mask: Mask, within: Mask) -> Iterator[str]:
    """Yield the names of parameters where a mask keeps a weight that ``within`` has pruned;
    none when it is nested.
    """
    return (name for name, keep in mask.items() if bool((keep & ~within[name]).any()))
