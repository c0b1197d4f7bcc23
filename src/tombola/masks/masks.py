"""Masks: which weights a ticket keeps.

    trained models -> scores -> prune -> [ intersect ] -> rewind -> next round

A mask maps a parameter's name to a boolean tensor of that parameter's shape; True keeps
the weight. Parameters that are never pruned (biases, batch norm) have no entry.
Functions ending in ``_`` change a model in place; all others return something new.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tombola.ground.errors import ConfigError, InputError, UnmaskedWarning, near
from tombola.ground.notebooks import one_line, percent
from tombola.ground.types import Mask
from tombola.masks import names
from tombola.masks.weights import Weight, find_weights, length_of

_NAMED_CHOICES = ("no_head", "conv", "all")  # of what is prunable


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
    """Keep every weight: the mask that a search starts from.

    It also says which weights may be pruned.

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
        UnmaskedWarning: Weights are left out because their layer may use them in any way; they are
            named, see `unmasked`. Embeddings and norm weights are left out as a matter of course.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    >>> {name: keep.numel() for name, keep in ones(net, head="1").items()}
    {'0.weight': 12}
    """
    left_out = unmasked_in_words(model, prunable)
    if left_out:
        warnings.warn(left_out, UnmaskedWarning, stacklevel=2)
    return all_kept(model, prunable, head=head)


def all_kept(
    model: nn.Module, prunable: str | Sequence[str], *, head: str | None
) -> dict[str, Tensor]:
    """Do what `ones` does without its warning, for callers that name the left out themselves."""
    parameters = names.parameters(model)
    weights = find_weights(model)
    if prunable in _NAMED_CHOICES:
        prunable_names = _chosen_by_kind(model, prunable, head, weights)
    elif isinstance(prunable, str) and not set(prunable) & set(".*?["):
        raise ConfigError(
            f"prunable is '{prunable}'; it is one of {', '.join(_NAMED_CHOICES)}, or a pattern of "
            f"parameter names such as '*.weight'.{near(prunable, _NAMED_CHOICES)}"
        )
    else:
        patterns = [prunable] if isinstance(prunable, str) else prunable
        prunable_names = _chosen_by_patterns(patterns, weights, parameters)
    if not prunable_names:
        raise ConfigError(
            f"the model has no prunable weight (prunable: {prunable}); it has: {_some(parameters)}"
        )
    # In the model's order, which breaks ties between equal scores.
    mask = {}
    for name, parameter in parameters.items():
        if name in prunable_names:
            mask[name] = torch.ones_like(parameter, dtype=torch.bool)
    return mask


def _chosen_by_kind(
    model: nn.Module, prunable: object, head: str | None, weights: Mapping[str, Weight]
) -> set[str]:
    """Return the prunable weights for one of the named choices."""
    outputs = () if prunable == "all" else head_weights(model, head)
    chosen = set()
    for name, weight in weights.items():
        right_kind = prunable != "conv" or weight.kind == "conv"
        if weight.maskable and right_kind and name not in outputs:
            chosen.add(name)
    return chosen


def from_zeros(state: Mapping[str, Tensor], mask: Mask) -> dict[str, Tensor]:
    """Return the mask that a pruned checkpoint was made with: its zeros are the pruned weights.

    Args:
        state: The weights, a ``state_dict``.
        mask: What may be pruned, such as `ones` gives.

    Raises:
        InputError: The state has no weight of a name and shape of the mask.

    >>> from_zeros({"w": torch.tensor([0.5, 0.0])}, {"w": torch.tensor([True, True])})
    {'w': tensor([ True, False])}
    """
    # The state may come from a wrapped model.
    state = names.covering(state, mask)
    nonzero = {}
    for name, keep in mask.items():
        if name not in state:
            raise InputError(
                f"the mask names '{name}', which the state has not.{near(name, state)}"
            )
        values = state[name].detach()
        if values.shape != keep.shape:
            raise InputError(
                f"'{name}' has the shape {tuple(keep.shape)} in the mask and "
                f"{tuple(values.shape)} in the state"
            )
        nonzero[name] = keep & (values != 0).to(keep.device)
    return nonzero


def unmasked(model: nn.Module, prunable: str | Sequence[str] = "all") -> dict[str, str]:
    """Name the weights that masks leave out though a layer may multiply by them, and say why.

    Args:
        model: Any module.
        prunable: As of `ones`. Patterns leave nothing out but what they do not match.

    >>> net = nn.Module()
    >>> net.mix = nn.Parameter(torch.ones(3, 4))
    >>> unmasked(net)
    {'mix': 'a Module holds it itself and may use it in any way'}
    """
    if prunable not in _NAMED_CHOICES:
        return {}
    return {name: weight.reason for name, weight in find_weights(model).items() if weight.reason}


def unmasked_in_words(model: nn.Module, prunable: str | Sequence[str] = "all") -> str:
    """Say in one line what a model's masks leave out, see `unmasked`; empty if they are complete.

    >>> unmasked_in_words(nn.Linear(2, 2))
    ''
    """
    # One example with its reason: a model may have hundreds of them.
    left_out = unmasked(model, prunable)
    if not left_out:
        return ""
    first, number = next(iter(left_out)), len(left_out)
    if number == 1:
        subject = "1 weight has no mask and is"
    else:
        subject = f"{number} weights have no mask and are"
    return (
        f"{subject} not pruned: {_some(left_out)} ({left_out[first]}); "
        f"prunable: ['{first}'] names it"
    )


def _chosen_by_patterns(
    patterns: Sequence[str], weights: Mapping[str, Weight], parameters: Mapping[str, Tensor]
) -> set[str]:
    """Return the prunable parameters that patterns of names match."""
    maskable = {name for name, weight in weights.items() if weight.maskable}
    chosen: set[str] = set()
    for pattern in patterns:
        matched = [name for name in parameters if fnmatchcase(name, pattern)]
        if not matched:
            raise ConfigError(
                f"prunable: '{pattern}' matches no parameter; the model has: {_some(parameters)}"
            )
        prunable = set(matched) & maskable
        # A tensor that is no weight by the rule is pruned on request: by a pattern that matches no
        # weight, so that it can mean nothing else.
        if not prunable:
            for name in matched:
                if parameters[name].dim() >= 2 and not _is_bias_or_norm(name, weights):
                    prunable.add(name)
        if not prunable:
            raise ConfigError(
                f"prunable: '{pattern}' matches {_some(matched)}; only the weights of convolutions "
                "and linear layers are pruned, biases and norm weights never (and, where a pattern "
                "means nothing else, other tensors of two or more dimensions)"
            )
        chosen |= prunable
    return chosen


def _is_bias_or_norm(name: str, weights: Mapping[str, Weight]) -> bool:
    if name in weights and weights[name].kind == "norm":
        return True
    return "bias" in name.rpartition(".")[2]


def _some(names: Collection[str]) -> str:
    """List the first few of many names."""
    shown = ", ".join(list(names)[:6])
    return f"{shown} and {len(names) - 6} more" if len(names) > 6 else shown


def head_weights(model: nn.Module, head: str | None) -> tuple[str, ...]:
    """Return the names of the output layer's weights, in the model's order.

    The head is a module that may hold several layers, such as the classes and the boxes of a
    detector. A weight that it shares with another layer has the name that it has in a mask, its
    first.

    Args:
        model: Any module.
        head: Dotted name of the head; ``None`` takes the attribute ``head``.

    Raises:
        ConfigError: There is no such module, or it has no weight.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ModuleDict({"a": nn.Linear(3, 2)}))
    >>> head_weights(net, "1")
    ('1.a.weight',)
    """
    modules = names.modules(model, shared=True)
    name = "head" if head is None else head
    # A missing attribute and a wrong name are different mistakes, so they have different messages.
    if name not in modules:
        if head is None:
            raise ConfigError(
                "the model has no attribute 'head'; name its output layer with head=, or prune it "
                "too with prunable='all'"
            )
        raise ConfigError(f"the model has no layer '{head}'.{near(head, modules)}")
    below = {id(parameter) for parameter in names.parameters(modules[name]).values()}
    found = []
    for weight in find_weights(model).values():
        if weight.kind != "norm" and id(weight.parameter) in below:
            found.append(weight.name)
    if not found:
        raise ConfigError(
            f"head '{name}' is a {type(modules[name]).__name__} without a weight; name the output "
            "layer itself with head="
        )
    return tuple(found)


def cloned(mask: Mask) -> dict[str, Tensor]:
    """Copy a mask, so that changes of the copy leave it as it is."""
    return {name: keep.clone() for name, keep in mask.items()}


def part_of(mask: Mask, names: Iterable[str]) -> dict[str, Tensor]:
    """Return a mask of some of its parameters alone, without copying them."""
    return {name: mask[name] for name in names}


def count(mask: Mask) -> int:
    """Count the kept weights, exactly at any size.

    >>> count({"w": torch.tensor([True, False, True])})
    2
    """
    kept = 0
    for keep in mask.values():
        if keep.device.type == "cpu":
            # numpy takes an eighth of the time that torch does.
            kept += int(np.count_nonzero(keep.numpy()))
        else:
            kept += int(torch.count_nonzero(keep))
    return kept


def size(mask: Mask) -> int:
    """Count the prunable weights, kept or not."""
    return sum(keep.numel() for keep in mask.values())


class Total(int):
    """How many weights a model has, and their names.

    `density` needs the names to count weights beyond them that a mask names on request.
    """

    names: frozenset[str]

    def __new__(cls, number: int, names: Collection[str] = ()) -> Total:
        """Make the total of the weights of these names."""
        total = super().__new__(cls, number)
        total.names = frozenset(names)
        return total


def kept_in_words(mask: Mask) -> str:
    """Say how many weights a mask keeps, for one line.

    >>> kept_in_words({"w": torch.tensor([True, False, True, True])})
    '3 of 4 weights kept (75 %)'
    """
    if not all(isinstance(keep, Tensor) for keep in mask.values()):
        return "a mask that is none: it has other values than tensors"
    prunable, kept = size(mask), count(mask)
    share = f" ({percent(kept / prunable)})" if prunable else ""
    return f"{kept:,} of {prunable:,} weights kept{share}"


class ShownMask(dict[str, Tensor]):
    """A mask that is printed in one line, and else a dict as any other; its copies are plain.

    >>> ShownMask(w=torch.tensor([True, False]))
    <mask: 1 of 2 weights kept (50 %); 1 tensor>
    """

    def __repr__(self) -> str:
        tensors = f"{len(self)} tensor{'s' * (len(self) != 1)}"
        return one_line("mask", kept_in_words(self), tensors)

    # What is saved with torch.save is read by torch.load, which knows no class of tombola's.
    def __reduce__(self) -> Any:
        return OrderedDict, (list(self.items()),)


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
    prunable = size(mask)
    all_weights = prunable if total is None else int(total)
    # A mask may name on request what does not count as a weight, such as an embedding.
    if isinstance(total, Total):
        for name, keep in names.named_like(mask, total.names).items():
            if name not in total.names:
                all_weights += keep.numel()
    if all_weights == 0:
        raise InputError("no weight has no density; the mask names none, or total is 0")
    if all_weights < prunable:
        raise InputError(
            f"total is {all_weights}, and the mask alone names {prunable} weights; "
            "total_weights(model, mask) counts all of them"
        )
    pruned = prunable - count(mask)
    return (all_weights - pruned) / all_weights


def total_weights(model: nn.Module, mask: Mask | None = None) -> Total:
    """Count all weights, biases not: the denominator of COLT's PruneRate (Eq. 2).

    The weights of convolutions, linear layers and norms count, and tensors that modules of unknown
    kind hold themselves, masked or not; `tombola.masks.weights` has the rule.

    Args:
        model: Any module.
        mask: Count what it names, too: on request a mask may name what is no weight by the rule,
            such as an embedding. `density` does so by itself.

    >>> total_weights(nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3)))
    15
    """
    sizes = {name: weight.parameter.numel() for name, weight in find_weights(model).items()}
    for name, keep in names.named_like(mask or {}, names.parameters(model)).items():
        sizes[name] = keep.numel()
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


def union(candidates: Sequence[Mask]) -> dict[str, Tensor]:
    """Keep a weight where any candidate keeps it.

    Args:
        candidates: One mask per partition, all with the same names and shapes.

    Returns:
        One new mask of the same names and shapes; the candidates are not changed.

    Raises:
        InputError: No candidate is given, or names or shapes differ.

    >>> a = {"fc.weight": torch.tensor([True, True, False])}
    >>> b = {"fc.weight": torch.tensor([True, False, False])}
    >>> union([a, b])["fc.weight"].tolist()
    [True, True, False]
    """
    return _combined(candidates, Tensor.logical_or_, "union")


def _combined(
    candidates: Sequence[Mask], combine_: Callable[[Tensor, Tensor], Tensor], function: str
) -> dict[str, Tensor]:
    if not candidates:
        raise InputError(f"{function} needs at least one candidate; it was given none")
    first = candidates[0]
    for index, candidate in enumerate(candidates):
        _check_same_form(candidate, first, index)
    # In place on one copy, so that memory holds a single mask more, whatever their number.
    result = {name: keep.to(torch.bool, copy=True) for name, keep in first.items()}
    for candidate in candidates[1:]:
        for name, keep in result.items():
            combine_(keep, candidate[name])
    return result


def _check_same_form(candidate: Mask, first: Mask, index: int) -> None:
    if candidate.keys() != first.keys():
        differing = sorted(set(candidate) ^ set(first))
        raise InputError(
            f"candidate {index} and candidate 0 name different parameters: {', '.join(differing)}"
        )
    for name, keep in candidate.items():
        if keep.shape != first[name].shape:
            raise InputError(
                f"candidate {index} and candidate 0 have different shapes for '{name}': "
                f"{tuple(keep.shape)} and {tuple(first[name].shape)}"
            )


def masked_parameters(model: nn.Module, mask: Mask) -> list[tuple[nn.Parameter, Tensor]]:
    """Pair the model's parameters with their masks, in the mask's order.

    Raises:
        InputError: The mask names a parameter that the model has not, or one of another shape, or
            it empties a row of a weight-normed layer, which divides by the row's length.
    """
    parameters = names.parameters(model, shared=True)
    pairs = []
    for name, keep in names.named_like(mask, parameters).items():
        if name not in parameters:
            raise InputError(
                f"the mask names '{name}', which the model has not.{near(name, parameters)}"
            )
        keep = boolean(name, keep)
        parameter = parameters[name]
        # Reading the shape of a lazy layer's parameter raises an error of torch's.
        if isinstance(parameter, nn.UninitializedParameter):
            raise InputError(
                f"'{name}' has no shape yet: its layer is lazy and must see an image first"
            )
        if parameter.shape != keep.shape:
            raise InputError(
                f"'{name}' has the shape {tuple(keep.shape)} in the mask and "
                f"{tuple(parameter.shape)} in the model"
            )
        _check_lengths(name, keep, parameters)
        pairs.append((parameter, keep))
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
    """Refuse a mask with which weight norm would divide by zero: the loss would become NaN."""
    lengths = parameters.get(length_of(name) or "")
    if lengths is None:
        return
    # The dimensions that one length is taken over.
    dims = list(range(keep.dim()))
    if lengths.dim() > 0:
        dims = [dim for dim in dims if lengths.shape[dim] == 1]
    if not dims:
        return
    empty = ~keep.amax(dims).flatten()
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


# A layer of more weights than this has no float mask: it would be as large as the layer.
_LARGE = 4_000_000
# Weights of such a layer whose float mask is made at a time: it stays in the cache.
_PIECE = 1 << 15


class MaskHandle:
    """Keeps pruned weights at zero in tombola's own loop, `train`; any other loop has `hold_`.

    The loop calls it: on the gradients before they are clipped, and on the weights after the step.
    It multiplies by the mask, and 0 * NaN is NaN, as is 0 * infinity. A training that runs into one
    is lost anyway, and ``run_job`` reports its loss; `apply_` and ``replace`` set even such weights
    to zero.
    """

    def __init__(self, model: nn.Module, mask: Mask) -> None:
        self._model = model
        self.mask: Mask = {}
        self.replace(mask)

    def replace(self, mask: Mask) -> None:
        """Hold another mask from now on; its pruned weights are set to zero at once."""
        apply_(self._model, mask)
        self.mask = mask
        self._weights: list[Tensor] = []
        self._keeps: list[Tensor] = []
        self._large: list[tuple[Tensor, Tensor]] = []
        for parameter, keep in masked_parameters(self._model, mask):
            # Where nothing is pruned there is nothing to hold: a dense training pays for no mask.
            if keep.all():
                continue
            # Float masks: a product with them is 6 to 40 times quicker than filling by a boolean
            # mask. The price is that a pruned weight that is infinite or NaN becomes NaN and not
            # zero. They are as large as the weights, so those of large layers are made piece by
            # piece at every step: a small part of the time that such a layer's step takes.
            if self._in_pieces(parameter):
                self._large.append((parameter, keep))
            else:
                self._weights.append(parameter)
                self._keeps.append(keep.to(device=parameter.device, dtype=parameter.dtype))

    def mask_gradients(self) -> None:
        """Zero the gradients of the pruned weights."""
        # In one call for all of them; frozen parameters have no gradient.
        grads, keeps = [], []
        for weight, keep in zip(self._weights, self._keeps, strict=True):
            if weight.grad is not None:
                grads.append(weight.grad)
                keeps.append(keep)
        if grads:
            torch._foreach_mul_(grads, keeps)
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


def places_of(mask: Tensor) -> Tensor:
    """Return the places of a flattened mask at which it is true.

    On the CPU this takes a third of the time of ``torch.nonzero``.

    >>> places_of(torch.tensor([[True, False], [False, True]])).tolist()
    [0, 3]
    """
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return torch.nonzero(mask.flatten()).flatten()


def empty_layers(mask: Mask) -> list[str]:
    """Name the parameters of which no weight is kept: where a network has collapsed.

    >>> empty_layers({"a": torch.tensor([True]), "b": torch.tensor([False])})
    ['b']
    """
    return [name for name, keep in mask.items() if not keep.any()]


def nested(mask: Mask, within: Mask) -> Iterator[str]:
    """Yield the parameters of which a mask keeps a weight that ``within`` has pruned.

    There is none when the mask is nested in the other.
    """
    for name, keep in mask.items():
        if bool((keep & ~within[name]).any()):
            yield name
