"""ResNet-20, the thin residual network for CIFAR-10."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from tombola.models.checks import check_arguments
from tombola.models.residual import ZeroPadding, stage


def resnet20(num_classes: int, *, image_shape: tuple[int, int, int] = (3, 32, 32)) -> nn.Module:
    """Build ResNet-20: ``stem``, ``stage1`` to ``stage3`` of three residual blocks (16, 32, 64
    channels), and ``head``.

    The convolutions have no biases and the shortcuts no parameters: where the shape changes, every
    second pixel is taken and the new channels are zero (option A of the paper).

    Args:
        num_classes: Number of outputs, at least 2.
        image_shape: Channels, height and width of one image; any size will do.

    Returns:
        A model from ``[batch, channels, height, width]`` to logits ``[batch, num_classes]``.

    Raises:
        ConfigError: The image shape or the number of classes will not do.

    Source:
        He et al. 2015, arXiv:1512.03385, section 4.2 with n = 3 ("0.27M" parameters in table 6).

    >>> sum(p.numel() for p in resnet20(10).parameters())
    269722
    """
    check_arguments("resnet20", num_classes, image_shape)
    # The first convolution keeps the size, as images of CIFAR are small.
    first = OrderedDict[str, nn.Module](
        conv=nn.Conv2d(image_shape[0], 16, 3, padding=1, bias=False),
        bn=nn.BatchNorm2d(16),
        relu=nn.ReLU(),
    )
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            stem=nn.Sequential(first),
            stage1=stage(16, 16, 3, 1, ZeroPadding),
            stage2=stage(16, 32, 3, 2, ZeroPadding),
            stage3=stage(32, 64, 3, 2, ZeroPadding),
            mean=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            head=nn.Linear(64, num_classes),
        )
    )
