"""FLOPs: the cost of one example, weight by weight, forward and backward.

    model -> [ per_example ] -> FLOPs of each layer -> [ training ] -> dense, or with a mask

The rule can be checked by hand. A multiplication with its addition is two FLOPs. Forward, a product
of two matrices takes 2 x rows x inner x columns; a convolution takes 2 x its outputs x the weights
that each of them sees, padding included, and a transposed one 2 x its inputs x the weights that
each of them meets. Backward takes as much again for the gradient of each of the two factors that
needs one: twice the forward where both do, once for a first layer, whose input needs none, or for a
frozen weight.

Operations count as they run: one forward pass is watched, operation by operation, and each product
is assigned to the weight that is one of its factors. So a weight that is used twice is counted
twice, and at a mask's density both uses shrink. Products of two activations, as in attention, are
counted and no mask shrinks them. Elementwise operations (activations, norms, pooling) are not
counted, nor the computation of a weight from parameters (spectral norm); causal attention is
counted in full. Other operations are named by `uncounted`.

What a mask saves is arithmetic that need not be done: no kernel here actually skips it.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.rnn import PackedSequence
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tombola.ground.types import Mask
from tombola.masks import names
from tombola.masks.weights import copied, layer_of, roles, weight_parameter

OTHER = ""  # the weight that the model itself holds, as a single layer does
BETWEEN = "*"  # products of two activations, such as attention's, which no mask shrinks


@dataclass(frozen=True)
class Flops:
    """FLOPs of a layer for one example.

    Attributes:
        forward: Of its output.
        backward: Of the gradients of its weights and, unless it is the first layer, of its input.
    """

    forward: int
    backward: int

    @property
    def training(self) -> int:
        """Forward and backward together."""
        return self.forward + self.backward


def per_example(model: nn.Module, inputs: Tensor) -> dict[str, Flops]:
    """Count the FLOPs of each weight for one example.

    The keys are layers, see `weights.layer_of`; products of two activations are ``"*"``. All uses
    of a shared weight are counted under its first name.

    Args:
        model: Any model; it is not changed.
        inputs: A batch of two examples or more, as batch norm needs them: float, shape [examples,
            ...].

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> flops = per_example(model, torch.zeros(2, 4))
    >>> flops["0"], flops["2"]
    (Flops(forward=24, backward=24), Flops(forward=12, backward=24))
    """
    examples = len(inputs)
    flops = {}
    for name, (forward, backward) in _watched(model, inputs).counted.items():
        flops[name] = Flops(forward // examples, backward // examples)
    return flops


def uncounted(model: nn.Module, inputs: Tensor) -> list[str]:
    """Name the operations that may multiply matrices and that `per_example` cannot count.

    >>> uncounted(nn.Linear(4, 3), torch.zeros(2, 4))
    []
    """
    return sorted(_watched(model, inputs).unknown)


def _watched(model: nn.Module, inputs: Tensor) -> _Watch:
    """Run one forward pass of a copy of a model and watch it."""
    model = names.unwrapped(model)
    model = copied(model).train()
    watch = _Watch(model)
    # Dropout draws, which must not move the caller's generators.
    with torch.random.fork_rng(), torch.enable_grad(), _uncompiled(), watch:
        outputs = model(inputs)
    if watch.has_untracked:
        watch.unknown |= {f"the backward pass of {name}" for name in _own_functions(outputs)}
    return watch


def _own_functions(outputs: object) -> set[str]:
    """Name the custom functions (`torch.autograd.Function`) in the graph of some outputs."""
    # Backwards along the graph, from the outputs to the inputs.
    functions: set[str] = set()
    seen: set[object] = set()
    nodes: list[Any] = [leaf.grad_fn for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, BackwardCFunction):
            functions.add(type(node).__name__.removesuffix("Backward"))
        nodes += [before for before, _ in node.next_functions]
    return functions


def _uncompiled() -> contextlib.AbstractContextManager[object]:
    """Run compiled functions as they are written; there are none unless the compiler is loaded."""
    loaded = "torch._dynamo" in sys.modules
    return torch.compiler.set_stance("force_eager") if loaded else contextlib.nullcontext()


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts each product of one forward pass under a weight.

    A weight is recognised by its place in memory, so views of it (transposed, a slice, one matrix
    of a stack) are recognised, too.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counted: dict[str, tuple[int, int]] = {}
        self.unknown: set[str] = set()
        # Whether there was a product whose gradients torch does not track.
        self.has_untracked = False
        # By storage: the addresses of weights in it, and their names.
        self._places: dict[int, list[tuple[range, str]]] = {}
        # Kept alive, so that no other tensor gets their addresses.
        self._known: list[Tensor] = []
        # The layers that are running, and the weights that are being computed.
        self._layers: list[str] = []
        self._computed: list[str] = []
        # Above 0 while a recurrent layer runs, whose kernels do not show their products.
        self._recurrent = 0
        self._layer_names: dict[int, str] = {}
        for key, name in names.by_identity(model).items():
            self._layer_names[key] = layer_of(name)
        for parameter in model.parameters():
            self._know(parameter, self._layer_names[id(parameter)])
        for module in model.modules():
            self._attend(module)

    def _know(self, tensor: Tensor, name: str) -> None:
        """Remember a tensor as a weight: a parameter, or what is computed from one."""
        if tensor.layout != torch.strided or not tensor.numel():
            return
        begin = tensor.data_ptr()
        place = range(begin, begin + tensor.numel() * tensor.element_size())
        self._places.setdefault(tensor.untyped_storage().data_ptr(), []).append((place, name))
        self._known.append(tensor)

    def _name_of(self, tensor: Tensor) -> str | None:
        """Return the name of the weight that a tensor is, or is a view of."""
        if tensor.layout != torch.strided:
            return None
        for place, name in self._places.get(tensor.untyped_storage().data_ptr(), ()):
            if tensor.data_ptr() in place:
                return name
        return None

    def _attend(self, module: nn.Module) -> None:
        """Register hooks that show when a module runs and when its weight is computed."""
        if isinstance(module, nn.RNNBase):
            module.register_forward_pre_hook(self._begin_recurrent)
            module.register_forward_hook(self._end_recurrent)
            return
        for tensor, _ in roles(module):
            parameter, _reason = weight_parameter(module, tensor) or (None, "")
            if parameter is None or id(parameter) not in self._layer_names:
                continue
            name = self._layer_names[id(parameter)]
            if is_parametrized(module, tensor):
                self._attend_computed(module.parametrizations[tensor], name)  # type: ignore[index,arg-type]
            if tensor == "weight":
                self._attend_layer(module, name)

    def _attend_computed(self, chain: nn.Module, name: str) -> None:
        def begin(*_: object) -> None:
            self._computed.append(name)

        def end(_: nn.Module, __: object, weight: Tensor) -> None:
            self._know(weight, self._computed.pop())

        chain.register_forward_pre_hook(begin)
        chain.register_forward_hook(end)

    def _attend_layer(self, layer: nn.Module, name: str) -> None:
        # The layer's own hooks run in between: old weight norm, old spectral norm and torch's
        # pruning compute the weight there.
        def first(*_: object) -> None:
            self._computed.append(name)

        def last(*_: object) -> None:
            self._computed.pop()
            weight = vars(layer).get("weight")
            if isinstance(weight, Tensor):
                self._know(weight, name)
            self._layers.append(name)

        def after(*_: object) -> None:
            self._layers.pop()

        layer.register_forward_pre_hook(first, prepend=True)
        layer.register_forward_pre_hook(last)
        layer.register_forward_hook(after)

    def _begin_recurrent(self, *_: object) -> None:
        self._recurrent += 1

    def _end_recurrent(self, layer: nn.RNNBase, inputs: Sequence[Any], _: object) -> None:
        """Count a recurrent layer: each matrix is used once for each step of each example."""
        self._recurrent -= 1
        sequence = inputs[0].data if isinstance(inputs[0], PackedSequence) else inputs[0]
        rows = sequence.numel() // sequence.shape[-1]
        trains = any(parameter.requires_grad for parameter in layer.parameters())
        for tensor, _kind in roles(layer):
            weight_and_reason = weight_parameter(layer, tensor)
            assert weight_and_reason is not None
            weight, _reason = weight_and_reason
            # The other factor needs a gradient unless it is the input of the model.
            first = tensor.startswith("weight_ih_l0")
            other_needs = sequence.requires_grad or (trains and not first)
            gradients = int(weight.requires_grad) + int(other_needs)
            self._count(self._layer_names[id(weight)], 2 * weight.numel() * rows, gradients)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise torch imports its compiler for this class, which takes seconds.
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation, and count it where it is a product."""
        result = func(*args, **(kwargs or {}))
        space, _, name = func._schema.name.partition("::")
        products = _PRODUCTS.get(name.removesuffix("_")) if space == "aten" else None
        if name in _COPIES:
            copied = self._name_of(args[0])
            if copied is not None:
                self._know(result, copied)
        # A recurrent layer is counted at its end; what computes a weight is not counted.
        if self._recurrent:
            return result
        multiplies = products is not None or _may_multiply(space, name)
        if self._computed:
            if multiplies:
                self.unknown.add(f"what computes the weight of '{self._computed[-1]}'")
        elif products is not None:
            for product in products(args, result):
                self._count_product(*product)
        elif multiplies:
            self.unknown.add(f"{space}::{name}")
        return result

    def _count_product(
        self, flops: int, left: tuple[Tensor, ...], right: tuple[Tensor, ...]
    ) -> None:
        """Count a product under the weight among its factors, else under the running layer."""
        # The weight itself, as a layer may use that of another one.
        name = self._layers[-1] if self._layers else BETWEEN
        for factor in (*left, *right):
            weight = self._name_of(factor)
            if weight is not None:
                name = weight
        # Backward takes one product for each factor that needs a gradient.
        gradients = 0
        if torch.is_grad_enabled():
            for side in (left, right):
                gradients += any(factor.requires_grad for factor in side)
        else:
            self.has_untracked = True
        self._count(name, flops, gradients)

    def _count(self, name: str, flops: int, gradients: int) -> None:
        """Count a product: forward once, backward once for each gradient that is needed."""
        forward, backward = self.counted.get(name, (0, 0))
        self.counted[name] = (forward + flops, backward + gradients * flops)


# FLOPs of a product, and the tensors that each of its two factors is computed from.
_Product: TypeAlias = tuple[int, tuple[Tensor, ...], tuple[Tensor, ...]]


def _matrices(left: Tensor, right: Tensor) -> list[_Product]:
    columns = right.shape[-1] if right.dim() > 1 else 1
    return [(2 * left.numel() * columns, (left,), (right,))]


def _linear(inputs: Tensor, weight: Tensor) -> list[_Product]:
    return [(2 * inputs.numel() * weight.shape[0], (inputs,), (weight,))]


def _convolution(args: Sequence[Any], outputs: Tensor) -> list[_Product]:
    inputs, weight, transposed = args[0], args[1], bool(args[6])
    # An output sees weight[0].numel() weights, those of its group; transposed, an input does.
    seeing = inputs if transposed else outputs
    return [(2 * seeing.numel() * weight[0].numel(), (inputs,), (weight,))]


def _attention(queries: Tensor, keys: Tensor, values: Tensor) -> list[_Product]:
    rows, inner = queries.numel() // queries.shape[-1], queries.shape[-1]
    length = keys.shape[-2]
    return [
        (2 * rows * inner * length, (queries,), (keys,)),
        (2 * rows * length * values.shape[-1], (queries, keys), (values,)),
    ]


_PRODUCTS: dict[str, Callable[[Sequence[Any], Any], list[_Product]]] = {
    **dict.fromkeys(
        ("mm", "bmm", "mv", "dot", "vdot"), lambda args, _: _matrices(args[0], args[1])
    ),
    **dict.fromkeys(
        ("addmm", "baddbmm", "addbmm", "addmv"), lambda args, _: _matrices(args[1], args[2])
    ),
    "_grouped_mm": lambda args, _: _matrices(args[0], args[1]),
    "linear": lambda args, _: _linear(args[0], args[1]),
    "convolution": _convolution,
    **dict.fromkeys(
        (
            "_scaled_dot_product_flash_attention_for_cpu",
            "_scaled_dot_product_flash_attention",
            "_scaled_dot_product_efficient_attention",
            "_scaled_dot_product_cudnn_attention",
            "_scaled_dot_product_fused_attention_overrideable",
        ),
        lambda args, _: _attention(args[0], args[1], args[2]),
    ),
}
_COPIES = {"clone", "_to_copy", "_unsafe_view"}
# What else multiplies matrices, by torch's names of such operations; interpolation is called
# linear, too.
_MULTIPLYING = re.compile(
    r"mm(_|$)|conv(\d|olution|_)|(^|_)linear(_|$)|matmul|trilinear|cdist|rnn|lstm|gru|(^|_)fft|"
    r"linalg|attention|transformer"
)
_SINGLE = re.compile(r"upsample|norm|_cell|flatten_weight|backward")


def _may_multiply(space: str, name: str) -> bool:
    """Whether an operation without a formula may multiply matrices; torch's own by their names."""
    if space != "aten":
        return space not in ("prim", "prims")
    return bool(_MULTIPLYING.search(name)) and not _SINGLE.search(name)


def training(flops: Mapping[str, Flops], mask: Mask | None = None) -> int:
    """Return the FLOPs of training on one example; with a mask, those for the kept weights only.

    >>> mask = {"0.weight": torch.tensor([[True, False], [False, False]])}
    >>> training({"0": Flops(8, 16)}), training({"0": Flops(8, 16)}, mask)
    (24, 6)
    """
    return training_at(flops, _counts(mask))


def training_at(flops: Mapping[str, Flops], kept: Mapping[str, tuple[int, int]]) -> int:
    """Return what `training` does, from the kept and all weights of each masked parameter.

    >>> training_at({"0": Flops(8, 16)}, {"0.weight": (1, 4)})
    6
    """
    return _total({name: layer.training for name, layer in flops.items()}, kept)


def weight_gradients(
    flops: Mapping[str, Flops], kept: Mapping[str, tuple[int, int]] | None = None
) -> int:
    """Return the FLOPs of the gradients of one example for the weights, with counts as in
    `training_at`.

    They take as many as the forward pass: one of the two factors of a product is the same.

    >>> weight_gradients({"0": Flops(8, 16)}), weight_gradients({"0": Flops(8, 16)}, {"0.weight": (1, 4)})
    (8, 2)
    """
    return _total({name: layer.forward for name, layer in flops.items()}, kept or {})


def inference(flops: Mapping[str, Flops], mask: Mask | None = None) -> int:
    """Return the FLOPs of one prediction; with a mask, those for the kept weights only."""
    return _total({name: layer.forward for name, layer in flops.items()}, _counts(mask))


def _counts(mask: Mask | None) -> dict[str, tuple[int, int]]:
    counts = {}
    for name, keep in (mask or {}).items():
        counts[name] = (int(torch.count_nonzero(keep)), keep.numel())
    return counts


def _total(flops: Mapping[str, int], counts: Mapping[str, tuple[int, int]]) -> int:
    counts_of_layer = {layer_of(name): pair for name, pair in counts.items()}
    total = 0
    for name, number in flops.items():
        kept, weights = counts_of_layer.get(name, (1, 1))
        # Integers throughout: a sum of floats would depend on the order of the layers.
        total += number * kept // weights
    return total
