"""The hidden layers of multilayer perceptrons."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from tombola.ground.checking import own_numbers
from tombola.ground.errors import ConfigError, shown

_MOST_LAYERS = 1000


def hidden_layers(layers: OrderedDict[str, nn.Module], inputs: int, hidden: Sequence[int]) -> int:
    """Add fully connected layers with ReLU, ``fc1``, ``relu1``, ``fc2`` …, to some layers.

    Returns:
        The width of the last one, or ``inputs`` where there is none.

    Raises:
        ConfigError: A width will not do.

    >>> layers = OrderedDict()
    >>> hidden_layers(layers, 4, [3, 2]), list(layers)
    (2, ['fc1', 'relu1', 'fc2', 'relu2'])
    """
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
    for number, width in enumerate(hidden, start=1):
        layers[f"fc{number}"] = nn.Linear(inputs, width)
        layers[f"relu{number}"] = nn.ReLU()
        inputs = width
    return inputs
