"""A multilayer perceptron of any width and depth."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from tombola.models.checks import check_arguments
from tombola.models.mlps import hidden_layers


def mlp(
    num_classes: int,
    *,
    image_shape: tuple[int, int, int] = (1, 28, 28),
    hidden: Sequence[int] = (300, 100),
) -> nn.Module:
    """Build fully connected layers with ReLU between them.

    The layers are named ``fc1``, ``fc2`` … and ``head``; all have biases. Any number of hidden
    layers will do: none gives a linear classifier.

    Args:
        num_classes: Number of outputs, at least 2.
        image_shape: Channels, height and width of one image; it is flattened in this order.
        hidden: Width of each hidden layer, from the input to the output.

    Returns:
        A model from ``[batch, channels, height, width]`` to logits ``[batch, num_classes]``.

    Raises:
        ConfigError: A width, the image shape or the number of classes will not do.

    >>> model = mlp(2, image_shape=(1, 2, 2), hidden=[3])
    >>> sum(parameter.numel() for parameter in model.parameters())  # 4 * 3 + 3 + 3 * 2 + 2
    23
    """
    check_arguments("mlp", num_classes, image_shape)
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    inputs = hidden_layers(layers, math.prod(image_shape), hidden)
    layers["head"] = nn.Linear(inputs, num_classes)
    return nn.Sequential(layers)
