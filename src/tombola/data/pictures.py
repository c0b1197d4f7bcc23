"""Pictures: the images of many files as if they were one tensor, decoded when they are read.

    files -> [ pictures ] -> dataset -> split -> batches

A file is always decoded to the same bits, whether images are held or streamed and however many
processes read them.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tombola.ground.errors import DataError
from tombola.ground.interrupts import deaf_children

_ROWS = 256  # images that are decoded, or files that are hashed, together


@dataclass(frozen=True, eq=False)
class Files:
    """Which image files make a data set.

    Attributes:
        root: The folder that they are in.
        train: Name, relative to the root, and label of each training image, in published order.
        test: As ``train``.
        size: Height and width of the images after decoding.
    """

    root: Path
    train: Sequence[tuple[str, int]]
    test: Sequence[tuple[str, int]]
    size: int

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 (hex) of size, names, labels and the files' lengths and sha256.

        Nothing is decoded.
        """
        digest = hashlib.sha256(f"{self.size};".encode())
        # In threads: reading waits for the disk, and hashing releases the GIL.
        with ThreadPoolExecutor(8) as pool:
            for part in (self.train, self.test):
                pieces = [part[start : start + _ROWS] for start in range(0, len(part), _ROWS)]
                for lines in pool.map(self._lines, pieces):
                    digest.update(lines)
                digest.update(b";")
        return digest.hexdigest()

    def _lines(self, piece: Sequence[tuple[str, int]]) -> bytes:
        lines = []
        for name, label in piece:
            try:
                content = (self.root / name).read_bytes()
            except OSError as error:
                raise DataError(f"cannot read {self.root / name}: {error.strerror}") from error
            digest = hashlib.sha256(content).hexdigest()
            lines.append(json.dumps([name, label, len(content), digest]))
        return "\n".join(lines).encode()


class Pictures:
    """Takes the place of a tensor of images, uint8 [n, 3, size, size]; decodes them when read.

    Args:
        root: The folder of the files.
        names: Of the files, relative to it.
        size: Height and width, see ``decode``.
        workers: Processes that read ahead; with 0 the caller's own process reads.
        remedy: What can be done about a file that cannot be read, for the message.
    """

    dtype: ClassVar = torch.uint8
    device: ClassVar = torch.device("cpu")

    def __init__(
        self, root: Path, names: Sequence[str], size: int, *, workers: int = 0, remedy: str = ""
    ) -> None:
        self.shape = torch.Size([len(names), 3, size, size])
        self.workers = workers
        self.remedy = remedy
        self._decoder = _Decoder(root, list(names), size)
        self._idle: list[DataLoader[Any]] = []

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes that the images take when they are held."""
        return self.shape.numel()

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """Return the images of these rows (int64), here and now.

        Raises:
            DataError: A file cannot be read; it is named.
        """
        assert dim == 0
        return self._checked(self._decoder[index.numpy()])

    def read(self, pieces: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the images of each piece, a tensor of rows; workers read the next ones ahead.

        Raises:
            DataError: A file cannot be read; it is named.
        """
        return map(self._checked, self._decoded(pieces))

    def hold(self) -> Tensor:
        """Return all images in one tensor.

        Raises:
            DataError: A file cannot be read; it is named.
        """
        held = torch.empty(self.shape, dtype=self.dtype)
        pieces = self._pieces()
        for piece, images in zip(pieces, self.read(pieces), strict=True):
            held[piece] = images
        return held

    def unreadable(self) -> list[int]:
        """Decode all images and return the rows of those whose file cannot be read."""
        rows: list[int] = []
        for _, bad in self._decoded(self._pieces()):
            rows += bad
        return rows

    def _pieces(self) -> list[Tensor]:
        return list(torch.split(torch.arange(len(self)), _ROWS)) if len(self) else []

    def _decoded(self, pieces: Sequence[Tensor]) -> Iterator[_Decoded]:
        arrays = [piece.numpy() for piece in pieces]
        # A daemonic process (one of the doctor's) may have no children, so it reads itself.
        if not self.workers or multiprocessing.current_process().daemon:
            yield from map(self._decoder.__getitem__, arrays)
            return
        # One loader for each reading under way: a validation may come in the middle of an epoch.
        loader = self._idle.pop() if self._idle else _loader(self._decoder, self.workers)
        loader.sampler[:] = arrays  # type: ignore[index]  # the list that it was made with
        try:
            with deaf_children():
                decoded = iter(loader)
            yield from decoded
        finally:
            self._idle.append(loader)

    def _checked(self, decoded: _Decoded) -> Tensor:
        images, bad = decoded
        for row, reason in bad.items():
            raise DataError(
                f"cannot read {self._decoder.file(row)} as an image: {reason}; {self.remedy}"
            )
        return torch.from_numpy(images)


# Images, and for some rows the reason why their file cannot be read.
_Decoded = tuple[np.ndarray, dict[int, str]]


class _Decoder:
    """Decodes the files of an array of rows: what is sent to the processes that read."""

    def __init__(self, root: Path, names: list[str], size: int) -> None:
        self.root, self.names, self.size = root, names, size

    def file(self, row: int) -> Path:
        return self.root / self.names[row]

    def __getitem__(self, rows: np.ndarray) -> _Decoded:
        images, bad = np.zeros((len(rows), 3, self.size, self.size), np.uint8), {}
        for place, row in enumerate(rows.tolist()):
            try:
                images[place] = decode(self.file(row), self.size)
            except MemoryError:
                raise
            # Broken files raise all kinds of errors: OSError, SyntaxError, struct.error,
            # DecompressionBombError.
            except Exception as error:
                bad[row] = " ".join(str(error).split()) or type(error).__name__
        return images, bad


def decode(file: Path, size: int) -> np.ndarray:
    """Return an image as uint8 [3, size, size], in RGB.

    The shorter side is resized to ``size``, bilinear with antialiasing, then the centre is cropped.
    torchvision's ``Resize(size)`` and ``CenterCrop(size)`` give the same bits.
    """
    from tombola.ground.extras import Image

    with Image.open(file) as opened:
        image = opened.convert("RGB")
    # torchvision truncates the longer side, and rounds the offset of the crop.
    short, long = sorted(image.size)
    if short != size:
        longer = int(size * long / short)
        upright = image.size[0] == short
        resized = (size, longer) if upright else (longer, size)
        image = image.resize(resized, Image.Resampling.BILINEAR)
    width, height = image.size
    left, top = round((width - size) / 2), round((height - size) / 2)
    return np.asarray(image)[top : top + size, left : left + size].transpose(2, 0, 1)


def _loader(decoder: _Decoder, workers: int) -> DataLoader[Any]:
    # Not by forking this process: locks that its threads hold would stay locked in the copy.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return DataLoader(
        decoder,  # type: ignore[arg-type]
        batch_size=None,
        sampler=[],
        num_workers=workers,
        persistent_workers=True,
        # Arrays go through a pipe; tensors would go through shared memory, which is often small.
        collate_fn=_as_it_is,
        multiprocessing_context=context,
        worker_init_fn=_watch,
        # A loader draws a number whenever it begins, which must not be seen by the training.
        generator=torch.Generator(),
    )


def _watch(_: int) -> None:
    # torch's own watchdog looks at the fork server, which lives as long as its children: both would
    # outlive a training that is killed.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _as_it_is(decoded: Any) -> Any:
    return decoded
