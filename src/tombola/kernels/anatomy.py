"""Anatomy: all that a step reads of a model of torch's own layers, and whether it has changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    type(None), bool, int, float, complex, str,
    torch.dtype, torch.device, torch.memory_format, torch.layout,
)  # fmt: skip


def traceable(model: nn.Module) -> bool:
    """Whether a recording of one step stands for every step of a model.

    It does for a model of torch's own layers without buffers, hooks or anything that is not
    torch's. A user's own module may decide in Python what it does next, which a recording would
    freeze; buffers, such as those of batch norm, change while a model trains. Attributes of layers
    must be plain values: a tensor, a function or an object may change without being noticed.

    >>> traceable(nn.Sequential(nn.Flatten(), nn.Linear(4, 2))), traceable(nn.BatchNorm1d(2))
    (True, False)
    """
    return Anatomy.of(model) is not None


@dataclass(frozen=True, eq=False)
class Anatomy:
    """All that a step reads of a model of torch's own layers, and whether it has changed.

    Attributes:
        key: Equal for two models whose steps are the same operations on tensors of the same layout.
        parameters: All of them, each once.
        trained: Those of them that have gradients.
    """

    key: object
    parameters: list[nn.Parameter]
    trained: list[nn.Parameter]
    # What `unchanged` compares. It may run in every step and must take microseconds, so everything
    # is compared in a few passes over flat lists.
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
        """Inspect a model; ``None`` if a recording might freeze something of it."""
        modules, parameters = list(model.modules()), list(model.parameters())
        if not all(map(_is_plain_module, modules)) or not all(map(_is_plain_parameter, parameters)):
            return None

        # Containers that are empty must stay empty; of the others the size and each entry is
        # compared.
        empty: list[Any] = []
        filled: list[Any] = list(map(vars, modules))
        readers: list[Callable[[], Any]] = list(map(_reader, modules))
        for module in modules:
            attributes = vars(module)
            for name in _PARTS:
                part = attributes[name]
                if part:
                    filled.append(part)
                    readers.append(part.values)
                else:
                    empty.append(part)
            for name in _HOOKS:
                empty.append(attributes[name])
            for value in attributes.values():
                if type(value) is list:
                    filled.append(value)
                    readers.append(value.copy)
        return cls(
            key=_key(model, modules, parameters),
            parameters=parameters,
            trained=[parameter for parameter in parameters if parameter.requires_grad],
            _modules=modules,
            _kinds=list(map(type, modules)),
            _empty=empty,
            _filled=filled,
            _sizes=list(map(len, filled)),
            _readers=readers,
            _read=list(chain.from_iterable(map(call, readers))),
            # No hooks at all, not those that there are now: a list that is empty may be filled.
            _flags=[(p.requires_grad, p.shape, p.dtype, None, None) for p in parameters],
            _strides=list(map(Tensor.stride, parameters)),
        )

    def unchanged(self) -> bool:
        """Whether the model is as it was when it was inspected."""
        try:
            return (
                not any(self._empty)
                and list(map(len, self._filled)) == self._sizes
                and list(map(type, self._modules)) == self._kinds
                and all(map(is_, chain.from_iterable(map(call, self._readers)), self._read))
                and list(map(_flags, self.parameters)) == self._flags
                and list(map(Tensor.stride, self.parameters)) == self._strides
            )
        except KeyError:  # an attribute was removed and another one added
            return False


def _key(
    model: nn.Module, modules: Sequence[nn.Module], parameters: Sequence[nn.Parameter]
) -> object:
    """Return what two models must have in common to share a recording."""
    # A shared layer and tied weights have one number under several names.
    number_of: dict[int, int] = {}
    for part in chain(modules, parameters):
        number_of[id(part)] = len(number_of)
    structure = []
    for name, module in model.named_modules(remove_duplicate=False):
        structure.append((name, number_of[id(module)]))
    for name, parameter in model.named_parameters(remove_duplicate=False):
        structure.append((name, number_of[id(parameter)]))
    return tuple(structure), tuple(map(_settings, modules)), tuple(map(layout, parameters))


_flags = attrgetter(
    "requires_grad", "shape", "dtype", "_backward_hooks", "_post_accumulate_grad_hooks"
)


def _reader(module: nn.Module) -> Callable[[], object]:
    """Make a function that reads a module's mode and its own attributes, quickly."""
    # The mode twice: a getter of a single name would return the value itself and no tuple.
    getter = itemgetter("training", "training", *_own_attributes(module))
    return partial(getter, vars(module))


def _own_attributes(module: nn.Module) -> dict[str, Any]:
    """Return the attributes that a layer has beyond those of every module."""
    return {name: value for name, value in vars(module).items() if name not in _OF_EVERY_MODULE}


def _is_plain_module(module: nn.Module) -> bool:
    """Whether a module is torch's own and depends on plain values and parameters alone."""
    kind = type(module)
    if (
        not kind.__module__.startswith("torch.nn.modules.")
        or getattr(nn, kind.__name__, 0) is not kind
    ):
        return False
    if not kind.forward.__module__.startswith("torch.nn.modules."):
        return False
    # Hooks are a user's own code, and buffers change while a model trains.
    attributes = vars(module)
    if any(attributes[name] for name in _HOOKS):
        return False
    if any(buffer is not None for buffer in attributes["_buffers"].values()):
        return False
    return all(map(_is_plain, _own_attributes(module).values()))


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
    """Return the kind of a module, its mode and its own attributes.

    Each attribute with its type: 1, 1.0 and True are three values.
    """
    attributes = []
    for name, value in _own_attributes(module).items():
        attributes.append((name, type(value), repr(value)))
    return type(module), module.training, tuple(attributes)


def layout(tensor: Tensor) -> tuple[object, ...]:
    """Return all of a tensor but its values that decides which operations are run on it."""
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device, tensor.requires_grad
