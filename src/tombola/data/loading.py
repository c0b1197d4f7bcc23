"""Load a data set by its name.

recipe -> [ load ] -> dataset -> split -> partition -> batches
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, TypeVar, overload, runtime_checkable

from tombola.data.dataset import Dataset, from_tensors
from tombola.data.roots import data_root
from tombola.ground import catalogue
from tombola.ground.errors import ConfigError, DataError, shown

_NONE: Mapping[str, Any] = MappingProxyType({})


@runtime_checkable
class Loaded(Protocol):
    """What an entry of ``tombola.data`` returns; the class says for which task it is.

    Attributes:
        task: The name of the task.
        fingerprint: Of all that the data holds.
    """

    task: ClassVar[str]

    @property
    def fingerprint(self) -> str: ...  # noqa: D102


L = TypeVar("L", bound=Loaded)


def takes(name: str, option: str) -> bool:
    """Whether a data set has an option of that name.

    Raises:
        ConfigError: There is no such data set.

    >>> takes("synthetic", "classes"), takes("digits", "classes")
    (True, False)
    """
    return option in inspect.signature(catalogue.entry("tombola.data", name)).parameters


@overload
def load(
    name: str, *, root: str | Path | None = None, options: Mapping[str, Any] = _NONE
) -> Dataset: ...


@overload
def load(
    name: str,
    *,
    root: str | Path | None = None,
    options: Mapping[str, Any] = _NONE,
    kind: type[L],
) -> L: ...


def load(
    name: str,
    *,
    root: str | Path | None = None,
    options: Mapping[str, Any] = _NONE,
    kind: type[Any] = Dataset,
) -> Any:
    """Return the data set of that name, checked.

    Args:
        name: An entry of ``tombola.data``, or your own ``package.module:function``, which returns a
            Dataset or the four tensors or arrays that ``from_tensors`` takes. The second form runs
            your code.
        root: The folder of the data sets, for an entry that reads files; see ``data_root``.
        options: The entry's keyword arguments.
        kind: What it must give: the class of a task's data, which has the task's name as ``task``.

    Raises:
        ConfigError: There is no such entry, or it is for another task, or it has no such option, or
            it needs one that is not given.
        DataError: The data is missing, incomplete or not what it should be, or your own function
            fails.

    >>> load("synthetic", options={"classes": 4}).num_classes
    4
    """
    # Python's own error for a missing argument would not speak of options.
    function = catalogue.entry("tombola.data", name)
    catalogue.check_is_for("tombola.data", name, kind.task)
    parameters = inspect.signature(function).parameters
    for key, parameter in parameters.items():
        by_name = parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        needed = by_name and parameter.default is parameter.empty
        if needed and key != "root" and key not in options:
            raise ConfigError(f"'{name}' needs the option '{key}', which is not given")
    with catalogue.own_code(name, "data", DataError):
        # A user's own function may return plain arrays, and knows nothing of `Dataset`.
        result = catalogue.call(function, name, options=options, root=data_root(root))
        if isinstance(result, kind):
            return result
        if kind is Dataset and isinstance(result, tuple | list) and len(result) == 4:
            try:
                return from_tensors(*result)
            except DataError as error:
                raise DataError(f"{shown(name)}: {error}") from error
    is_sequence = isinstance(result, tuple | list)
    given = f"{len(result)} values" if is_sequence else type(result).__name__
    four = ", or training images, training labels, test images and test labels"
    raise DataError(
        f"{shown(name)} gives {given}; it must give a {kind.__name__}"
        f"{four if kind is Dataset else ''}"
    )


def check_repeats(name: str, fingerprint: str, again: str) -> None:
    """Refuse a user's own function that gives other data each time, as one that draws unseeded.

    Args:
        name: The data set.
        fingerprint: Of the data that it gave.
        again: Of those that it gave when it was called once more.

    Raises:
        DataError: They differ.
    """
    if again != fingerprint:
        raise DataError(
            f"{shown(name)} gives other data each time it is called (digest {fingerprint[:12]}, "
            f"then {again[:12]}), and every worker calls it; draw from a generator with a seed of "
            "its own, such as torch.Generator().manual_seed(0)"
        )
