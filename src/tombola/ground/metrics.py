"""Metrics: what a task measures, and how its values are compared and shown.

A metric has a direction, which decides what is better, and a unit, which decides how it is shown.
Accuracies are fractions everywhere and shown in percent, their differences in points. A perplexity
is shown as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tombola.ground.errors import ConfigError, near, shown

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_RESERVED = ("loss", "step", "more")  # entries beside metrics in records and curves
LOSS = "loss"


@dataclass(frozen=True)
class Metric:
    """A number that a task measures on a split.

    Attributes:
        name: Its name in records, after that of the split: ``test_accuracy`` is the accuracy on the
            test split.
        title: Its name in tables and figures; ``name`` if not given.
        fraction: Whether it lies between 0 and 1 and is shown in percent; its differences are
            percentage points.
        higher: Whether more is better.
        unit: Of a metric that is no fraction, such as "bits"; empty if it has none.
        digits: Digits after the decimal point, where it is shown.
        adjective: For networks with better values, such as "accurate" (more accurate); they are
            "better" if not given.
        plural: Of the title; the title itself if not given.

    Raises:
        ConfigError: The name is no word of lower-case letters, or a reserved one.

    >>> Metric("accuracy").shown(0.9731)
    '97.31 %'
    >>> Metric("perplexity", fraction=False, higher=False).shown(12.345)
    '12.35'
    """

    name: str
    title: str = ""
    fraction: bool = True
    higher: bool = True
    unit: str = ""
    digits: int = 2
    adjective: str = ""
    plural: str = ""

    def __post_init__(self) -> None:
        valid = isinstance(self.name, str) and _NAME.fullmatch(self.name)
        if not valid or self.name in _RESERVED:
            raise ConfigError(
                f"a metric is called {shown(self.name)}; a name is small letters, digits and '_', "
                f"and not one of {', '.join(_RESERVED)}"
            )
        # Frozen, so the defaults that follow from other fields are set this way.
        if not self.title:
            object.__setattr__(self, "title", self.name.replace("_", " "))
        if not self.plural:
            object.__setattr__(self, "plural", self.title)

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if self.higher else -1

    @property
    def scale(self) -> float:
        """The factor with which values are shown: 100 for percent."""
        return 100.0 if self.fraction else 1.0

    @property
    def shown_unit(self) -> str:
        """The unit in which values are shown, empty where there is none."""
        return "%" if self.fraction else self.unit

    @property
    def points(self) -> str:
        """The unit in which differences are shown, empty where there is none."""
        return "points" if self.fraction else self.unit

    @property
    def test(self) -> str:
        """Its name in records on the test split, for the selected state of a training."""
        return f"test_{self.name}"

    @property
    def valid(self) -> str:
        """Its name in records on validation data."""
        return f"valid_{self.name}"

    @property
    def train(self) -> str:
        """Its name in records on the training data."""
        return f"train_{self.name}"

    @property
    def early(self) -> str:
        """Its name in records on the test split at the early stop."""
        return f"test_{self.name}_early"

    @property
    def head(self) -> str:
        """Its title with the unit of its values, above a column.

        >>> ACCURACY.head, Metric("perplexity", fraction=False).head
        ('accuracy %', 'perplexity')
        """
        return f"{self.title} {self.shown_unit}".strip()

    @property
    def has_error(self) -> bool:
        """Whether one minus a value is called an error: that of an accuracy is.

        >>> ACCURACY.has_error, Metric("map50", title="mAP@0.5").has_error
        (True, False)
        """
        return self.fraction and self.higher and "accuracy" in self.title

    @property
    def error_title(self) -> str:
        """What `error` gives: "error", or the metric's own title where it has no error."""
        return "error" if self.has_error else self.title

    @property
    def worst(self) -> Literal["highest", "lowest"]:
        """Which of several numbers that `error` gives is the worst."""
        return "lowest" if self.higher and not self.has_error else "highest"

    def error(self, value: float) -> float:
        """Return the error of a value, or the value itself where it has none, as it is shown.

        >>> round(ACCURACY.error(0.97), 6), Metric("map50").error(0.75)
        (3.0, 75.0)
        >>> Metric("perplexity", fraction=False, higher=False).error(12.0)
        12.0
        """
        return self.scale * (1 - value) if self.has_error else self.scale * value

    @property
    def as_good_as(self) -> str:
        """Words for a network that is not worse."""
        return f"as {self.adjective or 'good'} as"

    @property
    def better_than(self) -> str:
        """Words for a network that is better.

        >>> ACCURACY.better_than, Metric("perplexity").better_than
        ('more accurate than', 'better than')
        """
        return f"more {self.adjective} than" if self.adjective else "better than"

    @property
    def worse_than(self) -> str:
        """Words for a network that is worse."""
        return f"less {self.adjective} than" if self.adjective else "worse than"

    def axis(self, title: str, *, differences: bool = False, more: str = "") -> str:
        """Return the title of an axis, with the unit in brackets where there is one.

        >>> ACCURACY.axis("Test accuracy")
        'Test accuracy (%)'
        >>> Metric("perplexity", fraction=False).axis("Test perplexity")
        'Test perplexity'
        """
        unit = self.points if differences else self.shown_unit
        in_brackets = ", ".join(filter(None, (unit, more)))
        return f"{title} ({in_brackets})" if in_brackets else title

    def number(self, value: float) -> str:
        """Return a value for a table, without its unit."""
        return f"{self.scale * value:.{self.digits}f}"

    def shown(self, value: float) -> str:
        """Return a value with its unit."""
        return f"{self.number(value)} {self.shown_unit}".strip()

    def signed(self, value: float) -> str:
        """Return a difference with its sign, without its unit; those of fractions in points.

        >>> ACCURACY.signed(0.0152), ACCURACY.signed(-0.000001), STEPS.signed(-1250)
        ('+1.52', '+0.00', '-1,250')
        """
        # Adding zero turns minus zero into zero.
        return f"{round(self.scale * value, self.digits) + 0.0:+,.{self.digits}f}"

    def interval(self, low: float | None, high: float | None) -> str:
        """Return an interval of differences in brackets; empty where there is none.

        >>> ACCURACY.interval(0.0055, 0.0246), ACCURACY.interval(None, None)
        ('[+0.55, +2.46]', '')
        """
        if low is None or high is None:
            return ""
        return f"[{self.signed(low)}, {self.signed(high)}]"

    def amount(self, value: float) -> str:
        """Return the size of a difference, with its unit.

        >>> ACCURACY.amount(0.02), ACCURACY.amount(0.01)
        ('2 points', '1 point')
        >>> Metric("perplexity", fraction=False).amount(0.5)
        '0.5'
        """
        number = f"{self.scale * value:.{self.digits}f}".rstrip("0").rstrip(".")
        unit = "point" if self.fraction and number == "1" else self.points
        return f"{number} {unit}".strip()

    def to_dict(self) -> dict[str, Any]:
        """Return the metric as plain data, as a run folder keeps it."""
        return asdict(self)


# The metric of classification, and of records from before metrics were declared.
ACCURACY = Metric("accuracy", adjective="accurate", plural="accuracies")
CLASSIFIED = (ACCURACY,)
# When a training's validation loss was lowest: no task declares it, and networks are compared by
# it, too.
STEPS = Metric(
    "early_stop_step", "early stop", fraction=False, higher=False, unit="steps", digits=0
)


def metric_named(name: str, metrics: Sequence[Metric], where: str) -> Metric | None:
    """Return the declared metric of a name, ``None`` for the loss.

    Raises:
        ConfigError: There is no metric of that name.

    >>> metric_named("loss", CLASSIFIED, "training.select_by") is None
    True
    """
    known = {metric.name: metric for metric in metrics}
    if name != LOSS and name not in known:
        names = [LOSS, *known]
        raise ConfigError(
            f"{where} is {shown(name)}; it is one of {', '.join(names)}.{near(name, names)}"
        )
    return known.get(name)


def read(plain: Sequence[Mapping[str, Any]] | None) -> tuple[Metric, ...]:
    """Read metrics from plain data, see `Metric.to_dict`.

    A run that names none is one of classification.

    Raises:
        TypeError: An entry is not one of a metric.

    >>> read([ACCURACY.to_dict()]) == CLASSIFIED
    True
    """
    if plain is None:
        return CLASSIFIED
    return tuple(Metric(**entries) for entries in plain)
