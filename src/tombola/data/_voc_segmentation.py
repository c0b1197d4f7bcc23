"""Pascal VOC with maps: photographs with the class of every pixel, for segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tombola.data import devkit, moving
from tombola.data.dataset import SHARE
from tombola.data.maps import UNMARKED, MapData
from tombola.ground.devices import free_memory
from tombola.ground.errors import ConfigError, DataError, shown

# Lists of each year that make the training split, the published validation split and the test
# split. No maps of the test pictures of 2012 are published.
_LISTS = {2007: ("trainval", "val", "test"), 2012: ("train", None, "val")}


def voc_segmentation(
    *,
    root: str | Path | None = None,
    year: Literal[2007, 2012] = 2012,
    size: int = 128,
    download: bool = True,
    verify: bool = True,
) -> MapData:
    """Photographs of 20 classes and the background, resized to a square, with their maps.

    Read from ``VOCdevkit/VOC2012`` (or ``VOC2007``) under the root: ``JPEGImages``, the maps in
    ``SegmentationClass``, and the lists in ``ImageSets/Segmentation``. A map is a .png file in the
    colours of VOC, or one of grey levels that are the numbers themselves. Pictures are resized
    smoothly and maps by the nearest pixel, so that no number appears that was not there. All are
    held in memory.

    Args:
        root: The data root; see ``tombola.data.roots.data_root``.
        year: ``2012`` trains on its ``train`` (1,464 pictures) and tests on its ``val`` (1,449), as
            no maps of its test pictures are published. ``2007`` trains on ``trainval`` (422) and
            tests on ``test`` (210); its ``val`` is the published validation split.
        size: Height and width of pictures and maps, in pixels.
        download: Download what is missing; what is there is never replaced.
        verify: Accept only the published files, as tombola has downloaded them. Without, any folder
            of this layout is accepted as it is, and the data set says so.

    Raises:
        ConfigError: The size will not do, or memory is too small for it.
        DataError: Files are missing and cannot be downloaded, they are not the published ones, or
            one cannot be used.

    Source:
        Everingham et al., "The Pascal Visual Object Classes (VOC) challenge", IJCV 2010.
    """
    if size < 1:
        raise ConfigError(f"voc_segmentation.size is {shown(size)}; it is a number of pixels")
    train, valid, test = _LISTS[year]
    lists = [f"Segmentation/{name}" for name in (train, valid, test) if name]
    folder = devkit.folder_of(year, root, lists, download=download)
    names = {name: devkit.listed(folder, name) for name in lists}
    if verify:
        devkit.verify(folder, _files(names))
    trained, tested = names[f"Segmentation/{train}"], names[f"Segmentation/{test}"]
    _check_memory(len(trained) + len(tested), size)
    return MapData(
        *_read(folder, trained, size),
        *_read(folder, tested, size),
        class_names=devkit.CLASSES,
        valid=_positions(trained, names[f"Segmentation/{valid}"]) if valid else None,
        verified=verify,
    )


def _files(names: dict[str, list[str]]) -> list[str]:
    """List the files that the lists name, and the lists."""
    files = [f"ImageSets/{name}.txt" for name in names]
    for picture in sorted({picture for listed in names.values() for picture in listed}):
        files += [f"JPEGImages/{picture}.jpg", f"SegmentationClass/{picture}.png"]
    return files


def _positions(among: Sequence[str], names: Sequence[str]) -> Tensor:
    position = {name: index for index, name in enumerate(among)}
    missing = [name for name in names if name not in position]
    if missing:
        raise DataError(
            f"the validation list names '{missing[0]}', which is not in the training list; "
            "validation pictures are a part of it"
        )
    return torch.tensor([position[name] for name in names])


def _check_memory(pictures: int, size: int) -> None:
    needed, free = 4 * size**2 * pictures, free_memory(torch.device("cpu"))
    if needed > SHARE * free:
        raise ConfigError(
            f"{pictures:,} pictures of {size} x {size} pixels with their maps take "
            f"{needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB of memory are free; a smaller "
            "size would fit"
        )


def _read(folder: Path, names: Sequence[str], size: int) -> tuple[Tensor, Tensor]:
    """Return pictures, uint8 [n, 3, size, size], and maps, uint8 [n, size, size]."""
    # In threads: decoding releases the GIL.
    with ThreadPoolExecutor(8) as pool:
        pairs = list(pool.map(lambda name: _pair(folder, name, size), names))
    return torch.stack([picture for picture, _ in pairs]), torch.stack([map for _, map in pairs])


def _pair(folder: Path, name: str, size: int) -> tuple[Tensor, Tensor]:
    from tombola.ground.extras import Image

    picture_file = folder / "JPEGImages" / f"{name}.jpg"
    map_file = folder / "SegmentationClass" / f"{name}.png"
    pixels, numbers = _decoded(picture_file), _numbers(map_file)
    if pixels.shape[:2] != numbers.shape:
        raise DataError(
            f"{map_file} has {numbers.shape[1]} x {numbers.shape[0]} pixels, and its picture has "
            f"{pixels.shape[1]} x {pixels.shape[0]}; they must have the same"
        )
    picture = torch.from_numpy(pixels).permute(2, 0, 1).float()
    resized, _ = moving.warp(picture, torch.zeros(0, 4), size)
    nearest = Image.fromarray(numbers).resize((size, size), Image.Resampling.NEAREST)
    return resized.round().clamp(0, 255).to(torch.uint8), torch.from_numpy(np.array(nearest))


def _decoded(file: Path, mode: str = "RGB") -> np.ndarray:
    """Decode an image file to uint8 [height, width, 3]; grey ones stay so where that is asked."""
    from tombola.ground.extras import Image

    try:
        with Image.open(file) as opened:
            grey = mode == "any" and opened.mode == "L"
            return np.array(opened if grey else opened.convert("RGB"))
    except FileNotFoundError as error:
        raise DataError(
            f"{file} is missing; segmentation needs a map of every picture in its lists"
        ) from error
    except Exception as error:  # Pillow raises many kinds for what is no image
        reason = " ".join(str(error).split())
        raise DataError(f"cannot read {file} as an image: {reason}") from error


def _numbers(file: Path) -> np.ndarray:
    """Read the number of each pixel of a map, uint8 [height, width]."""
    colours = _decoded(file, "any")
    if colours.ndim == 2:
        numbers = colours
    else:
        # By colour, not by place in the file's palette, which another program may have rearranged.
        red, green, blue = np.moveaxis(colours.astype(np.int64), 2, 0)
        numbers, known = _by_colour()
        codes = red << 16 | green << 8 | blue
        unknown = ~known[codes]
        if unknown.any():
            row, column = np.argwhere(unknown)[0].tolist()
            raise DataError(
                f"{file} has the colour {colours[row, column].tolist()} in row {row}, column "
                f"{column}, which stands for no class of Pascal VOC"
            )
        numbers = numbers[codes]
    odd = numbers[(numbers > len(devkit.CLASSES)) & (numbers != UNMARKED)]
    if odd.size:
        raise DataError(
            f"{file} has the number {int(odd[0])}; it has 0 for the background, 1 to "
            f"{len(devkit.CLASSES)} for classes and {UNMARKED} for borders"
        )
    return numbers


@cache
def _by_colour() -> tuple[np.ndarray, np.ndarray]:
    """Return the number of each colour (by red, green and blue as one number), and if it has one.

    Source:
        VOC's development kit, ``VOClabelcolormap``: the bits of a number, in turn, are the highest
        bits of red, green and blue.

    >>> numbers, known = _by_colour()
    >>> numbers[128 << 16], numbers[0xE0E0C0], int(known.sum())
    (np.uint8(1), np.uint8(255), 22)
    """
    numbers, known = np.zeros(2**24, np.uint8), np.zeros(2**24, bool)
    for number in (*range(len(devkit.CLASSES) + 1), UNMARKED):
        code, rest = 0, number
        for place in range(7, -1, -1):
            for shift in (16, 8, 0):
                code |= (rest & 1) << place + shift
                rest >>= 1
        numbers[code], known[code] = number, True
    return numbers, known
