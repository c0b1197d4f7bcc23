"""Splits: the training, validation and test examples of a data set.

    dataset -> [ split ] -> partition -> batches -> train

Validation examples are taken from the training data; the test data is all of the published test
data. Every example keeps its position in the published data, so that its augmentation does not
depend on the other examples of the split.
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
from tombola.ground.notebooks import one_line

_ROWS = 1024  # images that are converted to float64 together


@dataclass(frozen=True, eq=False)
class Split:
    """Some examples of a data set; all splits and partitions of it share its images.

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
        """Return the images at these positions of the split (int64), on the labels' device."""
        rows = self.indices.index_select(0, positions).to(self.source.device)
        return self.source.index_select(0, rows).to(self.labels.device)

    def read(self, pieces: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield `pick` for each tensor of positions; images of files may be decoded ahead."""
        if isinstance(self.source, Tensor):
            return map(self.pick, pieces)
        rows = [self.indices.index_select(0, positions).cpu() for positions in pieces]
        return (images.to(self.labels.device) for images in self.source.read(rows))

    def take(self, positions: Tensor) -> Split:
        """Return the examples at these positions (int64, or a bool each), in that order."""
        return Split(self.source, self.labels[positions], self.indices[positions])

    def on(self, device: torch.device, source: Tensor | Pictures) -> Split:
        """Return the same examples on a device, with these images, there or elsewhere."""
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
        mean: float32 [channels], the mean pixel of ``train`` in raw units, or the data set's own.
        std: float32 [channels], the population standard deviation of the pixels of ``train``, 1 for
            a channel that is constant; or the data set's own.
        published: How many training examples were published; ``train.indices`` are below it.
        classes: The published numbers of the classes that were taken, ascending: label i is
            ``classes[i]``. ``None``: all classes, with their own numbers.
        class_names: Names of the classes by label; ``None`` where the data set has none.
        fingerprint: Of the data set.
        verified: False: the checksums of the data set's files were not compared.
        streamed: True: the images are read from files when they are used, as memory is too small
            for them.
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

    def __repr__(self) -> str:
        trained = f"{len(self.train):,} training, {len(self.valid):,} validation"
        shape = " x ".join(map(str, self.image_shape))
        classes = f"{self.num_classes} classes"
        return one_line("Splits", f"{trained}, {len(self.test):,} test examples", shape, classes)

    @property
    def has_valid(self) -> bool:
        """Whether there are validation examples."""
        return len(self.valid) > 0

    @property
    def leaks(self) -> bool:
        """Whether the validation split is the test split."""
        return self.valid is self.test


def split(
    dataset: Dataset,
    *,
    valid: int | float | Literal["test", "published"] = 0.1,
    subset: int | None = None,
    classes: int | None = None,
    seed: int = 0,
) -> Splits:
    """Divide the training data into a training and a validation split, stratified by class.

    Sizes are exact; the number for a class is rounded by largest remainder, ties by class number.
    Examples stay in published order. Validation examples are drawn first and do not depend on
    ``subset`` when ``valid`` is a number of examples.

    Args:
        dataset: As published.
        valid: Number of validation examples; a number below 1 is a fraction, of ``subset`` if that
            is given, else of the training data; 0 is none. "test" takes the test split, which is a
            leak: only for comparison with authors who select so. "published" is refused: these
            data sets have no validation split of their own.
        subset: Number of training examples, drawn from those not in the validation split; None
            takes them all.
        classes: Number of classes to take, in all three splits, with labels renumbered from 0; None
            takes them all. The classes of a smaller number are among those of a larger one. All
            other numbers refer to their examples.
        seed: Of all draws.

    Raises:
        ConfigError: ``valid``, ``subset`` or ``classes`` is no such number.
        DataError: There are not that many examples, or a class has no training example left.

    >>> from tombola.data.loading import load
    >>> splits = split(load("digits"), valid=0.1, subset=1000)
    >>> len(splits.train), len(splits.valid), len(splits.test)
    (1000, 100, 360)
    >>> some = split(load("digits"), classes=3)
    >>> some.classes, some.test.labels.unique().tolist()
    ((2, 3, 4), [0, 1, 2])
    """
    valid, subset, classes = own_numbers((valid, subset, classes))
    available = _all_of(dataset.train_images, dataset.train_labels)
    test = _all_of(dataset.test_images, dataset.test_labels)
    num_classes, taken_classes = dataset.num_classes, None
    if classes is not None:
        taken_classes = _drawn_classes(num_classes, classes, seed)
        available = _of_classes(available, taken_classes, num_classes)
        test = _of_classes(test, taken_classes, num_classes)
        num_classes = classes

    if valid == "published":
        raise ConfigError(
            "data.valid is 'published', and this data set has no published validation split; give "
            "a number of examples to set aside, or a fraction"
        )
    # Validation examples first, so that they do not depend on the subset.
    labels = available.labels.cpu()
    size = valid_size(0 if valid == "test" else valid, len(available), subset)
    validated = stratified.draw(labels, size, num_classes, seeds.generator(seed, "valid"))
    is_left = torch.ones(len(available), dtype=torch.bool)
    is_left[validated] = False
    trained = is_left.nonzero().flatten()
    if subset is not None:
        generator = seeds.generator(seed, "subset")
        trained = trained[stratified.draw(labels[trained], subset, num_classes, generator)]

    examples_by_class = torch.bincount(labels[trained], minlength=num_classes)
    empty = examples_by_class.eq(0).nonzero().flatten().tolist()
    if empty:
        raise DataError(
            f"class {empty[0]} is left without an example to train on ({len(trained)} examples of "
            f"{num_classes} classes; {len(empty)} of them have none); a larger subset or a smaller "
            "validation split would keep one"
        )
    train = available if len(trained) == len(available) else available.take(trained)
    mean, std = dataset.moments or moments(train, dataset.moments_of)
    return Splits(
        train=train,
        valid=test if valid == "test" else available.take(validated),
        test=test,
        num_classes=num_classes,
        image_shape=dataset.image_shape,
        mean=mean,
        std=std,
        published=len(dataset.train_labels),
        fingerprint=dataset.fingerprint,
        verified=dataset.verified,
        streamed=dataset.streamed,
        skipped=dataset.skipped,
        classes=taken_classes,
        class_names=_names_of(dataset.class_names, taken_classes),
    )


def _all_of(images: Tensor | Pictures, labels: Tensor) -> Split:
    return Split(images, labels, torch.arange(len(labels)))


def inputs(splits: Splits) -> dict[str, Any]:
    """Describe a model's inputs and outputs as plain data, which a ticket keeps.

    Returns:
        ``shape``: channels, height and width of an image. ``dtype``: of the raw images, "uint8" or
        "float32". ``mean`` and ``std``: by channel, in raw units, exactly; a model takes ``(images
        - mean) / std``. ``classes``: for each output the name of its class, or else its number in
        the published data.

    >>> from tombola.data.loading import load
    >>> described = inputs(split(load("digits")))
    >>> described["shape"], described["dtype"], len(described["mean"]), described["classes"][:3]
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


def _names_of(names: Sequence[str] | None, numbers: Sequence[int] | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    return tuple(names) if numbers is None else tuple(names[number] for number in numbers)


def _drawn_classes(num_classes: int, number: int, seed: int) -> tuple[int, ...]:
    """Return the first of one permutation of the classes, so that smaller numbers nest."""
    if isinstance(number, bool) or not isinstance(number, int) or number < 2:
        raise ConfigError(
            f"classes is {shown(number)}; it is a number of classes, at least 2, or none for all"
        )
    if number > num_classes:
        raise ConfigError(f"classes is {shown(number)}; the data has {num_classes}")
    order = torch.randperm(num_classes, generator=seeds.generator(seed, "taken classes"))
    return tuple(sorted(order[:number].tolist()))


def _of_classes(split: Split, numbers: Sequence[int], num_classes: int) -> Split:
    """Return the examples of some classes, with their labels renumbered."""
    label = torch.full((num_classes,), -1)
    label[list(numbers)] = torch.arange(len(numbers))
    label = label.to(split.labels.device)
    taken = split.take(torch.nonzero(label[split.labels] >= 0).flatten().cpu())
    return replace(taken, labels=label[taken.labels])


def moments(split: Split, sample: int | None = None) -> tuple[Tensor, Tensor]:
    """Return the mean and population standard deviation of each channel, float32 [channels].

    They are computed in float64, some images at a time; those of bytes from histograms, which takes
    one pass over the images. A channel that is constant has a standard deviation of 1.

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
    # Of floats in two passes, as the sum of squares loses digits where the mean is large.
    mean = over_chunks(lambda images: images.double().sum((0, 2, 3))).sum(0) / pixels
    centre = mean.view(-1, 1, 1)
    squares = over_chunks(lambda images: (images.double() - centre).square().sum((0, 2, 3))).sum(0)
    std = (squares / pixels).sqrt()
    lowest = over_chunks(lambda images: images.amin((0, 2, 3))).amin(0)
    highest = over_chunks(lambda images: images.amax((0, 2, 3))).amax(0)
    # Not std == 0: rounding of the mean leaves a tiny deviation, and to divide by it would blow up
    # any other value.
    std[lowest == highest] = 1.0
    return mean.float(), std.float()


def _histograms(images: Tensor) -> Tensor:
    """Count how often each value occurs, shape [channels, 256]."""
    channels = images.transpose(0, 1)
    counts = [torch.bincount(channel.reshape(-1), minlength=256) for channel in channels]
    return torch.stack(counts).cpu()


def valid_size(
    valid: int | float, published: int, subset: int | None, what: str = "examples"
) -> int:
    """Return the number of validation examples, after checking that there are enough.

    Args:
        valid: As in `split`: a number or a fraction.
        published: How many training examples there are.
        subset: How many are to be trained on; ``None`` for all that are left.
        what: What the examples are, for the messages.

    >>> valid_size(0.1, 1000, None), valid_size(0.1, 1000, 500), valid_size(7, 1000, None)
    (100, 50, 7)

    Raises:
        ConfigError: ``valid`` or ``subset`` is no such number.
        DataError: There are not that many examples.
    """
    is_number = isinstance(valid, int | float) and not isinstance(valid, bool)
    if not is_number or not math.isfinite(valid) or valid < 0:
        raise ConfigError(
            f"valid is {shown(valid)}; it is a number of {what}, or a fraction below 1"
        )
    if isinstance(valid, float) and valid >= 1:
        raise ConfigError(
            f"valid is {shown(valid)}; a fraction is below 1, and {shown(int(valid))} {what} are "
            "written so"
        )
    is_count = isinstance(subset, int) and not isinstance(subset, bool)
    if subset is not None and (not is_count or subset < 1):
        raise ConfigError(
            f"subset is {shown(subset)}; it is a number of {what} to train on, at least 1, or "
            "none for all"
        )
    # A fraction refers to the subset that is trained on, where there is one.
    if isinstance(valid, int):
        size = valid
    else:
        size = round(valid * (published if subset is None else subset))
    if size + (subset or 1) > published:
        trained = "at least one" if subset is None else shown(subset)
        raise DataError(
            f"{shown(size)} {what} to validate on and {trained} to train on are more than the "
            f"{published} training {what} there are"
        )
    return size
