"""Anatomy: all that a step reads of a model made of torch's own layers, and whether it is still
so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from operator import attrgetter, call, is_, itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_PARTS = ("_parameters", "_buffers", "_modules")
_PLAIN = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    torch.dtype,
    torch.device,
    torch.memory_format,
    torch.layout,
)


def traceable(model: nn.Module) -> bool:
    """Whether a recording of one step stands for every step of a model.

    It does for one of torch's own layers, without buffers, hooks and whatever else is not torch's:
    a module of the user's own may decide in Python what it does next, which a recording would
    freeze; buffers, such as those of batch norm, change while a model trains. Attributes of layers
    may be plain values alone; a tensor, a function or an object may change, and nobody would see
    it.

    >>> traceable(nn.Sequential(nn.Flatten(), nn.Linear(4, 2))), traceable(nn.BatchNorm1d(2))
    (True, False)
    """
    return Anatomy.of(model) is not None


@dataclass(frozen=True, eq=False)
class Anatomy:
    """All that a step reads of a model made of torch's own layers, and whether it is still so.

    Attributes:
        key: Equal for two models whose steps are the same operations on tensors of the same layout.
        parameters: All of them, each once.
        trained: Those of them that have gradients.
    """

    key: object
    parameters: list[nn.Parameter]
    trained: list[nn.Parameter]
    # For `unchanged`, which may run in every step and must take microseconds: all is compared in a
    # few passes.
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
    def of(cls, model: nn.Module) -> Anatomy | None:
        """Look at a model; nothing if a recording might freeze something of it."""
        modules, parameters = list(model.modules()), list(model.parameters())
        if not all(map(_is_plain_module, modules)) or not all(map(_is_plain_parameter, parameters)):
            return None
        # Each part by its number, so that those which are one (a shared layer, tied weights) have
        # one number.
        number_of = {id(part): number for number, part in enumerate(chain(modules, parameters))}
        places = chain(
            model.named_modules(remove_duplicate=False),
            model.named_parameters(remove_duplicate=False),
        )
        layouts = list(map(layout, parameters))
        key = (
            tuple((name, number_of[id(part)]) for name, part in places),
            tuple(map(_settings, modules)),
            tuple(layouts),
        )
        parts = [vars(module)[name] for module in modules for name in _PARTS]
        lists = [
            value for module in modules for value in vars(module).values() if type(value) is list
        ]
        filled = [*map(vars, modules), *(part for part in parts if part), *lists]
        settings = [*map(_reader, modules), *(values.copy for values in lists)]
        read_parts = [part.values for part in parts if part]
        return cls(
            key=key,
            parameters=parameters,
            trained=[parameter for parameter in parameters if parameter.requires_grad],
            _modules=modules,
            _kinds=list(map(type, modules)),
            _empty=[part for part in parts if not part]
            + [vars(m)[name] for m in modules for name in _HOOKS],
            _filled=filled,
            _sizes=list(map(len, filled)),
            _readers=[*settings, *read_parts],
            _read=list(chain.from_iterable(map(call, [*settings, *read_parts]))),
            # No hooks, whatever the containers are that they would be in: a list that is empty now
            # may be filled.
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


_flags = attrgetter(
    "requires_grad", "shape", "dtype", "_backward_hooks", "_post_accumulate_grad_hooks"
)


def _reader(module: nn.Module) -> Callable[[], object]:
    """Make what reads a module's mode and its own attributes, quickly."""
    own = [name for name in vars(module) if name not in _OF_EVERY_MODULE]
    # The mode twice: a getter of a single name would give the value itself and no tuple.
    return partial(itemgetter("training", "training", *own), vars(module))


def _is_plain_module(module: nn.Module) -> bool:
    """Whether a module is torch's own, and nothing but plain values and parameters decides what
    it does.
    """
    kind = type(module)
    return (
        kind.__module__.startswith("torch.nn.modules.")
        and getattr(nn, kind.__name__, None) is kind
        and kind.forward.__module__.startswith("torch.nn.modules.")
        and not any(vars(module)[name] for name in _HOOKS)
        and not any(buffer is not None for buffer in vars(module)["_buffers"].values())
        and all(
            _is_plain(value) for name, value in vars(module).items() if name not in _OF_EVERY_MODULE
        )
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
    """Return the kind of a module, its mode and its own attributes, exactly: 1, 1.0 and True
    are three values.
    """
    own = {name: value for name, value in vars(module).items() if name not in _OF_EVERY_MODULE}
    return (
        type(module),
        module.training,
        tuple((name, type(value), repr(value)) for name, value in own.items()),
    )


def layout(tensor: Tensor) -> tuple[object, ...]:
    """Return all that decides which operations a tensor is worked on with, but its numbers."""
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device, tensor.requires_grad
