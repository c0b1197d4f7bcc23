"""Settings: what a recipe says of its data and its model; a task is made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from tombola.data.settings import Augment, Skew


@dataclass(frozen=True)
class Data:
    """Which data set, and how it is split.

    Attributes:
        name: An entry of ``tombola.data``, or a user's own function, ``package.module:function``.
        valid: Validation examples taken from the training data: a number, or a fraction below 1; 0
            for none. "test" selects on the test split, as the authors of COLT do: only for
            comparison with them, and reported everywhere.
        subset: Train on this many examples only, stratified; all if not given.
        classes: Use this many of the classes only, drawn by the recipe's seed; all if not given.
        augment: Augmentation of training images.
        skew: How unevenly the classes are represented in training; as published if not given.
        options: The data set's own options; in YAML they stand beside ``name``.
    """

    name: str = field(default="digits", metadata={"short": True})
    valid: int | float | Literal["test"] = 0.1
    subset: int | None = None
    classes: int | None = None
    augment: Augment = field(default_factory=Augment)
    skew: Skew | None = None
    options: dict[str, Any] = field(default_factory=dict, metadata={"rest": True})


@dataclass(frozen=True)
class Model:
    """Which model.

    Attributes:
        name: An entry of ``tombola.models``, ``torchvision:NAME``, or ``package.module:function``.
        head: Dotted name of the output layer, where the model has no attribute ``head``.
        init: "xavier" (the COLT paper's) or "default" (torch's own).
        weights: A local checkpoint that the initial state is taken from, instead of drawing it.
        mask: "from_weights" begins every search from the mask that the checkpoint's zeros make:
            weights that are zero there stay pruned. Otherwise they are trained like all others.
        options: The model's own options; in YAML they stand beside ``name``.
    """

    name: str = field(default="lenet_300_100", metadata={"short": True})
    head: str | None = None
    init: Literal["xavier", "default"] = "xavier"
    weights: str | None = None
    mask: Literal["from_weights"] | None = None
    options: dict[str, Any] = field(default_factory=dict, metadata={"rest": True})
