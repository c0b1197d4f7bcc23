"""Catalogues: folders of entries to choose among, one private file per entry.

``scores/_magnitude.py`` gives the function ``magnitude``, ``kernels/_eager.py`` the class
``Eager``: the files are the registry, an entry's docstring is its page, its keyword arguments are
its options. A user's own entry is named ``package.module:function``; that form runs code, so it is
accepted from the user's own recipe and never from a ticket file.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
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
CLASSIFICATION = "classification"  # the task of data and models that do not say another


def entries(package: str) -> list[str]:
    """List the names of a catalogue's entries, sorted, without importing any of them.

    >>> "lenet5" in entries("tombola.models")
    True
    """
    return sorted(_files(package))


def described(package: str) -> dict[str, str]:
    """Say in one line what each entry of a catalogue is, without importing any of them.

    It is what the docstring of an entry's file says after its name.

    >>> described("tombola.scores")["magnitude"]
    'The score of a weight is its absolute value'
    """
    lines = {}
    for name, file in sorted(_files(package).items()):
        docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        paragraph = " ".join(docstring.partition("\n\n")[0].replace("``", "").split())
        title, _, rest = paragraph.partition(": ")
        text = (rest or title).rstrip(".")
        lines[name] = text[:1].upper() + text[1:]
    return lines


def tasks(package: str) -> dict[str, str]:
    """Say for which task each entry of ``tombola.data`` or ``tombola.models`` is.

    As `task_of`, but without importing any of them: it is read in the files of the entries, and of
    the classes that they return.

    >>> tasks("tombola.data")["digits"]
    'classification'
    """
    found = {}
    for name, file in sorted(_files(package).items()):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        returned = ""
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name == name and node.returns:
                returned = ast.unparse(node.returns)
        found[name] = _task_in(tree, returned) or CLASSIFICATION
    return found


def _task_in(tree: ast.Module, class_name: str) -> str | None:
    """Return the attribute ``task`` of a class that a file defines or imports; ``None``: no text.

    It may be inherited.
    """
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            spec = None
            if class_name in [alias.name for alias in node.names]:
                spec = importlib.util.find_spec(node.module)
            if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
                return _task_in(ast.parse(Path(spec.origin).read_bytes()), class_name)
        if not isinstance(node, ast.ClassDef) or node.name != class_name:
            continue
        for statement in node.body:
            if not isinstance(statement, ast.Assign | ast.AnnAssign):
                continue
            is_task = ast.unparse(statement).split(":")[0].split(" =")[0] == "task"
            if is_task and isinstance(statement.value, ast.Constant):
                return str(statement.value.value)
        for base in node.bases:
            task = _task_in(tree, ast.unparse(base))
            if task is not None:
                return task
    return None


def _files(package: str) -> dict[str, Path]:
    """Return the file of each entry of a catalogue."""
    # The package itself may import much more than names. One that is there already may have got
    # further folders.
    spec = importlib.util.find_spec(package)
    assert spec is not None
    folders = getattr(sys.modules.get(package), "__path__", spec.submodule_search_locations)
    files = {}
    for folder in folders or ():
        for file in Path(folder).glob("_[a-z]*.py"):
            files[file.stem[1:]] = file
    return files


def entry(package: str, name: str) -> Callable[..., Any]:
    """Return a catalogue's function or class, or the user's own ``package.module:function``.

    >>> entry("tombola.kernels", "eager").__name__
    'Eager'

    Raises:
        ConfigError: There is no such entry, or the user's own cannot be imported.
    """
    if ":" in name:
        return own(name)
    known = entries(package)
    if name not in known:
        raise ConfigError(
            f"no {shown(name)} in {package}; it has: {', '.join(known)}.{near(name, known)}"
        )
    # The module `_eager` has the class `Eager` where it has no function `eager`.
    module = importlib.import_module(f"{package}._{name}")
    attribute = name if hasattr(module, name) else name.title().replace("_", "")
    function: Callable[..., Any] = getattr(module, attribute)
    return function


def task_of(package: str, name: str) -> str | None:
    """Return the task that an entry of ``tombola.data`` or ``tombola.models`` is for.

    It is the attribute ``task`` of what the entry says that it returns; without one it is for
    classification.

    Returns:
        The task's name; ``None`` for a function of the user's own that does not say what it
        returns.

    Raises:
        ConfigError: There is no such entry, or the user's own cannot be imported.

    >>> task_of("tombola.data", "digits"), task_of("tombola.models", "lenet5")
    ('classification', 'classification')
    """
    # torchvision's models are built by tombola's own code, and have no file in the catalogue.
    if name.startswith(TORCHVISION):
        return None
    returned = _hints(entry(package, name)).get("return")
    task: str | None = getattr(returned, "task", None)
    return task if task is not None or is_own(name) else CLASSIFICATION


def entries_for(package: str, task: str) -> list[str]:
    """List the entries of ``tombola.data`` or ``tombola.models`` that are for a task.

    >>> "digits" in entries_for("tombola.data", "classification")
    True
    """
    return [name for name in entries(package) if task_of(package, name) == task]


def check_is_for(package: str, name: str, task: str) -> None:
    """Refuse an entry of ``tombola.data`` or ``tombola.models`` that is for another task.

    Raises:
        ConfigError: It is; the message names the entries that are for this one.

    >>> check_is_for("tombola.data", "digits", "classification")
    """
    other = task_of(package, name)
    if other in (None, task):
        return
    known = entries_for(package, task)
    choices = f"it takes: {', '.join(known)}" if known else "it takes a function of your own"
    kind = package.rpartition(".")[2].removesuffix("s")
    raise ConfigError(
        f"{kind} {shown(name)} is for the task {other}, and this one is {task}; {choices}"
    )


def is_own(name: str) -> bool:
    """Whether a name is that of the user's own code, not of an entry or a torchvision model.

    >>> is_own("my_models:small"), is_own("torchvision:resnet18"), is_own("lenet5")
    (True, False, False)
    """
    return ":" in name and not name.startswith(TORCHVISION)


def own(name: str) -> Callable[..., Any]:
    """Import the user's own ``package.module:function``; the working folder is searched, too."""
    module_name, _, attribute = name.partition(":")
    if not all(module_name.split(".")) or not attribute:
        raise ConfigError(
            f"{shown(name)} names no function; your own is named package.module:function"
        )
    # An installed command does not search the working folder by itself.
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
    except BaseException as error:  # any error of the user's module, sys.exit() too
        kind = type(error).__name__
        raise ConfigError(
            f"cannot import '{module_name}' of {shown(name)}: {kind}: {error}{place_of(error)}"
        ) from error
    function: Callable[..., Any] | None = getattr(module, attribute, None)
    if not callable(function):
        public = []
        for key, value in vars(module).items():
            if callable(value) and not key.startswith("_"):
                public.append(key)
        raise ConfigError(
            f"'{module_name}' has no function {shown(attribute)}.{near(attribute, public)}"
        )
    return function


def place_of(error: BaseException) -> str:
    """Say where in a user's own file an error was raised; empty where it was raised elsewhere."""
    # The text of a syntax error says it already.
    if isinstance(error, SyntaxError):
        return ""
    # The innermost frame outside of tombola and of installed libraries.
    tombola = Path(__file__).parents[1]
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        file = Path(frame.filename)
        if tombola in file.parents or {"site-packages", "importlib"} & set(file.parts):
            continue
        if file.is_file():
            place = f" ({file.name}, line {frame.lineno})"
    return place


@contextlib.contextmanager
def own_code(name: str, catalogue: str, kind: type[InputError] = ConfigError) -> Iterator[None]:
    """Run a block that calls a user's own function: any error of it becomes one line.

    The line names the function, the line of its file and how such a function is called. An error of
    one of tombola's own functions is a bug, and keeps its traceback.

    Args:
        name: The function's name in the recipe.
        catalogue: The catalogue of which it is an entry, a name of `CONTRACTS`: "scores", "kernels"
            and so on.
        kind: The error that is raised.

    Raises:
        InputError: The function raised anything but an interrupt, which is passed on.

    >>> try:
    ...     with own_code("mine:score", "scores"):
    ...         raise SystemExit(3)
    ... except ConfigError as error:
    ...     print(str(error)[:70])
    'mine:score' failed: SystemExit: 3; a function of your own as score is
    """
    try:
        yield
    except (InputError, TrainingError, InvariantError, SourceFailedError, KeyboardInterrupt):
        raise
    except BaseException as error:  # sys.exit() too, which would end the command without a word
        if not is_own(name):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(":")
        contract = CONTRACTS[catalogue].in_words()
        raise kind(
            f"{shown(name)} failed: {reason[:400]}{place_of(error)}; {contract} "
            f"(tombola list {catalogue})"
        ) from error


def call(
    function: Callable[..., Any], name: str, *args: Any, options: Mapping[str, Any], **fixed: Any
) -> Any:
    """Call an entry with the user's options; unknown ones are refused with the real ones named.

    Every parameter that can be given by keyword is an option, except those that ``args`` and
    ``fixed`` fill. An option that the function annotates is checked against its type, see
    `checked`; a value equal to the default is always accepted.

    Raises:
        ConfigError: There is no such option, or its value is of another type.
    """
    parameters = inspect.signature(function).parameters
    typed = checked_options(function, name, len(args), options, fixed)
    if not _takes_any(parameters):
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
        name: Its name in the recipe.
        places: How many arguments it is given by place.
        options: The user's.
        fixed: Names of arguments that it is given by keyword.

    Raises:
        ConfigError: There is no such option, or its value is of another type.
    """
    parameters = inspect.signature(function).parameters
    by_place, by_keyword = [], []
    for key, parameter in parameters.items():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            by_place.append(key)
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            by_keyword.append(key)
    # Arguments that tombola fills are no options.
    taken = {*by_place[:places], *fixed}
    known = [key for key in by_keyword if key not in taken]
    takes_any = _takes_any(parameters)
    hints = _hints(function)
    typed = {}
    for key, value in options.items():
        if key in taken or not (takes_any or key in known):
            choices = f"it has: {', '.join(known)}" if known else "it has none"
            raise ConfigError(
                f"{shown(name)} has no option {shown(key)}; {choices}.{near(key, known)}"
            )
        if key in known and key in hints and value is not parameters[key].default:
            value = checked(hints[key], value, f"{name}.{key}")
        typed[key] = value
    return typed


def _takes_any(parameters: Mapping[str, inspect.Parameter]) -> bool:
    """Whether a function takes any keyword (``**options``)."""
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a function or constructor; none where they cannot be resolved."""
    try:
        return typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except (NameError, AttributeError, TypeError, SyntaxError):
        return {}


def lazy(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a catalogue's ``__getattr__`` and ``__dir__``, which import entries when used."""

    def __getattr__(name: str) -> Any:  # noqa: N807
        if name.startswith("_") or name not in entries(package):
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return entry(package, name)

    def __dir__() -> list[str]:  # noqa: N807
        return entries(package)

    return __getattr__, __dir__
