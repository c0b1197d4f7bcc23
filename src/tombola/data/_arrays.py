"""Arrays: a data set of your own in one .npz file."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from tombola.data.dataset import Dataset, from_tensors
from tombola.data.roots import data_root
from tombola.errors import DataError

_KEYS = ("train_images", "train_labels", "test_images", "test_labels")


def arrays(*, path: str, root: str | Path | None = None) -> Dataset:
    """Read ``train_images``, ``train_labels``, ``test_images`` and ``test_labels`` from a .npz file.

    Images are [n, channels, height, width], [n, height, width] (one channel) or [n, features] (taken as
    [n, 1, 1, features]). Images with the channels last are moved to channels first: four dimensions of which the last
    is 1, 3 or 4 and the second is not. uint8 stays, other numbers become float32; labels are whole numbers from 0.
    Nothing in the file is unpickled, so the file cannot run code.

    Args:
        path: Absolute, or relative to the data root, or else to the working folder.
        root: The data root; see ``tombola.data.roots.data_root``.

    Raises:
        DataError: There is no such file, it is not an .npz file, or its arrays do not make a data set.
    """
    file = _find(Path(path).expanduser(), data_root(root))
    try:
        # Opened here: numpy leaves its own file open when the zip file is broken.
        with file.open("rb") as opened:
            stored = np.load(opened, allow_pickle=False)
            if not isinstance(stored, np.lib.npyio.NpzFile):
                raise DataError(f"{file} holds a single array; it must be an .npz file with {', '.join(_KEYS)}")
            missing = [key for key in _KEYS if key not in stored.files]
            if missing:
                raise DataError(f"{file} has no {', '.join(missing)}; it has: {', '.join(stored.files) or 'nothing'}")
            # asarray: what is no array in a zip file comes as its bytes, which are then refused as images.
            train_images, train_labels, test_images, test_labels = (np.asarray(stored[key]) for key in _KEYS)
    except DataError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"cannot read {file} as an .npz file of plain numbers: {reason}") from error
    return from_tensors(_channels_first(train_images), train_labels, _channels_first(test_images), test_labels)


def _find(path: Path, root: Path) -> Path:
    tried = [path] if path.is_absolute() else [root / path, Path.cwd() / path]
    for file in tried:
        if file.is_file():
            return file
    raise DataError(f"no file {' and no file '.join(map(str, tried))}; 'path' names an .npz file")


def _channels_first(images: np.ndarray) -> np.ndarray:
    channels = (1, 3, 4)
    last = images.ndim == 4 and images.shape[3] in channels and images.shape[1] not in channels
    return np.moveaxis(images, 3, 1) if last else images
