"""Texts: the one JSON text of a value, and lines that any terminal can show."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from typing import Any

from tombola.ground.errors import InputError

_DEEPEST = 64  # levels of objects and lists


def canonical_json(value: Any) -> str:
    """Return the only JSON text of a value: keys sorted, no spaces, no NaN; tuples become lists.

    Raises:
        InputError: JSON has no such value (a set, NaN, a key that is no text); the message says
            where.

    >>> canonical_json({"b": (1, 2.5), "a": None})
    '{"a":null,"b":[1,2.5]}'
    >>> canonical_json({"seeds": [1, float("nan")]})
    Traceback (most recent call last):
    tombola.ground.errors.InputError: value.seeds[1] is nan; JSON has only finite numbers
    """
    data = json_data(value, "value")
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest_json(value: Any) -> str:
    """Return the sha256 over the canonical JSON text of a value: keys sorted, no spaces, UTF-8.

    Raises:
        InputError: JSON has no such value; the message says where it stands.

    >>> digest_json({"a": 1, "b": [2]}) == digest_json({"b": [2], "a": 1})
    True
    """
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def json_data(value: Any, where: str, depth: int = 0) -> Any:
    """Return a value as dicts, lists and plain values, or refuse what JSON does not have.

    Args:
        value: Anything.
        where: What the message calls it.
        depth: How many objects and lists it is nested in.

    Raises:
        InputError: JSON has no such value; the message says where.
    """
    if depth > _DEEPEST:
        raise InputError(f"{printable(where, 40)} is nested more than {_DEEPEST} deep")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise InputError(f"{printable(where)} is a number of more than 64 bits")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InputError(f"{printable(where)} is {float(value)}; JSON has only finite numbers")
        return float(value)
    if isinstance(value, str):
        # Half of a surrogate pair, which UTF-8 does not have.
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            raise InputError(f"{printable(where)} is a text with half a character: {value[:40]!a}")
        return str.__str__(value)
    if isinstance(value, (list, tuple)):
        return [json_data(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        return _object(value, where, depth)
    raise InputError(f"{printable(where)} is a {type(value).__name__}; JSON has no such value")


def _object(value: Mapping[Any, Any], where: str, depth: int) -> dict[str, Any]:
    for key in value:
        if not isinstance(key, str):
            shown = printable(repr(key))
            raise InputError(f"{printable(where)} has the key {shown}; JSON has only texts as keys")
    data = {}
    for key, item in value.items():
        data[json_data(key, f"{where}'s key")] = json_data(item, f"{where}.{key}", depth + 1)
    return data


def printable(text: str, limit: int = 120) -> str:
    """Return one printable line, so that no file controls the terminal that shows its errors."""
    shown = text if text.isprintable() else ascii(text)[1:-1]
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def shown_path(path: str | os.PathLike[str]) -> str:
    """Return a path as messages show it."""
    return printable(os.fspath(path), 400)


def file_name(path: str | os.PathLike[str]) -> str:
    """Return the last part of a path as descriptions show it."""
    name = os.path.basename(os.fspath(path))  # noqa: PTH119 - a Path cannot be made of every string
    return printable(name or os.fspath(path))
