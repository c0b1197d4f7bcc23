"""Folders of images: what is in them, and a data set of it, held where memory allows and else
streamed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tombola.data.dataset import SHARE, Dataset
from tombola.data.pictures import Files, Pictures
from tombola.ground.devices import free_memory

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


def images_in(root: Path, folder: str) -> list[str]:
    """List the image files in a folder and all folders in it, in torchvision's order; they are not
    opened.

    Args:
        root: What the names are relative to.
        folder: Relative to it.

    Returns:
        Names with forward slashes, of the files that end like images; folder by folder, by name.
    """
    found = []
    for place, _, files in sorted(os.walk(root / folder, followlinks=True)):
        inside = Path(place).relative_to(root).as_posix()
        found += [f"{inside}/{file}" for file in sorted(files) if file.lower().endswith(EXTENSIONS)]
    return found


def dataset(
    files: Files, num_classes: int, *, workers: int, remedy: str, skip: bool = False, **facts: Any
) -> Dataset:
    """Make a data set of image files, which are read only if it is held or unreadable ones are to
    be skipped.

    Args:
        files: Which files, and their labels.
        num_classes: How many classes there are.
        workers: Processes that read images.
        remedy: See ``Pictures``.
        skip: Leave out files that cannot be read, which takes a look at every one.
        facts: Other attributes of the data set.

    Raises:
        DataError: A file cannot be read, or what is left makes no data set.
    """

    def pictures(part: Sequence[tuple[str, int]]) -> Pictures:
        return Pictures(
            files.root, [name for name, _ in part], files.size, workers=workers, remedy=remedy
        )

    skipped = 0
    if skip:
        train, test = ({*pictures(part).unreadable()} for part in (files.train, files.test))
        skipped = len(train) + len(test)
        files = replace(
            files,
            train=[one for row, one in enumerate(files.train) if row not in train],
            test=[one for row, one in enumerate(files.test) if row not in test],
        )
    both = [pictures(part) for part in (files.train, files.test)]
    streamed = sum(part.nbytes for part in both) > SHARE * free_memory(torch.device("cpu"))
    train_images, test_images = both if streamed else [part.hold() for part in both]
    train_labels, test_labels = (
        torch.tensor([label for _, label in part], dtype=torch.int64)
        for part in (files.train, files.test)
    )
    return Dataset(
        train_images,
        train_labels,
        test_images,
        test_labels,
        num_classes,
        streamed=streamed,
        files=files,
        skipped=skipped,
        **facts,
    )
