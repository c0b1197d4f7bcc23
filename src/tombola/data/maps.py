"""Maps: pictures of one size with the class of every pixel.

    files -> [ maps ] -> split -> partition -> batches

A map has 0 for the background, 1 for the first class, and 255 for pixels that belong to nothing:
borders between objects, and what is not annotated.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from tombola.ground.errors import DataError
from tombola.ground.notebooks import one_line

UNMARKED = 255  # the pixels of a map that belong to nothing


@dataclass(frozen=True, eq=False)
class MapData:
    """What an entry of ``tombola.data`` returns for the task "segmentation".

    Attributes:
        train_pictures: uint8 [n, 3, height, width], in RGB.
        train_maps: uint8 [n, height, width].
        test_pictures: As ``train_pictures``.
        test_maps: As ``train_maps``.
        class_names: Names of the classes, without the background.
        valid: int64, positions of the published validation pictures among the training pictures;
            ``None`` where none are published.
        verified: False: the files were not compared with published checksums.

    Raises:
        DataError: They do not fit each other, or a map has a number that is no class.
    """

    task: ClassVar[str] = "segmentation"

    train_pictures: Tensor
    train_maps: Tensor
    test_pictures: Tensor
    test_maps: Tensor
    class_names: tuple[str, ...]
    valid: Tensor | None = None
    verified: bool = True

    def __post_init__(self) -> None:
        for name in ("train", "test"):
            pictures, maps = getattr(self, f"{name}_pictures"), getattr(self, f"{name}_maps")
            if pictures.dtype is not torch.uint8 or maps.dtype is not torch.uint8:
                raise DataError(
                    f"{name} pictures are {pictures.dtype} and maps {maps.dtype}; both must be "
                    "torch.uint8"
                )
            expected = [len(maps), 3, *maps.shape[1:]]
            if maps.ndim != 3 or list(pictures.shape) != expected or not pictures.numel():
                raise DataError(
                    f"{name} pictures have shape {list(pictures.shape)} and maps "
                    f"{list(maps.shape)}; they must be [n, 3, height, width] and [n, height, width]"
                )
            highest = int(torch.where(maps == UNMARKED, 0, maps).max())
            if highest > len(self.class_names):
                raise DataError(
                    f"a map of the {name} split has the number {highest}; with "
                    f"{len(self.class_names)} classes they run from 0 to {len(self.class_names)}, "
                    f"and {UNMARKED} is no class"
                )

    def __repr__(self) -> str:
        sizes = f"{len(self.train_maps):,} training, {len(self.test_maps):,} test pictures"
        return one_line("MapData", sizes, f"{len(self.class_names)} classes")

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 (hex) of pictures, maps and names of classes."""
        digest = hashlib.sha256(repr(list(self.class_names)).encode())
        for tensor in (self.train_pictures, self.train_maps, self.test_pictures, self.test_maps):
            array = np.ascontiguousarray(tensor.numpy())
            digest.update(f"{array.shape};".encode())
            digest.update(array.data)
        return digest.hexdigest()


def classes_in(maps: Tensor, classes: int) -> Tensor:
    """Say which classes each map shows, bool [maps, classes], without the background.

    >>> classes_in(torch.tensor([[[0, 2], [255, 2]]], dtype=torch.uint8), 3).tolist()
    [[False, True, False]]
    """
    shown = torch.zeros(len(maps), classes, dtype=torch.bool)
    for number in range(classes):
        shown[:, number] = (maps == number + 1).flatten(1).any(1)
    return shown
