"""Checking: a user's values against the types that are asked for.

    plain data, dataclass -> [ `tombola.ground.models` validates ] -> the dataclass, or one line

Errors that pydantic finds are reported in tombola's words: the dotted name, the value seen, what
would be right, and the name that may be meant.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal

from tombola.ground.errors import ConfigError, DamagedError, InputError, near, shown

MOST_ENTRIES = 1000  # of a list in a recipe
MOST_BITS = 128  # of a whole number
DEEPEST = 50  # lists and mappings in each other, in plain data that a user gives
_MOST_VALUES = 100_000  # of such data

# What the origin of a type may be.
UNIONS = (types.UnionType, typing.Union)
LISTS = (tuple, list, Sequence)
MAPPINGS = (dict, Mapping)


class RefusedError(ValueError):
    """A value is not of its type, as found by one of tombola's own validators."""


def checked(hint: Any, value: Any, dotted: str) -> Any:
    """Return a value in its type: an integer may become a float, a list a tuple, a text a path.

    Nothing else is converted: a text is no number ("0.2"), and neither are True and False. Types
    consist of numbers, texts, booleans, None, paths, choices (``Literal``), lists, tuples and
    mappings; any other type accepts every value.

    Args:
        hint: The type, resolved (``typing.get_type_hints``).
        value: As YAML or a caller gives it.
        dotted: The value's name in the message.

    Raises:
        ConfigError: The value is not of the type.

    >>> checked(tuple[float, float], [0.9, 1], "betas")
    (0.9, 1.0)
    >>> checked(float, "0.2", "rate")
    Traceback (most recent call last):
    tombola.ground.errors.ConfigError: rate is '0.2'; it should be a number.
    """
    # Imported here, as pydantic takes a tenth of a second.
    from pydantic import ValidationError

    from tombola.ground.models import adapter

    try:
        return adapter(hint).validate_python(own_numbers(value))
    except ValidationError as error:
        wrong = min(error.errors(include_url=False), key=_rank)
        # A class that refuses its values does so in its own words.
        cause = wrong.get("ctx", {}).get("error")
        if isinstance(cause, Exception) and not isinstance(cause, RefusedError):
            raise cause from None
        raise ConfigError(_in_words(wrong, hint, value, dotted)) from None


def check_most(data: object, most: Mapping[str, float], where: str = "") -> None:
    """Refuse attributes above their bound, and lists of more than a thousand entries.

    Bounds are generous: they keep out what no machine could ever do, so that no typing error ends
    the process or keeps it busy for ever.

    Args:
        data: The object; attributes that are no numbers are not compared.
        most: The bounds by the attributes' names; of a list each entry is compared.
        where: The object's name in the message.

    Raises:
        ConfigError: The first attribute that is above its bound.

    >>> from types import SimpleNamespace
    >>> check_most(SimpleNamespace(epochs=1e300), {"epochs": 1e6}, "training")
    Traceback (most recent call last):
    tombola.ground.errors.ConfigError: training.epochs is 1e+300; it is at most 1,000,000
    """
    for name, bound in most.items():
        value = getattr(data, name)
        dotted = f"{where}.{name}" if where else name
        # A long list is refused by its length, before its entries are compared one by one.
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


def check_rate(rate: float, name: str = "rate") -> None:
    """Refuse a rate that is no fraction.

    Raises:
        InputError: The rate is not a number from 0 to 1.

    >>> check_rate(0.2)
    """
    rate = own_numbers(rate)
    if isinstance(rate, bool) or not isinstance(rate, int | float):  # Python counts True as 1
        raise InputError(f"{name} is {rate!r}; it is a number from 0 to 1")
    if not 0 <= rate <= 1:
        hint = f", so {rate:g} % is {rate / 100:g}" if 1 < rate < 100 else ""
        raise InputError(f"{name} is {rate:g}; it is a fraction from 0 to 1{hint}")


def check_plain(value: object, where: str) -> None:
    """Refuse plain data that is nested too deep or too large, such as a list that holds itself.

    A value that occurs in several places counts in each of them, as when it is written out.

    Raises:
        ConfigError: More than 100,000 values, or lists and mappings more than 50 deep in each
            other.

    >>> endless = []
    >>> endless.append(endless)
    >>> check_plain(endless, "data")
    Traceback (most recent call last):
    tombola.ground.errors.ConfigError: data is nested more than 50 deep
    """
    # Not recursive: data that is nested too deep would exhaust the stack.
    remaining: list[tuple[object, int]] = [(value, 0)]
    number = 0
    while remaining:
        inner, depth = remaining.pop()
        if depth > DEEPEST:
            raise ConfigError(f"{where} is nested more than {DEEPEST} deep")
        if not isinstance(inner, Mapping | list | tuple):
            continue
        number += len(inner)
        if number > _MOST_VALUES:
            raise ConfigError(f"{where} holds more than {_MOST_VALUES:,} values")
        items = inner.values() if isinstance(inner, Mapping) else inner
        remaining += [(item, depth + 1) for item in items]


def own_numbers(value: Any) -> Any:
    """Return numpy's and other libraries' numbers as Python's own, also within containers.

    Everything else is returned as it is.

    >>> import numpy
    >>> own_numbers((numpy.int64(3), numpy.float64(0.5), True, "x"))
    (3, 0.5, True, 'x')
    """
    # By the exact type, as subclasses (numpy's float64 is a float) are to be converted.
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
        converted = own_numbers(value)
        if converted is not value:
            object.__setattr__(data, field.name, converted)


@functools.cache
def hints_of(kind: type) -> dict[str, Any]:
    """Return the resolved types of a class's attributes."""
    return typing.get_type_hints(kind)


def alias_of(field: dataclasses.Field[Any]) -> str:
    """Return the name of a field's entry in plain data."""
    alias: str = field.metadata.get("alias", field.name)
    return alias


def short_of(kind: Any) -> str | None:
    """Return the entry that a bare text stands for; ``None`` where a mapping is needed."""
    for field in dataclasses.fields(kind):
        if field.metadata.get("short"):
            return alias_of(field)
    return None


def filled(kind: Any, given: Any, where: str) -> Any:
    """Make a dataclass of plain data, every value checked against its type.

    Args:
        kind: The dataclass.
        given: Its entries; where one is a dataclass itself, likewise. See `tombola.ground.models`
            for what they may leave out.
        where: Its name in messages; an empty text is a recipe.

    Raises:
        ConfigError: There is no such entry, one is missing, or a value is of another type.
    """
    return checked(kind, given, where)


def _rank(wrong: Mapping[str, Any]) -> int:
    """Order errors: an unknown entry often is a misspelt one, which is missing then."""
    # Where one of several types is taken, what a class says of its own values says most.
    if isinstance(wrong.get("ctx", {}).get("error"), ConfigError):
        return 1
    return {"extra_forbidden": 0, "missing": 3}.get(wrong["type"], 2)


def _in_words(wrong: Mapping[str, Any], hint: Any, value: Any, dotted: str) -> str:
    """Describe an error: the name of the value, the value, and what would be right."""
    place: Sequence[Any] = wrong["loc"]
    kind = dataclass_in(hint)
    # From section to section, down to the entry that is wrong.
    while kind is not None and place:
        if isinstance(value, str) and (short := short_of(kind)):
            value = {short: value}
        if not isinstance(value, Mapping):
            break
        entry, *place = place
        if typing.get_origin(hint) is dict:  # of sections, each under a name that the user gives
            hint = kind
        else:
            fields = {alias_of(field): field for field in dataclasses.fields(kind)}
            if entry not in fields:
                known = [name for name, field in fields.items() if "rest" not in field.metadata]
                return _unknown(str(entry), known, dotted)
            if entry not in value:
                return f"{dotted or 'the recipe'} lacks '{entry}'"
            hint = hints_of(kind)[fields[entry].name]
        value = {str(key): item for key, item in value.items()}[entry]
        dotted = f"{dotted}.{entry}" if dotted else str(entry)
        kind = dataclass_in(hint)
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        return f"{dotted} is {shown(value)}; no machine has such a number"
    meant = near(value, _choices(hint)) if isinstance(value, str) else ""
    return f"{dotted} is {shown(value)}; it should be {in_words(hint)}{'' if kind else '.'}{meant}"


def _unknown(entry: str, known: Sequence[str], where: str) -> str:
    dotted = f"{where}.{entry}" if where else entry
    return (
        f"there is no {shown(dotted)}; {where or 'a recipe'} has: {', '.join(known)}."
        f"{near(entry, known)}"
    )


def dataclass_in(hint: Any) -> Any:
    """Return the dataclass that a type asks for, itself or as values of a mapping; ``None`` where
    there is none.
    """
    if dataclasses.is_dataclass(hint):
        return hint
    if typing.get_origin(hint) is dict:
        return dataclass_in(typing.get_args(hint)[1])
    if typing.get_origin(hint) in UNIONS:
        members = _members(hint)
        return dataclass_in(members[0]) if len(members) == 1 else None
    return None


def _members(union: Any) -> list[Any]:
    """Return the types that a union is made of, without None."""
    return [member for member in typing.get_args(union) if member is not type(None)]


def check_in_file(path: Path, name: str, value: Any, hint: Any) -> None:
    """Refuse a value from a file that is not of its type.

    Args:
        path: The file.
        name: The value's name there, for the message.
        value: The value.
        hint: The type.

    Raises:
        DamagedError: It is of another type.
    """
    try:
        checked(hint, value, name)
    except ConfigError as error:
        raise DamagedError(f"'{path}' is damaged: {error}") from error


def _choices(hint: Any) -> list[str]:
    if typing.get_origin(hint) is Literal:
        return list(map(str, typing.get_args(hint)))
    choices = []
    for argument in typing.get_args(hint):
        choices += _choices(argument)
    return choices


def in_words(hint: Any, *, marked: bool = False) -> str:
    """Say a type in words.

    Args:
        hint: The type.
        marked: Mark choices as code, as Markdown does.

    >>> in_words(int | None), in_words(Literal["last", "best"])
    ('a whole number', 'one of last, best')
    >>> in_words(Literal["last", "best"] | float, marked=True)
    '`last`, `best` or a number'
    """
    origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return "a mapping"
    if marked and (origin is Literal or origin in UNIONS):
        return _alternatives(_marked(hint))
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in UNIONS:
        return " or ".join(map(in_words, _members(hint)))
    if origin in LISTS:
        fixed_length = origin is tuple and arguments and arguments[-1] is not ...
        number = f"{len(arguments)} " if fixed_length else ""
        kinds = " and ".join(sorted({_plural(hint) for hint in arguments if hint is not ...}))
        return f"a list of {number}{kinds}" if kinds else "a list"
    if origin in MAPPINGS:
        return "a mapping from group to number" if hint == dict[str, float] else "a mapping"
    words = {
        int: "a whole number",
        float: "a number",
        str: "a text",
        bool: "true or false",
        Path: "a path",
    }
    return words.get(hint, str(hint))


def _marked(hint: Any) -> list[str]:
    """Return what a type takes: its choices, marked as code, and other types in words."""
    if typing.get_origin(hint) is Literal:
        return [f"`{choice}`" for choice in typing.get_args(hint)]
    if typing.get_origin(hint) not in UNIONS:
        return [in_words(hint)]
    marked: list[str] = []
    for member in _members(hint):
        marked += _marked(member)
    return marked


def _alternatives(words: Sequence[str]) -> str:
    """Join words as a sentence does.

    >>> _alternatives(["a", "b", "c"])
    'a, b or c'
    """
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _plural(hint: Any) -> str:
    if typing.get_origin(hint) in UNIONS:
        return "texts or mappings"
    return {int: "whole numbers", float: "numbers", str: "texts"}.get(hint, str(hint))
