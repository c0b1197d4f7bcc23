"""Plain: dataclasses as the plain data that digests, records and files are made of.

A field that came after its dataclass was first written has ``metadata=LATER``. At its default it is
left out, so that what was written before there was the field keeps its digests and its bytes.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

LATER: Mapping[str, Any] = MappingProxyType({"later": True})


def plain(value: Any) -> Any:
    """Return a dataclass as `dataclasses.asdict` does, without later fields at their defaults.

    >>> @dataclasses.dataclass
    ... class Size:
    ...     width: int
    ...     depth: int = dataclasses.field(default=1, metadata=LATER)
    >>> plain(Size(2)), plain([Size(2, depth=3)])
    ({'width': 2}, [{'width': 2, 'depth': 3}])
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        entries = {}
        for field in dataclasses.fields(value):
            entry = getattr(value, field.name)
            if not ("later" in field.metadata and entry == _default(field)):
                entries[field.name] = plain(entry)
        return entries
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        entries_in_order = [plain(entry) for entry in value]
        return tuple(entries_in_order) if isinstance(value, tuple) else entries_in_order
    return copy.deepcopy(value)


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
