"""Conv-2, a plain convolutional network of the lottery ticket paper."""

from __future__ import annotations

from torch import nn

from tombola.models.plain_convs import plain_convs


def conv2(
    num_classes: int, *, image_shape: tuple[int, int, int] = (3, 32, 32), dropout: float = 0.0
) -> nn.Module:
    """Build Conv-2: a pair of convolutions, max pooling, and three fully connected layers.

    The layers are ``conv1`` to ``conv2`` (3x3, padding 1; 64 channels), ``fc1`` and ``fc2`` of 256
    units, and ``head``. All have biases and there is no batch norm.

    Args:
        num_classes: Number of outputs, at least 2.
        image_shape: Channels, height and width of one image, at least 2 x 2 pixels.
        dropout: Fraction of the values that are zeroed in training, from 0 to below 1. It stands
            behind the ReLU of ``fc1`` and of ``fc2``, and not between the convolutions.

    Returns:
        A model from ``[batch, channels, height, width]`` to logits ``[batch, num_classes]``.

    Raises:
        ConfigError: The images are too small, or the number of classes or the dropout will not do.

    Source:
        Frankle & Carbin 2019, arXiv:1803.03635, figure 2. Their section on dropout takes a rate of
        0.5; behind which layers it stands is our choice.

    >>> sum(p.numel() for p in conv2(10).parameters())
    4301642
    """
    return plain_convs("conv2", num_classes, image_shape, (64,), dropout)
