"""Published data sets: have their files there, compare them with their checksums, decode them.

A download goes to a folder of its own beside the others and its files are moved into place when
they are whole; a file that is there is never overwritten.
"""

from __future__ import annotations

import http.client
import math
import pickle
import struct
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tombola.data.dataset import Dataset
from tombola.data.roots import data_root
from tombola.ground.errors import DataError


def idx(
    source: Any,
    root: str | Path | None,
    checksums: Mapping[str, str],
    *,
    download: bool,
    verify: bool,
    class_names: tuple[str, ...] | None = None,
) -> Dataset:
    """Read a data set in MNIST's format: one idx file each for images and labels, training and
    test.

    Args:
        source: torchvision's class, which knows where to download from.
        root: The data root.
        checksums: The md5 of each uncompressed file; torchvision lists only those of the compressed
            ones.
        download: Download what is missing.
        verify: Compare the files with their checksums.
        class_names: What the classes are called.
    """
    folder = data_root(root) / source.__name__ / "raw"
    _fetch(source, folder, checksums, download=download, verify=verify)
    parts = [
        _read_idx(folder / f"{split}-{content}")
        for split in ("train", "t10k")
        for content in ("images-idx3-ubyte", "labels-idx1-ubyte")
    ]
    images, labels = (
        [part.unsqueeze(1) for part in parts[0::2]],
        [part.long() for part in parts[1::2]],
    )
    return Dataset(
        images[0],
        labels[0],
        images[1],
        labels[1],
        num_classes=10,
        verified=verify,
        class_names=class_names,
    )


def cifar(
    source: Any,
    root: str | Path | None,
    num_classes: int,
    *,
    download: bool,
    verify: bool,
    class_names: tuple[str, ...] | None = None,
) -> Dataset:
    """Read CIFAR-10 or CIFAR-100 from its pickled batches.

    Only dictionaries, lists, strings, numbers and numpy arrays are unpickled and anything else is
    refused, so that a file whose checksum is not compared cannot run code either.

    Args:
        source: torchvision's class, which knows where to download from and the md5 of each file.
        root: The data root.
        num_classes: 10 or 100, which says under which name the labels stand.
        download: Download what is missing.
        verify: Compare the files with their checksums.
        class_names: What the classes are called.
    """
    folder = data_root(root) / source.base_folder
    _fetch(
        source, folder, dict(source.train_list + source.test_list), download=download, verify=verify
    )
    key = "labels" if num_classes == 10 else "fine_labels"
    train, test = (
        [_read_batch(folder / name, key) for name, _ in files]
        for files in (source.train_list, source.test_list)
    )
    return Dataset(
        torch.cat([images for images, _ in train]),
        torch.cat([labels for _, labels in train]),
        torch.cat([images for images, _ in test]),
        torch.cat([labels for _, labels in test]),
        num_classes,
        verified=verify,
        class_names=class_names,
    )


def _fetch(
    source: Any, folder: Path, checksums: Mapping[str, str], *, download: bool, verify: bool
) -> None:
    """Have all files of a data set in its folder; with ``verify``, exactly the published ones."""
    from tombola.ground.extras import torchvision

    have(source, folder, checksums, download=download)
    for name, published in checksums.items() if verify else ():
        seen = torchvision.datasets.utils.calculate_md5(folder / name)
        if seen != published:
            raise DataError(
                f"{folder / name} has the md5 {seen}, the published file has {published}; delete "
                "it to have it downloaded again, or accept the files as they are with the option "
                "verify: false"
            )


def have(source: Any, folder: Path, names: Iterable[str], *, download: bool) -> None:
    """Download what a data set's folder lacks.

    Args:
        source: torchvision's class, or one that has its ``download()`` into ``root``.
        folder: Where the files are under the data root.
        names: What must be in it: files or folders.
        download: Download what is missing.

    Raises:
        DataError: Something is missing and cannot be downloaded.
    """
    missing = [name for name in names if not (folder / name).exists()]
    if not missing:
        return
    root = folder.parents[1] if folder.name == "raw" else folder.parent
    problem = "the option download is false"
    if download:
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as staging:
                # Not the constructor: it would also read the files, which is done here and with
                # more care.
                loader = source.__new__(source)
                loader.root = staging
                loader.download()
                folder.mkdir(parents=True, exist_ok=True)
                for file in sorted((Path(staging) / folder.relative_to(root)).iterdir()):
                    if not (folder / file.name).exists():
                        file.replace(folder / file.name)
            return
        except (RuntimeError, OSError, http.client.HTTPException) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            problem = f"the download failed ({reason[:200]})"
    raise DataError(
        f"{source.__name__} under {root} lacks {', '.join(missing)} in {folder.relative_to(root)}, "
        f"and {problem}; name a folder that has it (--data-root or TOMBOLA_DATA), or run once on a "
        "machine with network"
    )


def _read_idx(path: Path) -> Tensor:
    data = path.read_bytes()
    # Two zero bytes, 8 for unsigned bytes, the number of dimensions, then their sizes, large end
    # first.
    dimensions = 3 if "idx3" in path.name else 1
    start = 4 + 4 * dimensions
    if data[:4] == bytes([0, 0, 8, dimensions]) and len(data) >= start:
        shape = struct.unpack(f">{dimensions}I", data[4:start])
        if len(data) == start + math.prod(shape):
            return torch.frombuffer(bytearray(data), dtype=torch.uint8, offset=start).view(shape)
    raise DataError(
        f"{path} ({len(data)} bytes) is no whole idx file of {dimensions} dimensions; delete it "
        "and try again"
    )


def _read_batch(path: Path, key: str) -> tuple[Tensor, Tensor]:
    try:
        with path.open("rb") as file:
            # latin1: the files were written by Python 2, whose strings are bytes.
            batch = _PlainUnpickler(file, encoding="latin1").load()
        images = torch.from_numpy(np.require(batch["data"], np.uint8, ["C", "W"])).view(
            -1, 3, 32, 32
        )
        return images, torch.tensor(batch[key], dtype=torch.int64)
    # Broken bytes make the unpickler fail in any way: KeyError, struct.error, UnicodeDecodeError,
    # AttributeError ...
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"cannot read {path} as a batch of CIFAR: {reason}; delete it and try again"
        ) from error


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return np.empty(0).__reduce__()[0]
        if module == "numpy" and name in ("ndarray", "dtype"):
            return np.ndarray if name == "ndarray" else _plain_dtype
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no data set needs")


def _plain_dtype(text: str, *_: object) -> np.dtype[Any]:
    # Python 2 wrote the flags that follow as whole numbers, of which some releases of numpy warn.
    return np.dtype(text)
