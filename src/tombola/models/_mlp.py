"""A multilayer perceptron of any width and depth."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from tombola.ground.checking import own_numbers
from tombola.ground.errors import ConfigError, shown
from tombola.models.checks import check_arguments

_MOST_LAYERS = 1000


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
    hidden = own_numbers(hidden)
    valid = isinstance(hidden, Sequence)
    for width in hidden if valid else ():
        valid = valid and isinstance(width, int) and width >= 1
    if not valid:
        raise ConfigError(
            f"hidden is {shown(hidden)}; it lists the width of each hidden layer, such as [300, "
            "100]"
        )
    if len(hidden) > _MOST_LAYERS:
        raise ConfigError(
            f"hidden lists {len(hidden):,} layers; it may have at most {_MOST_LAYERS:,}"
        )
    # Names of layers stand in masks and tickets, so they are part of the model's interface.
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    inputs = math.prod(image_shape)
    for number, width in enumerate(hidden, start=1):
        layers[f"fc{number}"] = nn.Linear(inputs, width)
        layers[f"relu{number}"] = nn.ReLU()
        inputs = width
    layers["head"] = nn.Linear(inputs, num_classes)
    return nn.Sequential(layers)
