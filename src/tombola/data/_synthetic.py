"""Synthetic: noisy copies of one random picture per class."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tombola.data.dataset import Dataset
from tombola.ground import seeds
from tombola.ground.devices import free_memory
from tombola.ground.errors import ConfigError, shown


def synthetic(
    *,
    classes: int = 10,
    train: int = 1000,
    test: int = 200,
    image_shape: Sequence[int] = (1, 8, 8),
    noise: float = 2.0,
    seed: int = 0,
) -> Dataset:
    """Each class is a random Gaussian picture; its examples are that picture plus Gaussian noise,
    as uint8.

    Classes are as equal in number as can be. Pixels have a mean of 128 and a standard deviation of
    about 40, whatever the noise. For tests and demonstrations of any size: with the defaults a
    small network learns it well but not perfectly.

    Args:
        classes: How many classes, at least 1.
        train: Training examples, at least one for each class.
        test: Test examples, at least 1.
        image_shape: Channels, height, width.
        noise: Standard deviation of the noise, in standard deviations of the pictures.
        seed: Of the pictures and the noise.

    >>> data = synthetic(classes=3, train=30, test=6, image_shape=(3, 4, 4))
    >>> data.image_shape, data.test_labels.tolist()
    ((3, 4, 4), [0, 1, 2, 0, 1, 2])
    """
    if classes < 1 or train < classes or test < 1:
        raise ConfigError(
            f"synthetic has {shown(classes)} classes, {shown(train)} training and {shown(test)} "
            "test examples; it needs at least one class, one training example for each and one "
            "test example"
        )
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise ConfigError(
            f"synthetic.image_shape is {shown(list(image_shape))}; it is channels, height and width"
        )
    if not 0 <= noise < float("inf"):
        raise ConfigError(f"synthetic.noise is {noise}; it is a standard deviation, at least 0")
    # Numbers are drawn in float32 and added up in float32 before they become bytes.
    needed = 4 * math.prod(image_shape) * (classes + 3 * max(train, test)) + 8 * (train + test)
    free = free_memory(torch.device("cpu"))
    if needed > free:
        raise ConfigError(
            f"synthetic has {train:,} training and {test:,} test examples of "
            f"{shown(list(image_shape))} pixels, which takes {needed / 2**30:,.1f} GiB; "
            f"{free / 2**30:.1f} GiB of memory are free"
        )
    pictures = torch.randn(
        classes, *image_shape, generator=seeds.generator(seed, "synthetic", "pictures")
    )

    def examples(count: int, name: str) -> tuple[Tensor, Tensor]:
        labels = torch.arange(count) % classes
        noisy = torch.randn(count, *image_shape, generator=seeds.generator(seed, "synthetic", name))
        pixels = 128 + 40 * (pictures[labels] + noise * noisy) / (1 + noise**2) ** 0.5
        return pixels.round().clamp(0, 255).to(torch.uint8), labels

    return Dataset(*examples(train, "train"), *examples(test, "test"), num_classes=classes)
