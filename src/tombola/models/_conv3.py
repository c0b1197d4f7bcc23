"""Conv-3, the small convolutional network of the COLT paper."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from tombola.models.checks import check_arguments


def conv3(num_classes: int, *, image_shape: tuple[int, int, int] = (3, 32, 32)) -> nn.Module:
    """Build Conv-3: three times convolution, batch norm, ReLU and max pooling, then the mean over
    the image.

    The layers are ``conv1`` to ``conv3`` (3x3, padding 1, with biases; 64, 128 and 256 channels),
    ``bn1`` to ``bn3`` and ``head``.

    Args:
        num_classes: Number of outputs, at least 2.
        image_shape: Channels, height and width of one image, at least 8 x 8 pixels.

    Returns:
        A model from ``[batch, channels, height, width]`` to logits ``[batch, num_classes]``.

    Raises:
        ConfigError: The images are too small, or the number of classes will not do.

    Source:
        COLT, arXiv:2212.12770, Table III: 371K parameters in the convolutions and 397K in all,
        which are the numbers with biases and with 100 classes.

    >>> sum(p.numel() for p in conv3(100).parameters())
    397412
    """
    check_arguments("conv3", num_classes, image_shape, smallest=8)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    inputs = image_shape[0]
    for number, channels in enumerate((64, 128, 256), start=1):
        layers[f"conv{number}"] = nn.Conv2d(inputs, channels, 3, padding=1)
        layers[f"bn{number}"] = nn.BatchNorm2d(channels)
        layers[f"relu{number}"] = nn.ReLU()
        layers[f"pool{number}"] = nn.MaxPool2d(2)
        inputs = channels
    layers["mean"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["head"] = nn.Linear(inputs, num_classes)
    return nn.Sequential(layers)
