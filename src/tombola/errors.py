"""Errors: what a user can put right is told in one line; everything else is a bug and keeps its traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """What the caller gave is wrong: the message says what, the value seen, and what would be right.

    The command line prints it as one line and exits with code 2.
    """


class ConfigError(InputError):
    """A recipe, an option or a name in it is wrong."""


class DataError(InputError):
    """A data set is missing, incomplete or not what it should be."""


class TicketError(InputError):
    """A ticket file is truncated, altered or does not fit."""


class DiskError(InputError, OSError):
    """A result cannot be written: the disk is full or read-only. The run stops, and what is written stays."""


class TrainingError(RuntimeError):
    """A training ran into something that no longer is a number; the arm ends, the other arms go on."""


class InvariantError(RuntimeError):
    """A law that every search obeys was broken while running: a bug of a score, a loop, a model or tombola."""


class UnmaskedWarning(UserWarning):
    """Weights of a model are left out of its masks, because nothing tells how their layer uses them."""


def near(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the known name closest to ``name``, or an empty string.

    >>> near("lennet5", ["lenet5", "conv3"])
    " Did you mean 'lenet5'?"
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""
