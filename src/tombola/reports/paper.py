"""Paper: the printed numbers of the experiments that recipes reproduce, to stand beside ours.

recipe's name -> [ printed ] -> points at the density of the prunable weights -> figure, table
"""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml


@dataclass(frozen=True)
class Point:
    """One printed result.

    Attributes:
        arm: The arm that does the same here.
        sparsity: Of all weights, a fraction.
        accuracy: On the test set, a fraction.
        rounds: Of pruning.
        minutes: Of the whole search; ``None`` where it is not given.
    """

    arm: str
    sparsity: float
    accuracy: float
    rounds: int
    minutes: int | None = None

    def density(self, prunable: float) -> float:
        """Return the density of the prunable weights.

        Args:
            prunable: Prunable weights / all weights.

        >>> round(Point("lth", 0.705, 0.668, 6).density(0.95574), 4)
        0.2624
        """
        return 1 - self.sparsity / prunable


@dataclass(frozen=True)
class Printed:
    """What a paper prints of an experiment.

    Attributes:
        source: The paper and its table.
        dense: Accuracy of the dense network, a fraction.
        points: Of its tickets.
        note: What is odd about it.
    """

    source: str
    dense: float
    points: tuple[Point, ...]
    note: str = ""


def printed(recipe: str, data: str, model: str) -> Printed | None:
    """Return what is printed of a recipe's experiment, whatever the scale it is run at; ``None``
    where nothing is.

    A recipe that only begins alike, or a scale of it with other data or another model, is another
    experiment.

    >>> printed("cifar100-resnet18-small", "cifar100", "resnet18").points[0]
    Point(arm='lth', sparsity=0.973, accuracy=0.662, rounds=17, minutes=479)
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
    points = []
    for point in entry["points"]:
        sparsity, accuracy = point["sparsity"] / 100, point["accuracy"] / 100
        points.append(
            Point(point["arm"], sparsity, accuracy, point["rounds"], point.get("minutes"))
        )
    return Printed(entry["source"], entry["dense"] / 100, tuple(points), entry.get("note", ""))


@functools.cache
def _table() -> Mapping[str, Any]:
    text = (
        importlib.resources.files("tombola.reports")
        .joinpath("paper.yaml")
        .read_text(encoding="utf-8")
    )
    table: Mapping[str, Any] = yaml.safe_load(text)
    return table
