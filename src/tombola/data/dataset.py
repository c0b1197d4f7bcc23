"""A data set as it was published: training and test images with their labels, checked.

    [ dataset ] -> split -> partition -> batches -> train

Images stay in their raw units (usually uint8, 0 to 255); they are normalised batch by batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from tombola.data.pictures import Files, Pictures
from tombola.ground.catalogue import CLASSIFICATION
from tombola.ground.errors import DataError
from tombola.ground.notebooks import one_line

SHARE = 0.5  # of the free memory that a data set may take; every worker process holds one
_ROWS = 4096  # images that are checked together, so that a large set is never copied


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels, in published order; contradictions are refused with a DataError.

    Attributes:
        task: The task that it is for.
        train_images: uint8 or float32 [n, channels, height, width], in raw units; a tensor, or
            files that are decoded when they are needed.
        train_labels: int64 [n], from 0 to ``num_classes`` - 1; every class occurs.
        test_images: As ``train_images``, of the same dtype and image shape.
        test_labels: As ``train_labels``; a class may be missing.
        num_classes: How many classes there are.
        verified: False: the checksums of the files were not compared with the published ones.
        streamed: True: the images are read from files when they are used, as memory is too small
            for them.
        files: The files of the images, where the fingerprint is theirs and not that of the pixels.
        skipped: How many files could not be read and were left out.
        moments: Mean and standard deviation of each channel to normalise by, in raw units; None
            computes them.
        moments_of: From how many training images they are computed; None takes all.
        class_names: Names of the classes, by their numbers; None if they are not known.
    """

    task: ClassVar[str] = CLASSIFICATION

    train_images: Tensor | Pictures
    train_labels: Tensor
    test_images: Tensor | Pictures
    test_labels: Tensor
    num_classes: int
    verified: bool = True
    streamed: bool = False
    files: Files | None = None
    skipped: int = 0
    moments: tuple[Tensor, Tensor] | None = None
    moments_of: int | None = None
    class_names: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        examples = f"{len(self.train_labels):,} training, {len(self.test_labels):,} test examples"
        shape = _times(self.train_images.shape[1:])
        return one_line("Dataset", examples, shape, f"{self.num_classes} classes")

    def __post_init__(self) -> None:
        # Each part by itself first, so that what is compared is known to be of the right kind.
        train, test = self.train_images, self.test_images
        _check_images(train, "training")
        _check_images(test, "test")
        if train.shape[1:] != test.shape[1:]:
            raise DataError(
                f"training images are {_times(train.shape[1:])} and test images are "
                f"{_times(test.shape[1:])}; they must have one shape"
            )
        if train.dtype != test.dtype:
            raise DataError(
                f"training images are {_dtype(train)} and test images are {_dtype(test)}; they "
                "must have one dtype"
            )
        _check_labels(self.train_labels, "training", len(train), self.num_classes)
        _check_labels(self.test_labels, "test", len(test), self.num_classes)
        _check_every_class_occurs(self.train_labels, self.num_classes)
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise DataError(
                f"{len(self.class_names)} classes are named, and there are {self.num_classes}"
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 (hex) of the files, or else of the four tensors: shapes, dtypes and bytes.

        Another byte makes another data set.
        """
        if self.files is not None:
            return self.files.fingerprint
        digest = hashlib.sha256()
        for tensor in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            assert isinstance(tensor, Tensor)
            array = np.ascontiguousarray(tensor.detach().cpu().numpy())
            digest.update(f"{array.dtype.str} {array.shape};".encode())
            digest.update(array.reshape(-1).view(np.uint8).data)
        return digest.hexdigest()


def from_tensors(
    train_images: Any,
    train_labels: Any,
    test_images: Any,
    test_labels: Any,
    num_classes: int | None = None,
) -> Dataset:
    """Make a data set of your own tensors or numpy arrays.

    uint8 images stay as they are, all other real numbers become float32, labels become int64. What
    needs no conversion is shared, not copied: do not change it afterwards.

    Args:
        train_images: [n, channels, height, width]; [n, height, width] becomes one channel and [n,
            features] becomes [n, 1, 1, features].
        train_labels: Whole numbers [n], from 0 without a gap.
        test_images: As ``train_images``.
        test_labels: As ``train_labels``.
        num_classes: Without it, the largest label + 1.

    Raises:
        DataError: The four do not make a data set; the message says why.

    >>> data = from_tensors(torch.rand(4, 28, 28), [0, 1, 0, 1], torch.rand(2, 28, 28), [1, 0])
    >>> data.image_shape, data.num_classes
    ((1, 28, 28), 2)
    """
    train_labels = _labels(train_labels, "training")
    test_labels = _labels(test_labels, "test")
    # A class may have test examples and none to train on, which is refused with its number.
    if num_classes is None:
        seen = [int(labels.max()) for labels in (train_labels, test_labels) if labels.numel()]
        num_classes = max([*seen, 0]) + 1
    return Dataset(
        _images(train_images, "training"),
        train_labels,
        _images(test_images, "test"),
        test_labels,
        num_classes,
    )


def _images(values: Any, name: str) -> Tensor:
    if isinstance(values, Tensor):
        _check_dense(values, f"{name} images")
        if values.is_complex():
            raise DataError(f"{name} images are {_dtype(values)}; real numbers are needed")
        images = values.detach() if values.dtype is torch.uint8 else values.detach().float()
    else:
        array = _array(values, f"{name} images")
        if array.dtype.kind not in "buif":
            raise DataError(f"{name} images are {array.dtype}; real numbers are needed")
        dtype = np.uint8 if array.dtype == np.uint8 else np.float32
        # Numbers that are too large for float32 become infinite, which is refused later on.
        with np.errstate(over="ignore"):
            # Writable ("W"): torch warns of a read-only array, such as one from a memory map.
            images = torch.from_numpy(np.require(array, dtype, ["C", "W"]))
    if images.ndim == 2:
        return images[:, None, None, :]
    return images[:, None] if images.ndim == 3 else images


def _labels(values: Any, name: str) -> Tensor:
    if isinstance(values, Tensor):
        _check_dense(values, f"{name} labels")
        if values.is_floating_point() or values.is_complex() or values.dtype is torch.bool:
            raise DataError(f"{name} labels are {_dtype(values)}; whole numbers are needed")
        return values.detach().long()
    # Floats and booleans are refused rather than rounded: they are probably something else.
    array = _array(values, f"{name} labels")
    if array.dtype.kind not in "iu":
        raise DataError(f"{name} labels are {array.dtype}; whole numbers are needed")
    if array.dtype.kind == "u" and array.size and int(array.max()) >= 2**63:
        raise DataError(
            f"{name} labels run up to {int(array.max())}; they are the numbers of the classes, "
            "from 0"
        )
    return torch.from_numpy(np.require(array, np.int64, ["C", "W"]))


def _check_dense(values: Tensor, what: str) -> None:
    """Refuse a tensor that does not hold each number in memory."""
    kinds = {
        "sparse": values.layout is not torch.strided,
        "nested": values.is_nested,
        "on the device meta, which holds no numbers": values.device.type == "meta",
        "quantised": values.is_quantized,
    }
    for kind, applies in kinds.items():
        if applies:
            raise DataError(f"{what} are a tensor that is {kind}; an ordinary, dense one is needed")


def _array(values: Any, what: str) -> np.ndarray:
    """Make an array of whatever the caller has, lists of tensors too."""
    try:
        return np.asarray(values)
    # Rows of different lengths, or values that cannot be converted.
    except (ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{what} make no array of numbers: {reason}") from error


def _check_images(images: Tensor | Pictures, name: str) -> None:
    if len(images.shape) != 4:
        raise DataError(
            f"{name} images have shape {_times(images.shape)}; it must be n x channels x height x "
            "width"
        )
    if images.dtype not in (torch.uint8, torch.float32):
        raise DataError(f"{name} images are {_dtype(images)}; they must be uint8 or float32")
    if 0 in images.shape[1:]:
        raise DataError(f"{name} images are {_times(images.shape[1:])}; they have no pixel")
    # In pieces, as the check of a large set needs a copy of its size; bytes are always finite.
    if isinstance(images, Tensor) and images.dtype is torch.float32:
        for start in range(0, len(images), _ROWS):
            bad = ~images[start : start + _ROWS].isfinite().flatten(1).all(1)
            if bad.any():
                first = start + int(bad.nonzero()[0])
                raise DataError(
                    f"{name} image {first} holds NaN or infinite values; every pixel must be a "
                    "number"
                )


def _check_labels(labels: Tensor, name: str, images: int, num_classes: int) -> None:
    if labels.dtype is not torch.int64:
        raise DataError(f"{name} labels are {_dtype(labels)}; they must be int64")
    if labels.ndim != 1:
        raise DataError(
            f"{name} labels have shape {_times(labels.shape)}; there must be one number for each "
            "image"
        )
    # An empty tensor has no minimum.
    if labels.numel() > 0:
        smallest, largest = int(labels.min()), int(labels.max())
        if smallest < 0 or largest >= num_classes:
            raise DataError(
                f"{name} labels run from {smallest} to {largest}; with {num_classes} classes they "
                f"run from 0 to {num_classes - 1}"
            )
    if len(labels) != images:
        raise DataError(
            f"{images} {name} images but {len(labels)} {name} labels; there must be one each"
        )
    if images == 0:
        raise DataError(f"there are no {name} images; at least one is needed")


def _check_every_class_occurs(labels: Tensor, num_classes: int) -> None:
    # Not by counting each class: one wrong label may mean more classes than memory has room for.
    present = torch.unique(labels).tolist()
    if len(present) == num_classes:
        return
    # The first gap in the sorted labels.
    first = 0
    while first < len(present) and present[first] == first:
        first += 1
    raise DataError(
        f"class {first} has no training image ({num_classes - len(present)} of {num_classes} "
        "classes have none); labels run from 0 to the number of classes - 1 without a gap"
    )


def _times(shape: Sequence[int]) -> str:
    return " x ".join(str(size) for size in shape) or "()"


def _dtype(tensor: Tensor | Pictures) -> str:
    return str(tensor.dtype).removeprefix("torch.")
