"""States: what a model holds, as tensors by name, and back into a model.

    model -> [ state_of ] -> search, digests, files -> [ load_ ] -> model

A state is a ``state_dict`` of tensors alone. What a module says of itself with ``get_extra_state``
and is no tensor (a dict of numbers and texts, say) is carried as the bytes of its JSON text behind
a mark, so that it is digested, stored and written into tickets like everything else, and nothing is
ever unpickled.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tombola.ground.errors import InputError
from tombola.ground.types import State
from tombola.masks import names

_EXTRA = "_extra_state"  # what torch calls the entry of a module that has a state of its own
# before the text of an extra state, so that it is not taken for a tensor of the module's
_MARK = b"\0tombola json\0"


def state_of(model: nn.Module, *, keep_vars: bool = False) -> dict[str, Tensor]:
    """Return a model's state as tensors by name, sharing the model's memory as a ``state_dict``.

    Args:
        model: Any module.
        keep_vars: Give the parameters themselves, so that a shared one can be told by its identity.

    Raises:
        InputError: A module's extra state is neither a tensor nor plain data (JSON), or it cannot
            be loaded again.

    >>> list(state_of(nn.Linear(2, 1)))
    ['weight', 'bias']
    """
    state: dict[str, Tensor] = {}
    modules: dict[str, nn.Module] = {}
    for name, value in names.state(model, keep_vars=keep_vars).items():
        if is_extra(name):
            modules = modules or names.modules(model, shared=True)
            _check_loadable(modules[name.rpartition(".")[0]], name)
        state[name] = value if isinstance(value, Tensor) else as_tensor(name, value)
    return state


def load_(model: nn.Module, state: State) -> None:
    """Load a complete state into a model, in place, as one that this version of the model wrote.

    ``dict(state)`` forgets the versions that torch notes beside a ``state_dict``, and a module that
    finds none takes the state for an old one and changes or refuses it. A state of tombola's is
    always of the model as it is now.

    Raises:
        RuntimeError: A name or a shape differs, as from ``load_state_dict``.

    >>> model = nn.Linear(2, 1)
    >>> load_(model, {"weight": torch.ones(1, 2), "bias": torch.zeros(1)})
    >>> model.weight.tolist()
    [[1.0, 1.0]]
    """
    values: OrderedDict[str, Any] = OrderedDict()
    for name, value in state.items():
        values[name] = as_it_was(value) if is_extra(name) else value
    names.load_(model, noted_as(values, state))


def noted_as(state: Mapping[str, Any], source: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a state with the versions that torch noted beside the state that it was made from.

    Where the names lost the prefixes of wrappers, so do those of the versions. Versions that do not
    name the state's modules are left out: it counts as one of the model as it is.
    """
    noted = getattr(source, "_metadata", None)
    if not isinstance(noted, Mapping) or not all(isinstance(name, str) for name in noted):
        return state
    module_names = {name.rpartition(".")[0] for name in state}
    renamed = names.holding(noted, module_names)
    if renamed is None or (state is source and renamed == noted):
        return state
    return _with_metadata(state, renamed)


def _with_metadata(state: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a state, with what torch notes beside a ``state_dict`` where torch looks for it."""
    noted: OrderedDict[str, Any] = OrderedDict(state)
    noted._metadata = OrderedDict(metadata)  # type: ignore[attr-defined]
    return noted


def tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a ``state_dict`` as tensors alone: extra states become tensors, see `as_tensor`."""
    state = dict(state)
    for name, value in state.items():
        if is_extra(name) and not isinstance(value, Tensor):
            state[name] = as_tensor(name, value)
    return state


def copied(state: State) -> dict[str, Tensor]:
    """Copy a state; names that share a tensor share its copy.

    So it can still be seen what the model shares.

    >>> weight = torch.ones(2)
    >>> both = copied({"a": weight, "b": weight})
    >>> both["a"] is weight, both["a"] is both["b"]
    (False, True)
    """
    copies: dict[object, Tensor] = {}
    result = {}
    for name, value in state.items():
        place = _place(value, name)
        if place not in copies:
            copies[place] = value.detach().clone()
        result[name] = copies[place]
    return result


def shared_names(state: Mapping[str, Any]) -> dict[str, str]:
    """Return the first name of each tensor that has more than one, by its other names.

    Names share a tensor where they stand for the same memory, not where their values are equal.

    >>> weight, equal = torch.ones(2), torch.ones(2)
    >>> shared_names({"encoder": weight, "decoder": weight, "teacher": equal})
    {'decoder': 'encoder'}
    """
    first_names: dict[object, str] = {}
    shared: dict[str, str] = {}
    for name, value in state.items():
        if isinstance(value, Tensor):
            first = first_names.setdefault(_place(value, name), name)
            if first != name:
                shared[name] = first
    return shared


def sharing(state: State, model: nn.Module, changed: Collection[str]) -> dict[str, Tensor]:
    """Give all names of a shared parameter the value that a state has under a changed one.

    Args:
        state: In which parameters were replaced under one of their names.
        model: Tells which names share a parameter.
        changed: The names under which they were replaced.

    >>> model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    >>> model[1].weight = model[0].weight
    >>> state = {**model.state_dict(), "0.weight": torch.ones(1, 1)}
    >>> sharing(state, model, ["0.weight"])["1.weight"].tolist()
    [[1.0]]
    """
    parameters = names.parameters(model, shared=True)
    values = {}
    for name in changed:
        values[id(parameters[name])] = state[name]
    shared = dict(state)
    for name, parameter in parameters.items():
        # A rehearsal has the prunable weights alone.
        if name in shared and id(parameter) in values:
            shared[name] = values[id(parameter)]
    return shared


def _place(value: Tensor, name: str) -> object:
    """Return what two names of one tensor have in common: memory, shape and strides.

    A tensor that shares nothing is identified by its name.
    """
    try:
        start = value.data_ptr()
    except RuntimeError:  # a tensor that stands nowhere, such as a sparse one
        start = 0
    if start == 0 or value.numel() == 0:
        return name
    return value.device, start, value.dtype, tuple(value.shape), value.stride()


def noted_versions(model: nn.Module) -> dict[str, int]:
    """Return the versions of a model's modules that are not 1, by their names.

    >>> noted_versions(nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1)))
    {'1': 2}
    """
    return versions(getattr(names.unwrapped(model).state_dict(), "_metadata", {}))


def versions(noted: Mapping[str, Any]) -> dict[str, int]:
    """Return the versions that torch notes beside a ``state_dict``, by module, without those of 1.

    >>> versions({"": {"version": 1}, "norm": {"version": 2}})
    {'norm': 2}
    """
    numbers = {}
    for name, about in noted.items():
        number = about.get("version") if isinstance(about, Mapping) else None
        if type(number) is int and number != 1:
            numbers[name] = number
    return numbers


def versioned(state: Mapping[str, Any], known: Mapping[str, int]) -> dict[str, Any]:
    """Return a state with the versions of its modules beside it, as torch's ``state_dict``.

    They are 1 where none is known.

    >>> dict(versioned({"norm.weight": torch.ones(1)}, {"norm": 2})._metadata)
    {'': {'version': 1}, 'norm': {'version': 2}}
    """
    if not known:
        return dict(state)
    # Torch notes a version for every module, down to the one that holds the tensor.
    module_names = {"", *known}
    for name in state:
        while name:
            name = name.rpartition(".")[0]
            module_names.add(name)
    noted = {name: {"version": known.get(name, 1)} for name in sorted(module_names)}
    return _with_metadata(state, noted)


def is_extra(name: str) -> bool:
    """Whether a name of a state is that of a module's extra state."""
    return name.rpartition(".")[2] == _EXTRA


def as_tensor(name: str, value: Any) -> Tensor:
    """Return an extra state as the bytes of its JSON text, which `as_it_was` reads.

    Raises:
        InputError: It is no plain data: reading the text again would give something else.

    >>> as_it_was(as_tensor("layer._extra_state", {"steps": 3}))
    {'steps': 3}
    """
    # JSON changes some values without an error: a tuple becomes a list, a number as key a text.
    try:
        text = json.dumps(value, allow_nan=False)
        same = json.loads(text) == value
    except (TypeError, ValueError, RecursionError):
        same = False
    if not same:
        raise InputError(
            f"'{name}' is a {type(value).__name__} that is no plain data, and a state is carried "
            "as tensors; let get_extra_state give a tensor, or lists and dicts of numbers and texts"
        )
    return torch.frombuffer(bytearray(_MARK + text.encode()), dtype=torch.uint8)


def as_it_was(value: Any) -> Any:
    """Return an extra state as the module gave it: a tensor, or plain data before `as_tensor`."""
    if not isinstance(value, Tensor) or value.dtype is not torch.uint8 or value.ndim != 1:
        return value
    raw = value.detach().cpu().numpy().tobytes()
    if not raw.startswith(_MARK):
        return value
    try:
        return json.loads(raw.removeprefix(_MARK))
    except (ValueError, RecursionError) as error:
        raise InputError(f"an extra state is damaged: {type(error).__name__}") from error


def set_extra_(model: nn.Module, name: str, value: Any) -> None:
    """Give one module its extra state, by its name in the state of the model."""
    names.modules(model, shared=True)[name.rpartition(".")[0]].set_extra_state(as_it_was(value))


def on_cpu(name: str, value: Any) -> Any:
    """Copy an entry of a state to the CPU; an extra state as its module gave it."""
    value = as_it_was(value) if is_extra(name) else value
    return value.detach().cpu().clone() if isinstance(value, Tensor) else value


def lost(value: Tensor, dtype: torch.dtype) -> str | None:
    """Name the first value that a dtype cannot hold; ``None`` where there is none.

    That is a finite one that becomes infinite, or an integer that becomes another. Rounding is no
    loss here.

    >>> lost(torch.tensor([1.0, 1e6]), torch.float16)
    '1e+06'
    >>> lost(torch.tensor([1.0, 1e6]), torch.bfloat16) is None
    True
    """
    if value.dtype == dtype or value.numel() == 0:
        return None
    became = value.to(dtype)
    if value.is_floating_point() or value.is_complex():
        # Through float32: of the small dtypes torch does not know whether they are finite.
        wide = torch.float32 if value.dtype.itemsize < 4 else value.dtype
        was, now = value.to(wide), became.to(torch.float32 if dtype.itemsize < 4 else dtype)
        bad = was.isfinite() & ~now.isfinite()
    else:
        bad = became.to(value.dtype) != value
    if not bool(bad.any()):
        return None
    first = value[bad][0].item()
    return f"{first:g}" if isinstance(first, float) else str(first)


def _check_loadable(module: nn.Module, name: str) -> None:
    if type(module).set_extra_state is nn.Module.set_extra_state:
        raise InputError(
            f"'{name}' cannot be loaded again: {type(module).__name__} has get_extra_state and no "
            "set_extra_state"
        )
