"""Regressors: from the features of an example to one number."""

from __future__ import annotations

from typing import ClassVar

from torch import nn


class Regressor(nn.Sequential):
    """A model for the task "regression": from features [batch, features] to values [batch, 1].

    It has its output layer as ``head``.
    """

    task: ClassVar[str] = "regression"
