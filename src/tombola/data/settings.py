"""Settings of data: what a recipe says of how pictures and classes are varied. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tombola.ground.checking import take_own_numbers_
from tombola.ground.errors import ConfigError, shown


@dataclass(frozen=True)
class Augment:
    """Augmentation of training images, in the order crop, flip, rotate; none by default.

    Attributes:
        crop: Pixels of zeros put around an image before a random part of its original size is cut
            out.
        flip: Mirror left and right, with a probability of one half.
        rotate: Rotate about the centre by an angle between minus and plus this, in degrees.
    """

    crop: int = 0
    flip: bool = False
    rotate: float = 0.0

    def __post_init__(self) -> None:
        take_own_numbers_(self)
        if isinstance(self.crop, bool) or not isinstance(self.crop, int) or self.crop < 0:
            raise ConfigError(
                f"augment.crop is {shown(self.crop)}; it is a whole number of pixels, at least 0"
            )
        if not isinstance(self.flip, bool):
            raise ConfigError(f"augment.flip is {shown(self.flip)}; it is true or false")
        is_number = isinstance(self.rotate, int | float) and not isinstance(self.rotate, bool)
        if not is_number or not 0 <= self.rotate <= 180:
            raise ConfigError(
                f"augment.rotate is {shown(self.rotate)}; it is an angle from 0 to 180 degrees"
            )


@dataclass(frozen=True)
class Skew:
    """How unevenly classes are represented: each misses its own fraction of training examples.

    Attributes:
        most: Of each class another fraction of the training examples is missing, drawn uniformly
            between 0 and this.
        of: Where they are missing: in ``all`` trainings, or in those of the ``search`` alone, so
            tickets are evaluated on all.
    """

    most: float
    of: Literal["all", "search"] = "all"

    def __post_init__(self) -> None:
        take_own_numbers_(self)
        if not 0 < self.most < 1:
            raise ConfigError(
                f"data.skew.most is {self.most:g}; it is a fraction between 0 and 1, so 30 % is 0.3"
            )
