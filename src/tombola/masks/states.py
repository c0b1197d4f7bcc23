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
from collections.abc import Mapping
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
    """Return a model's state as tensors by name; they share memory with the model, as those of
    ``state_dict`` do.

    Args:
        model: Any module.
        keep_vars: Give the parameters themselves, so that a shared one can be told by its identity.

    Raises:
        InputError: A module's extra state is neither a tensor nor plain data (JSON), or it cannot
            be loaded again.

    >>> list(state_of(nn.Linear(2, 1)))
    ['weight', 'bias']
    """
    found: dict[str, Tensor] = {}
    modules: dict[str, nn.Module] = {}
    for name, value in names.state(model, keep_vars=keep_vars).items():
        if is_extra(name):
            modules = modules or names.modules(model, shared=True)
            _check_loadable(modules[name.rpartition(".")[0]], name)
        found[name] = value if isinstance(value, Tensor) else as_tensor(name, value)
    return found


def load_(model: nn.Module, state: State) -> None:
    """Load a whole state into a model, in place, as the version of the model's own code that wrote
    it.

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
    whole: OrderedDict[str, Any] = OrderedDict()
    for name, value in state.items():
        whole[name] = as_it_was(value) if is_extra(name) else value
    names.load_(model, noted_as(whole, state))


def noted_as(state: Mapping[str, Any], given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a state with the versions that torch noted beside another one, from which it was made.

    Where the names lost the prefixes of wrappers, so do those of the versions. Versions that do not
    name the state's modules are left out: it counts as one of the model as it is.
    """
    noted = getattr(given, "_metadata", None)
    if not isinstance(noted, Mapping) or not all(isinstance(name, str) for name in noted):
        return state
    found = names.holding(noted, {name.rpartition(".")[0] for name in state})
    if found is None or (state is given and found == noted):
        return state
    whole: OrderedDict[str, Any] = OrderedDict(state)
    whole._metadata = OrderedDict(found)  # type: ignore[attr-defined]  # torch's own way to hand the versions over
    return whole


def tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a ``state_dict`` as tensors alone: what a module says of itself becomes one, see
    `as_tensor`.
    """
    return {
        name: as_tensor(name, value) if is_extra(name) and not isinstance(value, Tensor) else value
        for name, value in state.items()
    }


def copied(state: State) -> dict[str, Tensor]:
    """Copy a state; names that share one tensor share one copy, so that what a model shares can
    still be told.

    >>> weight = torch.ones(2)
    >>> both = copied({"a": weight, "b": weight})
    >>> both["a"] is weight, both["a"] is both["b"]
    (False, True)
    """
    copies: dict[object, Tensor] = {}
    return {
        name: copies.setdefault(_place(value, name), value.detach().clone())
        for name, value in state.items()
    }


def shared_names(state: Mapping[str, Any]) -> dict[str, str]:
    """Return the first name of each tensor that has more than one, by its other names.

    Names share a tensor where they stand for the same memory, not where their values are equal.

    >>> weight, equal = torch.ones(2), torch.ones(2)
    >>> shared_names({"encoder": weight, "decoder": weight, "teacher": equal})
    {'decoder': 'encoder'}
    """
    first: dict[object, str] = {}
    found: dict[str, str] = {}
    for name, value in state.items():
        if isinstance(value, Tensor):
            of = first.setdefault(_place(value, name), name)
            if of != name:
                found[name] = of
    return found


def _place(value: Tensor, name: str) -> object:
    """Return what two names of one tensor have in common: memory, shape and strides; else
    something of its own.
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
    """Return the versions that are not 1 of what torch notes beside a ``state_dict``, by the
    modules' names.

    >>> versions({"": {"version": 1}, "norm": {"version": 2}})
    {'norm': 2}
    """
    found = {
        name: about.get("version") for name, about in noted.items() if isinstance(about, Mapping)
    }
    return {name: number for name, number in found.items() if type(number) is int and number != 1}


def versioned(state: Mapping[str, Any], known: Mapping[str, int]) -> dict[str, Any]:
    """Return a state that says the versions of its modules, as a ``state_dict`` of torch does; 1
    where none is known.

    >>> dict(versioned({"norm.weight": torch.ones(1)}, {"norm": 2})._metadata)
    {'': {'version': 1}, 'norm': {'version': 2}}
    """
    if not known:
        return dict(state)
    whole: OrderedDict[str, Any] = OrderedDict(state)
    names = {""} | {
        ".".join(parts[:n])
        for parts in (name.split(".") for name in state)
        for n in range(len(parts))
    }
    noted = OrderedDict(
        (name, {"version": known.get(name, 1)}) for name in sorted(names | set(known))
    )
    whole._metadata = noted  # type: ignore[attr-defined]
    return whole


def is_extra(name: str) -> bool:
    """Whether a name of a state is that of a module's extra state."""
    return name.rpartition(".")[2] == _EXTRA


def as_tensor(name: str, value: Any) -> Tensor:
    """Return an extra state that is no tensor as the bytes of its JSON text, which `as_it_was`
    reads again.

    Raises:
        InputError: It is no plain data: reading the text again would give something else.

    >>> as_it_was(as_tensor("layer._extra_state", {"steps": 3}))
    {'steps': 3}
    """
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
    """Return an extra state as the module gave it: a tensor, or the plain data that `as_tensor`
    made one of.
    """
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
    """Say which value a dtype cannot hold: a finite one that becomes infinite, an integer that
    becomes another.

    Rounding is no loss here. The first such value is told; ``None`` where there is none.

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
