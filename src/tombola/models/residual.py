"""Residual blocks: what ResNet-18 and ResNet-20 are made of; they differ in the shortcut where the shape changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad, relu

Shortcut: TypeAlias = Callable[[int, int, int], nn.Module]  # (in_channels, channels, stride)


class Residual(nn.Module):
    """Two bias-free 3x3 convolutions with batch norm, added to their input.

    Source:
        He et al. 2015, arXiv:1512.03385, figure 5 left: ReLU after the first convolution and after the sum.

    >>> import torch
    >>> Residual(16, 32, 2, projection(16, 32, 2))(torch.zeros(2, 16, 8, 8)).shape
    torch.Size([2, 32, 4, 4])
    """

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = shortcut

    def forward(
        self, x: Float[Tensor, "batch in_channels height width"]
    ) -> Float[Tensor, "batch channels out_height out_width"]:
        """Return ``relu(F(x) + shortcut(x))``."""
        out: Tensor = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        return relu(out + self.shortcut(x))


class ZeroPadding(nn.Module):
    """Take every ``stride``-th pixel and add channels of zeros, half before and half after: no parameters.

    Source:
        He et al. 2015, arXiv:1512.03385, section 3.3, option A. Where the zeros go is not said there.

    >>> import torch
    >>> ZeroPadding(1, 3, 2)(torch.ones(1, 1, 4, 4)).sum(dim=(2, 3)).tolist()
    [[0.0, 4.0, 0.0]]
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (channels - in_channels) // 2
        self.after = channels - in_channels - self.before

    def forward(
        self, x: Float[Tensor, "batch in_channels height width"]
    ) -> Float[Tensor, "batch channels out_height out_width"]:
        """Return the thinned image between its channels of zeros."""
        return pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


def projection(in_channels: int, channels: int, stride: int) -> nn.Module:
    """Make the shortcut of a bias-free 1x1 convolution and batch norm.

    Source:
        He et al. 2015, arXiv:1512.03385, section 3.3, option B.

    >>> sum(p.numel() for p in projection(16, 32, 2).parameters())  # 16 * 32 + 2 * 32
    576
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False),
        nn.BatchNorm2d(channels),
    )


def stage(in_channels: int, channels: int, blocks: int, stride: int, shortcut: Shortcut) -> nn.Sequential:
    """Chain residual blocks; only the first one strides and, where the shape changes, has a shortcut.

    >>> [type(block.shortcut).__name__ for block in stage(16, 32, 2, 2, ZeroPadding)]
    ['ZeroPadding', 'Identity']
    """
    changes = stride != 1 or in_channels != channels
    first = Residual(
        in_channels, channels, stride, shortcut(in_channels, channels, stride) if changes else nn.Identity()
    )
    return nn.Sequential(first, *(Residual(channels, channels, 1, nn.Identity()) for _ in range(blocks - 1)))
