"""Tokens: each token of a text is predicted from those before it, measured by perplexity.

The text is a file of the user's, ``data: {name: text, path: FILE}``, the model a language model.
There are no classes to divide: partitions are by examples or by seeds.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tombola.data.loading import load
from tombola.data.texts import Text
from tombola.ground import devices, seeds
from tombola.ground.metrics import Metric
from tombola.kernels.recording import recordable
from tombola.models.building import build_for, head_name
from tombola.tasks.dividing import DividedRows, divide, loading, refuse, splits_of
from tombola.tasks.settings import Data, Model

PERPLEXITY = Metric("perplexity", fraction=False, higher=False, plural="perplexities")


def tokens(data: Data, model: Model, *, seed: int, device: str, root: Path | None) -> Tokens:
    """Predict the next token of a text, at every place of a window.

    Windows do not overlap, so every token but the first is predicted once. An example is a window,
    and validation windows are the last ones of the training text.

    Args:
        data: An entry for this task, such as ``text``.
        model: An entry for this task, such as ``tiny_gpt``; called with the size of the vocabulary.
        seed: The recipe's.
        device: Its name, as in a recipe.
        root: Root of the data sets.

    Raises:
        InputError: The text or the model cannot be had, or they do not fit each other.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.txt").write_text("to be or not to be " * 100)
    ...     data = Data("text", options={"path": "a.txt", "length": 16})
    ...     task = tokens(data, Model("lstm"), seed=0, device="cpu", root=Path(folder))
    >>> [len(task.splits[which][0]) for which in ("train", "valid", "test")]
    [95, 11, 11]
    """
    refuse(data, "tokens", "classes", "augment")
    text = load(data.name, root=root, options=data.options, kind=Text)
    train, test = windows(text.train, text.length), windows(text.test, text.length)
    division = divide(len(train[0]), data, seed, "windows", at_the_end=True)
    draw = functools.partial(
        build_for,
        "tokens",
        model.name,
        text.vocabulary,
        options=model.options,
        init=model.init,
        head=model.head,
        inputs=train[0][:2].long(),
        outputs=(len(train[0][:2]), text.length, text.vocabulary),
        length=text.length,
    )
    with seeds.seeded(seed, "init"):
        head = head_name(draw(), model.head)
    return Tokens(
        draw,
        splits_of(division, train, test),
        seed,
        next_token_loss,
        (PERPLEXITY,),
        _values,
        head,
        devices.device(device),
        source=text,
        division=division,
        load=loading(model),
    )


def windows(tokens: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Cut a text into windows, each with the tokens that follow; both are views of the text.

    What is left at the end of the text, less than a window, is dropped.

    >>> inputs, targets = windows(torch.arange(8), 3)
    >>> inputs.tolist(), targets.tolist()
    ([[0, 1, 2], [3, 4, 5]], [[1, 2, 3], [4, 5, 6]])
    """
    used = (len(tokens) - 1) // length * length
    inputs = tokens[:used].view(-1, length)
    return inputs, tokens[1 : used + 1].view(-1, length)


@recordable
def next_token_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy of the next tokens, in nats a token."""
    inputs, targets = batch
    return cross_entropy(model(inputs).flatten(0, 1), targets.flatten())


def _values(loss: float) -> dict[str, float]:
    # Beyond about 709 there is no such number; a run says that the metric is not finite.
    return {"perplexity": math.exp(loss) if loss < 700 else math.inf}


@dataclass(frozen=True, eq=False)
class Tokens(DividedRows):
    """Predict the next token of each place of a window."""

    def make(self, which: str, rows: Tensor, seed: int, epoch: int) -> tuple[Tensor, ...]:
        """Return the batch of some windows: inputs and the tokens that follow, int64."""
        # A text is kept in a byte a token where that is enough.
        return tuple(values.long() for values in super().make(which, rows, seed, epoch))

    @property
    def text(self) -> Text:
        """The text, all of it."""
        assert isinstance(self.source, Text)
        return self.source

    def probe(self, examples: int, seed: int) -> Tensor:
        """Draw windows of random tokens."""
        generator = torch.Generator().manual_seed(seed)
        shape = (examples, self.text.length)
        drawn = torch.randint(self.text.vocabulary, shape, generator=generator)
        return drawn.to(self.device)

    @property
    def bytes(self) -> int:
        """What the text takes in the memory of each process."""
        return self.text.train.nbytes + self.text.test.nbytes

    @property
    def facts(self) -> Mapping[str, str]:
        """What the tokens are, and how many there are to choose from."""
        text = self.text
        tokens = f"{len(text.train):,} to train and validate on, {len(text.test):,} to test on"
        window = f"windows of {text.length}"
        return {f"{text.unit}s": f"{tokens}; {window}, vocabulary of {text.vocabulary}"}

    @property
    def origin(self) -> Mapping[str, Mapping[str, Any]]:
        """What a token is, and how many there are to choose from."""
        return {"data": {"unit": self.text.unit, "vocabulary": self.text.vocabulary}}
