"""Text: a text file of your own, byte by byte or character by character."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tombola.data.roots import first_existing
from tombola.data.texts import Text
from tombola.ground.errors import ConfigError, DataError, shown


def text(
    *,
    path: str,
    test: float = 0.1,
    test_path: str | None = None,
    unit: Literal["byte", "character"] = "byte",
    length: int = 64,
    root: str | Path | None = None,
) -> Text:
    """Read a text file; its last part is the test text, or a second file is.

    Args:
        path: Absolute, or relative to the data root, or else to the working folder.
        test: The fraction at the end of the file that is the test text.
        test_path: A file that is the test text; ``path`` is all training text then.
        unit: ``byte``: a token is a byte, and the vocabulary has 256. ``character``: a token is a
            character of UTF-8 text, and the vocabulary is made of the characters that occur.
        length: Tokens that a model reads at once, to predict each next one.
        root: The data root; see ``tombola.data.roots.data_root``.

    Raises:
        ConfigError: An option will not do.
        DataError: There is no such file, it cannot be read, it is too short, or it is not UTF-8
            where characters are asked for.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.txt").write_text("abcabcabca" * 20)
    ...     read = text(path="a.txt", root=folder, unit="character", length=8)
    >>> read.vocabulary, len(read.train), read.test[:4].tolist()
    (3, 180, [0, 1, 2, 0])
    """
    if not 0 < test < 1:
        raise ConfigError(
            f"text.test is {shown(test)}; it is the fraction of the text to test on, such as 0.1"
        )
    if length < 1:
        raise ConfigError(f"text.length is {shown(length)}; a window has at least 1 token")
    whole = _read(path, root)
    last = b"" if test_path is None else _read(test_path, root)

    if unit == "byte":
        tokens, vocabulary = _bytes(whole), 256
        tokens_of_last = _bytes(last)
    else:
        first_text, last_text = _decoded(whole, path), _decoded(last, str(test_path))
        characters = np.unique(np.concatenate([_points(first_text), _points(last_text)]))
        vocabulary = len(characters)
        tokens = _numbers(first_text, characters)
        tokens_of_last = _numbers(last_text, characters)

    if test_path is not None:
        return Text(tokens, tokens_of_last, vocabulary, length, unit)
    border = len(tokens) - round(test * len(tokens))
    return Text(tokens[:border], tokens[border:], vocabulary, length, unit)


def _read(path: str, root: str | Path | None) -> bytes:
    file = first_existing(path, root, "file", "a text file")
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from error


def _bytes(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, np.uint8).copy())


def _decoded(content: bytes, path: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{shown(path)} is no UTF-8 text (byte {error.start}); unit: byte takes any file"
        ) from error


def _points(text: str) -> np.ndarray:
    """Return the code points of a text."""
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def _numbers(text: str, characters: np.ndarray) -> Tensor:
    """Return the place of each character in the sorted vocabulary."""
    return torch.from_numpy(np.searchsorted(characters, _points(text)).astype(np.int32))
