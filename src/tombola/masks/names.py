"""Names: what a parameter is called, whatever its model or a part of it is wrapped in.

    model, or a wrapper around it or around its blocks -> [ names ] -> names of the model without
    any wrapper

Data parallel, `torch.compile`, Fabric, activation checkpointing and averaged models put a model
inside a module of their own, and a prefix before its names. That is no name of the model's: a mask
made from the model fits the wrapper, and the other way round. What a wrapper is, its class says; an
attribute of the user's that is called ``module`` is part of the model, and keeps its name. Of a
state without its model only the text of the names is there: see `covering`.
"""

from __future__ import annotations

import functools
import itertools
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from torch import nn

V = TypeVar("V")
W = TypeVar("W")


class _Wrapper(NamedTuple):
    inner: str  # the attribute that holds the model
    in_state: bool  # whether that attribute's name stands in the names of a state_dict


# By the names of the classes: most of these modules take long to import, and a wrapper's was
# imported with it.
_WRAPPERS = {
    "torch.nn.parallel.data_parallel.DataParallel": _Wrapper("module", True),
    "torch.nn.parallel.distributed.DistributedDataParallel": _Wrapper("module", True),
    "torch.optim.swa_utils.AveragedModel": _Wrapper("module", True),
    "torch._dynamo.eval_frame.OptimizedModule": _Wrapper("_orig_mod", True),
    "torch.distributed.algorithms._checkpoint.checkpoint_wrapper.ActivationWrapper": _Wrapper(
        "_checkpoint_wrapped_module", False
    ),
    "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel": _Wrapper(
        "_fsdp_wrapped_module", False
    ),
    "lightning_fabric.wrappers._FabricModule": _Wrapper("_original_module", False),
    "lightning.fabric.wrappers._FabricModule": _Wrapper("_original_module", False),
}
# Parts of names that no model of the user's has by itself.
_PRIVATE = {
    "_orig_mod",
    "_checkpoint_wrapped_module",
    "_fsdp_wrapped_module",
    "_forward_module",
    "_original_module",
}


@functools.lru_cache(maxsize=1024)
def _wrapper_class(kind: Hashable) -> _Wrapper | None:
    for base in getattr(kind, "__mro__", ()):
        wrapper = _WRAPPERS.get(f"{base.__module__}.{base.__qualname__}")
        if wrapper is not None:
            return wrapper
    return None


def _wrapper(module: nn.Module) -> _Wrapper | None:
    # mypy takes the hash of the class's instances.
    return _wrapper_class(type(module))  # type: ignore[arg-type]


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside all wrappers around it; a model in none is returned as it is.

    >>> layer = nn.Linear(2, 1)
    >>> unwrapped(nn.DataParallel(layer)) is layer, unwrapped(layer) is layer
    (True, True)
    """
    wrapper = _wrapper(model)
    while wrapper is not None:
        model = getattr(model, wrapper.inner)
        wrapper = _wrapper(model)
    return model


def modules(model: nn.Module, *, shared: bool = False) -> dict[str, nn.Module]:
    """Name the modules of a model, itself as ``""``, in torch's order; wrappers are not among them.

    Args:
        model: The model, or a wrapper around it; parts of it may be in wrappers, too.
        shared: Name a module that stands in several places in each of them, and not in the first
            alone.

    >>> list(modules(nn.DataParallel(nn.Sequential(nn.DataParallel(nn.Linear(2, 1)), nn.ReLU()))))
    ['', '0', '1']
    """
    return dict(_walk(model, "", None if shared else set()))


def _walk(
    module: nn.Module, name: str, seen: set[nn.Module] | None
) -> Iterator[tuple[str, nn.Module]]:
    module = unwrapped(module)
    if seen is not None:
        if module in seen:
            return
        seen.add(module)
    yield name, module
    for child_name, child in module._modules.items():
        if child is not None:
            yield from _walk(child, f"{name}.{child_name}" if name else child_name, seen)


def parameters(model: nn.Module, *, shared: bool = False) -> dict[str, nn.Parameter]:
    """Name the parameters of a model without its wrappers, in torch's order.

    Args:
        model: The model, or a wrapper around it; parts of it may be in wrappers, too.
        shared: Name a parameter that several layers share under each of its names, and not under
            the first alone.

    >>> list(parameters(nn.DataParallel(nn.Linear(2, 1))))
    ['weight', 'bias']
    """
    named: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    for place, module in modules(model, shared=shared).items():
        for name, parameter in module._parameters.items():
            if parameter is None or (id(parameter) in seen and not shared):
                continue
            seen.add(id(parameter))
            named[f"{place}.{name}" if place else name] = parameter
    return named


def by_identity(model: nn.Module) -> dict[int, str]:
    """Return the name that each parameter of a model has in a mask, by the parameter's ``id``."""
    return {id(parameter): name for name, parameter in parameters(model).items()}


def state(model: nn.Module, *, keep_vars: bool = False) -> dict[str, Any]:
    """Return the ``state_dict`` of a model by the names that it has without its wrappers.

    Args:
        model: The model, or a wrapper around it; parts of it may be in wrappers, too.
        keep_vars: Return the parameters themselves, as torch's ``state_dict(keep_vars=True)`` does.

    >>> list(state(nn.DataParallel(nn.Linear(2, 1))))
    ['weight', 'bias']
    """
    root = unwrapped(model)
    values: dict[str, Any] = root.state_dict(keep_vars=keep_vars)
    renamed = {_without_wrappers(root, name): value for name, value in values.items()}
    # As it came where no name changes: a state_dict carries the versions of its layers.
    return values if renamed.keys() == values.keys() else renamed


def load_(model: nn.Module, values: Mapping[str, Any]) -> None:
    """Load a whole state into a model, in place, by the names that it has without its wrappers.

    Raises:
        RuntimeError: A name or a shape differs, as torch's ``load_state_dict`` has it.

    >>> layer = nn.DataParallel(nn.Linear(2, 1))
    >>> load_(layer, nn.Linear(2, 1).state_dict())
    """
    root = unwrapped(model)
    current = root.state_dict()
    # Without the versions that torch notes beside a state_dict, a layer takes a state for an old
    # one. Those of the state go by its own names, so they are taken where these are the model's;
    # else it counts as a state of the model as it is now.
    versions = None
    if values.keys() <= current.keys():
        versions = getattr(values, "_metadata", None)
    versions = versions or getattr(current, "_metadata", None)

    # Back from the names without wrappers to those that torch knows.
    torch_names = {_without_wrappers(root, name): name for name in current}
    state_dict: OrderedDict[str, Any] = OrderedDict()
    for name, value in named_like(values, torch_names).items():
        state_dict[torch_names.get(name, name)] = value
    if versions is not None:
        state_dict._metadata = versions  # type: ignore[attr-defined]  # torch's own way
    root.load_state_dict(state_dict)


def _without_wrappers(root: nn.Module, name: str) -> str:
    """Leave the wrappers' parts out of a name that stands in a state_dict."""
    # Along the modules that the parts lead to: only an object says whether it is a wrapper.
    module: nn.Module | None = root
    kept = []
    for part in name.split("."):
        # Wrappers that do not show in the names of a state are stepped into.
        wrapper = None if module is None else _wrapper(module)
        while module is not None and wrapper is not None and not wrapper.in_state:
            module = getattr(module, wrapper.inner)
            wrapper = _wrapper(module)
        if module is not None and wrapper is not None and part == wrapper.inner:
            module = getattr(module, part)
            continue
        kept.append(part)
        module = None if module is None else module._modules.get(part)
    return ".".join(kept)


# ---- names without a model


def _as_it_is(name: str) -> str:
    return name


def _without(parts: Collection[str], name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in parts)


def _public(name: str) -> str:
    return _without(_PRIVATE, name)


def _out_of_one(name: str) -> str:
    return _public(name).removeprefix("module.")


def _out_of_two(name: str) -> str:
    return _out_of_one(name).removeprefix("module.")


def _out_of_all(name: str) -> str:
    return _without({*_PRIVATE, "module"}, name)


# What may be left out of a name, the least first. ``module`` is data parallel's word and may as
# well be the user's.
_RENAMINGS: tuple[Callable[[str], str], ...] = (
    _as_it_is,
    _public,
    _out_of_one,
    _out_of_two,
    _out_of_all,
)


def named_like(values: Mapping[str, V], known: Collection[str]) -> Mapping[str, V]:
    """Return values by known names: as they are if all are known, else without wrappers' parts.

    The rule for names without a model. One renaming is taken for all of them: that by which most
    are known, and of such the one that leaves out least. It is up to the caller to report names
    that stay unknown.

    >>> named_like({"module.fc.weight": 1}, ["fc.weight"])
    {'fc.weight': 1}
    >>> named_like({"module.fc.weight": 1}, ["module.fc.weight", "fc.weight"])
    {'module.fc.weight': 1}
    """
    known_names = set(known)
    if known_names.issuperset(values):
        return values

    def known_by(rename: Callable[[str], str]) -> int:
        return len(known_names.intersection(map(rename, values)))

    fitting = [rename for rename in _RENAMINGS if _one_to_one(rename, values)]
    return _renamed(max(fitting, key=known_by, default=_as_it_is), values)


def covering(values: Mapping[str, V], wanted: Collection[str]) -> Mapping[str, V]:
    """Return values renamed so that all wanted names are among them, see `named_like`.

    A state may hold more than what a mask names, so it is the mask's names that must all be found.

    >>> covering({"module.fc.weight": 1, "module.fc.bias": 2}, ["fc.weight"])
    {'fc.weight': 1, 'fc.bias': 2}
    """
    for rename in _RENAMINGS:
        renamed = set(map(rename, values))
        if renamed.issuperset(wanted) and len(renamed) == len(values):
            return _renamed(rename, values)
    return values


def holding(values: Mapping[str, V], wanted: Collection[str]) -> dict[str, V] | None:
    """Return values by names of modules without the parts of wrappers, if they hold all wanted.

    What a wrapper wraps takes the wrapper's name; ``None`` where no renaming holds all wanted ones.

    >>> holding({"": 1, "module": 2, "module.fc": 3}, ["", "fc"])
    {'': 2, 'fc': 3}
    """
    # A private part is never the user's, and the entry with it takes the place of that without.
    for rename in _RENAMINGS[1:]:
        renamed = {}
        for name in sorted(values, key=len):
            parameter = rename(f"{name}.weight" if name else "weight")
            renamed[parameter.rpartition(".")[0]] = values[name]
        if renamed.keys() >= set(wanted):
            return renamed
    return None


def agreed(
    mask: Mapping[str, V], values: Mapping[str, W]
) -> tuple[Mapping[str, V], Mapping[str, W]]:
    """Bring the names of a mask and of a state together.

    They stay as they are where all of the mask's are in the state. Else the state's names become
    the mask's, or the mask's the state's, or both lose the parts of wrappers. Where nothing brings
    them together, both are returned as they are, for the caller to say what is missing.

    >>> agreed({"fc.weight": 1}, {"_orig_mod.fc.weight": 2, "_orig_mod.fc.bias": 3})
    ({'fc.weight': 1}, {'fc.weight': 2, 'fc.bias': 3})
    """
    for rename_mask, rename_values in itertools.product(_RENAMINGS, _RENAMINGS):
        value_names = set(map(rename_values, values))
        if len(value_names) < len(values) or not _one_to_one(rename_mask, mask):
            continue
        if value_names.issuperset(map(rename_mask, mask)):
            return _renamed(rename_mask, mask), _renamed(rename_values, values)
    return mask, values


def _one_to_one(rename: Callable[[str], str], values: Mapping[str, object]) -> bool:
    return len(set(map(rename, values))) == len(values)


def _renamed(rename: Callable[[str], str], values: Mapping[str, V]) -> Mapping[str, V]:
    if all(rename(name) == name for name in values):
        return values
    # An averaged model counts its states in an entry beside those of the model: no name of it.
    averaged = all(name.startswith("module.") or name == "n_averaged" for name in values)
    renamed = {}
    for name, value in values.items():
        if not (averaged and name == "n_averaged"):
            renamed[rename(name)] = value
    return renamed
