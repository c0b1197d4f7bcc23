"""Picture files: a list of pictures of any size, decoded when they are read.

A file is always decoded to the same bits, however it is read. The pictures of a piece are decoded
by threads, a few pieces ahead, and come in the order asked for.
"""

from __future__ import annotations

import hashlib
import io
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tombola.ground.errors import DataError

_THREADS = 2  # that decode for one reader; every worker process has its own
_AHEAD = 2  # pieces
_INSPECTING = 8  # threads that wait for the disk when all files are read once


class PictureFiles:
    """Takes the place of a list of pictures in memory.

    Args:
        paths: Of the files.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, position: int) -> Tensor:
        """Decode a picture, uint8 [3, height, width].

        Raises:
            DataError: The file cannot be read; it is named.
        """
        path = self._paths[position]
        try:
            return torch.from_numpy(decode(path.read_bytes()))
        except MemoryError:
            raise
        # Broken files raise all kinds of errors, see `inspect_all`.
        except Exception as error:
            raise DataError(f"cannot read {path} as an image: {_reason(error)}") from error

    def read(self, pieces: Sequence[Sequence[int]]) -> Iterator[list[Tensor]]:
        """Yield the pictures of each piece; threads decode the next ones ahead.

        Raises:
            DataError: A file cannot be read; it is named.
        """
        pool = ThreadPoolExecutor(_THREADS)
        waiting: deque[list[Future[Tensor]]] = deque()
        left = iter(pieces)
        try:
            while True:
                for piece in islice(left, 1 + _AHEAD - len(waiting)):
                    waiting.append([pool.submit(self.__getitem__, row) for row in piece])
                if not waiting:
                    return
                yield [future.result() for future in waiting.popleft()]
        finally:
            # Nobody waits for what is left where the caller stops early.
            pool.shutdown(wait=False, cancel_futures=True)


def decode(content: bytes) -> np.ndarray:
    """Return a picture as uint8 [3, height, width], in RGB.

    A rotation that a camera wrote beside the pixels is not applied: boxes are given in the pixels as
    they lie in the file.
    """
    from tombola.ground.extras import Image

    with Image.open(io.BytesIO(content)) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    # A copy in any case: Pillow's own memory may not be written to.
    return np.array(pixels.transpose(2, 0, 1), order="C")


class Inspected(NamedTuple):
    """What there is to know about a file without holding its picture.

    Attributes:
        digest: The sha256 (hex) of its bytes.
        size: Width and height of the picture.
        problem: Why it cannot be read; empty: it can.
    """

    digest: str
    size: tuple[int, int]
    problem: str = ""


def inspect_all(paths: Sequence[Path], *, whole: bool = False) -> list[Inspected]:
    """Read all files once, in threads: their digests, and the sizes of their pictures.

    Args:
        paths: Of the files.
        whole: Decode every picture, too, and not only its header.
    """

    def inspected(path: Path) -> Inspected:
        from tombola.ground.extras import Image

        try:
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            with Image.open(io.BytesIO(content)) as opened:
                if whole:
                    opened.load()
                return Inspected(digest, opened.size)
        except MemoryError:
            raise
        # Broken files raise all kinds of errors: OSError, SyntaxError, struct.error,
        # DecompressionBombError.
        except Exception as error:
            return Inspected("", (0, 0), _reason(error))

    with ThreadPoolExecutor(_INSPECTING) as pool:
        return list(pool.map(inspected, paths))


def _reason(error: Exception) -> str:
    # Pillow's own message names an object in memory; by name, as Pillow may be missing.
    if type(error).__name__ == "UnidentifiedImageError":
        return "it is in no format of images that is known here"
    # Of a file that cannot be opened the system's own word; the path is told beside it.
    told = error.strerror if isinstance(error, OSError) else None
    return told or " ".join(str(error).split()) or type(error).__name__
