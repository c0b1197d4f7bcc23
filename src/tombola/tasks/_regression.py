"""Regression: a number is predicted from others, measured by the root mean square error.

The examples are a table of the user's, ``data: {name: table, path: FILE}``. There are no classes to
divide: partitions are by examples or by seeds.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tombola.data.loading import load
from tombola.data.tables import Table
from tombola.ground import devices, seeds
from tombola.ground.metrics import Metric
from tombola.kernels.recording import recordable
from tombola.models.building import build_for, head_name
from tombola.tasks.dividing import DividedRows, divide, loading, refuse, splits_of
from tombola.tasks.settings import Data, Model


def regression(
    data: Data, model: Model, *, seed: int, device: str, root: Path | None
) -> Regression:
    """Predict one number for each example.

    Features and targets are normalised by the training split; the loss is the mean squared error
    of normalised targets, the metric is in the target's own unit.

    Args:
        data: An entry for this task, such as ``table`` or ``diabetes``.
        model: An entry for this task, such as ``mlp_regressor``; called with the number of
            features.
        seed: The recipe's.
        device: Its name, as in a recipe.
        root: Root of the data sets.

    Raises:
        InputError: The table or the model cannot be had, or they do not fit each other.

    >>> task = regression(
    ...     Data("diabetes"), Model("mlp_regressor"), seed=0, device="cpu", root=None
    ... )
    >>> [len(task.splits[which][0]) for which in ("train", "valid", "test")]
    [319, 35, 88]
    """
    refuse(data, "regression", "classes", "augment")
    table = load(data.name, root=root, options=data.options, kind=Table)
    division = divide(len(table.train_targets), data, seed, "examples")
    scale = scale_of(table, division.train)
    train = normalised(table.train_features, table.train_targets, scale)
    test = normalised(table.test_features, table.test_targets, scale)
    draw = functools.partial(
        build_for,
        "regression",
        model.name,
        table.train_features.shape[1],
        options=model.options,
        init=model.init,
        head=model.head,
        inputs=test[0][:1].expand(2, -1),
        outputs=(2, 1),
    )
    with seeds.seeded(seed, "init"):
        head = head_name(draw(), model.head)
    rmse = Metric("rmse", title="RMSE", fraction=False, higher=False, unit=table.unit, digits=3)
    unit = float(scale["target_std"])
    return Regression(
        draw,
        splits_of(division, train, test),
        seed,
        squared_error,
        (rmse,),
        lambda loss: {"rmse": unit * math.sqrt(loss)},
        head,
        devices.device(device),
        source=table,
        division=division,
        load=loading(model),
        scale=scale,
    )


def scale_of(table: Table, rows: Tensor) -> dict[str, Tensor]:
    """Return mean and standard deviation of features and target over some training rows.

    Those of a constant are its value and 1.

    >>> constant = torch.full((2, 1), 5.0)
    >>> table = Table(constant, torch.tensor([1.0, 3.0]), constant, torch.tensor([2.0, 2.0]))
    >>> {name: value.tolist() for name, value in scale_of(table, torch.arange(2)).items()}
    {'mean': [5.0], 'std': [1.0], 'target_mean': 2.0, 'target_std': 1.0}
    """
    features, targets = table.train_features[rows].double(), table.train_targets[rows].double()
    std, target_std = features.std(0, correction=0), targets.std(correction=0)
    return {
        "mean": features.mean(0),
        "std": torch.where(std > 0, std, 1.0),
        "target_mean": targets.mean(),
        "target_std": torch.where(target_std > 0, target_std, 1.0),
    }


def normalised(
    features: Tensor, targets: Tensor, scale: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return features [n, features] and targets [n] with a mean of 0 and a deviation of 1."""
    inputs = (features.double() - scale["mean"]) / scale["std"]
    outputs = (targets.double() - scale["target_mean"]) / scale["target_std"]
    return inputs.float(), outputs.float()


@recordable
def squared_error(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean squared error of the normalised targets."""
    features, targets = batch
    predicted: Tensor = model(features).squeeze(1)
    return (predicted - targets).square().mean()


@dataclass(frozen=True, eq=False)
class Regression(DividedRows):
    """Predict one number for each example.

    Attributes:
        scale: Mean and standard deviation of each feature and of the target.
    """

    scale: Mapping[str, Tensor] = field(kw_only=True)

    @property
    def bytes(self) -> int:
        """What the table takes in the memory of each process."""
        rows = [values for split in self.splits.values() for values in split]
        return sum(values.nbytes for values in rows)

    @property
    def facts(self) -> Mapping[str, str]:
        """What is predicted, and how far it varies."""
        table, scale = self.source, self.scale
        assert isinstance(table, Table)
        mean, deviation = (float(scale[name]) for name in ("target_mean", "target_std"))
        unit = f" {table.unit}" if table.unit else ""
        text = f"{table.target}: mean {mean:.4g}{unit}, standard deviation {deviation:.4g}{unit}"
        return {"target": f"{text}, in the training split"}

    @property
    def origin(self) -> Mapping[str, Mapping[str, Any]]:
        """By what features and targets are normalised: a model's output is meant so."""
        return {"data": {"scale": {name: value.tolist() for name, value in self.scale.items()}}}
