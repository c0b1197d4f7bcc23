"""Recordings: forward and backward of a batch as one list of tensor operations.

A LeNet's step takes a millisecond or less, a third of which would go into calling modules and
building the autograd graph. A recording leaves that out and changes no bit. Models of one structure
share one.
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

_KEPT = 32  # traces held at once: a few architectures, each with a last batch of another size
_traces: dict[object, Trace | None] = {}
_recordable: weakref.WeakSet[FunctionType] = weakref.WeakSet()


def recordable(loss: F) -> F:
    """Declare that what a loss does hangs on the model and the batch alone, so that a step of it
    may be recorded.

    A recording runs the loss once and its operations ever after. So a loss must read nothing that
    may change: no attribute of its own object, no variable around it, no number from a tensor. One
    that is not declared is called in every step.

    Args:
        loss: A function or a method; one that overrides or wraps it is not declared by it.

    >>> @recordable
    ... def loss(model, batch):
    ...     return model(batch[0]).sum()
    """
    assert isinstance(loss, FunctionType)
    _recordable.add(loss)
    return loss


def is_special() -> bool:
    """Whether torch is told to do something of its own with every operation or module, which a
    recording passes by.
    """
    return bool(
        torch._C._is_any_autocast_enabled()
        or torch.is_anomaly_enabled()
        or torch._C._len_torch_function_stack()
        or _has_any_global_hook()  # type: ignore[no-untyped-call]
    )


def declared(loss: Loss) -> FunctionType | None:
    """Return the function of a loss that is declared `recordable`; nothing of any other loss."""
    function = loss.__func__ if isinstance(loss, MethodType) else loss
    return function if isinstance(function, FunctionType) and function in _recordable else None


def key_of(batch: Batch) -> object:
    """Return what a recording has of a batch in its key."""
    return tuple(map(layout, batch))


def trace_of(
    key: object, anatomy: Anatomy, model: nn.Module, loss: Loss, batch: Batch
) -> Trace | None:
    """Return the trace of a key, made if there is none; the oldest ones are let go."""
    if key not in _traces:
        while len(_traces) >= _KEPT:
            del _traces[next(iter(_traces))]
        _traces[key] = _trace(anatomy, model, loss, batch)
    return _traces[key]


@contextlib.contextmanager
def _in_place_of(
    parameters: Sequence[nn.Parameter], tensors: Sequence[Tensor], model: nn.Module
) -> Iterator[None]:
    """Let a model compute with other tensors than its parameters, wherever they stand in it."""
    # Not functional_call, which leaves a layer that is used in two places without its parameters.
    tensor_of = dict(zip(map(id, parameters), tensors, strict=True))
    places = [vars(module)["_parameters"] for module in model.modules()]
    before = [dict(place) for place in places]
    try:
        for place in places:
            place |= {name: tensor_of[id(held)] for name, held in place.items() if held is not None}
        yield
    finally:
        for place, held in zip(places, before, strict=True):
            place |= held


def _trace(anatomy: Anatomy, model: nn.Module, loss: Loss, batch: Batch) -> Trace | None:
    """Record forward and backward of a batch as one list of tensor operations; nothing where
    that cannot be.
    """
    # imports torch's compiler: for those who train
    from torch.fx.experimental.proxy_tensor import make_fx

    given, number = (*anatomy.parameters, *batch), len(anatomy.parameters)
    if any(tensor.requires_grad for tensor in batch):
        return None
    copies = list(map(_copied, given))
    if any(copy is None for copy in copies):
        return None

    def step(*tensors: Tensor) -> list[Tensor | None]:
        own = [
            tensor.detach().requires_grad_(parameter.requires_grad)
            for tensor, parameter in zip(tensors[:number], anatomy.parameters, strict=True)
        ]
        live = [tensor for tensor in own if tensor.requires_grad]
        with torch.enable_grad(), _in_place_of(anatomy.parameters, own, model):
            value = loss(model, tensors[number:])
            grads = torch.autograd.grad(value, live, allow_unused=True)
        laid_out = [
            None if grad is None else _laid_out(grad, of)
            for grad, of in zip(grads, live, strict=True)
        ]
        return [value.detach(), *laid_out]

    try:
        # The step is done once while it is recorded: on copies, for a layer may work in place, and
        # with the random numbers put back, for dropout must not draw twice.
        with torch.random.fork_rng(devices=[]):
            recorded = make_fx(step)(*copies)
    except Exception:  # what is wrong, if anything is, is told where the step runs as it is written
        return None
    aten, graph = torch.ops.aten, recorded.graph
    if any(node.op == "get_attr" for node in graph.nodes):
        return None  # a tensor that is no input would stay what it is now
    for node in graph.nodes:
        # What it gave while it was recorded, several models' worth in all, would live as long as
        # the recording.
        node.meta.clear()
        # Views for autograd's sake, and the transposes that it undoes: calls that compute nothing.
        if node.target in (aten.detach.default, aten.alias.default):
            node.replace_all_uses_with(node.args[0])
        elif (
            node.target is aten.t.default
            and getattr(node.args[0], "target", None) is aten.t.default
        ):
            node.replace_all_uses_with(node.args[0].args[0])
    graph.eliminate_dead_code()
    recorded.recompile()
    return recorded.forward


def _copied(tensor: Tensor) -> Tensor | None:
    """Copy a tensor with its very strides; nothing where its elements lie over each other."""
    clone = tensor.detach().clone()
    strides = zip(tensor.shape, tensor.stride(), clone.stride(), strict=True)
    if any(one != other for size, one, other in strides if size > 1):
        return None
    # A clone may have another stride where there is one element, as in images of one channel, and
    # kernels choose by these strides, too.
    copy = torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device
    )
    return copy.copy_(clone)


def _laid_out(grad: Tensor, parameter: Tensor) -> Tensor:
    """Lay a gradient out as its parameter, as autograd does when it accumulates one: sums go in
    order of memory.
    """
    steps = zip(grad.shape, grad.stride(), parameter.stride(), strict=True)
    if all(size == 1 or one == other for size, one, other in steps):
        return grad
    return torch.empty_like(parameter).copy_(grad)
