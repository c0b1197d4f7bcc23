"""Machines: what the machines of a cluster must have in common, so that results are the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tombola.ground.errors import ConfigError, shown

SAME_PACKAGES = ("torch", "torchvision", "numpy", "tombola")  # those that decide bits


@dataclass(frozen=True)
class Expected:
    """What every machine must have exactly as the driver has it.

    Attributes:
        packages: Versions by package, with those of Python and of tombola's own code.
        own_code: The user's own functions, with the digests of their files.
        path: Where modules are looked for, if there is such a folder.
    """

    packages: Mapping[str, str]
    own_code: Mapping[str, str]
    path: Sequence[str]

    @classmethod
    def here(cls, own_code: Mapping[str, str]) -> Expected:
        """Return what this process has."""
        path = [str(Path.cwd()), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        here = about_by_value()(SAME_PACKAGES, [], path)
        return cls(here["packages"], own_code, path)

    def check(self, about: Mapping[str, Any], machine: str) -> None:
        """Refuse a machine that has something else.

        Args:
            about: What it has, as the function that `about_by_value` makes says it.
            machine: What a message calls it.

        Raises:
            ConfigError: In one line, what it is.
        """
        for name, version in self.packages.items():
            installed = about["packages"][name]
            if installed == version:
                continue
            if name == "code of tombola":
                raise ConfigError(
                    f"{machine} has other code of tombola than this one; install the same"
                )
            if not installed:
                raise ConfigError(f"{machine} has no {name}; install {name} {version}, as here")
            raise ConfigError(
                f"{machine} has {name} {installed}, and this one {version}: results would not be "
                "the same"
            )
        for name, digest in self.own_code.items():
            digest_there = about["own_code"][name]
            if digest_there.startswith("!"):
                raise ConfigError(
                    f"{machine} cannot import {shown(name)}: {digest_there[1:]}; put it where "
                    "PYTHONPATH points there"
                )
            if digest_there != digest:
                raise ConfigError(
                    f"{machine} has another {shown(name)} than this one; copy its file there"
                )


def about_by_value() -> Callable[..., dict[str, Any]]:
    """Make the function that says what a machine has."""
    # A function that is made here is sent with its code, and so are its imports: a machine may lack
    # tombola.

    def about(
        packages: Sequence[str], own_code: Sequence[str], path: Sequence[str]
    ) -> dict[str, Any]:
        import hashlib
        import importlib
        import importlib.metadata
        import importlib.util
        import inspect
        import pathlib
        import platform
        import sys

        sys.path += [place for place in path if place not in sys.path]
        versions = {"Python": ".".join(platform.python_version_tuple()[:2])}
        for name in packages:
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                versions[name] = ""
        package = importlib.util.find_spec("tombola")
        code = hashlib.sha256()
        if package is not None and package.origin is not None:
            for file in sorted(pathlib.Path(package.origin).parent.rglob("*.py")):
                code.update(file.read_bytes())
        versions["code of tombola"] = code.hexdigest()
        digests = {}
        for name in own_code:
            module, _, attribute = name.partition(":")
            try:
                function = inspect.unwrap(getattr(importlib.import_module(module), attribute))
                try:
                    source = inspect.getsourcefile(function)
                except TypeError:
                    # Something else that can be called, such as a partial.
                    source = sys.modules[module].__file__
                digests[name] = hashlib.sha256(pathlib.Path(source or "").read_bytes()).hexdigest()
            except BaseException as error:
                # Whatever the user's module does there when it is imported.
                digests[name] = f"!{type(error).__name__}: {error}"
        return {"packages": versions, "own_code": digests}

    return about
