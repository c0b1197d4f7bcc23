"""Published data sets: download their files, compare them with their checksums, decode them.

A download goes to a temporary folder, and its files are moved into place when they are complete; an
existing file is never overwritten.
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
    """Read a data set in MNIST's format: four idx files, images and labels of train and test.

    Args:
        source: torchvision's class, which knows where to download from.
        root: The data root.
        checksums: The md5 of each uncompressed file; torchvision lists only those of the compressed
            ones.
        download: Download what is missing.
        verify: Compare the files with their checksums.
        class_names: Names of the classes.
    """
    # In torchvision's folder, so that files it has downloaded are found.
    folder = data_root(root) / source.__name__ / "raw"
    _fetch(source, folder, checksums, download=download, verify=verify)
    return Dataset(
        _read_idx(folder / "train-images-idx3-ubyte").unsqueeze(1),
        _read_idx(folder / "train-labels-idx1-ubyte").long(),
        _read_idx(folder / "t10k-images-idx3-ubyte").unsqueeze(1),
        _read_idx(folder / "t10k-labels-idx1-ubyte").long(),
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
    refused, so even a file whose checksum is not compared cannot run code.

    Args:
        source: torchvision's class, which knows where to download from and the md5 of each file.
        root: The data root.
        num_classes: 10 or 100, on which the name of the labels in the files depends.
        download: Download what is missing.
        verify: Compare the files with their checksums.
        class_names: Names of the classes.
    """
    # In torchvision's folder, so that files it has downloaded are found.
    folder = data_root(root) / source.base_folder
    checksums = dict(source.train_list + source.test_list)
    _fetch(source, folder, checksums, download=download, verify=verify)
    key = "labels" if num_classes == 10 else "fine_labels"
    return Dataset(
        *_read_batches(folder, source.train_list, key),
        *_read_batches(folder, source.test_list, key),
        num_classes,
        verified=verify,
        class_names=class_names,
    )


def _fetch(
    source: Any, folder: Path, checksums: Mapping[str, str], *, download: bool, verify: bool
) -> None:
    """Download what a data set's folder lacks; with ``verify``, accept only the published files."""
    from tombola.ground.extras import torchvision

    have(source, folder, checksums, download=download)
    if not verify:
        return
    for name, published in checksums.items():
        md5 = torchvision.datasets.utils.calculate_md5(folder / name)
        if md5 != published:
            raise DataError(
                f"{folder / name} has the md5 {md5}, the published file has {published}; delete "
                "it to have it downloaded again, or accept the files as they are with the option "
                "verify: false"
            )


def have(
    source: Any,
    folder: Path,
    names: Iterable[str],
    *,
    download: bool,
    root: Path | None = None,
    inside: bool = False,
) -> None:
    """Download what a data set's folder lacks.

    Args:
        source: torchvision's class, or one that has its ``download()`` into ``root``.
        folder: Where the files are under the data root.
        names: What must be in it: files or folders.
        download: Download what is missing.
        root: The data root, where it is not the folder above.
        inside: Add what is missing inside of folders that are there, too.

    Raises:
        DataError: Something is missing and cannot be downloaded.
    """
    missing = [name for name in names if not (folder / name).exists()]
    if not missing:
        return
    if root is None:
        root = folder.parents[1] if folder.name == "raw" else folder.parent
    problem = "the option download is false"
    if download:
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as staging:
                # Not the constructor: it would also read the files, with less care than is taken
                # here.
                loader = source.__new__(source)
                loader.root = staging
                loader.download()
                _add(Path(staging) / folder.relative_to(root), folder, inside=inside)
            return
        except (RuntimeError, OSError, http.client.HTTPException) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            problem = f"the download failed ({reason[:200]})"
    raise DataError(
        f"{source.__name__} under {root} lacks {', '.join(missing)} in {folder.relative_to(root)}, "
        f"and {problem}; name a folder that has it (--data-root or TOMBOLA_DATA), or run once on a "
        "machine with network"
    )


def _add(source: Path, folder: Path, *, inside: bool) -> None:
    """Move what a folder lacks out of another one; what is there stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in sorted(source.iterdir()):
        target = folder / entry.name
        if not target.exists():
            entry.replace(target)
        elif inside and entry.is_dir() and target.is_dir():
            _add(entry, target, inside=True)


def _read_idx(path: Path) -> Tensor:
    data = path.read_bytes()
    # Two zero bytes, 8 for unsigned bytes, the number of dimensions, then their sizes, big-endian.
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


def _read_batches(
    folder: Path, files: Iterable[tuple[str, str]], key: str
) -> tuple[Tensor, Tensor]:
    """Read the images and labels of several files, each given with its checksum."""
    images, labels = [], []
    for name, _ in files:
        images_of_file, labels_of_file = _read_batch(folder / name, key)
        images.append(images_of_file)
        labels.append(labels_of_file)
    return torch.cat(images), torch.cat(labels)


def _read_batch(path: Path, key: str) -> tuple[Tensor, Tensor]:
    try:
        with path.open("rb") as file:
            # latin1: the files were written by Python 2, whose strings are bytes.
            batch = _PlainUnpickler(file, encoding="latin1").load()
        pixels = np.require(batch["data"], np.uint8, ["C", "W"])
        images = torch.from_numpy(pixels).view(-1, 3, 32, 32)
        return images, torch.tensor(batch[key], dtype=torch.int64)
    # Broken bytes raise all kinds of errors: KeyError, struct.error, UnicodeDecodeError,
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
    # Python 2 wrote the flags that follow as integers, about which some releases of numpy warn.
    return np.dtype(text)
