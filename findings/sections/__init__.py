"""The findings, a module each with its TITLE and its text(), in the order of the page."""

from importlib import import_module
from types import ModuleType

_ORDER = (
    "mnist_lenet5",
    "lenet_300_100",
    "causes",
    "cifar10_conv3",
    "gradual",
    "branches",
    "gaps",
    "uneven",
    "halves",
    "rates",
    "width",
    "transfer",
    "classes",
    "collapse",
    "snip",
    "untrained",
    "layers_left",
    "at_start",
    "dynamic",
    "detection",
)
SECTIONS: tuple[ModuleType, ...] = tuple(import_module(f"{__name__}.{name}") for name in _ORDER)
