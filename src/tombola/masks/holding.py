"""Holding: pruned weights stay at zero in anybody's training loop.

    forward -> backward -> [ mask gradients ] -> clip -> step -> [ mask weights ] -> forward -> ...

`hold_` does not know the loop, so it does not trust any single place in it. Gradients are masked as
soon as they are accumulated, whichever weights train just then; weights after the step of every
optimiser of torch's that trains one of them, after all other methods of such an optimiser, before
every forward pass, and around loading and saving.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import types
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.hooks import RemovableHandle

from tombola.ground.errors import InputError
from tombola.ground.types import Mask
from tombola.masks import names
from tombola.masks.masks import Handle, masked_parameters

# Integers of a weight's size: its bits and all ones are itself, its bits and none are zero.
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
# Forward passes that are looked at closely, one by one; then those whose number is a power of two.
_LOOKS = 64
# Calls between an optimiser's step and the method of another that has called it, at most.
_FRAMES = 16
_MODULE_HOOKS = (
    "_forward_pre_hooks",
    "_forward_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)

_live: weakref.WeakSet[Held] = weakref.WeakSet()
_step_hooks: list[RemovableHandle] = []


def hold_(optimizer: Any, model: nn.Module, mask: Mask) -> Held:
    """Keep pruned weights at zero in anybody's training loop.

    Sets them to zero now; masks each gradient as soon as it is accumulated, so before the loop
    clips; and zeroes the weights again after each step of *any* optimiser of torch's that trains
    one of them, after what else it can do (``first_step``, ``eval``), and before each forward pass.
    The model is not wrapped, its ``state_dict`` keeps its names, and copies of it are free. Pruned
    weights that became infinite or NaN are zeroed, too.

    A weight is held by the last call that named it; an earlier handle lets go of it. Weights go on
    being held when they are frozen or thawed, loaded, moved to another device or dtype, or when a
    layer is replaced by one of its shape; a layer of another shape is refused at its next forward
    pass or step.

    Code that writes weights between an optimiser's step and the next forward pass, without being a
    method of an optimiser (an average that the loop copies back), cannot be seen when it writes.
    The network still computes with zeros, and one warning says so. Gradients that a loop writes
    itself, not by a backward pass, are masked by ``handle.mask_gradients()``.

    Args:
        optimizer: What trains the model: an optimiser of torch's, or any object around one
            (Fabric's, accelerate's, SAM, Lookahead).
        model: The model, or a wrapper around it.
        mask: Weights to keep, boolean; parameters without an entry are never held.

    Returns:
        A handle: ``handle.replace(mask)`` holds another mask, ``handle.remove()`` lets go. It is a
        context, too: ``with hold_(optimizer, model, mask):`` lets go at the end.

    Raises:
        InputError: The mask does not fit the model, is not boolean or empty; the optimiser trains
            no parameter of the model, or is none; a weight is sharded or has no shape yet.

    >>> layer = nn.Linear(3, 1)
    >>> sgd = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    >>> handle = hold_(sgd, layer, {"weight": torch.tensor([[True, False, True]])})
    >>> layer(torch.ones(1, 3)).sum().backward()
    >>> sgd.step()
    >>> (layer.weight != 0).tolist()
    [[True, False, True]]
    >>> handle.remove()
    """
    if isinstance(optimizer, nn.Module) or not isinstance(model, nn.Module):
        raise InputError(
            "hold_ takes an optimizer, a model and a mask, in this order; the first is "
            f"a {type(optimizer).__name__}, the second a {type(model).__name__}"
        )
    optimizers = list(_inside(optimizer))
    if not optimizers:
        raise InputError(
            f"hold_ cannot see what a {type(optimizer).__name__} trains: neither it nor "
            "what it holds has param_groups; give it the optimizer itself"
        )
    trained: set[int] = set()
    for inner in optimizers:
        trained.update(map(id, _parameters(inner)))
    if not any(id(parameter) in trained for parameter in model.parameters()):
        raise InputError(
            f"the {type(optimizer).__name__} trains no parameter of this model: it was "
            "made for another one, or before the model's parameters were; make it from "
            "model.parameters()"
        )
    return Held(model, mask, optimizers)


@dataclass
class _Weight:
    """A parameter that is held, and what of it is kept."""

    parameter: nn.Parameter
    keep: Tensor
    bits: Tensor  # all set where it is kept, none where it is pruned; laid out as the parameter is

    def mask_(self) -> None:
        """Zero the pruned weights; what was computed with them can still be differentiated."""
        # Without a new version: a graph that holds the weight stays good.
        values = self.parameter.data
        # A model may have been moved to another device, dtype or layout since.
        if (
            self.bits.dtype != _INTEGERS.get(values.element_size(), torch.bool)
            or self.bits.device != values.device
            or self.bits.stride() != values.stride()
        ):
            self.bits = _bits(self.keep, values)
        _clear_(values, self.bits)

    def mask_gradient_(self) -> None:
        """Zero the gradient of the pruned weights, if there is one."""
        grad = self.parameter.grad
        if grad is None:
            return
        if grad.layout is not torch.strided:
            keep = self.keep.to(grad.device)[tuple(grad._indices())]
            grad._values().masked_fill_(~keep, 0)
            return
        values = grad.data
        bits = self.bits
        if bits.device != values.device or bits.element_size() != values.element_size():
            bits = _bits(self.keep, values)
        _clear_(values, bits)

    def mask_and_look_(self) -> bool:
        """Zero the pruned weights, and say whether one was not zero before."""
        if not (self.parameter.is_floating_point() or self.parameter.is_complex()):
            self.mask_()
            return False
        before = self._norm()
        self.mask_()
        after = self._norm()
        # Of equal numbers the sum is the same to the last bit. It takes a tenth of the time that
        # counting takes.
        return before != after and (before == before or after == after)

    def _norm(self) -> float:
        # Half precision has too few digits for a sum to tell.
        dtype = torch.float32 if self.parameter.element_size() < 4 else None
        return float(torch.linalg.vector_norm(self.parameter.data, dtype=dtype))


def _bits(keep: Tensor, values: Tensor) -> Tensor:
    """Return an integer for each value, all bits set where it is kept and none where not.

    Values that are longer than any integer have a boolean.
    """
    kind = _INTEGERS.get(values.element_size(), torch.bool)
    bits = torch.empty_like(values, dtype=kind)
    bits.copy_(keep)
    return bits if kind == torch.bool else bits.neg_()


def _clear_(values: Tensor, bits: Tensor) -> None:
    # Not a product, which leaves infinity and NaN (an optimiser with eps = 0 divides 0 by 0); and
    # not a fill by a boolean mask, which takes ten times as long.
    if bits.dtype == torch.bool:
        values.masked_fill_(~bits, 0)
    else:
        values.view(bits.dtype).bitwise_and_(bits)


class _Patch(NamedTuple):
    """A method of an optimiser in whose place stands one that masks the weights afterwards."""

    optimizer: Callable[[], Any]
    name: str
    before: Any  # what the optimiser itself had under that name, if anything beside its class
    method: Any


class _Link(NamedTuple):
    """An entry of a module that leads to a weight, and what stood there when that was found."""

    entries: dict[str, Any]
    key: str
    value: Any


@dataclass
class _Paths:
    """The ways from a model to the weights that are held.

    Attributes:
        inside: The weights that lie in each module on the way, wrappers included.
        owners: The modules that hold a weight themselves.
        links: By what each step leads on; another value there is a layer or weight that was
            replaced.
    """

    inside: dict[nn.Module, dict[int, _Weight]]
    owners: set[nn.Module]
    links: list[_Link]


def _paths(model: nn.Module, weights: Mapping[int, _Weight]) -> _Paths:
    """Find the ways to weights, given by the ids of their parameters; all ways to a shared one."""
    modules = names.modules(model, shared=True)
    inside: dict[nn.Module, dict[int, _Weight]] = {}
    owners: set[nn.Module] = set()
    links: dict[tuple[int, str], _Link] = {}
    for name, parameter in names.parameters(model, shared=True).items():
        key = id(parameter)
        if key not in weights:
            continue
        place, _, last = name.rpartition(".")
        owner = modules[place]
        owners.add(owner)
        links[id(owner), last] = _Link(owner._parameters, last, parameter)
        inside.setdefault(owner, {})[key] = weights[key]
        while place:
            place, _, child_name = place.rpartition(".")
            parent = modules[place]
            child = parent._modules[child_name]
            assert child is not None
            links[id(parent), child_name] = _Link(parent._modules, child_name, child)
            for module in (child, parent):  # the child as it stands there: it may be a wrapper
                inside.setdefault(module, {})[key] = weights[key]
        inside.setdefault(model, {})[key] = weights[key]  # which may be a wrapper, too
    return _Paths(inside, owners, list(links.values()))


class Held(Handle):
    """What keeps pruned weights at zero in anybody's loop; made by `hold_`.

    Attributes:
        mask: What is held. Another call of `hold_` takes over the weights that it names.
    """

    def __init__(self, model: nn.Module, mask: Mask, optimizers: Sequence[Any]) -> None:
        self._optimizers = [_weakly(optimizer) for optimizer in optimizers]
        self._stepped: list[Callable[[], Any]] = []  # optimisers of which a step was seen
        self._weights_of: dict[int, _Weight] = {}
        self._removables: list[RemovableHandle] = []
        self._hooked: list[nn.Module] = []
        self._patches: list[_Patch] = []
        self._links: list[_Link] = []
        self._warned = False
        # Of the modules whose forward pass is under way; those within it need not be looked at.
        self._outermost: nn.Module | None = None
        super().__init__(model, mask)

    def __repr__(self) -> str:
        pruned = sum(int((~weight.keep).count_nonzero()) for weight in self._weights_of.values())
        return f"Held({pruned:,} pruned weights of {len(self._weights_of)} parameters)"

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy holds nothing, as a copy of the model is free.
        return _Copied, (dict(self.mask),)

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def replace(self, mask: Mask) -> None:
        """Hold another mask from now on; its pruned weights are set to zero at once.

        Raises:
            InputError: The mask does not fit the model; what was held before is held on.
        """
        if not mask:
            raise InputError(
                "the mask is empty; it names the weights that are held, and handle.remove() lets go"
            )
        mask = names.named_like(mask, names.parameters(self._model, shared=True))
        pairs = masked_parameters(self._model, mask)
        for name, (parameter, _) in zip(mask, pairs, strict=True):
            if type(parameter.data) is not Tensor:
                kind = type(parameter.data).__name__
                raise InputError(
                    f"'{name}' is a {kind}, of which this process may have a part; "
                    "hold_ masks whole tensors of torch's own"
                )
        weights: dict[int, _Weight] = {}
        for parameter, keep in pairs:
            keep = keep.detach()
            if id(parameter) in weights:  # two names of one parameter
                keep = keep & weights[id(parameter)].keep.to(keep.device)
            weights[id(parameter)] = _Weight(parameter, keep, _bits(keep, parameter.data))
        for weight in weights.values():
            for earlier in _holders(weight.parameter):
                if earlier is not self:
                    earlier._let_go(weight.parameter)
        self.mask = {name: keep for name, (_, keep) in zip(mask, pairs, strict=True)}
        if all(self.mask[name] is keep for name, keep in mask.items()):
            self.mask = mask
        # Where nothing is pruned there is nothing to hold: a dense training pays for no mask.
        self._attach({key: weight for key, weight in weights.items() if not weight.keep.all()})
        self.mask_weights()
        self.mask_gradients()

    def remove(self) -> None:
        """Let go: the weights may move again; nothing of the handle is left in model or
        optimiser.
        """
        self._attach({})

    def mask_gradients(self) -> None:
        """Zero the gradients of the pruned weights."""
        with torch.no_grad():
            for weight in self._weights_of.values():
                weight.mask_gradient_()

    def mask_weights(self) -> None:
        """Zero the pruned weights."""
        with torch.no_grad():
            for weight in self._weights_of.values():
                weight.mask_()

    def _let_go(self, parameter: nn.Parameter) -> None:
        """Leave a parameter to another handle."""
        weights = {key: weight for key, weight in self._weights_of.items() if key != id(parameter)}
        live = names.parameters(self._model, shared=True)
        theirs = {name for name in self.mask if live.get(name) is parameter}
        self.mask = {name: keep for name, keep in self.mask.items() if name not in theirs}
        self._attach(weights)

    # ---- the places where it acts

    def _attach(self, weights: dict[int, _Weight]) -> None:
        """Hold these weights and no others."""
        self._detach()
        self._weights_of = weights
        if not weights:
            return
        paths = _paths(self._model, weights)
        self._links = paths.links
        for weight in weights.values():
            self._hook_gradient(weight.parameter)
        for module, inside in paths.inside.items():
            enter = functools.partial(self._enter, list(inside.values()), itertools.count(1))
            self._hook(module, module.register_forward_pre_hook(_Hook(enter)))
            self._hook(module, module.register_forward_hook(_Hook(self._leave), always_call=True))
        for owner in paths.owners:
            self._hook(owner, owner.register_state_dict_pre_hook(_Hook(self._at_state)))  # type: ignore[no-untyped-call]
            loaded = owner.register_load_state_dict_post_hook(_Hook(self._at_state))  # type: ignore[no-untyped-call]
            self._hook(owner, loaded)
        for ref in self._optimizers:
            optimizer = ref()
            if optimizer is not None:
                self._hook_methods(optimizer)
        _live.add(self)
        if not _step_hooks:
            _step_hooks.append(register_optimizer_step_pre_hook(_before_step))
            _step_hooks.append(register_optimizer_step_post_hook(_after_step))

    def _detach(self) -> None:
        for removable in self._removables:
            removable.remove()
        self._removables.clear()
        for module in self._hooked:
            if not _has_hooks(module):  # as another handle's may be there still
                module.__dict__.pop("__getstate__", None)
        self._hooked.clear()
        for patch in self._patches:
            optimizer = patch.optimizer()
            if optimizer is None or vars(optimizer).get(patch.name) is not patch.method:
                continue  # somebody has put a method of theirs around it
            if patch.before is None:
                delattr(optimizer, patch.name)
            else:
                setattr(optimizer, patch.name, patch.before)
        self._patches.clear()
        self._links = []
        self._weights_of = {}
        _live.discard(self)
        if not _live:
            for removable in _step_hooks:
                removable.remove()
            _step_hooks.clear()

    def _hook_gradient(self, parameter: nn.Parameter) -> None:
        if not (parameter.is_floating_point() or parameter.is_complex()):
            return
        # One that is frozen may be thawed: torch takes the hook only while it is not, and keeps it.
        frozen = not parameter.requires_grad
        if frozen:
            parameter.requires_grad_(True)
        hook = _OnGradient(self)
        self._removables.append(parameter.register_post_accumulate_grad_hook(hook))  # type: ignore[no-untyped-call]
        if frozen:
            parameter.requires_grad_(False)

    def _hook(self, module: nn.Module, removable: RemovableHandle) -> None:
        self._removables.append(removable)
        self._hooked.append(module)
        # Copies are free, and a file of the model needs no tombola to be read.
        vars(module)["__getstate__"] = types.MethodType(_state_without_hooks, module)

    def _hook_methods(self, optimizer: Any) -> None:
        """Mask the weights after what an optimiser can do besides what torch's optimisers do."""
        if not hasattr(optimizer, "__dict__"):
            return
        for name in dir(type(optimizer)):
            known = hasattr(torch.optim.Optimizer, name)
            function = inspect.getattr_static(type(optimizer), name)
            own_step = name == "step" and not getattr(function, "hooked", False)
            if name.startswith("_") or (known and not own_step):
                continue
            if not isinstance(function, types.FunctionType):
                continue
            before = vars(optimizer).get(name)
            current = getattr(optimizer, name) if before is None else before
            method = types.MethodType(_after(current, weakref.ref(self)), optimizer)
            setattr(optimizer, name, method)
            self._patches.append(_Patch(_weakly(optimizer), name, before, method))

    # ---- what it does there

    def _follow(self) -> None:
        """Hold the parameters of the same names where a layer or a parameter was replaced."""
        if not any(_was_replaced(link) for link in self._links):
            return
        try:
            self.replace(self.mask)
        except InputError as error:
            raise InputError(f"hold_ cannot hold on, since a layer was replaced: {error}; give "
                             "handle.replace a mask that fits, or call handle.remove()") from None  # fmt: skip

    def _at_state(self, _module: nn.Module | None = None) -> None:
        self._outermost = None
        self._follow()
        self.mask_weights()

    def _enter(self, weights: Sequence[_Weight], passes: Iterator[int], module: nn.Module) -> None:
        """Zero all pruned weights of a module before its forward pass, once with those within."""
        if self._outermost is not None:
            return
        self._follow()
        self._outermost = module
        number = next(passes)
        # To look takes time, so a long training is looked at less and less often.
        look = not self._warned and (number <= _LOOKS or number.bit_count() == 1)
        with torch.no_grad():
            for weight in weights:
                if not look or _unreadable(weight.parameter):
                    weight.mask_()
                elif weight.mask_and_look_():
                    self._warn(weight)

    def _leave(self, module: nn.Module) -> None:
        if self._outermost is module:
            self._outermost = None

    def _warn(self, weight: _Weight) -> None:
        """Say once that pruned weights were written where nothing can be seen."""
        if self._warned:
            return
        self._warned = True
        live = names.parameters(self._model, shared=True)
        called = (name for name, parameter in live.items() if parameter is weight.parameter)
        name = next(called, "a parameter")
        warnings.warn(
            f"hold_: pruned weights of '{name}' had been written outside of any optimizer's step "
            "that it sees (by an average, by hand, by something around the optimizer); they are "
            "zero in every forward pass, but not in between: give hold_ the outermost optimizer, "
            "or call handle.mask_weights() after such writing",
            stacklevel=2,
        )

    def _trained_by(self, optimizer: torch.optim.Optimizer) -> bool:
        return any(id(parameter) in self._weights_of for parameter in _parameters(optimizer))

    def _after_step(self, optimizer: torch.optim.Optimizer) -> None:
        if all(ref() is not optimizer for ref in self._stepped):
            # A loop may make a new one each round.
            self._optimizers = [ref for ref in self._optimizers if ref() is not None]
            self._patches = [patch for patch in self._patches if patch.optimizer() is not None]
            self._stepped = [ref for ref in self._stepped if ref() is not None]
            self._stepped.append(_weakly(optimizer))
            # Another one than was given, or what it is in, may have methods of its own.
            for unseen in (optimizer, *_callers(optimizer)):
                if all(ref() is not unseen for ref in self._optimizers):
                    self._optimizers.append(_weakly(unseen))
                    self._hook_methods(unseen)
        self._at_state()


def _was_replaced(link: _Link) -> bool:
    now = link.entries.get(link.key)
    # What stands in for a parameter for the length of a call (torch.func.functional_call) is none.
    return now is not link.value and (now is None or isinstance(now, (nn.Parameter, nn.Module)))


def _unreadable(parameter: Tensor) -> bool:
    """Whether no number can be read: on no device, or while a CUDA graph is recorded."""
    return parameter.is_meta or (parameter.is_cuda and torch.cuda.is_current_stream_capturing())


class _Copied(Handle):
    """A copy of a handle, which holds nothing."""

    def __init__(self, mask: Mask) -> None:
        self.mask = mask
        self._weights, self._keeps = [], []

    def replace(self, mask: Mask) -> None:  # noqa: ARG002
        raise InputError("this handle is a copy and holds no model; call hold_ again")

    def remove(self) -> None:
        """Let go of nothing."""


class _Hook:
    """What a module calls before its forward pass, and around saving and loading.

    A copy of it does nothing.
    """

    def __init__(self, act: Callable[[nn.Module], None] | None) -> None:
        self._act = act

    def __call__(self, module: nn.Module, *_: object) -> None:
        # A compiled or traced forward pass would have the zeroing recorded as a part of it.
        traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
        if traced or self._act is None:
            return
        self._act(module)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Hook, (None,)


def _has_hooks(module: nn.Module) -> bool:
    hooks = itertools.chain.from_iterable(getattr(module, name).values() for name in _MODULE_HOOKS)
    return any(isinstance(hook, _Hook) for hook in hooks)


def _state_without_hooks(module: nn.Module) -> Any:
    """Return what a copy or a file of a module is made of, without what holds it."""
    state = type(module).__getstate__(module)  # type: ignore[no-untyped-call]
    if not isinstance(state, dict):
        return state
    state = {name: value for name, value in state.items() if name != "__getstate__"}
    for name in _MODULE_HOOKS:
        if name not in state:
            continue
        hooks = state[name].items()
        theirs = [(key, hook) for key, hook in hooks if not isinstance(hook, _Hook)]
        state[name] = OrderedDict(theirs)
    left = state.get("_forward_hooks", {})
    always = state.get("_forward_hooks_always_called", {})
    state["_forward_hooks_always_called"] = OrderedDict()
    for key, called in always.items():
        if key in left:
            state["_forward_hooks_always_called"][key] = called
    return state


class _OnGradient:
    """What torch calls when the gradient of a parameter has been accumulated."""

    def __init__(self, held: Held) -> None:
        # Weakly: a parameter keeps its hooks where Python's garbage collection does not look.
        self.held = weakref.ref(held)

    def __call__(self, parameter: Tensor) -> None:
        held = self.held()
        weight = None if held is None else held._weights_of.get(id(parameter))
        if weight is not None:
            with torch.no_grad():
                weight.mask_gradient_()


def _holders(parameter: nn.Parameter) -> list[Held]:
    hooks = getattr(parameter, "_post_accumulate_grad_hooks", None) or {}
    handles = [hook.held() for hook in hooks.values() if isinstance(hook, _OnGradient)]
    return [held for held in handles if held is not None]


def _after(method: Callable[..., Any], ref: weakref.ref[Held]) -> Callable[..., Any]:
    """Make the method of an optimiser that zeroes pruned weights when it is done."""
    function = method.__func__ if isinstance(method, types.MethodType) else None

    @functools.wraps(method)
    def held_method(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs) if function is None else function(self, *args, **kwargs)
        held = ref()
        if held is not None:
            held.mask_weights()
        return result

    return held_method


@_disable_dynamo
def _before_step(
    optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Have an optimiser that evaluates between its moves (LBFGS) see zeros each time."""
    closure = kwargs.get("closure") if "closure" in kwargs else next(iter(args[1:]), None)
    holding = [held for held in list(_live) if held._trained_by(optimizer)]
    if not holding or not callable(closure):
        return None

    @functools.wraps(closure)
    def evaluated() -> Any:
        for held in holding:
            held.mask_weights()
        return closure()

    if "closure" in kwargs:
        return args, kwargs | {"closure": evaluated}
    return (args[0], evaluated, *args[2:]), kwargs


@_disable_dynamo
def _after_step(optimizer: torch.optim.Optimizer, *_: object) -> None:
    for held in list(_live):
        if held._trained_by(optimizer):
            held._after_step(optimizer)


def _inside(optimizer: Any) -> Iterator[Any]:
    """Yield the optimisers that an object is or holds, outermost first."""
    waiting, seen = [optimizer], set()
    while waiting:
        candidate = waiting.pop(0)
        if id(candidate) in seen:
            continue
        seen.add(id(candidate))
        if hasattr(candidate, "param_groups"):
            yield candidate
        # Its attributes, and what lies in lists and dictionaries of them or in itself as one.
        parts = list(getattr(candidate, "__dict__", {}).values())
        for value in [candidate, *parts]:
            if isinstance(value, (list, tuple)):
                parts.extend(value)
            elif isinstance(value, dict):
                parts.extend(value.values())
        for part in parts:
            if callable(getattr(part, "step", None)) and not isinstance(part, type):
                waiting.append(part)


def _callers(optimizer: torch.optim.Optimizer) -> Iterator[Any]:
    """Yield the optimisers in whose step this one's step was called: a Lookahead, a wrapper."""
    frame = inspect.currentframe()
    for _ in range(_FRAMES):
        frame = None if frame is None else frame.f_back
        # Of no other frame: Python keeps what was in it as long as it runs, and a loop runs for
        # hours.
        if frame is None or not frame.f_code.co_name.endswith("step"):
            continue
        outer = frame.f_locals.get("self")
        if (
            outer is not optimizer
            and hasattr(outer, "param_groups")
            and any(inner is optimizer for inner in _inside(outer))
        ):
            yield outer


def _weakly(optimizer: Any) -> Callable[[], Any]:
    """Return what gives an optimiser as long as it lives; one without weak references is kept."""
    try:
        return weakref.ref(optimizer)
    except TypeError:
        return lambda: optimizer


def _parameters(optimizer: Any) -> Iterator[Tensor]:
    # Whatever it is: the hooks on steps see every optimiser of the process.
    for group in getattr(optimizer, "param_groups", ()):
        yield from group.get("params", ())
