"""Extras: libraries that only parts of tombola need, and one line that names a missing one.

``pip install tombola`` installs what finds, holds, saves and loads tickets; ``pip install
'tombola[report]'`` adds the libraries for reports, ``'tombola[all]'`` everything. A function that
needs such a library imports it from here, when it needs it:

    from tombola.ground.extras import altair as alt

Submodules of these libraries are imported when they are named, as in ``scipy.stats.bootstrap``.
"""

from __future__ import annotations

import contextlib
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
    from pycocotools import coco as coco
    from pycocotools import cocoeval as cocoeval

# The modules of each extra in pyproject.toml.
EXTRAS = {
    # Statistics, tables, figures, the page.
    "report": ("altair", "pandas", "scipy", "vl_convert"),
    # Published data sets, image files, torchvision's models.
    "data": ("PIL.Image", "sklearn", "torchvision"),
    # COCO's mean average precision.
    "detection": ("pycocotools.coco", "pycocotools.cocoeval"),
    # Trainings on several machines.
    "ray": ("ray",),
}


class MissingExtraError(InputError, ImportError):
    """A library that comes with an extra is not installed."""


def require(extra: str) -> None:
    """Refuse to continue where a library of an extra is not installed; nothing is imported.

    For long work: a run asks before it trains, not when it comes to its report.

    Raises:
        MissingExtraError: One is missing; the message says how to install it.

    >>> require("report")
    """
    for module in EXTRAS[extra]:
        if importlib.util.find_spec(_library(module)) is None:
            raise _missing(module, extra)


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """Return the versions of the installed ones of some distributions, by pip's names.

    >>> list(versions(["numpy", "no-such-thing"]))
    ['numpy']
    """
    installed = {}
    for name in distributions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed


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
        # The library is installed, and something that it needs is not.
        if error.name not in (module, _library(module)):
            raise
        raise _missing(module, extra) from None


def _missing(module: str, extra: str) -> MissingExtraError:
    return MissingExtraError(
        f"{_library(module)} is not installed; it comes with: pip install 'tombola[{extra}]'"
    )


def _library(module: str) -> str:
    return module.partition(".")[0]
