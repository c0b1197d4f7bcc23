"""LeNet-5, the small convolutional network for handwritten digits."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from tombola.models.checks import check_arguments


def lenet5(num_classes: int, *, image_shape: tuple[int, int, int] = (1, 28, 28)) -> nn.Module:
    """Build LeNet-5 with ReLU and max pooling; the layers are ``conv1``, ``conv2``, ``fc1``,
    ``fc2`` and ``head``.

    Args:
        num_classes: Number of outputs, at least 2.
        image_shape: Channels, height and width of one image, at least 12 x 12 pixels. The first
            convolution pads by 2, so 28 x 28 becomes the 32 x 32 of the paper and leaves 16 x 5 x 5
            = 400 values to ``fc1``.

    Returns:
        A model from ``[batch, channels, height, width]`` to logits ``[batch, num_classes]``.

    Raises:
        ConfigError: The images are too small, or the number of classes will not do.

    Source:
        LeCun et al. 1998, "Gradient-based learning applied to document recognition", section II.B.
        As the field now does, we use ReLU, max pooling, all connections from 6 to 16 maps, and a
        linear output layer.

    >>> sum(p.numel() for p in lenet5(10).parameters())
    61706
    """
    check_arguments("lenet5", num_classes, image_shape, smallest=12)
    channels, height, width = image_shape
    # conv1 keeps the size, each pooling halves it rounding down, conv2 takes 4.
    rows, columns = ((size // 2 - 4) // 2 for size in (height, width))
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            conv1=nn.Conv2d(channels, 6, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(6, 16, 5),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(16 * rows * columns, 120),
            relu3=nn.ReLU(),
            fc2=nn.Linear(120, 84),
            relu4=nn.ReLU(),
            head=nn.Linear(84, num_classes),
        )
    )
