"""Checking: one value that a user has given against the type that is asked for."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal

from tombola.ground.errors import ConfigError, DamagedError, near, shown

MOST_ENTRIES = 1000  # of a list in a recipe
_BITS = 128  # of a whole number, at most
_MOST_VALUES, _DEEPEST = 100_000, 50  # of plain data that a user gives

_UNIONS = (types.UnionType, typing.Union)
_LISTS = (tuple, list, Sequence)
_MAPPINGS = (dict, Mapping)
_KNOWN = (int, float, str, bool, type(None), Path, Literal, *_LISTS, *_MAPPINGS)


def checked(hint: Any, value: Any, dotted: str) -> Any:
    """Return a value in its type: where that is asked for, a whole number is a number, a list a
    tuple, a text a path.

    Nothing else is converted: a text is no number ("0.2"), and neither are True and False. Types
    are made of numbers, texts, booleans, None, paths, choices (``Literal``), lists, tuples and
    mappings; any other one takes every value.

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
    tombola.ground.errors.ConfigError: rate is '0.2'; it should be a number.
    """
    try:
        return _typed(hint, value)
    except OverflowError as error:
        raise ConfigError(f"{dotted} is {shown(value)}; no machine has such a number") from error
    except TypeError as error:
        raise ConfigError(f"{dotted} is {shown(value)}; it should be {_words(hint)}."
                          f"{near(value, _choices(hint)) if isinstance(value, str) else ''}") from error  # fmt: skip


def check_most(of: object, most: Mapping[str, float], where: str = "") -> None:
    """Refuse attributes that are above their bound, or list more than a thousand entries or one
    above the bound.

    Bounds are generous: they keep out what no machine could ever do, so that no slip of the
    keyboard ends the process or keeps it busy for ever.

    Args:
        of: Whose attributes; one that is no number is not looked at.
        most: The bounds by the attributes' names.
        where: What the object is called in the message.

    Raises:
        ConfigError: The first attribute that is above its bound.

    >>> from types import SimpleNamespace
    >>> check_most(SimpleNamespace(epochs=1e300), {"epochs": 1e6}, "training")
    Traceback (most recent call last):
    tombola.ground.errors.ConfigError: training.epochs is 1e+300; it is at most 1,000,000
    """
    for name, bound in most.items():
        value = getattr(of, name)
        dotted = f"{where}.{name}" if where else name
        entries = value if isinstance(value, tuple | list) else [value]
        if len(entries) > MOST_ENTRIES:
            raise ConfigError(
                f"{dotted} lists {len(entries):,} entries; it may have at most {MOST_ENTRIES:,}"
            )
        for entry in entries:
            if isinstance(entry, int | float) and entry > bound:
                raise ConfigError(f"{dotted} is {shown(entry)}; it is at most {_number(bound)}")


def _number(bound: float) -> str:
    return f"{bound:,.0f}" if bound < 1e12 else f"{bound:g}"


def check_plain(value: object, where: str) -> None:
    """Refuse plain data that is nested too deep or holds too much, such as a list that holds
    itself.

    A value that stands in several places counts in each of them, as it does when it is written out.

    Raises:
        ConfigError: More than 100,000 values, or lists and mappings more than 50 deep in each
            other.

    >>> endless = []
    >>> endless.append(endless)
    >>> check_plain(endless, "data")
    Traceback (most recent call last):
    tombola.ground.errors.ConfigError: data is nested more than 50 deep
    """
    open_: list[tuple[object, int]] = [(value, 0)]
    seen = 0
    while open_:
        inner, depth = open_.pop()
        if depth > _DEEPEST:
            raise ConfigError(f"{where} is nested more than {_DEEPEST} deep")
        if not isinstance(inner, Mapping | list | tuple):
            continue
        seen += len(inner)
        if seen > _MOST_VALUES:
            raise ConfigError(f"{where} holds more than {_MOST_VALUES:,} values")
        items = inner.values() if isinstance(inner, Mapping) else inner
        open_ += [(item, depth + 1) for item in items]


def own_numbers(value: Any) -> Any:
    """Return numpy's and other libraries' numbers as Python's own, in lists, tuples and mappings
    too.

    What is no number, or Python's already, is returned as it is.

    >>> import numpy
    >>> own_numbers((numpy.int64(3), numpy.float64(0.5), True, "x"))
    (3, 0.5, True, 'x')
    """
    kind = type(value)
    if kind in (int, float, str, bool, type(None)):
        return value
    if kind in (tuple, list):
        return kind(map(own_numbers, value))
    if kind is dict:
        return {own_numbers(key): own_numbers(item) for key, item in value.items()}
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


def take_own_numbers_(data: Any) -> None:
    """Replace the numbers of other libraries in a data class, frozen or not, by Python's own."""
    for field in dataclasses.fields(data):
        value = getattr(data, field.name)
        own = own_numbers(value)
        if own is not value:
            object.__setattr__(data, field.name, own)


@functools.cache
def hints_of(kind: type) -> dict[str, Any]:
    """Return the resolved types of a class's attributes; looking them up takes longer than
    checking them.
    """
    return typing.get_type_hints(kind)


def filled(kind: Any, given: Any, where: str) -> Any:
    """Make a dataclass of plain data, every value checked against its type.

    Args:
        kind: The dataclass.
        given: Its attributes; where one is a dataclass itself, likewise.
        where: What it is called in messages; an empty text is a recipe.

    Raises:
        ConfigError: There is no such attribute, one is missing, or a value is of another type.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(f"{where} is {shown(given)}; it should be a mapping")
    hints = hints_of(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    values = {}
    for key, value in given.items():
        dotted = f"{where}.{key}" if where else str(key)
        if key not in fields:
            known = [name for name in fields if name != "options"]
            raise ConfigError(
                f"there is no {shown(dotted)}; {where or 'a recipe'} has: {', '.join(known)}."
                f"{near(str(key), known)}"
            )
        values[key] = _held(hints[key], value, dotted)
    for name, one in fields.items():
        missing = one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
        if name not in values and missing:
            raise ConfigError(f"{where or 'the recipe'} lacks '{name}'")
    return kind(**values)


def _held(hint: Any, value: Any, dotted: str) -> Any:
    of = [one for one in typing.get_args(hint) if one is not type(None)]
    optional = isinstance(hint, types.UnionType) and type(None) in typing.get_args(hint)
    if optional and value is None:
        return None
    if optional and len(of) == 1:
        return _held(of[0], value, dotted)
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else filled(hint, value, dotted)  # type: ignore[arg-type]
    if typing.get_origin(hint) is dict and dataclasses.is_dataclass(of[1]):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{dotted} is {shown(value)}; it should be a mapping")
        return {str(key): _held(of[1], item, f"{dotted}.{key}") for key, item in value.items()}
    return checked(hint, value, dotted)


def check_in_file(path: Path, name: str, value: Any, hint: Any) -> None:
    """Refuse a value that was read from a file and is not of its type.

    Args:
        path: The file.
        name: What the value is called there, for the message.
        value: The value.
        hint: The type.

    Raises:
        DamagedError: It is of another type.
    """
    try:
        checked(hint, value, name)
    except ConfigError as error:
        raise DamagedError(f"'{path}' is damaged: {error}") from error


def _typed(hint: Any, value: Any) -> Any:
    # Not jsonargparse, which reads texts: "0.2" as a number, "no" as False, "os.system" as that
    # function.
    origin, of = typing.get_origin(hint) or hint, typing.get_args(hint)
    is_number = isinstance(value, Real) and not isinstance(value, bool)  # Python counts True as 1
    if origin in _UNIONS:
        return _first(of, value)
    if origin is Literal and any(type(value) is type(choice) and value == choice for choice in of):
        return value
    if origin is float and is_number:
        return _finite(float(value))
    if origin is int and is_number and isinstance(value, Integral):
        if int(value).bit_length() > _BITS:
            raise OverflowError
        return int(value)
    if origin in (str, bool, type(None)) and isinstance(value, origin):
        return value
    if origin is Path and isinstance(value, str | Path):
        return Path(value)
    if origin in _LISTS and isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return _listed(origin, of, value)
    if origin in _MAPPINGS and isinstance(value, Mapping):
        key_hint, item_hint = of or (Any, Any)
        if hint == dict[str, Any]:
            return {str(key): item for key, item in value.items()}
        return {_typed(key_hint, key): _typed(item_hint, item) for key, item in value.items()}
    if origin in _KNOWN:
        raise TypeError
    return value


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise TypeError
    return number


def _first(hints: Sequence[Any], value: Any) -> Any:
    """Return the value in the first of several types that it has."""
    for hint in hints:
        with contextlib.suppress(TypeError, OverflowError):
            return _typed(hint, value)
    raise TypeError


def _listed(origin: Any, of: tuple[Any, ...], values: Sequence[Any]) -> Any:
    hints = of[:1] * len(values) if origin is not tuple or of[-1:] == (...,) else of
    if of and len(hints) != len(values):
        raise TypeError
    items = (
        [_typed(hint, value) for hint, value in zip(hints, values, strict=True)] if of else values
    )
    becomes = type(values) if origin is Sequence and type(values) in (list, tuple) else origin
    return tuple(items) if becomes is tuple else list(items)


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
    words = {
        int: "a whole number",
        float: "a number",
        str: "a text",
        bool: "true or false",
        Path: "a path",
    }
    return words.get(hint, str(hint))


def _plural(hint: Any) -> str:
    return {int: "whole numbers", float: "numbers", str: "texts"}.get(hint, str(hint))
