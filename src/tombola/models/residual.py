"""Residual networks: what ResNet-18, 20 and 50 are made of.

They differ in the block, in the shortcut where the shape changes, and in the stem.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Literal, TypeAlias

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad, relu

from tombola.models.checks import check_choice

Shortcut: TypeAlias = Callable[[int, int, int], nn.Module]  # (in_channels, channels, stride)
# (in_channels, channels, stride, shortcut)
Block: TypeAlias = Callable[[int, int, int, nn.Module], nn.Module]
Stem: TypeAlias = Literal["cifar", "imagenet"]


class Residual(nn.Module):
    """Two bias-free 3x3 convolutions with batch norm, added to their input.

    Source:
        He et al. 2015, arXiv:1512.03385, figure 5 left: ReLU after the first convolution and after
        the sum.

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


class Bottleneck(nn.Module):
    """Three bias-free convolutions with batch norm, 1x1, 3x3 and 1x1, added to their input.

    The first two have a quarter of the channels of the last.

    Source:
        He et al. 2015, arXiv:1512.03385, figure 5 right. As is usual now, and as torchvision does,
        the 3x3 convolution strides; in the paper it is the first 1x1.

    >>> import torch
    >>> Bottleneck(64, 128, 2, projection(64, 128, 2))(torch.zeros(2, 64, 8, 8)).shape
    torch.Size([2, 128, 4, 4])
    """

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        width = channels // 4
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.shortcut = shortcut

    def forward(
        self, x: Float[Tensor, "batch in_channels height width"]
    ) -> Float[Tensor, "batch channels out_height out_width"]:
        """Return ``relu(F(x) + shortcut(x))``."""
        out = relu(self.bn1(self.conv1(x)))
        out = relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return relu(out + self.shortcut(x))


class ZeroPadding(nn.Module):
    """Take every ``stride``-th pixel and add channels of zeros, half before and half after: no
    parameters.

    Source:
        He et al. 2015, arXiv:1512.03385, section 3.3, option A. Where the zeros go is not said
        there.

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


def stem(kind: Stem, in_channels: int) -> nn.Sequential:
    """Make the layers before the first stage, which give 64 channels.

    Args:
        kind: ``"cifar"``, one 3x3 convolution, keeps the size of the image; ``"imagenet"``, a 7x7
            convolution and max pooling, both of stride 2, makes it a quarter as high and wide.
        in_channels: Of the image.

    Raises:
        ConfigError: There is no such stem.

    >>> [name for name, _ in stem("imagenet", 3).named_children()]
    ['conv', 'bn', 'relu', 'pool']
    """
    sizes = {"cifar": 3, "imagenet": 7}
    check_choice("stem", kind, sizes)
    size, stride = sizes[kind], 2 if kind == "imagenet" else 1
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(in_channels, 64, size, stride=stride, padding=size // 2, bias=False),
        bn=nn.BatchNorm2d(64),
        relu=nn.ReLU(),
    )
    if kind == "imagenet":
        layers["pool"] = nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(layers)


def stage(
    in_channels: int,
    channels: int,
    blocks: int,
    stride: int,
    shortcut: Shortcut,
    block: Block = Residual,
) -> nn.Sequential:
    """Chain residual blocks; only the first one strides and, where the shape changes, has a
    shortcut.

    >>> [type(block.shortcut).__name__ for block in stage(16, 32, 2, 2, ZeroPadding)]
    ['ZeroPadding', 'Identity']
    """
    changes = stride != 1 or in_channels != channels
    first = block(
        in_channels,
        channels,
        stride,
        shortcut(in_channels, channels, stride) if changes else nn.Identity(),
    )
    return nn.Sequential(
        first, *(block(channels, channels, 1, nn.Identity()) for _ in range(blocks - 1))
    )
