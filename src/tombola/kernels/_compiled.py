"""Compiled: the model's forward and backward pass through ``torch.compile``."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from tombola.ground.settings import Training
from tombola.kernels._eager import Eager
from tombola.kernels.protocol import Program
from tombola.masks.masks import MaskHandle


class Compiled(Eager):
    """Compile a model before training: it takes a minute and needs a compiler on the machine.

    ``compile: true`` is the same. Its kernels round differently from torch's own. Models are tested
    uncompiled.
    """

    tolerance: ClassVar[float] = 1e-4

    def prepare(
        self, model: nn.Module, handle: MaskHandle, training: Training, **parts: Any
    ) -> Program:
        """Prepare to train the compiled model, whose parameters are the model's own."""
        compiled: nn.Module = torch.compile(model)  # type: ignore[assignment]
        return super().prepare(compiled, handle, training, **parts)
