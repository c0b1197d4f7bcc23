"""Renames: earlier spellings of what has another name now."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def renamed_arguments(**renames: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Go on accepting earlier names of a function's keyword arguments, with a warning.

    Args:
        renames: The earlier names, and the names now.

    >>> @renamed_arguments(step="by")
    ... def advance(position, *, by=1):
    ...     return position + by
    >>> advance(3, by=2)
    5
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        name = getattr(function, "__name__", "a function")

        @functools.wraps(function)
        def renaming(*args: P.args, **kwargs: P.kwargs) -> R:
            # A copy of the keys, as they are replaced meanwhile.
            for old in renames.keys() & kwargs.keys():
                new = renames[old]
                # Both names at once would hide one of two different values.
                if new in kwargs:
                    raise TypeError(f"{name} takes {new}; {old} is its earlier name: give one")
                warnings.warn(f"{name}: {old} is now {new}", FutureWarning, stacklevel=2)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return renaming

    return decorate
