"""Splits: what is trained on, what is validated on, what is tested on.

    dataset -> [ split ] -> partition -> batches -> train

Validation examples are carved from the training data; the test data is the published one, whole.
Every example keeps its position in the published data, so that its augmentation does not depend on
who else is in the split.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from tombola.data import stratified
from tombola.data.dataset import Dataset
from tombola.data.pictures import Pictures
from tombola.ground import seeds
from tombola.ground.checking import own_numbers
from tombola.ground.errors import ConfigError, DataError, shown

_ROWS = 1024  # images that are converted to float64 together


@dataclass(frozen=True, eq=False)
class Split:
    """Some examples of a data set. All splits and partitions of one data set share its images; none
    copies them.

    Attributes:
        source: uint8 or float32 [published, channels, height, width], all images of the published
            training (or test) data, in raw units; in memory, on a device, mapped from a file, or
            decoded from files.
        labels: int64 [n].
        indices: int64 [n], the positions of this split's examples among the published ones.
    """

    source: Tensor | Pictures
    labels: Tensor
    indices: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> torch.Size:
        """Channels, height and width."""
        return self.source.shape[1:]

    @property
    def images(self) -> Tensor:
        """All images of the split, copied together."""
        return self.source.index_select(0, self.indices.to(self.source.device))

    def pick(self, positions: Tensor) -> Tensor:
        """Return the images at these positions of the split (int64), on the device of the
        labels.
        """
        rows = self.indices.index_select(0, positions).to(self.source.device)
        return self.source.index_select(0, rows).to(self.labels.device)

    def read(self, pieces: Sequence[Tensor]) -> Iterator[Tensor]:
        """Give what `pick` gives for each of some positions; images of files may be decoded
        ahead meanwhile.
        """
        if isinstance(self.source, Tensor):
            return map(self.pick, pieces)
        rows = [self.indices.index_select(0, positions).cpu() for positions in pieces]
        return (images.to(self.labels.device) for images in self.source.read(rows))

    def take(self, positions: Tensor) -> Split:
        """Return the examples at these positions of this split (int64, or one bool for each),
        in that order.
        """
        return Split(self.source, self.labels[positions], self.indices[positions])

    def on(self, device: torch.device, source: Tensor | Pictures) -> Split:
        """Return the same examples on a device, whose images are given: there, or left where
        they were.
        """
        return Split(source, self.labels.to(device), self.indices.to(device))


@dataclass(frozen=True, eq=False)
class Splits:
    """The three splits of a data set and what belongs to all of them.

    Attributes:
        train: The examples to train on.
        valid: Examples of the published training data that are not trained on; may be none. The
            test split itself where it was asked for, as the authors of COLT select.
        test: The published test data.
        num_classes: How many classes there are.
        image_shape: Channels, height, width.
        mean: float32 [channels], the mean pixel of ``train`` in raw units, or the one that the data
            set is given.
        std: float32 [channels], the population standard deviation of the pixels of ``train``; 1 for
            a channel that is constant; or the one that the data set is given.
        published: How many training examples were published; ``train.indices`` are below it.
        classes: The published numbers of the classes that were taken, ascending: label i is
            ``classes[i]``. ``None``: all classes, with their own numbers.
        class_names: What the classes are called, by label; ``None`` where the data set does not
            say.
        fingerprint: Of the data set.
        verified: False: the checksums of the data set's files were not compared.
        streamed: True: the images are read from files while they are used, since memory is too
            small for them.
        skipped: How many of the data set's files could not be read and were left out.
    """

    train: Split
    valid: Split
    test: Split
    num_classes: int
    image_shape: tuple[int, int, int]
    mean: Tensor
    std: Tensor
    published: int
    fingerprint: str
    verified: bool
    streamed: bool = False
    skipped: int = 0
    classes: tuple[int, ...] | None = None
    class_names: tuple[str, ...] | None = None

    @property
    def has_valid(self) -> bool:
        """Whether there are validation examples."""
        return len(self.valid) > 0

    @property
    def leaks(self) -> bool:
        """Whether what is validated on is the test split."""
        return self.valid is self.test


def split(
    dataset: Dataset,
    *,
    valid: int | float | Literal["test"] = 0.1,
    subset: int | None = None,
    classes: int | None = None,
    seed: int = 0,
) -> Splits:
    """Divide the training data into examples to train on and examples to validate on, keeping the
    classes' shares.

    Sizes are exact; what a class gets is rounded by largest remainder, ties by class number.
    Examples stay in published order. Validation examples are drawn first and do not depend on
    ``subset`` when ``valid`` is a number of examples.

    Args:
        dataset: As published.
        valid: How many examples to validate on; a number below 1 is a fraction, of ``subset`` if
            that is given, else of the training data; 0 is none. "test" takes the test split, which
            is a leak: for comparison with authors who select so, and with nothing else.
        subset: How many examples to train on, drawn from those that are not validated on; None
            takes them all.
        classes: How many classes to take, in all three splits, with labels renumbered from 0; None
            takes them all. Those of a smaller number are among those of a larger one. All other
            numbers are of their examples.
        seed: Of all draws.

    Raises:
        ConfigError: ``valid``, ``subset`` or ``classes`` is no such number.
        DataError: There are not that many examples, or a class is left without an example to train
            on.

    >>> from tombola.data.loading import load
    >>> splits = split(load("digits"), valid=0.1, subset=1000)
    >>> len(splits.train), len(splits.valid), len(splits.test)
    (1000, 100, 360)
    >>> some = split(load("digits"), classes=3)
    >>> some.classes, some.test.labels.unique().tolist()
    ((2, 3, 4), [0, 1, 2])
    """
    valid, subset, classes = own_numbers((valid, subset, classes))
    whole = Split(
        dataset.train_images, dataset.train_labels, torch.arange(len(dataset.train_labels))
    )
    test = Split(dataset.test_images, dataset.test_labels, torch.arange(len(dataset.test_labels)))
    number, numbers = dataset.num_classes, None
    if classes is not None:
        numbers = _drawn_classes(number, classes, seed)
        whole, test = (_of_classes(one, numbers, number) for one in (whole, test))
        number = classes
    size = _valid_size(0 if valid == "test" else valid, len(whole), subset)
    labels = whole.labels.cpu()
    taken = stratified.draw(labels, size, number, seeds.generator(seed, "valid"))
    left = torch.ones(len(whole), dtype=torch.bool)
    left[taken] = False
    chosen = left.nonzero().flatten()
    if subset is not None:
        chosen = chosen[
            stratified.draw(labels[chosen], subset, number, seeds.generator(seed, "subset"))
        ]
    empty = torch.bincount(labels[chosen], minlength=number).eq(0).nonzero().flatten().tolist()
    if empty:
        raise DataError(
            f"class {empty[0]} is left without an example to train on ({len(chosen)} examples of "
            f"{number} classes; {len(empty)} of them have none); a larger subset or a smaller "
            "validation split would keep one"
        )
    train = whole if len(chosen) == len(whole) else whole.take(chosen)
    mean, std = dataset.moments or moments(train, dataset.moments_of)
    return Splits(
        train=train,
        valid=test if valid == "test" else whole.take(taken),
        test=test,
        num_classes=number,
        image_shape=dataset.image_shape,
        mean=mean,
        std=std,
        published=len(dataset.train_labels),
        fingerprint=dataset.fingerprint,
        verified=dataset.verified,
        streamed=dataset.streamed,
        skipped=dataset.skipped,
        classes=numbers,
        class_names=_named(dataset.class_names, numbers),
    )


def inputs(splits: Splits) -> dict[str, Any]:
    """Say what a model of a data set is given and what its outputs stand for, as plain data: a
    ticket keeps it.

    Returns:
        shape: Channels, height and width of an image. dtype: Of the raw images, "uint8" or
            "float32". mean, std: By
        channel, in raw units, exactly: a model takes ``(images - mean) / std``. classes: By output,
        its name, or else its number in the published data.

    >>> from tombola.data.loading import load
    >>> found = inputs(split(load("digits")))
    >>> found["shape"], found["dtype"], len(found["mean"]), found["classes"][:3]
    ([1, 8, 8], 'uint8', 1, [0, 1, 2])
    """
    numbers = range(splits.num_classes) if splits.classes is None else splits.classes
    return {
        "shape": list(splits.image_shape),
        "dtype": str(splits.train.source.dtype).removeprefix("torch."),
        "mean": splits.mean.tolist(),
        "std": splits.std.tolist(),
        "classes": list(splits.class_names or numbers),
    }


def _named(names: Sequence[str] | None, numbers: Sequence[int] | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    return tuple(names) if numbers is None else tuple(names[number] for number in numbers)


def _drawn_classes(there: int, wanted: int, seed: int) -> tuple[int, ...]:
    """Return the first of one permutation of the classes, so that few are among many."""
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 2:
        raise ConfigError(
            f"classes is {shown(wanted)}; it is a number of classes, at least 2, or none for all"
        )
    if wanted > there:
        raise ConfigError(f"classes is {shown(wanted)}; the data has {there}")
    return tuple(
        sorted(
            torch.randperm(there, generator=seeds.generator(seed, "taken classes"))[
                :wanted
            ].tolist()
        )
    )


def _of_classes(split: Split, numbers: Sequence[int], there: int) -> Split:
    """Return the examples of some classes, at their published positions, with their labels
    renumbered.
    """
    label = torch.full((there,), -1)
    label[list(numbers)] = torch.arange(len(numbers))
    label = label.to(split.labels.device)
    own = split.take(torch.nonzero(label[split.labels] >= 0).flatten().cpu())
    return replace(own, labels=label[own.labels])


def moments(split: Split, sample: int | None = None) -> tuple[Tensor, Tensor]:
    """Return the mean and the population standard deviation of each channel's pixels, float32
    [channels].

    They are computed in float64, some images at a time; of bytes from how often each value is
    there, which takes one look at the images. A channel that is constant has a standard deviation
    of 1.

    Args:
        split: The images.
        sample: Take only so many of them, evenly spaced: of n, image k * n // sample for each k;
            all if there are not more.

    >>> images = torch.tensor([[0, 2], [5, 5]], dtype=torch.uint8).view(1, 2, 1, 2)
    >>> mean, std = moments(Split(images, torch.zeros(1), torch.arange(1)))
    >>> mean.tolist(), std.tolist()
    ([1.0, 5.0], [1.0, 1.0])
    """
    if sample is not None and sample < len(split):
        images = split.pick(torch.arange(sample) * len(split) // sample)
        split = Split(images, torch.zeros(sample), torch.arange(sample))
    _, height, width = split.image_shape
    pixels = len(split) * height * width

    def over_chunks(reduced: Callable[[Tensor], Tensor]) -> Tensor:
        pieces = torch.split(torch.arange(len(split)), _ROWS)
        return torch.stack([reduced(images) for images in split.read(pieces)])

    if split.source.dtype is torch.uint8:
        counts = over_chunks(_histograms).sum(0).double()
        values = torch.arange(256, dtype=torch.float64)
        mean = (counts * values).sum(1) / pixels
        std = ((counts * (values - mean.view(-1, 1)).square()).sum(1) / pixels).sqrt()
        std[(counts > 0).sum(1) == 1] = 1.0
        return mean.float(), std.float()
    mean = over_chunks(lambda images: images.double().sum((0, 2, 3))).sum(0) / pixels
    centre = mean.view(-1, 1, 1)
    squares = over_chunks(lambda images: (images.double() - centre).square().sum((0, 2, 3))).sum(0)
    std = (squares / pixels).sqrt()
    lowest = over_chunks(lambda images: images.amin((0, 2, 3))).amin(0)
    highest = over_chunks(lambda images: images.amax((0, 2, 3))).amax(0)
    # Not std == 0: the rounding of the mean leaves a little, and dividing by it would blow a new
    # value up.
    std[lowest == highest] = 1.0
    return mean.float(), std.float()


def _histograms(images: Tensor) -> Tensor:
    """Count how often each value is there, shape [channels, 256]."""
    return torch.stack(
        [torch.bincount(channel.reshape(-1), minlength=256) for channel in images.transpose(0, 1)]
    ).cpu()


def _valid_size(valid: int | float, published: int, subset: int | None) -> int:
    """Return how many examples to validate on, once it is sure that there are enough."""
    if (
        isinstance(valid, bool)
        or not isinstance(valid, int | float)
        or not math.isfinite(valid)
        or valid < 0
    ):
        raise ConfigError(
            f"valid is {shown(valid)}; it is a number of examples, or a fraction below 1"
        )
    if isinstance(valid, float) and valid >= 1:
        raise ConfigError(
            f"valid is {shown(valid)}; a fraction is below 1, and {shown(int(valid))} examples are "
            "written so"
        )
    if subset is not None and (
        isinstance(subset, bool) or not isinstance(subset, int) or subset < 1
    ):
        raise ConfigError(
            f"subset is {shown(subset)}; it is a number of examples to train on, at least 1, or "
            "none for all"
        )
    size = (
        valid
        if isinstance(valid, int)
        else round(valid * (published if subset is None else subset))
    )
    if size + (subset or 1) > published:
        wanted = (
            f"{shown(subset)} to train on" if subset is not None else "at least one to train on"
        )
        raise DataError(
            f"{shown(size)} examples to validate on and {wanted} are more than the {published} "
            "training examples there are"
        )
    return size
