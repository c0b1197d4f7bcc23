"""Tables: examples of numbers, and one number to predict for each.

    [ table ] -> division -> batches -> train

Features and targets stay in their own units; the task normalises both by the training split.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from tombola.ground.errors import DataError
from tombola.ground.notebooks import one_line


@dataclass(frozen=True, eq=False)
class Table:
    """What an entry of ``tombola.data`` returns for the task "regression".

    Attributes:
        train_features: float32 [n, features].
        train_targets: float32 [n].
        test_features: As ``train_features``.
        test_targets: As ``train_targets``.
        target: The target's name.
        unit: The target's unit; empty if it has none.

    Raises:
        DataError: They do not fit each other, there is no example, or a value is not finite.
    """

    task: ClassVar[str] = "regression"

    train_features: Tensor
    train_targets: Tensor
    test_features: Tensor
    test_targets: Tensor
    target: str = "target"
    unit: str = ""

    def __post_init__(self) -> None:
        for which in ("train", "test"):
            features = getattr(self, f"{which}_features")
            targets = getattr(self, f"{which}_targets")
            _check(features, targets, which)
        train, test = self.train_features.shape[1], self.test_features.shape[1]
        if train != test:
            raise DataError(
                f"training examples have {train} features and test examples {test}; they must "
                "have the same"
            )

    def __repr__(self) -> str:
        sizes = f"{len(self.train_targets):,} training, {len(self.test_targets):,} test examples"
        return one_line("Table", sizes, f"{self.train_features.shape[1]} features")

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 (hex) of all numbers."""
        digest = hashlib.sha256()
        for which in ("train_features", "train_targets", "test_features", "test_targets"):
            array = np.ascontiguousarray(getattr(self, which).numpy())
            digest.update(f"{array.shape};".encode())
            digest.update(array.data)
        return digest.hexdigest()


def _check(features: Tensor, targets: Tensor, which: str) -> None:
    split = "training" if which == "train" else "test"
    for name, values in (("features", features), ("targets", targets)):
        if values.dtype is not torch.float32:
            raise DataError(f"{split} {name} are {values.dtype}; they must be torch.float32")
        bad = ~values.isfinite()
        if bad.any():
            first = bad.nonzero()[0].tolist()
            raise DataError(
                f"{split} {name} hold {values[tuple(first)].item()} in example {first[0]}; every "
                "value must be a number that float32 can hold"
            )
    if features.ndim != 2 or targets.ndim != 1 or len(features) != len(targets):
        raise DataError(
            f"{split} features have shape {list(features.shape)} and targets "
            f"{list(targets.shape)}; they must be [n, features] and [n]"
        )
    if not len(targets) or not features.shape[1]:
        raise DataError(
            f"there are {len(targets)} {split} examples of {features.shape[1]} features; at least "
            "one of each is needed"
        )
