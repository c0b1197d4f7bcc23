"""Moving: pictures and their boxes, flipped, zoomed and resized together.

A picture is float [3, height, width], its boxes are float32 [n, 4] in its pixels (see
`tombola.data.boxes`). Each function returns a new picture and new boxes. `warp` and `letterbox`
give pictures of one size, for detectors that take only that; `unwarp` and `unletterbox` bring the
boxes that such a detector finds back to the picture as it was.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

# A size is the length of both sides, or height and width.
Size = int | Sequence[int]

_GREY = 0.5  # of the margins of `letterbox`


def flip(picture: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Mirror left and right.

    >>> flip(torch.zeros(3, 80, 100), torch.tensor([[10.0, 20.0, 30.0, 50.0]]))[1].tolist()
    [[70.0, 20.0, 90.0, 50.0]]
    """
    width = picture.shape[-1]
    left, top, right, bottom = boxes.unbind(1)
    return picture.flip(-1), torch.stack([width - right, top, width - left, bottom], 1)


def zoom(picture: Tensor, boxes: Tensor, factor: float) -> tuple[Tensor, Tensor, Tensor]:
    """Enlarge or shrink what a picture shows about its centre; its size stays.

    What grows out of the picture is cut off, and margins are grey.

    Args:
        picture: float [3, height, width].
        boxes: float32 [n, 4]; they are cut where the picture ends.
        factor: Of both sides of what is shown; above 1 enlarges.

    Returns:
        The picture, the boxes, and the fraction of each box's area that is still there, [n].

    >>> boxes = torch.tensor([[40.0, 30.0, 60.0, 50.0], [0.0, 30.0, 50.0, 50.0]])
    >>> _, boxes, left = zoom(torch.zeros(3, 80, 100), boxes, 2.0)
    >>> boxes.tolist(), left.tolist()
    ([[30.0, 20.0, 70.0, 60.0], [0.0, 20.0, 50.0, 60.0]], [1.0, 0.5])
    """
    height, width = picture.shape[-2:]
    new_height, new_width = max(1, round(height * factor)), max(1, round(width * factor))
    top, left = _half(height - new_height), _half(width - new_width)
    resized = _resized(picture, new_height, new_width)
    framed = picture.new_full(picture.shape, _GREY)
    # Rows and columns that both have, in the frame and in what is put into it.
    rows, columns = _common(height, new_height, top), _common(width, new_width, left)
    framed[..., rows[0], columns[0]] = resized[..., rows[1], columns[1]]

    moved = boxes * _factors(boxes, new_width / width, new_height / height)
    moved = moved + boxes.new_tensor([left, top, left, top])
    cut = torch.stack(
        [moved[:, 0].clamp(0, width), moved[:, 1].clamp(0, height),
         moved[:, 2].clamp(0, width), moved[:, 3].clamp(0, height)], 1
    )  # fmt: skip
    return framed, cut, _areas(cut) / _areas(moved)


def _half(difference: int) -> int:
    """Return half of a whole number, rounded towards zero, so that both signs are alike."""
    return int(difference / 2)


def _common(length: int, inner: int, offset: int) -> tuple[slice, slice]:
    """Return where a stretch that begins at an offset is seen, and which part of it is."""
    first, last = max(0, offset), min(length, offset + inner)
    return slice(first, last), slice(first - offset, last - offset)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def warp(picture: Tensor, boxes: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """Resize to a size, whatever becomes of the ratio of the sides.

    >>> picture, boxes = warp(torch.zeros(3, 80, 100), torch.tensor([[10.0, 20.0, 30.0, 50.0]]), 200)
    >>> tuple(picture.shape), boxes.tolist()
    ((3, 200, 200), [[20.0, 50.0, 60.0, 125.0]])
    """
    height, width = picture.shape[-2:]
    new_height, new_width = _sides(size)
    return _resized(picture, new_height, new_width), boxes * _factors(
        boxes, new_width / width, new_height / height
    )


def unwarp(boxes: Tensor, size: Size, original: Sequence[int]) -> Tensor:
    """Bring boxes of a warped picture back to the original one.

    Args:
        boxes: In the warped picture.
        size: What it was warped to.
        original: Height and width of the original.

    >>> unwarp(torch.tensor([[20.0, 50.0, 60.0, 125.0]]), 200, [80, 100]).tolist()
    [[10.0, 20.0, 30.0, 50.0]]
    """
    height, width = original
    new_height, new_width = _sides(size)
    return boxes * _factors(boxes, width / new_width, height / new_height)


def letterbox(picture: Tensor, boxes: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """Resize to fit into a size, with the ratio of the sides kept, and fill the margins with grey.

    The picture is in the middle.

    >>> boxes = torch.tensor([[10.0, 20.0, 30.0, 50.0]])
    >>> picture, boxes = letterbox(torch.zeros(3, 80, 100), boxes, 200)
    >>> tuple(picture.shape), boxes.tolist()
    ((3, 200, 200), [[20.0, 60.0, 60.0, 120.0]])
    """
    height, width = picture.shape[-2:]
    full_height, full_width = _sides(size)
    new_height, new_width, top, left = _fitted(full_height, full_width, height, width)
    framed = picture.new_full((*picture.shape[:-2], full_height, full_width), _GREY)
    inside = framed[..., top : top + new_height, left : left + new_width]
    inside.copy_(_resized(picture, new_height, new_width))
    moved = boxes * _factors(boxes, new_width / width, new_height / height)
    return framed, moved + boxes.new_tensor([left, top, left, top])


def unletterbox(boxes: Tensor, size: Size, original: Sequence[int]) -> Tensor:
    """Bring boxes of a letterboxed picture back to the original one.

    Args:
        boxes: In the letterboxed picture; what lies in its margins comes to lie outside.
        size: What it was fitted into.
        original: Height and width of the original.

    >>> unletterbox(torch.tensor([[20.0, 60.0, 60.0, 120.0]]), 200, [80, 100]).tolist()
    [[10.0, 20.0, 30.0, 50.0]]
    """
    height, width = original
    new_height, new_width, top, left = _fitted(*_sides(size), height, width)
    inside = boxes - boxes.new_tensor([left, top, left, top])
    return inside * _factors(boxes, width / new_width, height / new_height)


def _fitted(full_height: int, full_width: int, height: int, width: int) -> tuple[int, ...]:
    """Return height, width, and distance from the upper and left edge of a fitted picture."""
    factor = min(full_height / height, full_width / width)
    new_height = min(full_height, max(1, round(height * factor)))
    new_width = min(full_width, max(1, round(width * factor)))
    return new_height, new_width, (full_height - new_height) // 2, (full_width - new_width) // 2


def _sides(size: Size) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    height, width = size
    return height, width


def _factors(boxes: Tensor, across: float, down: float) -> Tensor:
    return boxes.new_tensor([across, down, across, down])


def _resized(picture: Tensor, height: int, width: int) -> Tensor:
    # A copy of the same pixels, not an interpolation that may round them.
    if picture.shape[-2:] == torch.Size([height, width]):
        return picture.clone()
    return functional.interpolate(
        picture[None], size=(height, width), mode="bilinear", antialias=True, align_corners=False
    )[0]
