"""Segmenters: from a picture to logits of every pixel."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional


class Segmenter(nn.Module):
    """A model for the task "segmentation"; it has its output layer, a convolution, as ``head``.

    It takes pictures [batch, channels, height, width], and gives logits [batch, outputs, height,
    width].
    """

    task: ClassVar[str] = "segmentation"


class UNet(Segmenter):
    """Convolutions on ever smaller images and back, each size with what was seen on the way down.

    Args:
        outputs: Of each pixel.
        channels: Of the pictures.
        width: Channels at full size; each smaller size has twice as many.
        depth: How often the image is halved.
    """

    def __init__(self, outputs: int, channels: int, width: int, depth: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList()
        for inputs, level_width in zip([channels, *widths], widths, strict=False):
            self.down.append(_pair(inputs, level_width))
        self.up = nn.ModuleList()
        for wide, narrow in zip(widths[:0:-1], widths[-2::-1], strict=True):
            self.up.append(_pair(wide + narrow, narrow))
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the logits of every pixel."""
        seen = []
        values = pictures
        for level, block in enumerate(self.down):
            values = block(functional.max_pool2d(values, 2) if level else values)
            seen.append(values)
        for block, skipped in zip(self.up, seen[-2::-1], strict=True):
            # Nearest: the gradient of other kinds of interpolation varies on a GPU.
            larger = functional.interpolate(values, size=skipped.shape[2:], mode="nearest")
            values = block(torch.cat([larger, skipped], 1))
        logits: Tensor = self.head(values)
        return logits


def _pair(inputs: int, width: int) -> nn.Sequential:
    """Return two convolutions with batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    )
