"""Settings: what a recipe says of its data and its model; a task is made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from tombola.data.settings import Augment, Skew
from tombola.ground.catalogue import CLASSIFICATION
from tombola.ground.plain import LATER


@dataclass(frozen=True)
class TaskChoice:
    """Which task: what is learnt and how it is measured.

    Attributes:
        name: An entry of `tombola.tasks`, or a function of your own, ``package.module:function``.
            The task declares its metrics; the first is the headline, by which tickets are compared.
        options: The task's own options; in YAML they stand beside ``name``.
    """

    name: str = field(default=CLASSIFICATION, metadata={"short": True})
    options: dict[str, Any] = field(default_factory=dict, metadata={"rest": True})

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Data:
    """Which data set, and how it is split.

    Attributes:
        name: An entry of `tombola.data`, or a function of your own, ``package.module:function``.
        valid: Validation examples, stratified by class, carved from the training data: a number, or
            a fraction below 1. With ``0`` nothing is selected on validation data. ``published``
            takes the validation split that the data set comes with, such as VOC's. ``test`` selects
            on the test split, as the authors of COLT do; only ``profile: repo`` allows it, and
            records and report say so.
        subset: Train on this many examples, stratified; validation comes on top. All if not given.
        classes: Take this many of the classes, drawn by the recipe's seed, in training, validation
            and test alike, labels renumbered from 0. The classes of ``10`` are among those of
            ``50``; ``subset`` and ``valid`` count examples of these classes. All if not given.
            ``synthetic``, and a function of your own with an option of that name, makes that many.
        augment: How training images are varied.
        skew: How unevenly the classes are represented in training; as published if not given.
        options: The data set's own options; in YAML they stand beside ``name``.
    """

    name: str = field(default="digits", metadata={"short": True})
    valid: int | float | Literal["test", "published"] = 0.1
    subset: int | None = None
    classes: int | None = field(default=None, metadata=LATER)
    augment: Augment = field(default_factory=Augment)
    skew: Skew | None = field(default=None, metadata=LATER)
    options: dict[str, Any] = field(default_factory=dict, metadata={"rest": True})


@dataclass(frozen=True)
class Model:
    """Which model.

    Attributes:
        name: An entry of `tombola.models`, ``torchvision:NAME``, or a function of your own,
            ``package.module:function``.
        head: Dotted name of the output layer, where the model has no attribute ``head``.
        init: ``xavier``: Gaussian Glorot weights and zero biases, as the papers say. ``default``:
            torch's own.
        weights: A local checkpoint (``torch.save`` or ``.safetensors``) that the initial state is
            taken from, read without running code: a state dict, itself or under ``state_dict`` or
            ``model``. All entries must fit; a head for other classes stays as it was drawn.
        mask: ``from_weights``: what is zero in the checkpoint stays pruned; every arm begins with
            that mask and counts from it. Without it zeros are trained like all other weights, and
            the run says how many there are.
        options: The model's own options; in YAML they stand beside ``name``.
    """

    name: str = field(default="lenet_300_100", metadata={"short": True})
    head: str | None = None
    init: Literal["xavier", "default"] = "xavier"
    weights: str | None = None
    mask: Literal["from_weights"] | None = field(default=None, metadata=LATER)
    options: dict[str, Any] = field(default_factory=dict, metadata={"rest": True})
