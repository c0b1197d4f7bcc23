"""Catalogues: folders of things to choose among, one private file per choice.

``scores/_magnitude.py`` gives the function ``magnitude``, ``kernels/_eager.py`` the class
``Eager``: the files are the registry, a docstring is an entry's page, its keyword arguments are its
options. A user's own choice is named ``package.module:function``; that form runs code, so it is
accepted from the user's own recipe and never from a ticket file.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
import traceback
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from tombola.ground.checking import checked
from tombola.ground.contracts import CONTRACTS
from tombola.ground.errors import (
    ConfigError,
    InputError,
    InvariantError,
    SourceFailedError,
    TrainingError,
    near,
    shown,
)

TORCHVISION = "torchvision:"  # before the names of torchvision's models


def entries(package: str) -> list[str]:
    """List the names that a catalogue offers, sorted, without importing any of them.

    >>> "lenet5" in entries("tombola.models")
    True
    """
    module = importlib.import_module(package)
    names = (
        file.stem[1:] for folder in module.__path__ for file in Path(folder).glob("_[a-z]*.py")
    )
    return sorted(names)


def entry(package: str, name: str) -> Callable[..., Any]:
    """Return the function or class of that name from a catalogue, or the user's own
    ``package.module:function``.

    >>> entry("tombola.kernels", "eager").__name__
    'Eager'

    Raises:
        ConfigError: There is no such entry, or the user's module or function cannot be had.
    """
    if ":" in name:
        return own(name)
    known = entries(package)
    if name not in known:
        raise ConfigError(
            f"no {shown(name)} in {package}; it has: {', '.join(known)}.{near(name, known)}"
        )
    module = importlib.import_module(f"{package}._{name}")
    called = name if hasattr(module, name) else name.title().replace("_", "")
    found: Callable[..., Any] = getattr(module, called)
    return found


def is_own(name: str) -> bool:
    """Whether a name is that of the user's own code, not of an entry or of torchvision's.

    >>> is_own("my_models:small"), is_own("torchvision:resnet18"), is_own("lenet5")
    (True, False, False)
    """
    return ":" in name and not name.startswith(TORCHVISION)


def own(name: str) -> Callable[..., Any]:
    """Return the function that the user names as ``package.module:function``; the working
    folder is searched too.
    """
    module_name, _, attribute = name.partition(":")
    if not all(module_name.split(".")) or not attribute:
        raise ConfigError(
            f"{shown(name)} names no function; your own is named package.module:function"
        )
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and not f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"{shown(name)} needs a module that is not there: {error}{place_of(error)}"
            ) from error
        raise ConfigError(f"cannot import '{module_name}' of {shown(name)}: {error}") from error
    except KeyboardInterrupt:
        raise
    except (
        BaseException
    ) as error:  # whatever the user's module does when it is imported, sys.exit() too
        raise ConfigError(f"cannot import '{module_name}' of {shown(name)}: {type(error).__name__}: "
                          f"{error}{place_of(error)}") from error  # fmt: skip
    function = getattr(module, attribute, None)
    if not callable(function):
        public = [
            key
            for key, value in vars(module).items()
            if callable(value) and not key.startswith("_")
        ]
        raise ConfigError(
            f"'{module_name}' has no function {shown(attribute)}.{near(attribute, public)}"
        )
    found: Callable[..., Any] = function
    return found


def place_of(error: BaseException) -> str:
    """Say where in a file of the user's own an error was raised; nothing where that is not in
    one.
    """
    if isinstance(error, SyntaxError):
        return ""  # its text says it
    ours, place = Path(__file__).parents[1], ""
    for frame in traceback.extract_tb(error.__traceback__):
        file = Path(frame.filename)
        others = ours in file.parents or "site-packages" in file.parts or "importlib" in file.parts
        if not others and file.is_file():
            place = f" ({file.name}, line {frame.lineno})"
    return place


@contextlib.contextmanager
def own_code(name: str, catalogue: str, kind: type[InputError] = ConfigError) -> Iterator[None]:
    """Run a block in which a function of the user's own works: whatever it raises becomes one line.

    The line names the function, the line of its file and how such a function is called. Names of
    other functions, which are tombola's, change nothing: there it is a bug, and keeps its
    traceback.

    Args:
        name: As the recipe names the function.
        catalogue: Where it stands for an entry, a name of `CONTRACTS`: "scores", "kernels" and so
            on.
        kind: The error that is raised.

    Raises:
        InputError: The function raised anything but an interrupt, which goes on its way.

    >>> with own_code("mine:score", "scores"):
    ...     raise SystemExit(3)
    Traceback (most recent call last):
    tombola.ground.errors.ConfigError: 'mine:score' failed: SystemExit: 3; a function of your own as score is called \
as score(state, mask, context) and gives a tensor for every name in mask, larger means keep (tombola list scores)
    """
    try:
        yield
    except (InputError, TrainingError, InvariantError, SourceFailedError, KeyboardInterrupt):
        raise
    except BaseException as error:  # sys.exit() too: it would end the command without a word
        if not is_own(name):
            raise
        told = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(":")
        raise kind(f"{shown(name)} failed: {told[:400]}{place_of(error)}; "
                   f"{CONTRACTS[catalogue].in_words()} (tombola list {catalogue})") from error  # fmt: skip


def call(
    function: Callable[..., Any], name: str, *args: Any, options: Mapping[str, Any], **fixed: Any
) -> Any:
    """Call an entry with the user's options; an option that it does not have is refused with its
    real ones named.

    Every parameter that can be given by its keyword is an option, but those that ``args`` and
    ``fixed`` fill. An option that the function annotates is checked against its type, see
    `checked`; what equals the default is always good.

    Raises:
        ConfigError: There is no such option, or its value is of another type.
    """
    parameters = inspect.signature(function).parameters
    typed = checked_options(function, name, len(args), options, fixed)
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        fixed = {key: value for key, value in fixed.items() if key in parameters}
    return function(*args, **fixed, **typed)


def checked_options(
    function: Callable[..., Any],
    name: str,
    places: int,
    options: Mapping[str, Any],
    fixed: Collection[str] = (),
) -> dict[str, Any]:
    """Return a user's options for an entry in their types; the entry is not called.

    Args:
        function: The entry.
        name: As the user named it.
        places: How many arguments it is given by place.
        options: The user's.
        fixed: Names of arguments that it is given by keyword.

    Raises:
        ConfigError: There is no such option, or its value is of another type.
    """
    parameters = inspect.signature(function).parameters
    by_place = [
        key
        for key, p in parameters.items()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    given = {*by_place[:places], *fixed}
    by_key = [
        key for key, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    free = [key for key in by_key if key not in given]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    hints = _hints(function)
    typed = {}
    for key, value in options.items():
        if key in given or not (takes_any or key in free):
            choices = f"it has: {', '.join(free)}" if free else "it has none"
            raise ConfigError(
                f"{shown(name)} has no option {shown(key)}; {choices}.{near(key, free)}"
            )
        known = key in free and key in hints and value is not parameters[key].default
        typed[key] = checked(hints[key], value, f"{name}.{key}") if known else value
    return typed


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a function or a class's constructor, none where they name what
    cannot be found.
    """
    try:
        return typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except (NameError, AttributeError, TypeError, SyntaxError):
        return {}


def lazy(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` for a catalogue's ``__init__``: an entry is
    imported when it is used.
    """

    def __getattr__(name: str) -> Any:  # noqa: N807
        if name.startswith("_") or name not in entries(package):
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return entry(package, name)

    def __dir__() -> list[str]:  # noqa: N807
        return entries(package)

    return __getattr__, __dir__
