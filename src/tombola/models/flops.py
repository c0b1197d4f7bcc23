"""FLOPs: what one example costs a model, weight by weight, forward and backward.

    model -> [ per_example ] -> FLOPs of each layer -> [ cost ] -> of a training, dense and at its
    mask's density

The rule can be checked by hand. Two FLOPs are a multiplication with its addition. Forward, a
product of two matrices takes 2 x rows x inner x columns; a convolution takes 2 x its outputs x the
weights that each of them sees, its padding included, and a transposed one 2 x its inputs x the
weights that each of them meets. Backward takes as much again for the gradient of each of the two
factors that needs one: twice the forward where both do, once for a first layer, whose input needs
none, or for a frozen weight.

What runs is what counts: one forward pass is watched, operation by operation, and each product is
booked to the weight that is one of its factors, however the model comes to it. So a weight that is
used twice is counted twice, and at a mask's density both uses shrink. Products of two activations,
as in attention, are counted and no mask shrinks them. What is done to single values (activations,
norms, pooling) is not counted, nor what makes a weight of parameters (spectral norm), and of causal
attention all is counted. Other operations are named by `uncounted`.

What a mask saves is what arithmetic needs not do: no kernel here leaves it out.
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
BETWEEN = "*"  # products of two activations, such as attention's: no weight's, so no mask's either


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
    """Count what an example costs each weight, by `weights.layer_of`: the layer's name, or the
    weight's own.

    Products of two activations are ``"*"``. All uses of a shared weight are booked to its first
    name.

    Args:
        model: Any model; it stays as it is.
        inputs: A batch of two examples or more, as batch norm needs them: float, shape [examples,
            ...].

    >>> found = per_example(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), torch.zeros(2, 4))
    >>> found["0"], found["2"]
    (Flops(forward=24, backward=24), Flops(forward=12, backward=24))
    """
    booked = _watched(model, inputs).booked
    examples = len(inputs)
    return {
        name: Flops(ahead // examples, back // examples) for name, (ahead, back) in booked.items()
    }


def uncounted(model: nn.Module, inputs: Tensor) -> list[str]:
    """Name the operations of a model that may multiply matrices and that `per_example` cannot
    count.

    >>> uncounted(nn.Linear(4, 3), torch.zeros(2, 4))
    []
    """
    return sorted(_watched(model, inputs).unknown)


def _watched(model: nn.Module, inputs: Tensor) -> _Watch:
    model = names.unwrapped(model)
    model = copied(model).train()
    watch = _Watch(model)
    # Dropout draws, and what only looks leaves no generator elsewhere.
    with torch.random.fork_rng(), torch.enable_grad(), _uncompiled(), watch:
        outputs = model(inputs)
    if watch.apart:
        watch.unknown |= {f"the backward pass of {name}" for name in _own_functions(outputs)}
    return watch


def _own_functions(outputs: object) -> set[str]:
    """Name the functions with a backward pass of their own (`torch.autograd.Function`) that
    made what a model gives.
    """
    found: set[str] = set()
    seen: set[object] = set()
    nodes: list[Any] = [leaf.grad_fn for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, BackwardCFunction):
            found.add(type(node).__name__.removesuffix("Backward"))
        nodes += [before for before, _ in node.next_functions]
    return found


def _uncompiled() -> contextlib.AbstractContextManager[object]:
    """Run what is compiled as it is written; who has compiled anything has torch's compiler
    loaded.
    """
    loaded = "torch._dynamo" in sys.modules
    return torch.compiler.set_stance("force_eager") if loaded else contextlib.nullcontext()


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Books each product of one forward pass to a weight.

    A weight is known by where its numbers lie, so views of it (transposed, a slice, one matrix of a
    stack) are it, too.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.booked: dict[str, tuple[int, int]] = {}
        self.unknown: set[str] = set()
        self.apart = False  # whether a product was seen whose gradients torch does not follow
        # by storage: where weights lie in it, and their names
        self._places: dict[int, list[tuple[range, str]]] = {}
        self._held: list[Tensor] = []  # so that nothing else comes to lie there meanwhile
        self._layers: list[str] = []  # those that are running, by what their weight is called
        self._making: list[str] = []  # weights that are being computed
        # above 0 while a recurrent layer runs, whose kernels do not tell their products
        self._recurrent = 0
        self._called = {
            id(parameter): layer_of(name) for name, parameter in names.parameters(model).items()
        }
        for parameter in model.parameters():
            self._know(parameter, self._called[id(parameter)])
        for module in model.modules():
            self._attend(module)

    def _know(self, tensor: Tensor, name: str) -> None:
        """Know a tensor as a weight: a parameter, or what is computed from one."""
        if tensor.layout != torch.strided or not tensor.numel():
            return
        begin = tensor.data_ptr()
        place = range(begin, begin + tensor.numel() * tensor.element_size())
        self._places.setdefault(tensor.untyped_storage().data_ptr(), []).append((place, name))
        self._held.append(tensor)

    def _name_of(self, tensor: Tensor) -> str | None:
        """Return what the weight is called of which a tensor is a view."""
        if tensor.layout != torch.strided:
            return None
        places = self._places.get(tensor.untyped_storage().data_ptr(), ())
        return next((name for place, name in places if tensor.data_ptr() in place), None)

    def _attend(self, module: nn.Module) -> None:
        """Have a module of the copy tell when it runs and when its weight is computed."""
        if isinstance(module, nn.RNNBase):
            module.register_forward_pre_hook(self._begin_recurrent)
            module.register_forward_hook(self._end_recurrent)
            return
        for tensor, _ in roles(module):
            source = weight_parameter(module, tensor)
            if source is None or id(source[0]) not in self._called:
                continue
            name = self._called[id(source[0])]
            if is_parametrized(module, tensor):
                self._attend_computed(module.parametrizations[tensor], name)  # type: ignore[index,arg-type]
            if tensor == "weight":
                self._attend_layer(module, name)

    def _attend_computed(self, chain: nn.Module, name: str) -> None:
        def begin(*_: object) -> None:
            self._making.append(name)

        def end(_: nn.Module, __: object, weight: Tensor) -> None:
            self._know(weight, self._making.pop())

        chain.register_forward_pre_hook(begin)
        chain.register_forward_hook(end)

    def _attend_layer(self, layer: nn.Module, name: str) -> None:
        # Hooks of the layer's own, which old weight norm, old spectral norm and torch's pruning
        # are, run in between.
        def first(*_: object) -> None:
            self._making.append(name)

        def last(*_: object) -> None:
            self._making.pop()
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
        """Book a recurrent layer: each of its matrices is multiplied once by each step of each
        example.
        """
        self._recurrent -= 1
        given = inputs[0].data if isinstance(inputs[0], PackedSequence) else inputs[0]
        rows = given.numel() // given.shape[-1]
        trains = any(parameter.requires_grad for parameter in layer.parameters())
        for tensor, _kind in roles(layer):
            source = weight_parameter(layer, tensor)
            assert source is not None
            first = tensor.startswith("weight_ih_l0")
            carried = given.requires_grad or (trains and not first)
            needing = int(source[0].requires_grad) + int(carried)
            self._book(self._called[id(source[0])], 2 * source[0].numel() * rows, needing)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # torch would import its compiler for the sake of this class, which takes seconds.
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do an operation, and book it where it is a product."""
        result = func(*args, **(kwargs or {}))
        space, _, name = func._schema.name.partition("::")
        products = _PRODUCTS.get(name.removesuffix("_")) if space == "aten" else None
        if name in _COPIES and (copied := self._name_of(args[0])) is not None:
            self._know(result, copied)
        if self._recurrent:
            pass
        elif self._making:
            if products or _may_multiply(space, name):
                self.unknown.add(f"what computes the weight of '{self._making[-1]}'")
        elif products:
            for flops, left, right in products(args, result):
                factors = (*left, *right)
                weights = [
                    found for factor in factors if (found := self._name_of(factor)) is not None
                ]
                running = self._layers[-1] if self._layers else BETWEEN
                needing = sum(
                    any(factor.requires_grad for factor in side) for side in (left, right)
                )
                followed = torch.is_grad_enabled()
                self.apart |= not followed
                self._book(weights[-1] if weights else running, flops, needing if followed else 0)
        elif _may_multiply(space, name):
            self.unknown.add(f"{space}::{name}")
        return result

    def _book(self, name: str, flops: int, needing: int) -> None:
        """Book a product: forward once, backward once for each factor that needs a gradient."""
        ahead, back = self.booked.get(name, (0, 0))
        self.booked[name] = (ahead + flops, back + needing * flops)


# FLOPs, and what its two factors are made of
_Product: TypeAlias = tuple[int, tuple[Tensor, ...], tuple[Tensor, ...]]


def _matrices(left: Tensor, right: Tensor) -> list[_Product]:
    columns = right.shape[-1] if right.dim() > 1 else 1
    return [(2 * left.numel() * columns, (left,), (right,))]


def _linear(inputs: Tensor, weight: Tensor) -> list[_Product]:
    return [(2 * inputs.numel() * weight.shape[0], (inputs,), (weight,))]


def _convolution(args: Sequence[Any], outputs: Tensor) -> list[_Product]:
    inputs, weight, transposed = args[0], args[1], bool(args[6])
    # An output sees weight[0].numel() weights, of its group alone; transposed, an input does.
    many = inputs if transposed else outputs
    return [(2 * many.numel() * weight[0].numel(), (inputs,), (weight,))]


def _attention(queries: Tensor, keys: Tensor, values: Tensor) -> list[_Product]:
    rows, inner = queries.numel() // queries.shape[-1], queries.shape[-1]
    found = keys.shape[-2]
    return [
        (2 * rows * inner * found, (queries,), (keys,)),
        (2 * rows * found * values.shape[-1], (queries, keys), (values,)),
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
# What else multiplies matrices, by the names that torch gives such operations; interpolation is
# called linear, too.
_MULTIPLYING = re.compile(
    r"mm(_|$)|conv(\d|olution|_)|(^|_)linear(_|$)|matmul|trilinear|cdist|rnn|lstm|gru|(^|_)fft|linalg|attention|transformer"
)
_SINGLE = re.compile(r"upsample|norm|_cell|flatten_weight|backward")


def _may_multiply(space: str, name: str) -> bool:
    """Tell whether an operation that has no formula may multiply matrices; of torch's own by
    its name.
    """
    if space != "aten":
        return space not in ("prim", "prims")
    return bool(_MULTIPLYING.search(name)) and not _SINGLE.search(name)


def training(flops: Mapping[str, Flops], mask: Mask | None = None) -> int:
    """Return the FLOPs of training on one example; with a mask, those that the kept weights alone
    would need.

    >>> mask = {"0.weight": torch.tensor([[True, False], [False, False]])}
    >>> training({"0": Flops(8, 16)}), training({"0": Flops(8, 16)}, mask)
    (24, 6)
    """
    return training_at(flops, _counts(mask))


def training_at(flops: Mapping[str, Flops], kept: Mapping[str, tuple[int, int]]) -> int:
    """Return what `training` does, of numbers: kept weights and all weights of each masked
    parameter.

    >>> training_at({"0": Flops(8, 16)}, {"0.weight": (1, 4)})
    6
    """
    return _total({name: one.training for name, one in flops.items()}, kept)


def inference(flops: Mapping[str, Flops], mask: Mask | None = None) -> int:
    """Return the FLOPs of one prediction; with a mask, those that the kept weights alone would
    need.
    """
    return _total({name: one.forward for name, one in flops.items()}, _counts(mask))


def _counts(mask: Mask | None) -> dict[str, tuple[int, int]]:
    return {
        name: (int(torch.count_nonzero(keep)), keep.numel()) for name, keep in (mask or {}).items()
    }


def _total(flops: Mapping[str, int], counts: Mapping[str, tuple[int, int]]) -> int:
    kept = {layer_of(name): of for name, of in counts.items()}
    # Whole numbers throughout: a sum of products of floats would hang on the order of the layers.
    return sum(
        one * kept[name][0] // kept[name][1] if name in kept else one for name, one in flops.items()
    )
