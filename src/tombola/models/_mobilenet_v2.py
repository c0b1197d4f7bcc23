"""MobileNetV2 for small images, as the COLT authors' code has it, or with a plain stem."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from tombola.models.checks import check_arguments, check_choice

# Channels, blocks, stride of the first block, and how many times as wide a block is inside.
_STAGES = (
    (16, 1, 1, 1),
    (24, 2, 2, 6),
    (32, 3, 2, 6),
    (64, 4, 2, 6),
    (96, 3, 1, 6),
    (160, 3, 1, 6),
    (320, 1, 1, 6),
)


def mobilenet_v2(
    num_classes: int,
    *,
    image_shape: tuple[int, int, int] = (3, 32, 32),
    stem: Literal["repo", "standard"] = "repo",
) -> nn.Module:
    """Build MobileNetV2: ``stem``, ``stage1`` to ``stage7`` of 17 inverted residual blocks in all,
    ``last``, ``head``.

    ``stage2``, ``stage3`` and ``stage4`` make the image half as high and wide; ``last`` is a 1x1
    convolution to 1280 channels, of which the mean over the image goes to ``head``.

    Args:
        num_classes: Number of outputs, at least 2.
        image_shape: Channels, height and width of one image; any size will do.
        stem: ``"repo"``, as in the code of the COLT authors: a 1x1 convolution with padding 1,
            which makes 32 x 32 pixels 34 x 34, then 17 x 17, 9 x 9 and 5 x 5; all convolutions have
            biases. ``"standard"``: a 3x3 convolution, which keeps the size, and 32 x 32 become 4 x
            4; no convolution has a bias.

    Returns:
        A model from ``[batch, channels, height, width]`` to logits ``[batch, num_classes]``.

    Raises:
        ConfigError: There is no such stem, or the image shape or the number of classes will not do.

    Source:
        Sandler et al. 2018, arXiv:1801.04381, table 2, but neither stem nor ``stage6`` strides: the
        images are small. The first block has a 1x1 convolution from 32 to 32 channels, which
        torchvision leaves out. The default is the model of COLT, arXiv:2212.12770, table III
        ("2.2M": 2,190,016 weights in the convolutions).

    >>> sum(p.numel() for p in mobilenet_v2(10).parameters())
    2254090
    """
    check_arguments("mobilenet_v2", num_classes, image_shape)
    check_choice("stem", stem, ("repo", "standard"))
    # In the authors' code every convolution has a bias, though batch norm follows it.
    repo = stem == "repo"
    first = nn.Conv2d(image_shape[0], 32, 1 if repo else 3, padding=1, bias=repo)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        stem=nn.Sequential(
            OrderedDict[str, nn.Module](conv=first, bn=nn.BatchNorm2d(32), relu=nn.ReLU6())
        )
    )
    inputs = 32
    for number, (channels, blocks, stride, factor) in enumerate(_STAGES, start=1):
        # Only the first block of a stage strides.
        stage = []
        for block in range(blocks):
            stage.append(
                InvertedResidual(inputs, channels, 1 if block else stride, factor, bias=repo)
            )
            inputs = channels
        layers[f"stage{number}"] = nn.Sequential(*stage)
    last = nn.Conv2d(inputs, 1280, 1, bias=repo)
    layers["last"] = nn.Sequential(
        OrderedDict[str, nn.Module](conv=last, bn=nn.BatchNorm2d(1280), relu=nn.ReLU6())
    )
    layers["mean"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["head"] = nn.Linear(1280, num_classes)
    return nn.Sequential(layers)


class InvertedResidual(nn.Module):
    """A 1x1 convolution that widens, a 3x3 convolution of each channel by itself, and a 1x1
    convolution that narrows.

    Each has batch norm, the first two also ReLU6. The input is added where the shape stays.

    Source:
        Sandler et al. 2018, arXiv:1801.04381, table 1 and figure 4 (d).

    >>> import torch
    >>> InvertedResidual(16, 24, 2, 6, bias=False)(torch.zeros(2, 16, 9, 9)).shape
    torch.Size([2, 24, 5, 5])
    """

    def __init__(
        self, in_channels: int, channels: int, stride: int, factor: int, *, bias: bool
    ) -> None:
        super().__init__()
        width = in_channels * factor
        self.adds = stride == 1 and in_channels == channels
        self.layers = nn.Sequential(
            OrderedDict[str, nn.Module](
                conv1=nn.Conv2d(in_channels, width, 1, bias=bias),
                bn1=nn.BatchNorm2d(width),
                relu1=nn.ReLU6(),
                conv2=nn.Conv2d(width, width, 3, stride=stride, padding=1, groups=width, bias=bias),
                bn2=nn.BatchNorm2d(width),
                relu2=nn.ReLU6(),
                conv3=nn.Conv2d(width, channels, 1, bias=bias),
                bn3=nn.BatchNorm2d(channels),
            )
        )

    def forward(
        self, x: Float[Tensor, "batch in_channels height width"]
    ) -> Float[Tensor, "batch channels out_height out_width"]:
        """Return ``F(x)``, plus ``x`` where the shape stays."""
        out: Tensor = self.layers(x)
        return x + out if self.adds else out
