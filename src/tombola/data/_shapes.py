"""Shapes: coloured shapes with their boxes, drawn on noise."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tombola.data.boxes import BoxData, Boxes, HeldPictures, fingerprint_of
from tombola.ground import seeds
from tombola.ground.devices import free_memory
from tombola.ground.errors import ConfigError, shown

_NAMES = ("disc", "square", "triangle", "ring", "cross", "diamond")
_SMALLEST = 5  # pixels of a side, below which the kinds look alike
_MOST = 6  # shapes in a picture
_TRIES = 20  # to find a place for a shape
_BACKGROUND = (80, 176)  # range of its colours, so that contrast and noise are seldom cut off


def shapes(
    *,
    train: int = 1240,
    test: int = 300,
    size: int = 96,
    kinds: int = 6,
    smallest: int = 9,
    largest: int = 30,
    contrast: int = 48,
    noise: int = 24,
    seed: int = 0,
) -> BoxData:
    """Pictures with 1 to 6 coloured shapes each: disc, square, triangle, ring, cross, diamond.

    A class is a form; its colour says nothing. A picture has one background colour. A shape differs
    from it in red, green and blue by up to ``contrast`` grey levels, up or down, and by at least
    half of that. Noise is added to every pixel. Shapes have any place and any side from ``smallest`` to
    ``largest`` pixels. A later shape is drawn over earlier ones, but at least three quarters of
    each shape's pixels stay visible; a shape for which no such place is found in 20 draws is left
    out. A box is tight around what can be seen of its shape.

    All is computed in whole numbers, so a picture has the same bits on every machine. It depends on
    the seed, the split and its number alone: fewer pictures are the first ones of more.

    Args:
        train: Training pictures.
        test: Test pictures.
        size: Height and width of a picture, in pixels.
        kinds: How many of the six forms there are, in the order above.
        smallest: Shortest side of a shape, in pixels, at least 5.
        largest: Longest side of a shape, in pixels.
        contrast: Largest difference between a shape and its background, in grey levels of 255.
        noise: Standard deviation of the noise, in grey levels.
        seed: Of all draws.

    Raises:
        ConfigError: An option is out of its range.

    >>> data = shapes(train=3, test=1)
    >>> data.class_names
    ('disc', 'square', 'triangle', 'ring', 'cross', 'diamond')
    >>> tuple(data.train.pictures[0].shape), len(data.train)
    ((3, 96, 96), 3)
    """
    if train < 1 or test < 1:
        raise ConfigError(
            f"shapes has {shown(train)} training and {shown(test)} test pictures; it needs at "
            "least one of each"
        )
    if not 1 <= kinds <= len(_NAMES):
        raise ConfigError(
            f"shapes.kinds is {shown(kinds)}; it is a number from 1 to {len(_NAMES)} of the forms "
            f"{', '.join(_NAMES)}"
        )
    if not _SMALLEST <= smallest <= largest <= size:
        raise ConfigError(
            f"shapes has sides from {shown(smallest)} to {shown(largest)} in pictures of "
            f"{shown(size)} pixels; they are at least {_SMALLEST} and fit into the picture"
        )
    if not 1 <= contrast <= _BACKGROUND[0]:
        raise ConfigError(
            f"shapes.contrast is {shown(contrast)}; it is a difference in grey levels, from 1 to "
            f"{_BACKGROUND[0]}"
        )
    if not 0 <= noise <= 255:
        raise ConfigError(
            f"shapes.noise is {shown(noise)}; it is a standard deviation in grey levels, from 0 to "
            "255"
        )
    needed, free = 3 * size * size * (train + test), free_memory(torch.device("cpu"))
    if needed > free:
        raise ConfigError(
            f"shapes has {train:,} training and {test:,} test pictures of {size} x {size} pixels, "
            f"which take {needed / 2**30:,.1f} GiB; {free / 2**30:.1f} GiB of memory are free"
        )

    def drawn(split: Literal["train", "test"], count: int) -> Boxes:
        pictures, boxes, labels = [], [], []
        for number in range(count):
            generator = seeds.generator(seed, "shapes", split, number)
            canvas, places, classes = _picture(generator, size, kinds, smallest, largest, contrast)
            pictures.append(_noisy(canvas, noise, generator))
            boxes.append(torch.tensor(places, dtype=torch.float32))
            labels.append(torch.tensor(classes, dtype=torch.int64))
        return Boxes(
            HeldPictures(pictures),
            tuple(boxes),
            tuple(labels),
            tuple(torch.zeros(len(row), dtype=torch.bool) for row in labels),
            tuple(f"{split}-{number:05d}" for number in range(count)),
        )

    parts = drawn("train", train), drawn("test", test)
    names = _NAMES[:kinds]
    return BoxData(*parts, class_names=names, fingerprint=fingerprint_of(parts, names))


def _picture(
    generator: torch.Generator, size: int, kinds: int, smallest: int, largest: int, contrast: int
) -> tuple[np.ndarray, list[list[int]], list[int]]:
    """Draw one picture without noise, int32 [3, size, size], its boxes and its classes."""

    def draw(low: int, high: int, count: int = 1) -> list[int]:
        """Draw whole numbers from low to high, both included."""
        numbers: list[int] = torch.randint(low, high + 1, (count,), generator=generator).tolist()
        return numbers

    background = np.array(draw(*_BACKGROUND, 3))
    canvas = np.empty((3, size, size), np.int32)
    canvas[:] = background[:, None, None]
    # Which shape is seen in each pixel, and how many pixels each has where nothing covers it.
    owner = np.full((size, size), -1)
    areas: list[int] = []
    labels: list[int] = []
    for _ in range(*draw(1, _MOST)):
        kind, side = *draw(0, kinds - 1), *draw(smallest, largest)
        steps = np.array(draw((contrast + 1) // 2, contrast, 3))
        colour = background + steps * (2 * np.array(draw(0, 1, 3)) - 1)
        form = _form(_NAMES[kind], side)
        for _ in range(_TRIES):
            left, top = draw(0, size - side, 2)
            inside = np.s_[top : top + side, left : left + side]
            after = owner.copy()
            after[inside][form] = len(areas)
            seen = [np.count_nonzero(after == number) for number in range(len(areas))]
            if all(4 * now >= 3 * area for now, area in zip(seen, areas, strict=True)):
                owner = after
                canvas[:, top : top + side, left : left + side][:, form] = colour[:, None]
                areas.append(int(np.count_nonzero(form)))
                labels.append(kind)
                break
    boxes = []
    for number in range(len(areas)):
        rows, columns = np.nonzero(owner == number)
        edges = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        boxes.append([int(edge) for edge in edges])
    return canvas, boxes, labels


def _form(name: str, side: int) -> np.ndarray:
    """Return which pixels of a square belong to a form, bool [side, side]; it touches all sides."""
    # Twice the distance from the centre, so that it is a whole number for even sides, too.
    offset = 2 * np.arange(side) - (side - 1)
    u, v = offset[None, :], offset[:, None]
    squared = u * u + v * v
    if name == "disc":
        return squared <= side * side
    if name == "ring":  # the hole has about half the diameter
        return (squared <= side * side) & (squared * 10 > side * side * 3)
    if name == "triangle":  # the point is above
        return np.abs(u) <= (v + side - 1) // 2 + 1
    if name == "cross":
        return (3 * np.abs(u) <= side) | (3 * np.abs(v) <= side)
    if name == "diamond":
        return np.abs(u) + np.abs(v) <= side
    return np.ones((side, side), bool)


def _noisy(canvas: np.ndarray, noise: int, generator: torch.Generator) -> Tensor:
    """Add noise to every number of a picture and make it uint8."""
    # The sum of four bytes is close enough to a Gaussian, and the same on every machine, which
    # torch's own draw from a Gaussian is not. Its standard deviation is 147.8.
    drawn = torch.randint(
        0, 256, (4, *canvas.shape), generator=generator, dtype=torch.uint8
    ).numpy()
    centred = drawn.sum(0, dtype=np.int32) - 510
    scaled = (centred * (1000 * noise // 148) + 500) // 1000
    return torch.from_numpy((canvas + scaled).clip(0, 255).astype(np.uint8))
