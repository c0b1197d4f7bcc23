"""ResNet-18, with the stem for small images or the one for ImageNet."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from tombola.models import residual
from tombola.models.checks import check_arguments


def resnet18(
    num_classes: int,
    *,
    image_shape: tuple[int, int, int] = (3, 32, 32),
    stem: residual.Stem = "cifar",
) -> nn.Module:
    """Build ResNet-18: ``stem``, ``stage1`` to ``stage4`` of two residual blocks each, and
    ``head``.

    The convolutions have no biases; a 1x1 convolution with batch norm stands in the shortcut where
    the shape changes.

    Args:
        num_classes: Number of outputs, at least 2.
        image_shape: Channels, height and width of one image; any size will do.
        stem: ``"cifar"``, one 3x3 convolution, keeps the size of the image; ``"imagenet"``, a 7x7
            convolution and max pooling, both of stride 2, makes it a quarter as high and wide.

    Returns:
        A model from ``[batch, channels, height, width]`` to logits ``[batch, num_classes]``.

    Raises:
        ConfigError: There is no such stem, or the image shape or the number of classes will not do.

    Source:
        He et al. 2015, arXiv:1512.03385, table 1 (shortcuts: option B). The small stem is the one
        COLT, arXiv:2212.12770, uses for CIFAR and Tiny ImageNet.

    >>> sum(p.numel() for p in resnet18(10).parameters())
    11173962
    """
    check_arguments("resnet18", num_classes, image_shape)
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            stem=residual.stem(stem, image_shape[0]),
            stage1=residual.stage(64, 64, 2, 1, residual.projection),
            stage2=residual.stage(64, 128, 2, 2, residual.projection),
            stage3=residual.stage(128, 256, 2, 2, residual.projection),
            stage4=residual.stage(256, 512, 2, 2, residual.projection),
            mean=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            head=nn.Linear(512, num_classes),
        )
    )
