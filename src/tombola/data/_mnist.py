"""MNIST."""

from __future__ import annotations

from pathlib import Path

from tombola.data import published
from tombola.data.dataset import Dataset

_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def mnist(*, root: str | Path | None = None, download: bool = True, verify: bool = True) -> Dataset:
    """Handwritten digits, 60,000 + 10,000 grey images of 28 x 28 pixels, 10 classes.

    Read from ``MNIST/raw`` under the root, as torchvision keeps it. torchvision compares only the
    compressed files with a checksum, when it downloads them; here the uncompressed files are
    compared, whenever they are read.

    Args:
        root: The data root; see ``tombola.data.roots.data_root``.
        download: Download what is missing; a file that is there is never replaced.
        verify: Compare the files with the published md5. Without, any idx files are accepted, and
            the data set says so.

    Raises:
        DataError: Files are missing and cannot be downloaded, or they are not the published ones.

    Source:
        LeCun et al. 1998, "Gradient-based learning applied to document recognition".
    """
    from tombola.ground.extras import torchvision

    source = torchvision.datasets.MNIST
    return published.idx(source, root, _MD5, download=download, verify=verify)
