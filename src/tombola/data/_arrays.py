"""Arrays: a data set of your own in one .npz file."""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tombola.data.dataset import SHARE, Dataset, from_tensors
from tombola.data.roots import first_existing
from tombola.ground.devices import free_memory
from tombola.ground.errors import DataError

_KEYS = ("train_images", "train_labels", "test_images", "test_labels")


def arrays(*, path: str, root: str | Path | None = None) -> Dataset:
    """Read ``train_images``, ``train_labels``, ``test_images`` and ``test_labels`` from a .npz
    file.

    Images are [n, channels, height, width], [n, height, width] (one channel) or [n, features]
    (taken as [n, 1, 1, features]). Images with the channels last are moved to channels first: four
    dimensions of which the last is 1, 3 or 4 and the second is not. uint8 stays, other numbers
    become float32; labels are whole numbers from 0. Nothing in the file is unpickled, so the file
    cannot run code.

    Images that would take more than half of the free memory are not read but mapped: training reads
    from the disk what it needs. That takes a file written by ``numpy.savez`` (not compressed) whose
    images are uint8 or float32 with the channels first.

    Args:
        path: Absolute, or relative to the data root, or else to the working folder.
        root: The data root; see ``tombola.data.roots.data_root``.

    Raises:
        DataError: There is no such file, it is not an .npz file, its arrays do not make a data set,
            or memory is too small for it and it cannot be mapped.
    """
    file = first_existing(path, root, "file", "an .npz file")
    try:
        # Opened here: numpy leaves its own file open when the zip file is broken.
        with file.open("rb") as opened:
            stored = np.load(opened, allow_pickle=False)
            if not isinstance(stored, np.lib.npyio.NpzFile):
                raise DataError(
                    f"{file} holds a single array; it must be an .npz file with {', '.join(_KEYS)}"
                )
            missing = [key for key in _KEYS if key not in stored.files]
            if missing:
                names = ", ".join(stored.files) or "nothing"
                raise DataError(f"{file} has no {', '.join(missing)}; it has: {names}")
            assert stored.zip is not None
            needed = sum(member.file_size for member in stored.zip.infolist())
            free = free_memory(torch.device("cpu"))
            streamed = needed > SHARE * free
            loaded: dict[str, np.ndarray] = {}
            for key in _KEYS:
                if streamed and key.endswith("images"):
                    loaded[key] = _mapped(file, stored.zip, key, needed, free)
                else:
                    # A member that is no array is loaded as bytes, which are refused as images.
                    loaded[key] = np.asarray(stored[key])
    except DataError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"cannot read {file} as an .npz file of plain numbers: {reason}") from error
    dataset = from_tensors(
        _channels_first(loaded["train_images"]),
        loaded["train_labels"],
        _channels_first(loaded["test_images"]),
        loaded["test_labels"],
    )
    return replace(dataset, streamed=streamed)


def _mapped(file: Path, members: zipfile.ZipFile, key: str, needed: int, free: int) -> np.ndarray:
    """Map the images of an uncompressed .npz file, so that only what is used is read."""
    info = members.getinfo(f"{key}.npy")
    with members.open(info) as member:
        if np.lib.format.read_magic(member) == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(member)
        else:
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(member)
        header = member.tell()
    obstacles = {
        "compressed; numpy.savez writes it plainly": info.compress_type != zipfile.ZIP_STORED,
        "neither uint8 nor float32": dtype not in (np.uint8, np.float32),
        "laid out with the channels last": _channels_are_last(shape) or fortran,
    }
    for obstacle, applies in obstacles.items():
        if applies:
            raise DataError(
                f"{file} takes {needed / 2**30:.1f} GiB of memory and {free / 2**30:.1f} GiB are "
                f"free; it could be read from the disk piece by piece, but {key} is {obstacle}"
            )
    # The data begins behind the zip file's local header (30 bytes, name, extra field) and numpy's.
    with file.open("rb") as opened:
        opened.seek(info.header_offset + 26)
        name_length, extra_length = struct.unpack("<HH", opened.read(4))
    start = info.header_offset + 30 + name_length + extra_length + header
    # "c": pages are read when they are used, and nothing is ever written back to the file.
    return np.memmap(file, dtype, "c", start, shape)


def _channels_first(images: np.ndarray) -> np.ndarray:
    return np.moveaxis(images, 3, 1) if _channels_are_last(images.shape) else images


def _channels_are_last(shape: tuple[int, ...]) -> bool:
    channels = (1, 3, 4)
    return len(shape) == 4 and shape[3] in channels and shape[1] not in channels
