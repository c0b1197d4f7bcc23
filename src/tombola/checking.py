"""Checking: one value that a user has given against the type that is asked for."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tombola.errors import ConfigError, near

_SCALARS = (int, float, str, bool, type(None))
_UNIONS = (types.UnionType, typing.Union)
_LISTS = (tuple, list, Sequence)
_MAPPINGS = (dict, Mapping)


def checked(hint: Any, value: Any, dotted: str) -> Any:
    """Return a value in its type: a whole number becomes a number where one is asked for, a list a tuple, a text a path.

    Nothing else is converted: a text is no number ("0.2"), and neither are True and False. Types are made of numbers,
    texts, booleans, None, paths, choices (``Literal``), lists, tuples and mappings; any other one takes every value.

    Args:
        hint: The type, resolved (``typing.get_type_hints``).
        value: As YAML or a caller gives it.
        dotted: What the value is called in the message.

    Raises:
        ConfigError: The value is not of the type.

    >>> checked(tuple[float, float], [0.9, 1], "betas")
    (0.9, 1.0)
    >>> checked(float, "0.2", "rate")
    Traceback (most recent call last):
    tombola.errors.ConfigError: rate is '0.2'; it should be a number.
    """
    try:
        return _typed(hint, value)
    except (TypeError, OverflowError) as error:
        raise ConfigError(f"{dotted} is {value!r}; it should be {_words(hint)}."
                          f"{near(value, _choices(hint)) if isinstance(value, str) else ''}") from error  # fmt: skip


def _typed(hint: Any, value: Any) -> Any:
    # Not jsonargparse, which reads texts: "0.2" as a number, "no" as False, "os.system" as that function.
    origin, of = typing.get_origin(hint) or hint, typing.get_args(hint)
    if hint == dict[str, Any] and isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    if origin in _UNIONS:
        return _first(of, value)
    if origin is Literal:
        fits = any(value == choice and type(value) is type(choice) for choice in of)
    elif origin in _SCALARS:
        fits = isinstance(value, (int, float) if origin is float else origin)
        fits = fits and isinstance(value, bool) == (origin is bool)  # Python counts True as 1
    elif origin is Path:
        fits = isinstance(value, str | Path)
    elif origin in _LISTS:
        fits = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    elif origin in _MAPPINGS:
        fits = isinstance(value, Mapping)
    else:
        return value
    if not fits:
        raise TypeError
    if origin in (float, Path):
        return origin(value)
    if origin in _LISTS:
        return _listed(origin, of, value)
    if origin in _MAPPINGS and of:
        return {_typed(of[0], key): _typed(of[1], item) for key, item in value.items()}
    return value


def _first(hints: Sequence[Any], value: Any) -> Any:
    """Return the value in the first of several types that it has."""
    for hint in hints:
        try:
            return _typed(hint, value)
        except (TypeError, OverflowError):
            continue
    raise TypeError


def _listed(origin: Any, of: Sequence[Any], value: Sequence[Any]) -> Any:
    if origin is tuple and of and of[-1] is not Ellipsis:
        items = [_typed(one, item) for one, item in zip(of, value, strict=True)]
    else:
        items = [_typed(of[0], item) for item in value] if of else list(value)
    return tuple(items) if origin is tuple or (origin is Sequence and isinstance(value, tuple)) else items


def _choices(hint: Any) -> list[str]:
    if typing.get_origin(hint) is Literal:
        return [str(choice) for choice in typing.get_args(hint)]
    return [choice for one in typing.get_args(hint) for choice in _choices(one)]


def _words(hint: Any) -> str:
    """Say a type in words."""
    origin, of = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(str, of))
    if origin in _UNIONS:
        return " or ".join(_words(one) for one in of if one is not type(None))
    if origin in _LISTS:
        number = f"{len(of)} " if origin is tuple and of and of[-1] is not Ellipsis else ""
        kinds = " and ".join(sorted({_plural(one) for one in of if one is not Ellipsis}))
        return f"a list of {number}{kinds}" if kinds else "a list"
    if origin in _MAPPINGS:
        return "a mapping from group to number" if hint == dict[str, float] else "a mapping"
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", Path: "a path"}
    return words.get(hint, str(hint))


def _plural(hint: Any) -> str:
    return {int: "whole numbers", float: "numbers", str: "texts"}.get(hint, str(hint))
