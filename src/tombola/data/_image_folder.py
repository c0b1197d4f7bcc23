"""Image folder: a folder of images for every class, as ImageNet is laid out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from tombola.data import folders
from tombola.data.dataset import Dataset
from tombola.data.pictures import Files
from tombola.data.roots import first_existing
from tombola.ground.devices import most
from tombola.ground.errors import ConfigError, DataError, near, shown
from tombola.ground.files import users_path

_MOST_PIXELS = 8192  # of a side
_SAMPLE = 1000  # training images from which mean and standard deviation are computed
# Mean and standard deviation of ImageNet, on a scale from 0 to 1, as torchvision's models expect.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def image_folder(
    *,
    path: str,
    root: str | Path | None = None,
    size: int = 224,
    test_folder: str | None = None,
    normalise: Literal["sample", "imagenet"] = "sample",
    unreadable: Literal["stop", "skip"] = "stop",
    workers: int = 0,
) -> Dataset:
    """Read ``train/CLASS/*.jpg`` and ``test/CLASS/*.jpg`` (or ``val/CLASS/*.jpg``) from a folder.

    The classes are the folders in ``train``, sorted by name; their images are found at any depth,
    in torchvision's order, by their endings (.jpg .jpeg .png .ppm .bmp .pgm .tif .tiff .webp). An
    image becomes uint8 [3, size, size], in RGB: its shorter side is resized to ``size``, and the
    centre is taken.

    Classes and labels are known by listing the files. Images are then held, unless they would take
    more than half of the free memory: those are decoded batch by batch, whenever they are needed,
    to the same bits. The fingerprint is that of the files' names and bytes, so all of them are read
    once, but not decoded; it does not see that another release of Pillow may decode a JPEG a little
    differently.

    Args:
        path: The folder; absolute, or relative to the data root, or else to the working folder.
        root: The data root; see ``tombola.data.roots.data_root``.
        size: Height and width of the images, in pixels.
        test_folder: Name of the folder of the test images; without it ``test`` or ``val``,
            whichever exists. Validation examples are taken from ``train``, so a ``val`` beside
            ``test`` is not used.
        normalise: By which mean and standard deviation: ``"sample"``, those of 1000 images that lie
            evenly in the training split (of all, if there are fewer); ``"imagenet"``, the usual
            ones of ImageNet.
        unreadable: What to do about files that are no images or are broken: ``"stop"`` names the
            first when it is needed; ``"skip"`` decodes every file once at the beginning and leaves
            them out, of both splits.
        workers: Processes that decode ahead of a training, for each training at a time; 0 decodes
            in the training's own process.

    Raises:
        ConfigError: An option is out of its range.
        DataError: There is no such folder, a class has no image, the test images have a class that
            the training images have not, or a file cannot be read.
    """
    if not 1 <= size <= _MOST_PIXELS:
        raise ConfigError(
            f"image_folder.size is {shown(size)}; it is a number of pixels, from 1 to "
            f"{_MOST_PIXELS:,}"
        )
    if not 0 <= workers <= most():
        raise ConfigError(
            f"image_folder.workers is {shown(workers)}; it is a number of processes, from 0 to "
            f"{most()} here"
        )
    folder = first_existing(path, root, "folder", "train/CLASS")
    if test_folder is not None:
        users_path(test_folder, "image_folder.test_folder")

    # The training images decide which classes there are.
    classes = _classes(folder / "train")
    test_name = _test_folder(folder, test_folder)
    unknown = sorted(set(_classes(folder / test_name)) - set(classes))
    if unknown:
        raise DataError(
            f"{folder / test_name} has the class folder '{unknown[0]}', which {folder / 'train'} "
            f"has not.{near(unknown[0], classes)}"
        )
    # In raw units, as images are bytes.
    mean, std = _IMAGENET
    imagenet = (255 * torch.tensor(mean), 255 * torch.tensor(std))
    train = _labelled_images(folder, "train", classes)
    test = _labelled_images(folder, test_name, classes)
    return folders.dataset(
        Files(folder, train, test, size),
        len(classes),
        workers=workers,
        remedy="put it right, or leave such files out with the option unreadable: skip",
        skip=unreadable == "skip",
        moments=imagenet if normalise == "imagenet" else None,
        moments_of=_SAMPLE,
        class_names=tuple(classes),
    )


def _classes(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise DataError(f"no folder {folder}; it holds a folder of images for every class")
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if not classes:
        raise DataError(
            f"{folder} holds no folder; it should have one for every class, with its images"
        )
    return classes


def _test_folder(folder: Path, option: str | None) -> str:
    if option is not None:
        if Path(option).name != option or option in ("train", "..", "."):
            raise ConfigError(
                f"image_folder.test_folder is '{option}'; it is the name of a folder beside train"
            )
        return option
    # With both, a guess might train on what another program tests on.
    existing = [name for name in ("test", "val") if (folder / name).is_dir()]
    if len(existing) != 1:
        has = "test and val" if existing else "neither test nor val"
        raise DataError(
            f"{folder} has {has}; say which folder holds the test images with the option "
            "test_folder"
        )
    return existing[0]


def _labelled_images(folder: Path, part: str, classes: list[str]) -> list[tuple[str, int]]:
    """List the images of the classes that a part has, with the labels of these classes."""
    labelled = []
    for name in _classes(folder / part):
        # A class without images would have no example, which is found only much later.
        images = folders.images_in(folder, f"{part}/{name}")
        if not images:
            raise DataError(
                f"the class folder {folder / part / name} holds no image "
                f"({' '.join(folders.EXTENSIONS)})"
            )
        label = classes.index(name)
        labelled += [(image, label) for image in images]
    return labelled
