"""Rows: one private file per row; ``_lenet_300_100.py`` is the row ``lenet-300-100``.

A file gives ``ROW``, what stands in the table before anything is measured, and
``measure(settings)``; its docstring says what is measured and how.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from benchmarks.harness import Settings
from tombola.ground import catalogue
from tombola.ground.errors import InputError, near


def names() -> list[str]:
    """List the rows in the order of the table."""
    names = [entry.replace("_", "-") for entry in catalogue.entries("benchmarks.rows")]
    return sorted(names, key=lambda name: (get(name).ROW.place, name))


def get(name: str) -> ModuleType:
    """Return a row's module."""
    return importlib.import_module(f"benchmarks.rows._{name.replace('-', '_')}")


def chosen(given: Sequence[str]) -> list[str]:
    """Return the rows of these names, in the order of the table; all if none is given.

    Raises:
        InputError: There is no row of a name.
    """
    known = names()
    for name in given:
        if name not in known:
            raise InputError(
                f"there is no row '{name}'.{near(name, known)} The rows are: {', '.join(known)}"
            )
    return [name for name in known if name in given or not given]


def measure(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Measure a row; what a fresh process is asked for."""
    measured: dict[str, Any] = get(name).measure(Settings(**settings)).to_dict()
    return measured
