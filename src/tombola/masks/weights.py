"""Weights: which tensors of a model count as its weights, and what layer each belongs to.

    model -> [ find_weights ] -> masks, totals, scopes, FLOPs, initial weights

One rule, and this is all of it:

- A *weight* is what a layer multiplies its input by: of convolutions, of linear and bilinear
  layers, of attention (``in_proj_weight`` and its like), of recurrent layers (``weight_ih``,
  ``weight_hh``, ``weight_hr``), of transformers' ``Conv1D``, and stacks of matrices (three
  dimensions, one matrix for each expert) that a module holds itself.
- Of a layer that computes its weight from parameters the mask names the parameter whose zeros are
  zeros of the weight: ``original1`` and ``weight_v`` of weight norm, ``original`` and
  ``weight_orig`` of spectral norm, ``weight_orig`` of ``torch.nn.utils.prune``. Where there is none
  (orthogonal layers, parametrisations of the user's own) the weight counts and is left out of
  masks.
- Weights of norms count, and are never in masks.
- Biases, vectors and tables that are looked up in or added (embeddings, positions, class tokens) do
  not count, unless a mask names them.
- Any other tensor of two or more dimensions that a module holds itself counts, is left out of
  masks, and is named.

Nothing here reads ``layer.weight``: of a parametrised layer that runs the parametrisation, and
spectral norm's changes its buffers.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.rnn import RNNCellBase
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from tombola.ground.errors import ConfigError
from tombola.masks import names

Kind: TypeAlias = Literal["conv", "linear", "norm", "own"]

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
_ATTENTION = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
_KEEP_ZEROS = (parametrizations._WeightNorm, parametrizations._SpectralNorm)
# Words in the name of a tensor that is looked up in, added or scales single values: no layer's
# weight.
_TABLES = {
    "pos", "position", "positional", "embed", "embedding", "embeddings", "token", "tokens", "table",
    "cls", "bias", "scale", "gamma",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Weight:
    """A tensor that counts as a weight.

    Attributes:
        name: Of the parameter, as a mask has it, see `tombola.masks.names`. Of a shared one the
            first.
        kind: Of its layer: "conv", "linear", "norm", or "own" for a tensor of a module of unknown
            kind.
        parameter: The parameter itself.
        reason: Why masks leave it out, though a layer may multiply by it; empty where they do not,
            and for norms.
    """

    name: str
    kind: Kind
    parameter: nn.Parameter
    reason: str

    @property
    def maskable(self) -> bool:
        """Whether masks have it without being asked for it by name."""
        return self.kind in ("conv", "linear") and not self.reason


def find_weights(model: nn.Module) -> dict[str, Weight]:
    """Find what counts as a weight, by name, in the order of the modules; shared ones once.

    Raises:
        ConfigError: A lazy layer has no weights yet.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.GRUCell(3, 2))
    >>> {name: weight.kind for name, weight in find_weights(net).items()}
    {'0.weight': 'linear', '1.weight': 'norm', '2.weight_ih': 'linear', '2.weight_hh': 'linear'}
    """
    mask_names = names.by_identity(model)
    layers = list(names.modules(model).values())
    weights: dict[str, Weight] = {}
    # Known layers first: what they share with a module of unknown kind is of their kind.
    for weight in (*_of_layers(layers, mask_names), *_of_modules(layers, mask_names)):
        weights.setdefault(weight.name, weight)
    return weights


def weight_parameter(layer: nn.Module, tensor: str = "weight") -> tuple[nn.Parameter, str] | None:
    """Return the parameter that stands for a layer's weight in a mask.

    Beside it the reason why its zeros may not be zeros of the weight.

    Args:
        layer: Any module.
        tensor: What it calls the weight.

    Returns:
        ``None`` where the layer has no such weight; the reason is empty where zeros are kept.

    >>> layer = parametrizations.weight_norm(nn.Linear(2, 3))
    >>> parameter, reason = weight_parameter(layer)
    >>> parameter is layer.parametrizations.weight.original1, reason
    (True, '')
    """
    if is_parametrized(layer, tensor):
        chain: nn.Module = layer.parametrizations[tensor]  # type: ignore[index,assignment]
        originals = dict(chain.named_parameters(recurse=False))
        for step in chain.children():
            if not isinstance(step, _KEEP_ZEROS):
                kind = type(step).__name__
                reason = f"{kind} computes the weight, and its zeros need not stay zeros"
                largest = max(originals.values(), key=Tensor.numel, default=None)
                return None if largest is None else (largest, reason)
        return originals.get("original1", originals.get("original")), ""  # type: ignore[return-value]
    parameters = dict(layer.named_parameters(recurse=False, remove_duplicate=False))
    if tensor in parameters:
        return parameters[tensor], ""
    # Old weight norm holds lengths and directions, torch's pruning what was before its mask.
    if f"{tensor}_g" in parameters and f"{tensor}_v" in parameters:
        return parameters[f"{tensor}_v"], ""
    if f"{tensor}_orig" in parameters:
        return parameters[f"{tensor}_orig"], ""
    return None


def copied(model: nn.Module) -> nn.Module:
    """Copy a model, also one whose layers compute their weights before each pass.

    Old weight norm and torch's pruning do. Such a weight is no leaf of a graph, and torch copies
    only leaves; the copy computes its own when it is called.

    >>> layer = nn.Linear(2, 3)
    >>> copied(layer).weight is layer.weight
    False
    """
    computed: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                computed[id(value)] = value.detach().clone()
    return copy.deepcopy(model, computed)


def layer_of(name: str) -> str:
    """Return a short name of a weight: its layer's, or its own where the layer may have others.

    >>> layer_of("fc.weight"), layer_of("fc.parametrizations.weight.original1")
    ('fc', 'fc')
    >>> layer_of("rnn.weight_hh_l0")
    'rnn.weight_hh_l0'
    """
    ends = r"(^|\.)(weight|weight_v|weight_orig|parametrizations\.weight\.original1?)$"
    return re.sub(ends, "", name)


def length_of(name: str) -> str | None:
    """Return weight norm's name for the lengths of a weight's rows; ``None`` for other weights.

    >>> length_of("fc.parametrizations.weight.original1")
    'fc.parametrizations.weight.original0'
    >>> length_of("fc.weight_v"), length_of("fc.weight")
    ('fc.weight_g', None)
    """
    for direction, length in ((".original1", ".original0"), ("_v", "_g")):
        if name.endswith(direction):
            return name.removesuffix(direction) + length
    return None


def _of_layers(layers: Sequence[nn.Module], mask_names: Mapping[int, str]) -> Iterator[Weight]:
    """Find the weights of layers of known kinds."""
    for layer in layers:
        for tensor, kind in roles(layer):
            # Attention has either one projection matrix or three, so some names lead to nothing.
            parameter, reason = weight_parameter(layer, tensor) or (None, "")
            if parameter is None or id(parameter) not in mask_names:
                continue
            name = mask_names[id(parameter)]
            if isinstance(parameter, UninitializedParameter):
                raise ConfigError(
                    f"'{name}' of a {type(layer).__name__} has no values yet: a lazy layer has its "
                    "weights once the model has seen an example"
                )
            yield Weight(name, kind, parameter, reason)


def roles(layer: nn.Module) -> list[tuple[str, Kind]]:
    """Return a known layer's own names for its weights, and their kind.

    >>> roles(nn.LSTMCell(2, 3)), roles(nn.ReLU())
    ([('weight_ih', 'linear'), ('weight_hh', 'linear')], [])
    """
    if isinstance(layer, _ConvNd):
        return [("weight", "conv")]
    if isinstance(layer, nn.Linear | nn.Bilinear) or is_conv1d(layer):
        return [("weight", "linear")]
    if isinstance(layer, _NORMS):
        return [("weight", "norm")]
    if isinstance(layer, nn.MultiheadAttention):
        return [(tensor, "linear") for tensor in _ATTENTION]
    # One matrix for each layer and direction, from the input and from the state.
    if isinstance(layer, nn.RNNBase):
        roles_of_tensors: list[tuple[str, Kind]] = []
        for tensor in layer._flat_weights_names:
            if tensor.startswith("weight_"):
                roles_of_tensors.append((tensor, "linear"))
        return roles_of_tensors
    if isinstance(layer, RNNCellBase):
        return [("weight_ih", "linear"), ("weight_hh", "linear")]
    return []


def tensors(module: nn.Module) -> list[str]:
    """Return a module's names for tensors that may be weights.

    Those of its kind, or all that it holds itself where the kind is not known.

    >>> tensors(nn.Linear(2, 3)), tensors(nn.PReLU())
    (['weight'], ['weight'])
    """
    # Its tensors are those of the layer that it belongs to.
    if isinstance(module, ParametrizationList):
        return []
    known = [tensor for tensor, _ in roles(module)]
    if known:
        return known
    parameters = dict(module.named_parameters(recurse=False, remove_duplicate=False))
    computed = list(module.parametrizations) if is_parametrized(module) else []  # type: ignore[arg-type]
    return [*parameters, *computed]


def is_conv1d(layer: nn.Module) -> bool:
    """Recognise transformers' Conv1D, a linear layer with a transposed matrix, by its name.

    So transformers need not be imported.
    """
    if not any(base.__name__ == "Conv1D" for base in type(layer).__mro__):
        return False
    parameter, _ = weight_parameter(layer) or (None, "")
    return parameter is not None and parameter.dim() == 2


def _of_modules(modules: Sequence[nn.Module], mask_names: Mapping[int, str]) -> Iterator[Weight]:
    """Find the tensors that modules of other kinds hold themselves."""
    for module in modules:
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) or roles(module):
            continue
        for tensor in tensors(module):
            parameter, reason = weight_parameter(module, tensor) or (None, "")
            if parameter is None or id(parameter) not in mask_names:
                continue
            if isinstance(parameter, UninitializedParameter):
                continue
            # A length of 1 makes no matrix of a vector: class tokens are [1, 1, n], scales of
            # channels [n, 1, 1].
            dims = sum(length > 1 for length in parameter.shape)
            if dims < 2 or _TABLES & set(re.split(r"[._\d]+", tensor.lower())):
                continue
            name = mask_names[id(parameter)]
            # A stack of matrices, one for each expert, is multiplied by as linear layers are.
            if parameter.dim() == dims == 3:
                yield Weight(name, "linear", parameter, reason)
                continue
            kind = type(module).__name__
            reason = reason or f"a {kind} holds it itself and may use it in any way"
            yield Weight(name, "own", parameter, reason)
