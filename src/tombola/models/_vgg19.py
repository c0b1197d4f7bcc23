"""VGG-19 with batch norm, for small images or for ImageNet."""

from __future__ import annotations

from torch import nn

from tombola.models.vgg import Classifier, vgg


def vgg19(
    num_classes: int,
    *,
    image_shape: tuple[int, int, int] = (3, 32, 32),
    classifier: Classifier = "cifar",
) -> nn.Module:
    """Build VGG-19 with batch norm: ``stage1`` to ``stage5`` of 3x3 convolutions with biases, and
    ``head``.

    Args:
        num_classes: Number of outputs, at least 2.
        image_shape: Channels, height and width of one image, at least 16 x 16 pixels, or 32 x 32
            with the classifier for ImageNet.
        classifier: ``"cifar"``: four times max pooling, the mean over the image, and ``head``
            alone, whatever the size of the images. ``"imagenet"``: five times max pooling, then
            ``fc1`` and ``fc2`` of 4096 units, each with ReLU and dropout of 0.5, and ``head``; the
            size of the images does not choose it.

    Returns:
        A model from ``[batch, channels, height, width]`` to logits ``[batch, num_classes]``.

    Raises:
        ConfigError: There is no such classifier, the images are too small, or the number of classes
            will not do.

    Source:
        Simonyan & Zisserman 2014, arXiv:1409.1556, table 1, configuration E, with batch norm; the
        large one has 143,678,248 parameters at 1000 classes. The small one is the VGG-19 of Frankle
        & Carbin 2019, arXiv:1803.03635, figure 2.

    >>> sum(p.numel() for p in vgg19(10).parameters())
    20040522
    """
    return vgg("vgg19", num_classes, image_shape, (2, 2, 4, 4, 4), classifier)
