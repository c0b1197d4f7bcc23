"""Tiny ImageNet."""

from __future__ import annotations

from pathlib import Path

from tombola.data import folders, published
from tombola.data.dataset import Dataset
from tombola.data.pictures import Files
from tombola.data.roots import data_root
from tombola.ground.errors import DataError

_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
_DIGEST = "tombola.sha256"


def tiny_imagenet(
    *, root: str | Path | None = None, download: bool = True, verify: bool = True, workers: int = 0
) -> Dataset:
    """Small photographs, 100,000 + 10,000 colour images of 64 x 64 pixels, 200 classes.

    Read from ``tiny-imagenet-200`` under the root. The published test images have no labels, so the
    published validation images are the test split. Classes are numbered in the sorted order of
    their names in ``wnids.txt`` (the COLT authors' code numbers them in the order in which the file
    system lists them). Images that take more than half of the free memory are not held but decoded
    batch by batch, to the same bits.

    Args:
        root: The data root; see ``tombola.data.roots.data_root``.
        download: Download what is missing; what is there is never replaced.
        verify: Accept only the published files. A checksum is published for the archive alone;
            tombola compares it when it downloads, and writes the sha256 of all that it unpacked
            beside it, with which the files are compared whenever they are read. Without, any folder
            of this layout is accepted as it is, such as a part of it: the classes of ``wnids.txt``
            that have training images, and what there is of their images; and the data set says so.
        workers: Processes that decode images.

    Raises:
        DataError: Files are missing and cannot be downloaded, they are not the published ones, or
            one cannot be read.

    Source:
        Stanford CS231N, "Tiny ImageNet visual recognition challenge": a part of ImageNet.
    """
    folder = data_root(root) / TinyImageNet.base_folder
    published.have(TinyImageNet, folder, ("wnids.txt",), download=download)
    files, classes = _listed(folder)
    if verify:
        _compare(folder, files, classes)
    remedy = "move the folder away to have it downloaded again"
    return folders.dataset(files, classes, workers=workers, remedy=remedy, verified=verify)


class TinyImageNet:
    """What torchvision has for other data sets: where to download from, and how."""

    base_folder = "tiny-imagenet-200"
    root: str

    def download(self) -> None:
        from tombola.ground.extras import torchvision

        torchvision.datasets.utils.download_and_extract_archive(_URL, self.root, md5=_MD5)
        folder = Path(self.root) / self.base_folder
        files, _ = _listed(folder)
        (folder / _DIGEST).write_text(files.fingerprint + "\n")


def _listed(folder: Path) -> tuple[Files, int]:
    """List the images of all classes that have any to train on, and count the classes."""
    # A folder may be a part of the data set: classes without images have no label.
    label_of: dict[str, int] = {}
    train: list[tuple[str, int]] = []
    for name in sorted(set(_text(folder / "wnids.txt").split())):
        images = folders.images_in(folder, f"train/{name}")
        if images:
            label = label_of[name] = len(label_of)
            train += [(image, label) for image in images]
    if not label_of:
        raise DataError(f"{folder} has no training image of a class that wnids.txt names")

    # The labels of validation images are in a file, a line each: name, class, and a box.
    annotations = folder / "val" / "val_annotations.txt"
    existing = set(folders.images_in(folder, "val/images"))
    test: list[tuple[str, int]] = []
    for number, line in enumerate(_text(annotations).splitlines(), 1):
        name, _, rest = line.partition("\t")
        if not rest:
            raise DataError(f"line {number} of {annotations} names no image and class: {line!r}")
        image, wnid = f"val/images/{name}", rest.partition("\t")[0]
        if wnid in label_of and image in existing:
            test.append((image, label_of[wnid]))
    return Files(folder, train, test, 64), len(label_of)


def _compare(folder: Path, files: Files, classes: int) -> None:
    accept = (
        "accept it as it is with the option verify: false, or move it away to have it downloaded"
    )
    # Only what tombola has downloaded itself was compared with the archive's checksum.
    if not (folder / _DIGEST).is_file():
        raise DataError(
            f"{folder} was not downloaded by tombola, so it cannot be compared with the published "
            f"archive: it has {classes} classes, {len(files.train):,} training and "
            f"{len(files.test):,} validation images, and 200, 100,000 and 10,000 were published; "
            f"{accept}"
        )
    if _text(folder / _DIGEST).strip() != files.fingerprint:
        raise DataError(
            f"{folder} has changed since it was downloaded: its files have the sha256 "
            f"{files.fingerprint}, which is not that in {_DIGEST}; {accept}"
        )


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from error
