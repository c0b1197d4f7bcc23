"""A command of the command line: the arguments it takes, and what it does with them.

    arguments -> [ parser -> Command.execute ] -> what is printed, exit code

Each private file of this folder is one command: ``_report.py`` provides the class ``Report``. The
files are the list of commands. Every command is imported for ``tombola --help``, so what takes
time to import, torch above all, is imported inside ``execute``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from tombola.ground.errors import InputError, near, shown

RUN_HELP = "run folders, or the names of runs in runs/, or the beginning of a name"


class Command:
    """One command.

    Attributes:
        order: Where ``tombola --help`` lists it: the lowest number comes first.
        help: One line for the list of all commands.
        description: What the help of the command itself says first.
        epilog: What that help says last, such as the exit codes.
        usage: Replaces the usage line that argparse would write.
        takes_overrides: Whether entries of a recipe may follow, such as ``--training.epochs 3``.
    """

    order: ClassVar[int]
    help: ClassVar[str]
    description: ClassVar[str]
    epilog: ClassVar[str | None] = None
    usage: ClassVar[str | None] = None
    takes_overrides: ClassVar[bool] = False

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        raise NotImplementedError

    def execute(self, options: argparse.Namespace, overrides: Sequence[str]) -> int:
        """Run the command and return the exit code.

        Args:
            options: The arguments that `add_arguments` declares.
            overrides: The entries of a recipe that were also given, as they were typed.
        """
        raise NotImplementedError


class Parser(argparse.ArgumentParser):
    """A parser with tombola's errors: one line, exit code 2."""

    def __init__(self, **settings: Any) -> None:
        # An abbreviated option would be an override of the recipe in one command and an option
        # in another.
        super().__init__(**{"allow_abbrev": False, **settings})

    def error(self, message: str) -> None:  # type: ignore[override]
        raise InputError(f"{message} (see {self.prog} --help)")

    # argparse would list the choices, and not say which of them may have been meant.
    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        known = [str(choice) for choice in action.choices]
        raise InputError(
            f"there is no {action.metavar or action.dest} {shown(value)}; there are: "
            f"{', '.join(known)}.{near(str(value), known)} (see {self.prog} --help)"
        )


def add_json(parser: argparse.ArgumentParser, printed: str = "one JSON object") -> None:
    """Declare ``--json``."""
    parser.add_argument("--json", action="store_true", help=f"print {printed} instead of text")


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Declare ``--quiet``."""
    parser.add_argument(
        "--quiet", action="store_true", help="no progress output; print only the result"
    )


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Declare ``--runs``."""
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="folder for run folders (default: runs)",
    )


def add_data_root(parser: argparse.ArgumentParser) -> None:
    """Declare ``--data-root``."""
    parser.add_argument(
        "--data-root",
        type=Path,
        metavar="DIR",
        help="folder of the data sets (default: TOMBOLA_DATA, or else the cache)",
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Declare ``--workers``."""
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="worker processes (default: one per core); does not affect results",
    )


def print_json(value: object) -> None:
    """Print plain data as JSON."""
    import json

    print(json.dumps(value, indent=2))
