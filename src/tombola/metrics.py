"""Metrics: what a task measures of a model, and how that is read and shown.

A metric has a direction, which decides what is better, and a unit, which decides how it is told. Accuracies are
fractions everywhere and shown in percent; their differences are told in points. A perplexity is shown as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tombola.errors import ConfigError, near, shown

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TAKEN = ("loss", "step")  # what stands beside metrics in records and curves
LOSS = "loss"


@dataclass(frozen=True)
class Metric:
    """A number that a task measures on a split.

    Attributes:
        name: As it stands in records, behind the split: ``test_accuracy`` is the accuracy on the test split.
        title: What it is called in tables and figures; its name if not given.
        fraction: Whether it lies between 0 and 1 and is shown in percent; its differences are percentage points.
        higher: Whether more is better.
        unit: Of one that is no fraction, such as "bits"; none if it has none.
        better: How a ticket with a better value is called, such as "more accurate".

    Raises:
        ConfigError: The name is no word of small letters, or one that stands for something else.

    >>> Metric("accuracy").shown(0.9731), Metric("perplexity", fraction=False, higher=False).shown(12.345)
    ('97.31 %', '12.35')
    """

    name: str
    title: str = ""
    fraction: bool = True
    higher: bool = True
    unit: str = ""
    better: str = "better"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name) or self.name in _TAKEN:
            raise ConfigError(f"a metric is called {shown(self.name)}; a name is small letters, digits and '_', and "
                              f"not {' or '.join(_TAKEN)}")  # fmt: skip
        if not self.title:
            object.__setattr__(self, "title", self.name.replace("_", " "))

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if self.higher else -1

    @property
    def scale(self) -> float:
        """What a value is multiplied by to be shown: 100 for percent."""
        return 100.0 if self.fraction else 1.0

    @property
    def shown_unit(self) -> str:
        """The unit in which values are shown, empty where there is none."""
        return "%" if self.fraction else self.unit

    @property
    def points(self) -> str:
        """The unit in which differences are shown, empty where there is none."""
        return "points" if self.fraction else self.unit

    def shown(self, value: float, digits: int = 2) -> str:
        """Return a value as it is told, with its unit."""
        text = f"{self.scale * value:.{digits}f}"
        return f"{text} {self.shown_unit}" if self.shown_unit else text

    def plain(self) -> dict[str, Any]:
        """Return it as plain data, as a run folder keeps it."""
        return asdict(self)


# What records of before metrics were declared have, and those of classification.
ACCURACY = Metric("accuracy", better="more accurate")
CLASSIFIED = (ACCURACY,)


def metric_named(name: str, metrics: Sequence[Metric], where: str) -> Metric | None:
    """Return the declared metric of a name, ``None`` for the loss.

    Raises:
        ConfigError: None is called so.

    >>> metric_named("loss", CLASSIFIED, "training.select_by") is None
    True
    """
    known = {metric.name: metric for metric in metrics}
    if name != LOSS and name not in known:
        names = [LOSS, *known]
        raise ConfigError(f"{where} is {shown(name)}; it is one of {', '.join(names)}.{near(name, names)}")
    return known.get(name)


def read(plain: Sequence[Mapping[str, Any]]) -> tuple[Metric, ...]:
    """Read metrics from plain data, as `Metric.plain` gives it.

    Raises:
        TypeError: An entry is not one of a metric.

    >>> read([ACCURACY.plain()]) == CLASSIFIED
    True
    """
    return tuple(Metric(**one) for one in plain)
