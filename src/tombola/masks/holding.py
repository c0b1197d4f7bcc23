"""Holding: pruned weights stay at zero in anybody's training loop.

    forward -> backward -> [ mask gradients ] -> clip -> step -> [ mask weights ] -> forward -> ...

`hold_` does not know the loop, so it does not rely on any single place in it. Gradients are masked
as soon as they are accumulated, whichever weights are trained at the time. Weights are masked after
the step of every torch optimiser that trains one of them, after all other methods of such an
optimiser, before every forward pass, and around loading and saving.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import operator
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
from tombola.masks.masks import MaskHandle, masked_parameters

# Integers of a weight's size, by bytes: AND with all bits set keeps a value, with none clears it.
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
# The first forward passes are all inspected, then those whose number is a power of two.
_LOOKS = 64
# How far up the stack to look for an optimiser in whose step another one's step was called.
_FRAMES = 16
_MODULE_HOOKS = (
    "_forward_pre_hooks",
    "_forward_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)

_live: weakref.WeakSet[HookedMaskHandle] = weakref.WeakSet()
_step_hooks: list[RemovableHandle] = []


def hold_(optimizer: Any, model: nn.Module, mask: Mask) -> HookedMaskHandle:
    """Keep pruned weights at zero in anybody's training loop.

    Sets them to zero now; masks each gradient as soon as it is accumulated, so before the loop
    clips; and zeroes the weights again after each step of *any* torch optimiser that trains one of
    them, after its other methods (``first_step``, ``eval``), and before each forward pass. The
    model is not wrapped, its ``state_dict`` keeps its names, and copies of it are not held. Pruned
    weights that became infinite or NaN are zeroed, too.

    A weight is held by the last call that named it; an earlier handle releases it. Weights stay
    held when they are frozen or thawed, loaded, moved to another device or dtype, or when a layer
    is replaced by one of its shape; a layer of another shape is refused at its next forward pass or
    step.

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
        A handle: ``handle.replace(mask)`` holds another mask, ``handle.remove()`` releases the
        weights. It is a context manager, too: ``with hold_(optimizer, model, mask):`` releases them
        at the end.

    Raises:
        InputError: The mask does not fit the model, is not boolean or is empty; the optimiser
            trains no parameter of the model, or is none; a weight is sharded or has no shape yet.

    >>> layer = nn.Linear(3, 1)
    >>> sgd = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    >>> handle = hold_(sgd, layer, {"weight": torch.tensor([[True, False, True]])})
    >>> layer(torch.ones(1, 3)).sum().backward()
    >>> sgd.step()
    >>> (layer.weight != 0).tolist()
    [[True, False, True]]
    >>> handle.remove()
    """
    # Swapped arguments are the usual mistake.
    if isinstance(optimizer, nn.Module) or not isinstance(model, nn.Module):
        raise InputError(
            "hold_ takes an optimizer, a model and a mask, in this order; the first is "
            f"a {type(optimizer).__name__}, the second a {type(model).__name__}"
        )
    # A wrapper such as SAM holds the optimiser that trains.
    optimizers = list(_inside(optimizer))
    if not optimizers:
        raise InputError(
            f"hold_ cannot see what a {type(optimizer).__name__} trains: neither it nor "
            "what it holds has param_groups; give it the optimizer itself"
        )
    trained: set[int] = set()
    for inner in optimizers:
        trained.update(map(id, _parameters(inner)))
    if trained.isdisjoint(map(id, model.parameters())):
        raise InputError(
            f"the {type(optimizer).__name__} trains no parameter of this model: it was "
            "made for another one, or before the model's parameters were; make it from "
            "model.parameters()"
        )
    return HookedMaskHandle(model, mask, optimizers)


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
        # A sparse gradient, as of an embedding, holds the values of some rows alone.
        if grad.layout is not torch.strided:
            keep = self.keep.to(grad.device)[tuple(grad._indices())]
            grad._values().masked_fill_(~keep, 0)
            return
        # A gradient may have another dtype or device than the bits, which are the weight's.
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
        # The norm of equal numbers is the same to the last bit, and takes a tenth of the time that
        # counting takes. Two that are NaN say nothing.
        return before != after and (before == before or after == after)

    def _norm(self) -> float:
        # A norm in half precision has too few digits to show a difference.
        dtype = torch.float32 if self.parameter.element_size() < 4 else None
        return float(torch.linalg.vector_norm(self.parameter.data, dtype=dtype))


def _bits(keep: Tensor, values: Tensor) -> Tensor:
    """Return an integer for each value, all bits set where it is kept and none where not.

    Values that are longer than any integer get a boolean instead.
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
    """An optimiser's method that was replaced by one that masks the weights afterwards."""

    optimizer: Callable[[], Any]
    name: str
    before: Any  # what the instance itself had under that name, if anything
    method: Any


class _Link(NamedTuple):
    """An entry of a module that leads to a weight, and its value when the weight was held."""

    entries: dict[str, Any]
    key: str
    value: Any


@dataclass
class _Paths:
    """The paths from a model to the weights that are held.

    Attributes:
        inside: The weights inside each module on a path, wrappers included.
        owners: The modules that own a weight themselves.
        links: The entries along the paths; another value there means that a layer or weight was
            replaced.
    """

    inside: dict[nn.Module, dict[int, _Weight]]
    owners: set[nn.Module]
    links: list[_Link]


def _paths(model: nn.Module, weights: Mapping[int, _Weight]) -> _Paths:
    """Find all paths to weights, which are given by the ids of their parameters."""
    modules = names.modules(model, shared=True)
    inside: dict[nn.Module, dict[int, _Weight]] = {}
    owners: set[nn.Module] = set()
    links: dict[tuple[int, str], _Link] = {}
    for name, parameter in names.parameters(model, shared=True).items():
        key = id(parameter)
        if key not in weights:
            continue
        # The module that owns it, under this name.
        place, _, last = name.rpartition(".")
        owner = modules[place]
        owners.add(owner)
        links[id(owner), last] = _Link(owner._parameters, last, parameter)
        inside.setdefault(owner, {})[key] = weights[key]
        # Up to the root: any module on the path may be the first whose forward pass is called.
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


class HookedMaskHandle(MaskHandle):
    """What keeps pruned weights at zero in anybody's loop; made by `hold_`.

    Attributes:
        mask: What is held. Another call of `hold_` takes over the weights that it names.
    """

    def __init__(self, model: nn.Module, mask: Mask, optimizers: Sequence[Any]) -> None:
        # Weakly: a handle must not keep an optimiser, and with it a model, alive.
        self._optimizers = list(map(_weakly, optimizers))
        self._stepped: list[Callable[[], Any]] = []  # optimisers that have made a step
        self._weights_of: dict[int, _Weight] = {}
        self._removables: list[RemovableHandle] = []
        self._hooked: list[nn.Module] = []
        self._patches: list[_Patch] = []
        self._links: list[_Link] = []
        self._warned = False
        # The module whose forward pass is under way; within it nothing need be masked again.
        self._outermost: nn.Module | None = None
        super().__init__(model, mask)

    def __repr__(self) -> str:
        pruned = 0
        for weight in self._weights_of.values():
            pruned += int((~weight.keep).count_nonzero())
        return f"HookedMaskHandle({pruned:,} pruned weights of {len(self._weights_of)} parameters)"

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy holds nothing, as hooks are not copied with the model.
        return _CopiedHandle, (dict(self.mask),)

    def __enter__(self) -> HookedMaskHandle:
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
        # All is checked before anything changes.
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
        # Two handles would both mask a weight, each with a mask of its own.
        for weight in weights.values():
            for earlier in _holders(weight.parameter):
                if earlier is not self:
                    earlier._release(weight.parameter)
        # The caller's own mapping, where it was boolean tensors already.
        masks_held = [keep for _, keep in pairs]
        if not all(map(operator.is_, masks_held, mask.values())):
            mask = dict(zip(mask, masks_held, strict=True))
        self.mask = mask
        # Where nothing is pruned there is nothing to hold: a dense training pays for no mask.
        pruned = {}
        for key, weight in weights.items():
            if not weight.keep.all():
                pruned[key] = weight
        self._attach(pruned)
        self.mask_weights()
        self.mask_gradients()

    def remove(self) -> None:
        """Release the weights: nothing of the handle is left in model or optimiser."""
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

    def _release(self, parameter: nn.Parameter) -> None:
        """Leave a parameter to another handle."""
        weights = dict(self._weights_of)
        weights.pop(id(parameter), None)
        live = names.parameters(self._model, shared=True)
        mask = dict(self.mask)
        for name in self.mask:
            if live.get(name) is parameter:
                del mask[name]
        self.mask = mask
        self._attach(weights)

    # ---- where it is attached

    def _attach(self, weights: dict[int, _Weight]) -> None:
        """Hold these weights and no others."""
        self._detach()
        self._weights_of = weights
        if not weights:
            return
        # Gradients as soon as they are there, so before any loop can clip them.
        paths = _paths(self._model, weights)
        self._links = paths.links
        for weight in weights.values():
            self._hook_gradient(weight.parameter)
        # Before each forward pass, whichever module it begins with, and around saving and loading.
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
        # Torch's hooks on steps are those of all optimisers, so all handles share them.
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
            # Somebody else may have wrapped the method since: theirs stays.
            if optimizer is None or vars(optimizer).get(patch.name) is not patch.method:
                continue
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
        # A frozen parameter may be thawed: torch takes the hook only of one that is not frozen, but
        # then keeps it.
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
        # So copies are not held, and a file of the model needs no tombola to be read.
        vars(module)["__getstate__"] = types.MethodType(_state_without_hooks, module)

    def _hook_methods(self, optimizer: Any) -> None:
        """Mask the weights after all public methods that torch's own optimisers do not have."""
        if not hasattr(optimizer, "__dict__"):
            return
        for name in dir(type(optimizer)):
            function = inspect.getattr_static(type(optimizer), name)
            if name.startswith("_") or not isinstance(function, types.FunctionType):
                continue
            # A step is hooked by torch, unless a wrapper has one of its own.
            own_step = name == "step" and not getattr(function, "hooked", False)
            if hasattr(torch.optim.Optimizer, name) and not own_step:
                continue
            before = vars(optimizer).get(name)
            current = getattr(optimizer, name) if before is None else before
            method = types.MethodType(_masking_after(current, weakref.ref(self)), optimizer)
            setattr(optimizer, name, method)
            self._patches.append(_Patch(_weakly(optimizer), name, before, method))

    # ---- what happens there

    def _follow(self) -> None:
        """Hold the new parameters of the same names where a layer or parameter was replaced."""
        if not any(map(_was_replaced, self._links)):
            return
        try:
            self.replace(self.mask)
        except InputError as error:
            raise InputError(
                f"hold_ cannot hold on, since a layer was replaced: {error}; give "
                "handle.replace a mask that fits, or call handle.remove()"
            ) from None

    def _at_state(self, _module: nn.Module | None = None) -> None:
        self._outermost = None
        self._follow()
        self.mask_weights()

    def _enter(self, weights: Sequence[_Weight], passes: Iterator[int], module: nn.Module) -> None:
        """Zero all pruned weights inside a module before its forward pass."""
        # Within another module's forward pass they have just been zeroed.
        if self._outermost is not None:
            return
        self._follow()
        self._outermost = module
        number = next(passes)
        # Inspecting takes time, so it becomes rarer in a long training.
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
        """Warn once that pruned weights were written where `hold_` cannot see it."""
        if self._warned:
            return
        self._warned = True
        # Names are looked up only here, as a warning is rare.
        name = names.by_identity(self._model).get(id(weight.parameter), "a parameter")
        warnings.warn(
            f"hold_: pruned weights of '{name}' had been written outside of any optimizer's step "
            "that it sees (by an average, by hand, by something around the optimizer); they are "
            "zero in every forward pass, but not in between: give hold_ the outermost optimizer, "
            "or call handle.mask_weights() after such writing",
            stacklevel=2,
        )

    def _trained_by(self, optimizer: torch.optim.Optimizer) -> bool:
        return not self._weights_of.keys().isdisjoint(map(id, _parameters(optimizer)))

    def _after_step(self, optimizer: torch.optim.Optimizer) -> None:
        if not _refers_to(self._stepped, optimizer):
            # A loop may make a new optimiser each round: forget those that are gone.
            self._optimizers = _alive(self._optimizers)
            self._stepped = _alive(self._stepped)
            self._patches = [patch for patch in self._patches if patch.optimizer() is not None]
            self._stepped.append(_weakly(optimizer))
            # It may not be the one that `hold_` was given, and it or a wrapper around it may have
            # methods of its own.
            for stepping in (optimizer, *_callers(optimizer)):
                if not _refers_to(self._optimizers, stepping):
                    self._optimizers.append(_weakly(stepping))
                    self._hook_methods(stepping)
        self._at_state()


def _alive(references: Sequence[Callable[[], Any]]) -> list[Callable[[], Any]]:
    return [reference for reference in references if reference() is not None]


def _refers_to(references: Sequence[Callable[[], Any]], optimizer: Any) -> bool:
    return any(reference() is optimizer for reference in references)


def _was_replaced(link: _Link) -> bool:
    now = link.entries.get(link.key)
    # A tensor that replaces a parameter during a call (torch.func.functional_call) does not count.
    return now is not link.value and (now is None or isinstance(now, (nn.Parameter, nn.Module)))


def _unreadable(parameter: Tensor) -> bool:
    """Whether no number can be read: on the device meta, or while a CUDA graph is recorded."""
    return parameter.is_meta or (parameter.is_cuda and torch.cuda.is_current_stream_capturing())


class _CopiedHandle(MaskHandle):
    """A copy of a handle, which holds nothing."""

    def __init__(self, mask: Mask) -> None:
        self.mask = mask
        self._weights, self._keeps = [], []

    def replace(self, mask: Mask) -> None:  # noqa: ARG002
        raise InputError("this handle is a copy and holds no model; call hold_ again")

    def remove(self) -> None:
        """Do nothing: a copy holds nothing."""


class _Hook:
    """A module's hook around its forward pass, saving and loading; a copy of it does nothing."""

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
    hooks: list[object] = []
    for name in _MODULE_HOOKS:
        hooks += getattr(module, name).values()
    return any(isinstance(hook, _Hook) for hook in hooks)


def _state_without_hooks(module: nn.Module) -> Any:
    """Return what a copy or a file of a module is made from, without the hooks of a handle."""
    state = type(module).__getstate__(module)  # type: ignore[no-untyped-call]
    if not isinstance(state, dict):
        return state
    state = dict(state)
    state.pop("__getstate__", None)
    for name in _MODULE_HOOKS:
        if name in state:
            state[name] = OrderedDict(state[name])
            for key, hook in list(state[name].items()):
                if isinstance(hook, _Hook):
                    del state[name][key]
    # Torch keeps here which forward hooks are always called: those that are left.
    left = state.get("_forward_hooks", {})
    always_called = state.get("_forward_hooks_always_called", {})
    state["_forward_hooks_always_called"] = OrderedDict()
    for key, value in always_called.items():
        if key in left:
            state["_forward_hooks_always_called"][key] = value
    return state


class _OnGradient:
    """A parameter's hook that masks its gradient as soon as it has been accumulated."""

    def __init__(self, handle: HookedMaskHandle) -> None:
        # Weakly: a parameter keeps its hooks where Python's garbage collection does not look.
        self.handle = weakref.ref(handle)

    def __call__(self, parameter: Tensor) -> None:
        handle = self.handle()
        weight = None if handle is None else handle._weights_of.get(id(parameter))
        if weight is not None:
            with torch.no_grad():
                weight.mask_gradient_()


def _holders(parameter: nn.Parameter) -> list[HookedMaskHandle]:
    hooks = getattr(parameter, "_post_accumulate_grad_hooks", None) or {}
    handles = []
    for hook in hooks.values():
        handle = hook.handle() if isinstance(hook, _OnGradient) else None
        if handle is not None:
            handles.append(handle)
    return handles


def _masking_after(
    method: Callable[..., Any], ref: weakref.ref[HookedMaskHandle]
) -> Callable[..., Any]:
    """Wrap an optimiser's method so that it zeroes pruned weights when it is done."""
    function = method.__func__ if isinstance(method, types.MethodType) else None

    @functools.wraps(method)
    def masking(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs) if function is None else function(self, *args, **kwargs)
        handle = ref()
        if handle is not None:
            handle.mask_weights()
        return result

    return masking


@_disable_dynamo
def _before_step(
    optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Mask before each evaluation within a step: LBFGS evaluates its closure several times."""
    # The first argument is the optimiser itself.
    closure = kwargs.get("closure") if "closure" in kwargs else next(iter(args[1:]), None)
    handles = [handle for handle in list(_live) if handle._trained_by(optimizer)]
    if not handles or not callable(closure):
        return None

    @functools.wraps(closure)
    def masked_closure() -> Any:
        for handle in handles:
            handle.mask_weights()
        return closure()

    if "closure" in kwargs:
        return args, kwargs | {"closure": masked_closure}
    return (args[0], masked_closure, *args[2:]), kwargs


@_disable_dynamo
def _after_step(optimizer: torch.optim.Optimizer, *_: object) -> None:
    for handle in list(_live):
        if handle._trained_by(optimizer):
            handle._after_step(optimizer)


def _inside(optimizer: Any) -> Iterator[Any]:
    """Yield the optimisers that an object is or contains, outermost first."""
    waiting, seen = [optimizer], set()
    while waiting:
        candidate = waiting.pop(0)
        if id(candidate) in seen:
            continue
        seen.add(id(candidate))
        if hasattr(candidate, "param_groups"):
            yield candidate
        # Its attributes, their elements where they are lists or dictionaries, and its own.
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
        # The variables of no other frame are read: Python keeps a copy of them as long as the
        # frame runs, and a loop runs for hours.
        if frame is None or not frame.f_code.co_name.endswith("step"):
            continue
        outer = frame.f_locals.get("self")
        if outer is optimizer or not hasattr(outer, "param_groups"):
            continue
        if any(inner is optimizer for inner in _inside(outer)):
            yield outer


def _weakly(optimizer: Any) -> Callable[[], Any]:
    """Refer to an optimiser weakly; one that allows no weak references is kept alive."""
    try:
        return weakref.ref(optimizer)
    except TypeError:
        return lambda: optimizer


def _parameters(optimizer: Any) -> Iterator[Tensor]:
    # Whatever it is: the hooks on steps see every optimiser of the process.
    for group in getattr(optimizer, "param_groups", ()):
        yield from group.get("params", ())
