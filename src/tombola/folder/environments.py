"""Environments: what the results of a run were made with, and what must not differ when it is
continued.
"""

from __future__ import annotations

import hashlib
import inspect
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tombola.ground import catalogue, extras
from tombola.ground.devices import cores
from tombola.ground.errors import ConfigError
from tombola.schema.recipe import Recipe


def environment(recipe: Recipe, fingerprint: str) -> dict[str, Any]:
    """Return what a run's results were made with."""
    packages = ("tombola", "torch", "torchvision", "numpy", "safetensors", "scikit-learn")
    users_own: set[str] = set()
    entries = (recipe.task.name, recipe.data.name, recipe.model.name, recipe.training.step or "")
    for name in entries:
        if catalogue.is_own(name):
            users_own.add(name)
    for arm in recipe.arms.values():
        users_own |= set(arm.own_code)
    content: dict[str, Any] = {
        "python": sys.version.split()[0],
        "packages": extras.versions(packages),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cores": cores(),
        "data_fingerprint": fingerprint,
        "own_code": {name: source_digest(name) for name in sorted(users_own)},
    }
    if users_own:
        content["own_functions"] = {name: function_digest(name) for name in sorted(users_own)}
    return content


def check_same_inputs(now: Mapping[str, Any], before: Mapping[str, Any], path: Path) -> None:
    """Refuse data or code of the user's that differs from what a run began with.

    Raises:
        ConfigError: Which of them differs.
    """
    files, files_before = now["own_code"], before.get("own_code", {})
    functions, functions_before = now.get("own_functions", {}), before.get("own_functions", {})
    # Code that is new to the run is no change: an arm may be added with a score of its own.
    changed = [name for name, digest in files.items() if files_before.get(name, digest) != digest]
    # A file may hold several functions: where it is known which one has changed, that one is named.
    for name in changed:
        if name not in functions_before or functions_before[name] != functions.get(name):
            raise _differs(f"your own '{name}'", path, files[name], files_before[name])
    if changed:
        name = changed[0]
        what = f"the file of your own '{name}', beside the function itself,"
        raise _differs(what, path, files[name], files_before[name])
    fingerprint, fingerprint_before = now["data_fingerprint"], before.get("data_fingerprint")
    if fingerprint != fingerprint_before:
        raise _differs("the data", path, fingerprint, fingerprint_before)


def _differs(what: str, path: Path, now: object, before: object) -> ConfigError:
    return ConfigError(
        f"{what} differs from what '{path}' began with (digest {str(now)[:12]}, was "
        f"{str(before)[:12]}); give the run another name"
    )


def source_digest(name: str) -> str:
    """Digest of the file that the user's own ``package.module:function`` stands in."""
    function = catalogue.own(name)
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:  # something else that can be called, such as a partial
        file = sys.modules[name.partition(":")[0]].__file__
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""


def function_digest(name: str) -> str:
    """Digest of the lines of the user's own ``package.module:function`` alone; empty where they
    cannot be had.
    """
    try:
        lines = inspect.getsource(inspect.unwrap(catalogue.own(name)))
    except (OSError, TypeError):  # no function and no class, or one that was made while running
        return ""
    return hashlib.sha256(lines.encode()).hexdigest()
