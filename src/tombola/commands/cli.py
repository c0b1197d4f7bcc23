"""Command line: find the commands, parse the arguments, run the command.

arguments -> [ options | overrides of the recipe ] -> Command.execute -> exit code
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import sys
import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO, cast

from tombola import __version__
from tombola import commands as package
from tombola.commands.command import Command, Parser
from tombola.ground.errors import DiskError, InputError, OldNameWarning, near, one_line, shown


def commands() -> dict[str, Command]:
    """Return all commands by name, in the order of the help.

    >>> list(commands())[:2]
    ['demo', 'init']
    """
    # `tombola.ground.catalogue` finds entries the same way; importing it would slow down --help.
    files: list[Path] = []
    for folder in package.__path__:
        files += Path(folder).glob("_[a-z]*.py")
    by_name: dict[str, Command] = {}
    for file in files:
        name = file.stem[1:]
        module = importlib.import_module(f"{package.__name__}.{file.stem}")
        by_name[name] = getattr(module, name.title().replace("_", ""))()
    return dict(sorted(by_name.items(), key=lambda item: (item[1].order, item[0])))


def parser() -> Parser:
    """Make the parser of all commands."""
    top = Parser(prog="tombola", description="Find, verify, transfer and export lottery tickets.")
    top.add_argument("--version", action="version", version=f"tombola {__version__}")
    subparsers = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, command in commands().items():
        command.add_arguments(
            subparsers.add_parser(
                name,
                help=command.help,
                description=command.description,
                epilog=command.epilog,
                usage=command.usage,
            )
        )
    return top


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Parse the arguments of a command line.

    Returns:
        The options, where ``command`` is the command's name or ``None``, and the overrides of the
        recipe, as they were typed.

    Raises:
        InputError: There is no such command, option or value.

    >>> options, overrides = parse(["run", "digits", "--workers", "2", "--training.lr", "0.1"])
    >>> options.workers, overrides
    (2, ['--training.lr', '0.1'])
    """
    top, known = parser(), commands()
    name = arguments[0] if arguments else ""
    if name and not name.startswith("-") and name not in known:
        raise InputError(
            f"there is no command {shown(name)}; there are: {', '.join(known)}.{near(name, known)}"
        )
    words = list(arguments)
    # Entries of a recipe are no options that argparse knows, so they are taken out before.
    overrides: list[str] = []
    if name in known and known[name].takes_overrides:
        words, overrides = _split_overrides(_named_parser(top, [name]), words)
    options, rest = top.parse_known_args(words)
    if rest:
        # argparse would name the whole command line; the command knows which options may have
        # been meant.
        command = _named_parser(top, words)
        flags = [flag for action in command._actions for flag in action.option_strings]
        raise InputError(
            f"{command.prog} does not take {shown(rest[0])}."
            f"{near(rest[0].partition('=')[0], flags)} (see {command.prog} --help)"
        )
    return options, overrides


def _named_parser(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of the command that words name, or of the command inside that one."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word in words:
                if word in action.choices:
                    return _named_parser(action.choices[word], words)
    return parser


def _split_overrides(
    command: argparse.ArgumentParser, words: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Split words into those for the command itself and overrides, in any order."""
    takes_value: dict[str, bool] = {}
    for action in command._actions:
        for flag in action.option_strings:
            takes_value[flag] = action.nargs != 0
    kept: list[str] = []
    overrides: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, _ = word.partition("=")
        is_option = word.startswith("--")
        if is_option and name not in takes_value:
            _check_override(name, takes_value)
            target, with_value = overrides, not equals
        else:
            target, with_value = kept, takes_value.get(name, False) and is_option and not equals
        target.append(word)
        if with_value:
            target += rest[:1]
            del rest[:1]
    return kept, overrides


def _check_override(name: str, flags: Collection[str]) -> None:
    """Refuse a word that is more likely a misspelt option than an entry of a recipe."""
    # Only for a doubtful name, because this imports all methods.
    if "." in name or not near(name, flags):
        return
    from tombola.schema.recipe import entry_names

    if name[2:] not in entry_names():
        raise InputError(f"there is no option {shown(name)}.{near(name, flags)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # it is missing if it was closed: >&-
    results = cast(TextIO, _Results(sys.stdout or io.StringIO()))
    try:
        with contextlib.redirect_stdout(results), warnings.catch_warnings():
            warnings.showwarning = _print_warning
            # Flushed here: a disk that is full is an error of the command, with its one line.
            try:
                return _execute(given)
            finally:
                results.flush()
    except InputError as error:
        message = str(error)
    except OSError as error:
        if error.filename is None:  # not about a user's file: a bug, which keeps its traceback
            raise
        message = f"{shown(str(error.filename))}: {error.strerror or error}"
    except MemoryError:
        message = "out of memory"
    print(f"tombola: {one_line(message)}", file=sys.stderr)
    return 2


def _execute(arguments: Sequence[str]) -> int:
    options, overrides = parse(arguments)
    if options.command is None:
        parser().print_help()
        return 0
    return commands()[options.command].execute(options, overrides)


def _print_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001 - the library's signature
    line: str | None = None,  # noqa: ARG001
) -> None:
    """Print a warning as one line, such as a warning from the user's code."""
    place = f"{Path(filename).name}, line {lineno}: {category.__name__}: "
    if issubclass(category, OldNameWarning):
        place = ""  # it is about the recipe, not about a line of code
    print(f"tombola: {one_line(f'{place}{message}')}", file=sys.stderr)


class _Results:
    """Standard output, which may be a pipe that is not read to its end, or a file on a full disk.

    If the reader stops (``tombola runs | head -1``), the rest of the output is dropped and the
    command runs to its end: its exit code says what was done, not what was read. A failed write
    is a `DiskError`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._guarded():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._guarded():
            self._stream.flush()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # Python flushes the buffer when it exits, and would fail again.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            if not isinstance(error, BrokenPipeError):
                raise DiskError(
                    f"the results cannot be written: {error.strerror or error}"
                ) from error
