"""Devkit: the folders of Pascal VOC, as its development kit lays them out.

    VOCdevkit/VOC2007/{JPEGImages,Annotations,ImageSets,SegmentationClass …}

A checksum is published for the archives alone. tombola compares it when it downloads, and writes
the sha256 of each unpacked file beside them, with which files are compared when they are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

from tombola.data import published
from tombola.data.roots import data_root
from tombola.ground.errors import DataError

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
_DIGESTS = "tombola.sha256"
_ACCEPT = "accept it as it is with verify: false, or move it away to have it downloaded"


class VOC2007:
    """What torchvision has for other data sets: where to download from, and how."""

    archives: ClassVar[Sequence[str]] = ("2007", "2007-test")
    root: str

    def download(self) -> None:
        """Download the archives into the root and unpack them, with a digest of each file."""
        from tombola.ground.extras import torchvision

        for archive in self.archives:
            known = torchvision.datasets.voc.DATASET_YEAR_DICT[archive]
            torchvision.datasets.utils.download_and_extract_archive(
                known["url"], self.root, filename=known["filename"], md5=known["md5"]
            )
        folder = Path(self.root) / "VOCdevkit" / type(self).__name__
        files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        lines = []
        for file, digest in zip(files, _digests(files), strict=True):
            lines.append(f"{digest}  {file.relative_to(folder).as_posix()}\n")
        (folder / _DIGESTS).write_text("".join(lines), encoding="utf-8")


class VOC2012(VOC2007):
    """The same of 2012, whose test pictures have no published annotations."""

    archives = ("2012",)


YEARS: Mapping[int, type[VOC2007]] = {2007: VOC2007, 2012: VOC2012}


def folder_of(year: int, root: str | Path | None, lists: Sequence[str], *, download: bool) -> Path:
    """Return a year's folder, downloaded where it lacks one of the lists.

    Args:
        year: 2007 or 2012.
        root: The data root.
        lists: Which lists of pictures are needed, such as "Main/train".
        download: Download what is missing; what is there is never replaced.

    Raises:
        DataError: It is not there and cannot be downloaded.
    """
    source = YEARS[year]
    above = data_root(root)
    folder = above / "VOCdevkit" / source.__name__
    files = [f"ImageSets/{name}.txt" for name in lists]
    published.have(source, folder, files, download=download, root=above, inside=True)
    return folder


def listed(folder: Path, name: str) -> list[str]:
    """Return the names of the pictures in a list, such as "Main/train".

    Raises:
        DataError: The list cannot be read, or names no picture, or one twice.
    """
    file = folder / "ImageSets" / f"{name}.txt"
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from error
    names = [line.split()[0] for line in lines if line.strip()]
    if not names:
        raise DataError(f"{file} names no picture; it should have the name of one in each line")
    seen: set[str] = set()
    for picture in names:
        if picture in seen:
            raise DataError(f"{file} names the picture '{picture}' twice")
        seen.add(picture)
    return names


def verify(folder: Path, files: Iterable[str]) -> None:
    """Accept only files of a year's folder as they were published.

    Args:
        folder: The year's.
        files: Names relative to it.

    Raises:
        DataError: tombola did not download the folder, or a file has changed since.
    """
    try:
        lines = (folder / _DIGESTS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(
            f"{folder} was not downloaded by tombola, so it cannot be compared with the published "
            f"archives; {_ACCEPT}"
        ) from None
    known = {}
    for line in lines:
        digest, _, name = line.partition("  ")
        known[name] = digest
    names = list(files)
    for name, digest in zip(names, _digests([folder / name for name in names]), strict=True):
        if known.get(name) != digest:
            raise DataError(
                f"{folder / name} is not the published file: it has the sha256 {digest}, and "
                f"{known.get(name, 'none')} stands in {_DIGESTS}; {_ACCEPT}"
            )


def _digests(files: Sequence[Path]) -> list[str]:
    def digest(file: Path) -> str:
        try:
            return hashlib.sha256(file.read_bytes()).hexdigest()
        except OSError as error:
            raise DataError(f"cannot read {file}: {error.strerror}") from error

    # In threads: reading waits for the disk, and hashing releases the GIL.
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(digest, files))
