"""LeNet-300-100, the fully connected network of the lottery ticket papers."""

from __future__ import annotations

from torch import nn

from tombola.models._mlp import mlp


def lenet_300_100(
    num_classes: int, *, image_shape: tuple[int, int, int] = (1, 28, 28)
) -> nn.Module:
    """Build LeNet-300-100: two hidden layers of 300 and 100 units, named ``fc1`` and ``fc2``, and
    ``head``.

    Args:
        num_classes: Number of outputs, at least 2.
        image_shape: Channels, height and width of one image; (1, 28, 28) gives the 784 inputs of
            the paper.

    Returns:
        A model from ``[batch, channels, height, width]`` to logits ``[batch, num_classes]``.

    Raises:
        ConfigError: The image shape or the number of classes will not do.

    Source:
        LeCun et al. 1998, "Gradient-based learning applied to document recognition", section
        III.C.4, with ReLU as in Frankle & Carbin 2019, arXiv:1803.03635, figure 2: 266,200 weights
        and 410 biases.

    >>> sum(p.numel() for p in lenet_300_100(10).parameters())
    266610
    """
    return mlp(num_classes, image_shape=image_shape, hidden=(300, 100))
