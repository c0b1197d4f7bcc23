"""Plain convolutional networks: Conv-2, Conv-4 and Conv-6 differ in their depth only."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from tombola.models.checks import check_arguments, check_dropout


def plain_convs(
    model: str,
    num_classes: int,
    image_shape: tuple[int, int, int],
    blocks: Sequence[int],
    dropout: float,
) -> nn.Module:
    """Build pairs of 3x3 convolutions, then two fully connected layers and ``head``.

    Each pair is followed by max pooling. Every layer has biases and, except ``head``, a ReLU; there
    is no batch norm.

    Args:
        model: The model's name, for messages.
        num_classes: Number of outputs.
        image_shape: Channels, height and width of one image; each pair makes it half as high and
            wide.
        blocks: Channels of the two convolutions of each pair.
        dropout: Fraction of the values behind ``fc1`` and behind ``fc2`` that are zeroed in
            training; 0 builds no dropout layer.

    Raises:
        ConfigError: The images are too small, or the number of classes or the dropout will not do.

    >>> [name for name, _ in plain_convs("conv2", 10, (3, 32, 32), (64,), 0.0).named_children()]
    ['conv1', 'relu1', 'conv2', 'relu2', 'pool1', 'flatten', 'fc1', 'relu3', 'fc2', 'relu4', 'head']
    """
    check_arguments(model, num_classes, image_shape, smallest=2 ** len(blocks))
    check_dropout(dropout)
    # Numbers of ReLUs continue behind the convolutions: names stand in masks and tickets.
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    inputs, height, width = image_shape
    for block, channels in enumerate(blocks, start=1):
        for number in (2 * block - 1, 2 * block):
            layers[f"conv{number}"] = nn.Conv2d(inputs, channels, 3, padding=1)
            layers[f"relu{number}"] = nn.ReLU()
            inputs = channels
        layers[f"pool{block}"] = nn.MaxPool2d(2)
        height, width = height // 2, width // 2
    layers["flatten"] = nn.Flatten()
    inputs *= height * width
    for number in (1, 2):
        layers[f"fc{number}"] = nn.Linear(inputs, 256)
        layers[f"relu{2 * len(blocks) + number}"] = nn.ReLU()
        if dropout:
            layers[f"drop{number}"] = nn.Dropout(dropout)
        inputs = 256
    layers["head"] = nn.Linear(inputs, num_classes)
    return nn.Sequential(layers)
