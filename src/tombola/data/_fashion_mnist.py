"""Fashion-MNIST."""

from __future__ import annotations

from pathlib import Path

from tombola.data import published
from tombola.data.dataset import Dataset

_MD5 = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
_NAMES = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)


def fashion_mnist(
    *, root: str | Path | None = None, download: bool = True, verify: bool = True
) -> Dataset:
    """Articles of clothing, 60,000 + 10,000 grey images of 28 x 28 pixels, 10 classes.

    Read from ``FashionMNIST/raw`` under the root, as torchvision keeps it. torchvision compares
    only the compressed files with a checksum, when it downloads them; here the uncompressed files
    are compared, whenever they are read.

    Args:
        root: The data root; see ``tombola.data.roots.data_root``.
        download: Download what is missing; a file that is there is never replaced.
        verify: Compare the files with the published md5. Without, any idx files are accepted, and
            the data set says so.

    Raises:
        DataError: Files are missing and cannot be downloaded, or they are not the published ones.

    Source:
        Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747.
    """
    from tombola.ground.extras import torchvision

    source = torchvision.datasets.FashionMNIST
    return published.idx(source, root, _MD5, download=download, verify=verify, class_names=_NAMES)
