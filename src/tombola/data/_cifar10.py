"""CIFAR-10."""

from __future__ import annotations

from pathlib import Path

from tombola.data import published
from tombola.data.dataset import Dataset

_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def cifar10(
    *, root: str | Path | None = None, download: bool = True, verify: bool = True
) -> Dataset:
    """Small photographs, 50,000 + 10,000 colour images of 32 x 32 pixels, 10 classes.

    Read from ``cifar-10-batches-py`` under the root, as torchvision keeps it. The files are
    pickles; only plain arrays, numbers and strings are taken out of them and anything else is
    refused, so that they cannot run code.

    Args:
        root: The data root; see ``tombola.data.roots.data_root``.
        download: Download what is missing; a file that is there is never replaced.
        verify: Compare the files with the published md5. Without, any files of this format are
            accepted, and the data set says so.

    Raises:
        DataError: Files are missing and cannot be downloaded, or they are not the published ones.

    Source:
        Krizhevsky 2009, "Learning multiple layers of features from tiny images".
    """
    from tombola.ground.extras import torchvision

    source = torchvision.datasets.CIFAR10
    return published.cifar(source, root, 10, download=download, verify=verify, class_names=_NAMES)
