"""ResNet-50, with the stem for small images or the one for ImageNet."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from tombola.models import residual
from tombola.models.checks import check_arguments


def resnet50(
    num_classes: int,
    *,
    image_shape: tuple[int, int, int] = (3, 32, 32),
    stem: residual.Stem = "cifar",
) -> nn.Module:
    """Build ResNet-50: ``stem``, ``stage1`` to ``stage4`` of 3, 4, 6 and 3 bottleneck blocks, and
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
        He et al. 2015, arXiv:1512.03385, table 1 (shortcuts: option B), but that the 3x3
        convolution of a block strides, as in torchvision. With the stem for ImageNet and 1000
        classes it has 25,557,032 parameters.

    >>> sum(p.numel() for p in resnet50(10).parameters())
    23520842
    """
    check_arguments("resnet50", num_classes, image_shape)
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            stem=residual.stem(stem, image_shape[0]),
            stage1=residual.stage(64, 256, 3, 1, residual.projection, residual.Bottleneck),
            stage2=residual.stage(256, 512, 4, 2, residual.projection, residual.Bottleneck),
            stage3=residual.stage(512, 1024, 6, 2, residual.projection, residual.Bottleneck),
            stage4=residual.stage(1024, 2048, 3, 2, residual.projection, residual.Bottleneck),
            mean=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            head=nn.Linear(2048, num_classes),
        )
    )
