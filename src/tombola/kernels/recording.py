"""Recordings: forward and backward of a batch as one list of tensor operations.

A LeNet's step takes a millisecond or less, and a third of it is spent on calling modules and
building the autograd graph. A recording saves that time and changes no bit. Models of one structure
share a recording.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType, MethodType
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from tombola.kernels.anatomy import Anatomy, layout
from tombola.kernels.protocol import Loss

Batch: TypeAlias = tuple[Tensor, ...]
Trace: TypeAlias = Callable[..., list[Tensor | None]]
F = TypeVar("F", bound=Callable[..., Any])

_MOST_TRACES = 32  # kept: a few architectures, each with a last batch of another size
_traces: dict[object, Trace | None] = {}
_recordable: weakref.WeakSet[FunctionType] = weakref.WeakSet()


def recordable(loss: F) -> F:
    """Declare that a loss depends on the model and the batch alone, so that it may be recorded.

    A recording calls the loss once and repeats its operations from then on. So a loss must read
    nothing that may change: no attribute of its own object, no variable around it, no number from a
    tensor. A loss that is not declared is called in every step.

    Args:
        loss: A function or a method. One that overrides or wraps it must be declared separately.

    >>> @recordable
    ... def loss(model, batch):
    ...     return model(batch[0]).sum()
    """
    assert isinstance(loss, FunctionType)
    _recordable.add(loss)
    return loss


def is_special() -> bool:
    """Whether torch is set to do more with every operation or module than a recording would."""
    return bool(
        torch._C._is_any_autocast_enabled()
        or torch.is_anomaly_enabled()
        or torch._C._len_torch_function_stack()
        or _has_any_global_hook()  # type: ignore[no-untyped-call]
    )


def declared(loss: Loss) -> FunctionType | None:
    """Return the function of a loss that is declared `recordable`; ``None`` for any other loss."""
    function = loss.__func__ if isinstance(loss, MethodType) else loss
    return function if isinstance(function, FunctionType) and function in _recordable else None


def key_of(batch: Batch) -> object:
    """Return a batch's part in the key of a recording."""
    return tuple(map(layout, batch))


def trace_of(
    key: object, anatomy: Anatomy, model: nn.Module, loss: Loss, batch: Batch
) -> Trace | None:
    """Return the trace of a key, recorded if there is none; the oldest are dropped."""
    if key not in _traces:
        while len(_traces) >= _MOST_TRACES:
            del _traces[next(iter(_traces))]
        _traces[key] = _trace(anatomy, model, loss, batch)
    return _traces[key]


@contextlib.contextmanager
def _in_place_of(
    parameters: Sequence[nn.Parameter], tensors: Sequence[Tensor], model: nn.Module
) -> Iterator[None]:
    """Let a model compute with other tensors than its parameters, wherever it uses them."""
    # Not functional_call, which leaves a layer that is used in two places without its parameters.
    tensor_of = dict(zip(map(id, parameters), tensors, strict=True))
    entries = [vars(module)["_parameters"] for module in model.modules()]
    originals = [dict(named) for named in entries]
    try:
        for named in entries:
            for name, parameter in named.items():
                if parameter is not None:
                    named[name] = tensor_of[id(parameter)]
        yield
    finally:
        for named, original in zip(entries, originals, strict=True):
            named |= original


def _trace(anatomy: Anatomy, model: nn.Module, loss: Loss, batch: Batch) -> Trace | None:
    """Record forward and backward of a batch as one list of tensor operations.

    ``None`` where that is not possible.
    """
    # Imports torch's compiler, which takes long: only for those who train.
    from torch.fx.experimental.proxy_tensor import make_fx

    if any(tensor.requires_grad for tensor in batch):
        return None
    copies = []
    for tensor in (*anatomy.parameters, *batch):
        copy = _copied(tensor)
        if copy is None:
            return None
        copies.append(copy)

    def step(*tensors: Tensor) -> list[Tensor | None]:
        return _step(anatomy.parameters, model, loss, tensors)

    try:
        # Recording runs the step once: on copies, as a layer may work in place, and with the random
        # state restored, as dropout must not draw twice.
        with torch.random.fork_rng(devices=[]):
            recorded = make_fx(step)(*copies)
    except Exception:  # any fault of the model shows where the step runs eagerly
        return None
    # A tensor that is no input would be frozen.
    if any(node.op == "get_attr" for node in recorded.graph.nodes):
        return None
    _simplify_(recorded.graph)
    recorded.recompile()
    return recorded.forward


def _step(
    parameters: Sequence[nn.Parameter], model: nn.Module, loss: Loss, tensors: Sequence[Tensor]
) -> list[Tensor | None]:
    """Return the loss of a batch and the gradients of those parameters that are trained.

    Args:
        parameters: Those of the model.
        model: The model.
        loss: Its loss.
        tensors: Tensors to take the parameters' places, then those of the batch.
    """
    # Fresh leaves, so that the recording contains no earlier graph.
    number = len(parameters)
    values = []
    for tensor, parameter in zip(tensors[:number], parameters, strict=True):
        values.append(tensor.detach().requires_grad_(parameter.requires_grad))
    trained = [value for value in values if value.requires_grad]
    with torch.enable_grad(), _in_place_of(parameters, values, model):
        result = loss(model, tuple(tensors[number:]))
        grads = torch.autograd.grad(result, trained, allow_unused=True)
    # A parameter that has no part in the loss has no gradient.
    outputs: list[Tensor | None] = [result.detach()]
    for grad, value in zip(grads, trained, strict=True):
        outputs.append(None if grad is None else _laid_out(grad, value))
    return outputs


def _simplify_(graph: Any) -> None:
    """Remove what computes nothing: views for autograd's sake, and transposes that it undoes."""
    aten = torch.ops.aten
    for node in graph.nodes:
        # The node's result while it was recorded: together several models' worth of memory.
        node.meta.clear()
        if node.target in (aten.detach.default, aten.alias.default):
            node.replace_all_uses_with(node.args[0])
        elif node.target is aten.t.default:
            argument = node.args[0]
            if getattr(argument, "target", None) is aten.t.default:
                node.replace_all_uses_with(argument.args[0])
    graph.eliminate_dead_code()


def _copied(tensor: Tensor) -> Tensor | None:
    """Copy a tensor with exactly its strides; ``None`` where its elements overlap in memory."""
    clone = tensor.detach().clone()
    if not _same_order(tensor.shape, tensor.stride(), clone.stride()):
        return None
    # A clone may have another stride where there is one element, as in images of one channel, and
    # kernels choose by these strides, too.
    copy = torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device
    )
    return copy.copy_(clone)


def _laid_out(grad: Tensor, parameter: Tensor) -> Tensor:
    """Lay a gradient out in memory as its parameter, as autograd does when it accumulates one.

    The bits of sums depend on it: they are taken in the order of memory.
    """
    if _same_order(grad.shape, grad.stride(), parameter.stride()):
        return grad
    return torch.empty_like(parameter).copy_(grad)


def _same_order(shape: Sequence[int], strides: Sequence[int], other_strides: Sequence[int]) -> bool:
    """Whether two strides order elements alike; dimensions of length 1 do not count."""
    for length, stride, other_stride in zip(shape, strides, other_strides, strict=True):
        if length != 1 and stride != other_stride:
            return False
    return True
