"""Steps: what one step of a training consists of, below Python's overhead.

    batches -> train: [ gradients -> clip -> update -> mask ] -> next step

A LeNet's step takes a millisecond or less, a third of which would go into calling modules, building the autograd graph
and the optimiser's bookkeeping. `gradients` and `update` leave that out and change no bit: the first by running a
recording of the same operations, the second by calling the optimiser's own kernel on the optimiser's own state.

What a recording would freeze is one of three things. Tensors (every parameter, trained or frozen, and the batch) are
its inputs. What torch's own layers read besides (their settings, their mode, which weights are tied) is in its key, and
is looked at again before every step. Anything else makes the step run as it is written: the same bits, more slowly.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain, repeat
from operator import attrgetter, call, is_, itemgetter
from types import FunctionType, MethodType
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from tombola import names
from tombola.errors import InputError

Batch: TypeAlias = tuple[Tensor, ...]
Loss: TypeAlias = Callable[[nn.Module, Any], Tensor]
Trace: TypeAlias = Callable[..., list[Tensor | None]]
F = TypeVar("F", bound=Callable[..., Any])

_KEPT = 32  # traces held at once: a few architectures, each with a last batch of another size
_traces: dict[object, Trace | None] = {}
_recordable: weakref.WeakSet[FunctionType] = weakref.WeakSet()

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_PARTS = ("_parameters", "_buffers", "_modules")
_PLAIN = (type(None), bool, int, float, complex, str, torch.dtype, torch.device, torch.memory_format, torch.layout)


def recordable(loss: F) -> F:
    """Declare that what a loss does hangs on the model and the batch alone, so that a step of it may be recorded.

    A recording runs the loss once and its operations ever after. So a loss must read nothing that may change: no
    attribute of its own object, no variable around it, no number from a tensor. One that is not declared is called in
    every step.

    Args:
        loss: A function or a method; one that overrides or wraps it is not declared by it.

    >>> @recordable
    ... def loss(model, batch):
    ...     return model(batch[0]).sum()
    """
    assert isinstance(loss, FunctionType)
    _recordable.add(loss)
    return loss


def traceable(model: nn.Module) -> bool:
    """Whether a recording of one step stands for every step of a model.

    It does for one of torch's own layers, without buffers, hooks and whatever else is not torch's: a module of the
    user's own may decide in Python what it does next, which a recording would freeze; buffers, such as those of batch
    norm, change while a model trains. Attributes of layers may be plain values alone; a tensor, a function or an object
    may change, and nobody would see it.

    >>> traceable(nn.Sequential(nn.Flatten(), nn.Linear(4, 2))), traceable(nn.BatchNorm1d(2))
    (True, False)
    """
    return _Anatomy.of(model) is not None


def gradients(
    model: nn.Module,
    loss: Loss,
    *,
    traced: bool,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    before: Callable[[], None] = lambda: None,
) -> Callable[[Any], Tensor]:
    """Make the function that computes the gradients of a batch.

    It sets ``.grad`` of every parameter, whatever was there before (``None`` where a parameter has no part in the loss,
    or is frozen), and returns the detached loss, a scalar. Parameters may be frozen and thawed, and anything else of
    the model may change between two calls.

    Args:
        model: Trained.
        loss: From the model and a batch to a scalar.
        traced: Where it may be, run a recording of forward and backward instead of modules and autograd: the same
            operations and the same bits. It may be where the model is `traceable`, the loss `recordable`, and the
            batch a tuple of tensors. A recording is made once for each shape of batch and kind of model.
        autocast: Context in which the loss is computed, where it is not recorded.
        before: Called before Python code of the model and the loss is run; a recording runs none.

    Raises:
        InputError: On a batch: a parameter that was there when this was made has been replaced.

    >>> model = nn.Linear(2, 1, bias=False)
    >>> step = gradients(model, lambda model, batch: model(batch[0]).sum(), traced=False)
    >>> _ = step((torch.tensor([[1.0, 2.0], [3.0, 4.0]]),))
    >>> model.weight.grad.tolist()
    [[4.0, 6.0]]
    """
    first = names.parameters(model)

    def eager(batch: Any) -> Tensor:
        _check_same(first, model)
        for parameter in model.parameters():
            parameter.grad = None
        before()
        with autocast():
            live = loss(model, batch)
        live.backward()  # type: ignore[no-untyped-call]
        return live.detach()

    declared = loss.__func__ if isinstance(loss, MethodType) else loss
    if not traced or not isinstance(declared, FunctionType) or declared not in _recordable:
        return eager
    anatomy: _Anatomy | None = None
    own: dict[object, Trace | None] = {}  # by the batch alone: the rest stays as it is while the anatomy does

    def trace_for(batch: Any) -> Trace | None:
        nonlocal anatomy
        if anatomy is None or not anatomy.unchanged():
            _check_same(first, model)
            anatomy = _Anatomy.of(model)
            own.clear()
        if anatomy is None or _is_special() or type(batch) is not tuple:
            return None
        settings = torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled()
        key = (settings, *map(_layout, batch))
        if key not in own:
            own[key] = _shared((anatomy.key, declared, key), anatomy, model, loss, batch)
        return own[key]

    def step(batch: Any) -> Tensor:
        trace = trace_for(batch)
        if trace is None:
            return eager(batch)
        assert anatomy is not None
        for parameter in anatomy.parameters:  # before the new ones are there, so that memory holds one set
            parameter.grad = None
        with torch.no_grad():
            value, *grads = trace(*anatomy.parameters, *batch)
        for parameter, grad in zip(anatomy.trained, grads, strict=True):
            parameter.grad = grad
        assert value is not None
        return value

    return step


def _check_same(first: Mapping[str, nn.Parameter], model: nn.Module) -> None:
    """Refuse to go on without a parameter that was trained: the optimiser would move what the model has no more."""
    there = set(map(id, model.parameters()))
    for name, parameter in first.items():
        if id(parameter) not in there and parameter.requires_grad:
            raise InputError(
                f"the parameter '{name}' is no longer part of the model that trains, and the optimiser does not know "
                f"another in its place; change its values in place (with torch.no_grad(): parameter.copy_(values)), "
                f"or freeze it before it goes (requires_grad_(False))"
            )


def _is_special() -> bool:
    """Whether torch is told to do something of its own with every operation or module, which a recording passes by."""
    return bool(
        torch._C._is_any_autocast_enabled()
        or torch.is_anomaly_enabled()
        or torch._C._len_torch_function_stack()
        or _has_any_global_hook()  # type: ignore[no-untyped-call]
    )


@dataclass(frozen=True, eq=False)
class _Anatomy:
    """All that a step reads of a model made of torch's own layers, and whether it is still so.

    Attributes:
        key: Equal for two models whose steps are the same operations on tensors of the same layout.
        parameters: All of them, each once.
        trained: Those of them that have gradients.
    """

    key: object
    parameters: list[nn.Parameter]
    trained: list[nn.Parameter]
    # For `unchanged`, which runs in every step and must take microseconds: all is compared in a few passes.
    _modules: list[nn.Module]
    _kinds: list[type[nn.Module]]
    _empty: list[Any]
    _filled: list[Any]
    _sizes: list[int]
    _readers: list[Callable[[], Any]]
    _read: list[Any]
    _flags: list[object]
    _strides: list[object]

    @classmethod
    def of(cls, model: nn.Module) -> _Anatomy | None:
        """Look at a model; nothing if a recording might freeze something of it."""
        modules, parameters = list(model.modules()), list(model.parameters())
        if not all(map(_is_plain_module, modules)) or not all(map(_is_plain_parameter, parameters)):
            return None
        # Each part by its number, so that those which are one (a shared layer, tied weights) have one number.
        number_of = {id(part): number for number, part in enumerate(chain(modules, parameters))}
        places = chain(model.named_modules(remove_duplicate=False), model.named_parameters(remove_duplicate=False))
        layouts = list(map(_layout, parameters))
        key = (
            tuple((name, number_of[id(part)]) for name, part in places),
            tuple(map(_settings, modules)),
            tuple(layouts),
        )
        parts = [vars(module)[name] for module in modules for name in _PARTS]
        lists = [value for module in modules for value in vars(module).values() if type(value) is list]
        filled = [*map(vars, modules), *(part for part in parts if part), *lists]
        settings = [*map(_reader, modules), *(values.copy for values in lists)]
        read_parts = [part.values for part in parts if part]
        return cls(
            key=key,
            parameters=parameters,
            trained=[parameter for parameter in parameters if parameter.requires_grad],
            _modules=modules,
            _kinds=list(map(type, modules)),
            _empty=[part for part in parts if not part] + [vars(m)[name] for m in modules for name in _HOOKS],
            _filled=filled,
            _sizes=list(map(len, filled)),
            _readers=[*settings, *read_parts],
            _read=list(chain.from_iterable(map(call, [*settings, *read_parts]))),
            # No hooks, whatever the containers are that they would be in: a list that is empty now may be filled.
            _flags=[(p.requires_grad, p.shape, p.dtype, None, None) for p in parameters],
            _strides=list(map(Tensor.stride, parameters)),
        )

    def unchanged(self) -> bool:
        """Whether the model is as it was when it was looked at."""
        try:
            return (
                not any(self._empty)
                and list(map(len, self._filled)) == self._sizes
                and list(map(type, self._modules)) == self._kinds
                and all(map(is_, chain.from_iterable(map(call, self._readers)), self._read))
                and list(map(_flags, self.parameters)) == self._flags
                and list(map(Tensor.stride, self.parameters)) == self._strides
            )
        except KeyError:  # an attribute was taken away and another one added
            return False


_flags = attrgetter("requires_grad", "shape", "dtype", "_backward_hooks", "_post_accumulate_grad_hooks")


def _reader(module: nn.Module) -> Callable[[], object]:
    """Make what reads a module's mode and its own attributes, quickly."""
    own = [name for name in vars(module) if name not in _OF_EVERY_MODULE]
    # The mode twice: a getter of a single name would give the value itself and no tuple.
    return partial(itemgetter("training", "training", *own), vars(module))


def _is_plain_module(module: nn.Module) -> bool:
    """Whether a module is torch's own, and nothing but plain values and parameters decides what it does."""
    kind = type(module)
    return (
        kind.__module__.startswith("torch.nn.modules.")
        and getattr(nn, kind.__name__, None) is kind
        and kind.forward.__module__.startswith("torch.nn.modules.")
        and not any(vars(module)[name] for name in _HOOKS)
        and not any(buffer is not None for buffer in vars(module)["_buffers"].values())
        and all(_is_plain(value) for name, value in vars(module).items() if name not in _OF_EVERY_MODULE)
    )


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain_single, value))
    return _is_plain_single(value)


def _is_plain_single(value: object) -> bool:
    return type(value) in _PLAIN or isinstance(value, np.generic)


def _is_plain_parameter(parameter: nn.Parameter) -> bool:
    return (
        type(parameter) is nn.Parameter
        and parameter.layout is torch.strided
        and not parameter._backward_hooks
        and not parameter._post_accumulate_grad_hooks
    )


def _settings(module: nn.Module) -> tuple[object, ...]:
    """Return the kind of a module, its mode and its own attributes, exactly: 1, 1.0 and True are three values."""
    own = {name: value for name, value in vars(module).items() if name not in _OF_EVERY_MODULE}
    return type(module), module.training, tuple((name, type(value), repr(value)) for name, value in own.items())


def _layout(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device, tensor.requires_grad


def _shared(key: object, anatomy: _Anatomy, model: nn.Module, loss: Loss, batch: Batch) -> Trace | None:
    """Return the trace of a key, made if there is none; the oldest ones are let go."""
    if key not in _traces:
        while len(_traces) >= _KEPT:
            del _traces[next(iter(_traces))]
        _traces[key] = _trace(anatomy, model, loss, batch)
    return _traces[key]


@contextlib.contextmanager
def _in_place_of(parameters: Sequence[nn.Parameter], tensors: Sequence[Tensor], model: nn.Module) -> Iterator[None]:
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


def _trace(anatomy: _Anatomy, model: nn.Module, loss: Loss, batch: Batch) -> Trace | None:
    """Record forward and backward of a batch as one list of tensor operations; nothing where that cannot be."""
    from torch.fx.experimental.proxy_tensor import make_fx  # imports torch's compiler: for those who train

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
        laid_out = [None if grad is None else _laid_out(grad, of) for grad, of in zip(grads, live, strict=True)]
        return [value.detach(), *laid_out]

    try:
        # The step is done once while it is recorded: on copies, for a layer may work in place, and with the random
        # numbers put back, for dropout must not draw twice.
        with torch.random.fork_rng(devices=[]):
            recorded = make_fx(step)(*copies)
    except Exception:  # what is wrong, if anything is, is told where the step runs as it is written
        return None
    aten, graph = torch.ops.aten, recorded.graph
    if any(node.op == "get_attr" for node in graph.nodes):
        return None  # a tensor that is no input would stay what it is now
    for node in graph.nodes:
        # Views for autograd's sake, and the transposes that it undoes: calls that compute nothing.
        if node.target in (aten.detach.default, aten.alias.default):
            node.replace_all_uses_with(node.args[0])
        elif node.target is aten.t.default and getattr(node.args[0], "target", None) is aten.t.default:
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
    copy = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)
    return copy.copy_(clone)


def _laid_out(grad: Tensor, parameter: Tensor) -> Tensor:
    """Lay a gradient out as its parameter, as autograd does when it accumulates one: sums go in order of memory."""
    steps = zip(grad.shape, grad.stride(), parameter.stride(), strict=True)
    if all(size == 1 or one == other for size, one, other in steps):
        return grad
    return torch.empty_like(parameter).copy_(grad)


def update(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Make the function that takes an optimiser's step, quicker than ``optimizer.step()`` and with the same bits.

    State and settings stay the optimiser's own: it may be looked at, saved, and given another learning rate or more
    parameters. Hooks on its step are not called. A parameter without a gradient stays as it is, and so does its state;
    with momentum it may have its first gradient later than others (torch's own fused SGD fails there).

    Args:
        optimizer: SGD, Adam or AdamW, fused.

    >>> weight = nn.Parameter(torch.tensor([1.0]))
    >>> step = update(torch.optim.SGD([weight], lr=0.5, momentum=0.9, fused=True))
    >>> for _ in range(2):
    ...     weight.grad = torch.tensor([1.0])
    ...     step()
    >>> weight.tolist()
    [-0.44999998807907104]
    """
    given = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    mixed = len({(parameter.dtype, parameter.device) for parameter in given}) > 1
    move = _move_sgd if isinstance(optimizer, torch.optim.SGD) else _move_adam

    @torch.no_grad()
    def step() -> None:
        for group in optimizer.param_groups:
            live = [parameter for parameter in group["params"] if parameter.grad is not None]
            for alike in _of_one_type(live) if mixed else [live]:
                if alike:
                    move(optimizer, group, alike)

    return step


def _of_one_type(parameters: Sequence[Tensor]) -> list[list[Tensor]]:
    """Divide parameters so that a kernel can take each part: it works on one kind of numbers and one device."""
    parts: dict[object, list[Tensor]] = {}
    for parameter in parameters:
        parts.setdefault((parameter.dtype, parameter.device), []).append(parameter)
    return list(parts.values())


def _move_sgd(optimizer: torch.optim.Optimizer, group: Mapping[str, Any], live: list[Tensor]) -> None:
    if not group["momentum"]:
        _sgd_kernel(group, live, [], first=False)
        return
    buffers = [optimizer.state[parameter].get("momentum_buffer") for parameter in live]
    if any(map(is_, buffers, repeat(None))):
        new = [parameter for parameter, buffer in zip(live, buffers, strict=True) if buffer is None]
        made = [torch.empty_like(grad) for grad in _grads(new)]
        _sgd_kernel(group, new, made, first=True)
        for parameter, buffer in zip(new, made, strict=True):
            optimizer.state[parameter]["momentum_buffer"] = buffer
        known = [(p, buffer) for p, buffer in zip(live, buffers, strict=True) if buffer is not None]
        live, buffers = [p for p, _ in known], [buffer for _, buffer in known]
    if live:
        _sgd_kernel(group, live, buffers, first=False)


def _sgd_kernel(group: Mapping[str, Any], live: list[Tensor], buffers: list[Any], *, first: bool) -> None:
    torch._fused_sgd_(
        live,
        _grads(live),
        buffers,
        lr=group["lr"],
        momentum=group["momentum"],
        weight_decay=group["weight_decay"],
        dampening=group["dampening"],
        nesterov=group["nesterov"],
        maximize=group["maximize"],
        is_first_step=first,
    )


def _grads(live: Sequence[Tensor]) -> list[Tensor]:
    return [parameter.grad for parameter in live]  # type: ignore[misc]  # those that live have one


def _move_adam(optimizer: torch.optim.Optimizer, group: Mapping[str, Any], live: list[Tensor]) -> None:
    states = [optimizer.state[parameter] for parameter in live]
    if not all(states):
        for parameter, state in zip(live, states, strict=True):
            if not state:  # as torch sets it up
                averages = ("exp_avg", "exp_avg_sq", *["max_exp_avg_sq"] * group["amsgrad"])
                state |= {"step": torch.zeros((), dtype=torch.float32, device=parameter.device)}
                state |= {name: torch.zeros_like(parameter) for name in averages}
    counts = [state["step"] for state in states]
    torch._foreach_add_(counts, 1)
    kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
    kernel(
        live,
        _grads(live),
        [state["exp_avg"] for state in states],
        [state["exp_avg_sq"] for state in states],
        [state["max_exp_avg_sq"] for state in states] if group["amsgrad"] else [],
        counts,
        lr=group["lr"],
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        amsgrad=group["amsgrad"],
        maximize=group["maximize"],
    )
