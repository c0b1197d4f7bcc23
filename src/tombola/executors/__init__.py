"""Executors: where work is done: in threads, in processes, or on a Ray cluster.

One private file per place where work is done: `threads`, `processes`, `ray`. `Pool` is what a run
uses: one pool, shared by all arms and replicates, that does each piece of work once, on one of
them. `serial` trains in the caller's thread, for a notebook or a script.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tombola.ground import catalogue

if TYPE_CHECKING:
    from tombola.executors.here import serial as serial
    from tombola.executors.pool import Pool as Pool

__all__ = ["Pool", "serial"]

_HOME = {"Pool": "pool", "serial": "here"}
_entry, _entries = catalogue.lazy("tombola.executors")


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"tombola.executors.{_HOME[name]}"), name)
    return _entry(name)


def __dir__() -> list[str]:
    return sorted({*__all__, *_entries()})
