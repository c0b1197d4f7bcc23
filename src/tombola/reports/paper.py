"""Paper: the printed numbers of the experiments that recipes reproduce, to stand beside ours.

recipe's name -> [ printed ] -> points at the density of the prunable weights -> figure, table
"""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml


@dataclass(frozen=True)
class Point:
    """One printed result.

    Attributes:
        arm: The arm that does the same here.
        sparsity: A fraction, of all weights or of the prunable ones.
        value: The headline metric on the test set, a fraction.
        rounds: Of pruning.
        minutes: Of the whole search; ``None`` where it is not given.
        of_prunable: Whether the sparsity is that of the prunable weights.
    """

    arm: str
    sparsity: float
    value: float
    rounds: int
    minutes: int | None = None
    of_prunable: bool = False

    def density(self, prunable: float) -> float:
        """Return the density of the prunable weights.

        Args:
            prunable: Prunable weights / all weights.

        >>> round(Point("lth", 0.705, 0.668, 6).density(0.95574), 4)
        0.2624
        """
        return 1 - self.sparsity / (1.0 if self.of_prunable else prunable)


@dataclass(frozen=True)
class PrintedClasses:
    """What a paper prints of each class of a network.

    Attributes:
        density: Of the network; 1 of the dense one.
        values: The headline metric by class, fractions.
    """

    density: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class Printed:
    """What a paper prints of an experiment.

    Attributes:
        source: The paper and its table.
        dense: The headline metric of the dense network, a fraction.
        points: Of its tickets.
        note: What is odd about it.
        by_class: By arm, and "dense", what is printed of each class.
    """

    source: str
    dense: float
    points: tuple[Point, ...]
    note: str = ""
    by_class: Mapping[str, PrintedClasses] = field(default_factory=dict)


def printed(recipe: str, data: str, model: str) -> Printed | None:
    """Return what is printed of a recipe's experiment, whatever the scale it is run at; ``None``
    where nothing is.

    A recipe that only begins alike, or a scale of it with other data or another model, is another
    experiment.

    >>> printed("cifar100-resnet18-small", "cifar100", "resnet18").points[0]
    Point(arm='lth', sparsity=0.973, value=0.662, rounds=17, minutes=479, of_prunable=False)
    >>> printed("cifar100-resnet18-halves", "fashion_mnist", "lenet5") is None
    True
    """
    table = _table()
    matching = []
    for name, entry in table.items():
        is_recipe = recipe == name or recipe.startswith(f"{name}-")
        if is_recipe and entry["of"] == [data, model]:
            matching.append(name)
    if not matching:
        return None
    entry = table[max(matching, key=len)]
    of_prunable = entry.get("sparsity_of") == "prunable weights"
    points = []
    for point in entry["points"]:
        sparsity, value = point["sparsity"] / 100, point["value"] / 100
        rounds, minutes = point["rounds"], point.get("minutes")
        points.append(Point(point["arm"], sparsity, value, rounds, minutes, of_prunable))
    return Printed(
        entry["source"],
        entry["dense"] / 100,
        tuple(points),
        entry.get("note", ""),
        _by_class(dict(entry.get("by_class", {}))),
    )


def _by_class(entry: dict[str, Any]) -> dict[str, PrintedClasses]:
    classes = entry.pop("classes", ())
    by_class = {}
    for arm, of_arm in entry.items():
        values = [value / 100 for value in of_arm["values"]]
        density = 1 - of_arm["sparsity"] / 100
        by_class[arm] = PrintedClasses(density, dict(zip(classes, values, strict=True)))
    return by_class


@functools.cache
def _table() -> Mapping[str, Any]:
    text = (
        importlib.resources.files("tombola.reports")
        .joinpath("paper.yaml")
        .read_text(encoding="utf-8")
    )
    table: Mapping[str, Any] = yaml.safe_load(text)
    return table
