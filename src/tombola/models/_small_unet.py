"""A small U-Net, fully convolutional, for the task segmentation."""

from __future__ import annotations

from tombola.ground.errors import ConfigError
from tombola.models.checks import check_classes, check_sizes
from tombola.models.segmenters import UNet


def small_unet(
    outputs: int,
    *,
    image_shape: tuple[int, int, int] = (3, 128, 128),
    width: int = 16,
    depth: int = 3,
) -> UNet:
    """Build a U-Net with batch norm; with the defaults it has 488,000 weights.

    Each level is a pair of 3x3 convolutions: ``down.0`` at full size to the smallest, ``up.0`` back
    to full size, and ``head``, a 1x1 convolution.

    Args:
        outputs: Of each pixel, background included, at least 2.
        image_shape: Channels, height and width of one picture; both sides at least ``2 ** depth``.
        width: Channels at full size; each smaller size has twice as many.
        depth: How often the image is halved.

    Raises:
        ConfigError: A size will not do.

    Source:
        Ronneberger, Fischer and Brox 2015, arXiv:1505.04597, with padding, batch norm, fewer
        channels, and nearest instead of transposed convolutions.

    >>> sum(parameter.numel() for parameter in small_unet(21).parameters())
    488341
    """
    check_classes(outputs)
    check_sizes(width=width, depth=depth)
    if min(image_shape[1:]) < 2**depth:
        raise ConfigError(
            f"depth is {depth} and pictures have {image_shape[1]} x {image_shape[2]} pixels; they "
            f"must have at least {2**depth} x {2**depth}"
        )
    return UNet(outputs, image_shape[0], width, depth)
