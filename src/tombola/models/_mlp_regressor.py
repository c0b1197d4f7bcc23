"""A multilayer perceptron with one output, for the task regression."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from tombola.models.checks import check_sizes
from tombola.models.mlps import hidden_layers
from tombola.models.regressor import Regressor


def mlp_regressor(features: int, *, hidden: Sequence[int] = (64, 32)) -> Regressor:
    """Build fully connected layers with ReLU between them, and one output.

    The layers are named ``fc1``, ``fc2`` … and ``head``; all have biases.

    Args:
        features: Numbers of an example.
        hidden: Width of each hidden layer, from the input to the output; none gives a linear
            regression.

    Raises:
        ConfigError: A width will not do.

    >>> model = mlp_regressor(2, hidden=[3])
    >>> sum(parameter.numel() for parameter in model.parameters())  # 2 * 3 + 3 + 3 * 1 + 1
    13
    """
    check_sizes(features=features)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    width = hidden_layers(layers, features, hidden)
    layers["head"] = nn.Linear(width, 1)
    return Regressor(layers)
