"""Extras: the libraries that only a part of tombola needs, and one line that names the one that is
missing.

``pip install tombola`` brings what finds, holds, saves and loads tickets; ``pip install
'tombola[report]'`` adds what works out and draws a report, ``'tombola[all]'`` everything. A
function that needs such a library imports it from here, at the moment when it needs it:

    from tombola.ground.extras import altair as alt

Submodules of these libraries import themselves when they are named, as in
``scipy.stats.bootstrap``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tombola.ground.errors import InputError

if TYPE_CHECKING:
    import altair as altair
    import pandas as pandas
    import ray as ray
    import scipy as scipy
    import sklearn as sklearn
    import torchvision as torchvision
    import vl_convert as vl_convert
    from PIL import Image as Image

# The modules of each extra in pyproject.toml, and what they are there for.
EXTRAS = {
    "report": ("altair", "pandas", "scipy", "vl_convert"),  # statistics, tables, figures, the page
    "data": (
        "PIL.Image",
        "sklearn",
        "torchvision",
    ),  # data sets that have names, image files, torchvision's models
    "ray": ("ray",),  # trainings on several machines
}


class MissingExtraError(InputError, ImportError):
    """A library that comes with an extra is not installed."""


def require(extra: str) -> None:
    """Refuse to go on where a library of an extra is not installed; nothing is imported.

    For what is long: a run asks before it trains, and not when it comes to its report.

    Raises:
        MissingExtraError: One is missing; the message says how to have it.

    >>> require("report")
    """
    for module in EXTRAS[extra]:
        if importlib.util.find_spec(_library(module)) is None:
            raise _missing(module, extra)


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """Return the versions of those distributions, by pip's names, that are installed.

    >>> list(versions(["numpy", "no-such-thing"]))
    ['numpy']
    """
    found = {}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def __getattr__(name: str) -> Any:
    for extra, modules in EXTRAS.items():
        for module in modules:
            if module.rpartition(".")[2] == name:
                return _imported(module, extra)
    raise AttributeError(f"module 'tombola.ground.extras' has no attribute '{name}'")


def _imported(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in (module, _library(module)):
            raise  # the library is there, and something that it needs is not
        raise _missing(module, extra) from None


def _missing(module: str, extra: str) -> MissingExtraError:
    return MissingExtraError(
        f"{_library(module)} is not installed; it comes with: pip install 'tombola[{extra}]'"
    )


def _library(module: str) -> str:
    return module.partition(".")[0]
