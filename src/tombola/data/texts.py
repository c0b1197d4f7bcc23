"""Texts: tokens of a training and of a test text, by their numbers.

    [ text ] -> windows -> batches -> train

A token is a byte or a character; its number is its place in the vocabulary.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from torch import Tensor

from tombola.ground.errors import DataError
from tombola.ground.notebooks import one_line


@dataclass(frozen=True, eq=False)
class Text:
    """What an entry of ``tombola.data`` returns for the task "tokens".

    Attributes:
        train: uint8 or int32 [tokens], numbers below ``vocabulary``, in the order of the text.
        test: As ``train``.
        vocabulary: How many tokens there are to choose from.
        length: Tokens that a model reads at once.
        unit: What a token is, in the singular, such as "byte".

    Raises:
        DataError: A text is shorter than one window, or has a number that is no token.
    """

    task: ClassVar[str] = "tokens"

    train: Tensor
    test: Tensor
    vocabulary: int
    length: int
    unit: str = "token"

    def __post_init__(self) -> None:
        for name, tokens in (("training", self.train), ("test", self.test)):
            if len(tokens) <= self.length:
                raise DataError(
                    f"the {name} text has {len(tokens)} tokens; a window takes {self.length + 1} "
                    "(length, and the token that follows)"
                )
            lowest, highest = int(tokens.min()), int(tokens.max())
            if lowest < 0 or highest >= self.vocabulary:
                raise DataError(
                    f"the {name} text has tokens from {lowest} to {highest}; with a vocabulary of "
                    f"{self.vocabulary} they run from 0 to {self.vocabulary - 1}"
                )

    def __repr__(self) -> str:
        sizes = f"{len(self.train):,} training, {len(self.test):,} test tokens"
        return one_line("Text", sizes, f"vocabulary of {self.vocabulary}")

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 (hex) of all tokens, the vocabulary's size and the length of a window."""
        digest = hashlib.sha256(f"{self.vocabulary} {self.length};".encode())
        for tokens in (self.train, self.test):
            array = np.ascontiguousarray(tokens.numpy())
            digest.update(f"{array.dtype.str} {array.shape};".encode())
            digest.update(array.data)
        return digest.hexdigest()
