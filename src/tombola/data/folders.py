"""Folders of images: their files, and a data set of them, held in memory or streamed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tombola.data.dataset import SHARE, Dataset
from tombola.data.pictures import Files, Pictures
from tombola.ground.devices import free_memory

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


def images_in(root: Path, folder: str) -> list[str]:
    """List the image files in a folder and all folders in it, in torchvision's order.

    They are not opened.

    Args:
        root: The folder that the names are relative to.
        folder: Relative to it.

    Returns:
        Names with forward slashes, of the files that end like images; folder by folder, by name.
    """
    images = []
    for place, _, files in sorted(os.walk(root / folder, followlinks=True)):
        inside = Path(place).relative_to(root).as_posix()
        for file in sorted(files):
            if file.lower().endswith(EXTENSIONS):
                images.append(f"{inside}/{file}")
    return images


def dataset(
    files: Files, num_classes: int, *, workers: int, remedy: str, skip: bool = False, **facts: Any
) -> Dataset:
    """Make a data set of image files: held where memory allows, else streamed.

    Args:
        files: Which files, and their labels.
        num_classes: How many classes there are.
        workers: Processes that read images.
        remedy: See ``Pictures``.
        skip: Leave out files that cannot be read, for which every one is decoded first.
        facts: Other attributes of the data set.

    Raises:
        DataError: A file cannot be read, or what is left makes no data set.
    """

    def pictures(part: Sequence[tuple[str, int]]) -> Pictures:
        names = [name for name, _ in part]
        return Pictures(files.root, names, files.size, workers=workers, remedy=remedy)

    def readable(part: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
        unreadable = set(pictures(part).unreadable())
        return [entry for row, entry in enumerate(part) if row not in unreadable]

    # Unreadable files are left out before anything is counted, as they must not shift labels.
    listed = len(files.train) + len(files.test)
    if skip:
        files = replace(files, train=readable(files.train), test=readable(files.test))
    # Both or neither: a training needs both, and only together they are too large.
    train, test = pictures(files.train), pictures(files.test)
    streamed = train.nbytes + test.nbytes > SHARE * free_memory(torch.device("cpu"))
    return Dataset(
        train if streamed else train.hold(),
        _labels(files.train),
        test if streamed else test.hold(),
        _labels(files.test),
        num_classes,
        streamed=streamed,
        files=files,
        skipped=listed - len(files.train) - len(files.test),
        **facts,
    )


def _labels(part: Sequence[tuple[str, int]]) -> Tensor:
    return torch.tensor([label for _, label in part], dtype=torch.int64)
