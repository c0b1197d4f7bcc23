"""Batches: shuffled, augmented, normalised examples, one epoch after another.

    dataset -> split -> partition -> [ batches ] -> train

Everything is drawn from addressed seeds: the order from (seed, "order", epoch), the augmentation of
an example from (seed, "augment", epoch) and its position in the published data. So a partition,
another batch size or another worker sees the same picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from tombola.data.settings import Augment as Augment
from tombola.data.splits import Split
from tombola.ground import seeds
from tombola.ground.checking import own_numbers
from tombola.ground.errors import ConfigError, InputError, shown

_MOST_NORMALISED = 64 * 2**20  # bytes of a split that is kept normalised


PLAIN = Augment()


def augment(
    images: Tensor,
    indices: Int64[Tensor, " batch"],
    augment: Augment,
    seed: int,
    epoch: int,
    published: int,
) -> Tensor:
    """Return the images as they are augmented in one epoch; the given ones are not changed.

    The augmentation of an image depends on (seed, epoch, its index) alone. Outside of an image
    there are zeros, in raw units. Crop and flip move pixels without changing their values.

    Args:
        images: [batch, channels, height, width] in raw units, uint8 or float32. The dtype stays,
            but rotated images are float32.
        indices: Positions in the published data, each below ``published``.
        augment: The augmentation.
        seed: The replicate's seed.
        epoch: From 0.
        published: How many examples were published; the draw is made for all of them.

    >>> image = torch.arange(9.0).view(1, 1, 3, 3)
    >>> same = augment(image, torch.tensor([4]), PLAIN, seed=0, epoch=0, published=10)
    >>> torch.equal(same, image)
    True
    """
    if augment == PLAIN:
        return images
    draws = drawn_moves(augment, seed, epoch, published, images.device)
    down, right, mirrored, degrees = (draw[indices] for draw in draws)
    if augment.crop or augment.flip:
        images = move(images, down, right, mirrored)
    return turn(images, degrees) if augment.rotate else images


def move(
    images: Tensor,
    down: Int64[Tensor, " batch"],
    right: Int64[Tensor, " batch"],
    mirrored: Bool[Tensor, " batch"],
) -> Tensor:
    """Move each image by whole pixels (negative: up, left), zeros filling in; then mirror some.

    >>> picture = torch.tensor([[[[1, 2], [3, 4]]]])
    >>> move(picture, torch.tensor([1]), torch.tensor([0]), torch.tensor([True])).tolist()
    [[[[0, 0], [2, 1]]]]
    """
    height, width = images.shape[2:]
    # Row and column that each pixel of the result comes from; some lie outside of the image.
    columns = torch.arange(width, device=images.device).expand(len(images), -1)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns) - right[:, None]
    rows = torch.arange(height, device=images.device) - down[:, None]
    row_exists = (rows >= 0) & (rows < height)
    column_exists = (columns >= 0) & (columns < width)
    exists = row_exists[:, :, None] & column_exists[:, None, :]

    places = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
    places = places.flatten(1)[:, None].expand(-1, images.shape[1], -1)
    moved = images.flatten(2).gather(2, places)
    return moved.view(images.shape).mul_(exists[:, None])


def turn(
    images: Tensor, degrees: Float[Tensor, " batch"]
) -> Float[Tensor, "batch channels height width"]:
    """Rotate each image counter-clockwise about its centre: bilinear, zeros from outside.

    >>> picture = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> turn(picture, torch.tensor([90.0])).round().tolist()
    [[[[2.0, 4.0], [1.0, 3.0]]]]
    """
    height, width = images.shape[2:]
    angle = torch.deg2rad(degrees.float())[:, None, None]
    y = (torch.arange(height, device=images.device) - (height - 1) / 2)[:, None]
    x = (torch.arange(width, device=images.device) - (width - 1) / 2)[None, :]
    # Not affine_grid, which multiplies matrices in batches: its rounding may depend on their size.
    source_x = x * angle.cos() - y * angle.sin()
    source_y = x * angle.sin() + y * angle.cos()
    grid = torch.stack([source_x * (2 / width), source_y * (2 / height)], dim=-1)
    return functional.grid_sample(
        images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )


@runtime_checkable
class Epochs(Protocol):
    """The training batches of a partition, one epoch after another."""

    def __len__(self) -> int:
        """Count the batches of an epoch."""

    def epoch(self, epoch: int, /) -> Iterator[Any]:
        """Yield the batches of an epoch, from 0; the same each time."""

    def examples(self, first: int, last: int, /) -> int:
        """Count the examples of the steps from ``first`` up to, not including, ``last``."""


class Order:
    """Which examples make each batch; each epoch's order is drawn from (seed, "order", epoch).

    The last batch of an epoch may be smaller. A last batch of a single example is dropped where
    there are others: batch norm cannot train on it.

    Args:
        examples: How many there are.
        batch_size: Examples a batch, at least 1.
        seed: Of the order.

    Raises:
        ConfigError: The batch size is below 1.

    >>> order = Order(5, batch_size=3, seed=0)
    >>> len(order), [rows.tolist() for rows in order.epoch(0)]
    (2, [[0, 2, 4], [3, 1]])
    """

    def __init__(self, examples: int, *, batch_size: int, seed: int) -> None:
        batch_size = own_numbers(batch_size)
        _check_batch_size(batch_size)
        self._number, self.batch_size, self.seed = examples, batch_size, seed

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        return batches_per_epoch(self._number, self.batch_size)

    def examples(self, first: int, last: int) -> int:
        """Count the examples of the steps from ``first`` up to, not including, ``last``.

        Step 0 begins epoch 0.
        """
        per_epoch = min(self._number, len(self) * self.batch_size)

        def before(step: int) -> int:
            epochs, place = divmod(step, len(self))
            return epochs * per_epoch + place * self.batch_size

        return before(last) - before(first)

    def epoch(self, epoch: int) -> Sequence[Int64[Tensor, " batch"]]:
        """Return the positions of the examples of each batch of an epoch."""
        order = torch.randperm(self._number, generator=seeds.generator(self.seed, "order", epoch))
        return torch.split(order, self.batch_size)[: len(self)]


class Batches:
    """The batches of one split, one epoch after another; `Order` says which examples each has.

    Args:
        split: The examples.
        batch_size: Examples a batch, at least 1.
        seed: The replicate's seed, for the order and the augmentation.
        mean: [channels], in raw units; a batch is ``(images - mean) / std``.
        std: [channels].
        published: How many examples were published; the split's indices are below it.
        augment: How the images are augmented.
        order_seed: A seed for the order alone; without it, ``seed``.

    Raises:
        ConfigError: The batch size is below 1, or the crop is as large as the images.

    >>> split = Split(torch.zeros(5, 1, 2, 2), torch.arange(5), torch.arange(5))
    >>> mean, std = torch.zeros(1), torch.ones(1)
    >>> batches = Batches(split, batch_size=3, seed=0, mean=mean, std=std, published=5)
    >>> len(batches), [labels.tolist() for _, labels in batches.epoch(0)]
    (2, [[0, 2, 4], [3, 1]])
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        seed: int,
        mean: Tensor,
        std: Tensor,
        published: int,
        augment: Augment = PLAIN,
        order_seed: int | None = None,
    ) -> None:
        self.order_seed = seed if order_seed is None else order_seed
        self._order = Order(len(split), batch_size=batch_size, seed=self.order_seed)
        check_crop(augment, split.image_shape)
        if len(split) and int(split.indices.max()) >= published:
            raise InputError(
                f"the split has index {int(split.indices.max())}, but {published} examples were "
                "published"
            )
        self.split = split
        self.batch_size = self._order.batch_size
        self.seed = seed
        self.published = published
        self.augment = augment
        self._scale = _scale(mean, std, split)
        # A small split that is not augmented is normalised once, not in every epoch.
        self._normalised: Tensor | None = None
        if augment == PLAIN and 4 * len(split) * split.image_shape.numel() <= _MOST_NORMALISED:
            everything = torch.arange(len(split), device=split.labels.device)
            self._normalised = _normalise(split.pick(everything), self._scale)

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        return len(self._order)

    def examples(self, first: int, last: int) -> int:
        """Count the examples of the steps from ``first`` up to, not including, ``last``.

        Step 0 begins epoch 0.
        """
        return self._order.examples(first, last)

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield normalised float32 inputs [batch, channels, height, width] and int64 labels."""
        # Positions of all batches beforehand, so that images of files can be decoded ahead.
        split = self.split
        positions = [rows.to(split.labels.device) for rows in self._order.epoch(epoch)]
        if self._normalised is not None:
            for batch in positions:
                inputs = self._normalised.index_select(0, batch)
                yield inputs, split.labels.index_select(0, batch)
            return
        for batch, images in zip(positions, split.read(positions), strict=True):
            indices = split.indices.index_select(0, batch)
            images = augment(images, indices, self.augment, self.seed, epoch, self.published)
            yield _normalise(images, self._scale), split.labels.index_select(0, batch)


def check_crop(augment: Augment, image_shape: Sequence[int]) -> None:
    """Refuse a crop that is as large as the images.

    >>> check_crop(Augment(crop=4), (3, 32, 32))
    """
    if augment.crop >= min(image_shape[1:]):
        size = " x ".join(str(side) for side in image_shape[1:])
        raise ConfigError(
            f"augment.crop is {shown(augment.crop)}; pictures of {size} pixels could be moved out "
            "of sight"
        )


def batches_per_epoch(examples: int, batch_size: int) -> int:
    """Count the batches of an epoch, without a last one of a single example.

    The only batch of an epoch is kept, whatever its size.

    >>> batches_per_epoch(10, 4), batches_per_epoch(9, 4), batches_per_epoch(1, 4)
    (3, 2, 1)
    """
    full, rest = divmod(examples, batch_size)
    return full + (rest > 1 or (rest == 1 and full == 0))


def ordered(
    split: Split, *, batch_size: int, mean: Tensor, std: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield normalised inputs and labels of every example once, in order, not augmented.

    Raises:
        ConfigError: The batch size is below 1.

    >>> split = Split(torch.full((3, 1, 2, 2), 6.0), torch.arange(3), torch.arange(3))
    >>> batches = ordered(split, batch_size=2, mean=torch.tensor([4.0]), std=torch.tensor([2.0]))
    >>> [(inputs.mean().item(), labels.tolist()) for inputs, labels in batches]
    [(1.0, [0, 1]), (1.0, [2])]
    """
    # Not a generator itself, so that a wrong batch size is refused at once.
    _check_batch_size(batch_size)
    return _in_order(split, batch_size, _scale(mean, std, split))


def _in_order(
    split: Split, batch_size: int, scale: tuple[Tensor, Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    if len(split) == 0:
        return
    positions = torch.split(torch.arange(len(split), device=split.labels.device), batch_size)
    for batch, images in zip(positions, split.read(positions), strict=True):
        yield _normalise(images, scale), split.labels.index_select(0, batch)


@lru_cache(maxsize=4)
def drawn_moves(
    augment: Augment, seed: int, epoch: int, published: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw for every published example how far down and right it moves, mirroring and angle."""
    # Always four numbers an example, so that switching one kind on changes none of the others.
    uniform = torch.rand(published, 4, generator=seeds.generator(seed, "augment", epoch)).to(device)
    places = 2 * augment.crop + 1
    moved = (uniform[:, :2] * places).long().clamp(max=places - 1) - augment.crop
    mirrored = (uniform[:, 2] < 0.5) & augment.flip
    degrees = (2 * uniform[:, 3] - 1) * augment.rotate
    return moved[:, 0], moved[:, 1], mirrored, degrees


def _scale(mean: Tensor, std: Tensor, split: Split) -> tuple[Tensor, Tensor]:
    device = split.labels.device
    shape = (1, -1, 1, 1)
    return mean.to(device, torch.float32).view(shape), std.to(device, torch.float32).view(shape)


def _normalise(images: Tensor, scale: tuple[Tensor, Tensor]) -> Tensor:
    # uint8 minus float32 is float32: the same bits as converting first, and one pass less.
    return torch.sub(images, scale[0]).div_(scale[1])


def _check_batch_size(batch_size: int) -> None:
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; it is a number of examples, at least 1")
