"""Dividing: rows of a data set without classes, some of them to train on, some to validate on.

data -> [ division ] -> batches -> train
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tombola.data.loading import Loaded
from tombola.data.settings import Augment
from tombola.data.splits import valid_size
from tombola.ground import seeds
from tombola.ground.errors import ConfigError, shown
from tombola.masks.digests import digest_json, digest_state
from tombola.models.building import head_name, load_weights_
from tombola.tasks.rows import Rows
from tombola.tasks.settings import Data, Model


@dataclass(frozen=True)
class Division:
    """Which of the training examples are trained on, and on which one validates.

    Attributes:
        train: int64, ascending positions among the training examples.
        valid: int64, as ``train``; none of them is in both.
        leaks: Whether one validates on the test examples, and on none of these.
    """

    train: Tensor
    valid: Tensor
    leaks: bool


def divide(
    examples: int,
    data: Data,
    seed: int,
    what: str,
    *,
    at_the_end: bool = False,
    published: Tensor | None = None,
) -> Division:
    """Choose the training examples to validate on, and those to train on.

    Validation examples are drawn first and do not depend on the subset when their number is given.

    Args:
        examples: How many training examples there are.
        data: Says how many to take.
        seed: The recipe's.
        what: What the examples are, in the plural, for messages.
        at_the_end: Validate on the last ones, for examples that follow each other.
        published: Positions of the published validation examples, if there are any.

    Raises:
        ConfigError: A number will not do, or a published validation split is asked for and there is
            none.
        DataError: There are not that many examples.

    >>> division = divide(10, Data(valid=0.2, subset=5), 0, "rows")
    >>> len(division.train), len(division.valid)
    (5, 1)
    >>> divide(10, Data(valid=2), 0, "windows", at_the_end=True).valid.tolist()
    [8, 9]
    """
    leaks = data.valid == "test"
    if isinstance(data.valid, str) and not leaks and published is None:
        raise ConfigError(
            f"data.valid is {shown(data.valid)}, and {shown(data.name)} has no published "
            f"validation split; give a number of {what} to set aside, or a fraction"
        )
    if isinstance(data.valid, str) and not leaks and published is not None:
        kept = torch.ones(examples, dtype=torch.bool)
        kept[published] = False
        valid, train = published.sort().values, kept.nonzero().flatten()
    else:
        number = 0 if isinstance(data.valid, str) else data.valid
        size = valid_size(number, examples, data.subset, what)
        order = torch.randperm(examples, generator=seeds.generator(seed, "valid"))
        if at_the_end:
            order = torch.arange(examples).flip(0)
        valid, train = order[:size].sort().values, order[size:].sort().values
    if data.subset is not None:
        # Checked once more where the validation examples are the published ones.
        valid_size(0, len(train), data.subset, what)
        order = torch.randperm(len(train), generator=seeds.generator(seed, "subset"))
        train = train[order[: data.subset].sort().values]
    return Division(train, valid, leaks)


def refuse(data: Data, task: str, *names: str) -> None:
    """Refuse settings of the data that a task has no use for.

    Args:
        data: The recipe's.
        task: Its name, for the message.
        names: Of the settings, "classes", "augment" or "skew".

    Raises:
        ConfigError: One of them is given.

    >>> refuse(Data(), "tokens", "classes", "augment")
    """
    unused = {"classes": None, "augment": Augment(), "skew": None}
    for name in names:
        if getattr(data, name) != unused[name]:
            raise ConfigError(
                f"data.{name} is given, and the task {task} has nothing that it could mean; leave "
                "it out"
            )


@dataclass(frozen=True, eq=False)
class DividedRows(Rows):
    """Learn from rows of an entry of ``tombola.data``.

    Attributes:
        source: What the entry gave.
        division: Which of its training examples are the rows of "train" and "valid".
        load: Puts the weights of a checkpoint into a drawn model; ``None`` where weights are
            always drawn.
    """

    source: Loaded = field(kw_only=True)
    division: Division = field(kw_only=True)
    load: Callable[[nn.Module], object] | None = field(default=None, kw_only=True)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of the data set, and of which of its examples are in which split."""
        division = self.division
        positions = digest_state({"train": division.train, "valid": division.valid})
        return digest_json([self.source.fingerprint, positions])

    @property
    def leaks(self) -> bool:
        """Whether the validation split is the test split."""
        return self.division.leaks

    def model_of(self, seed: int, *, anew: bool = False) -> nn.Module:
        """Build the model in the initial state of a seed, drawn or of its checkpoint."""
        model = super().model_of(seed)
        if self.load is not None and not anew:
            self.load(model)
        return model


def loading(model: Model) -> Callable[[nn.Module], object] | None:
    """Return what puts the weights of a recipe's checkpoint into a model; ``None`` for none."""
    if model.weights is None:
        return None
    path, head = model.weights, model.head

    def load(built: nn.Module) -> object:
        return load_weights_(built, path, head_name(built, head))

    return load


def splits_of(
    division: Division, train: tuple[Tensor, ...], test: tuple[Tensor, ...]
) -> Mapping[str, tuple[Tensor, ...]]:
    """Return the rows of each split, by its name.

    Args:
        division: Of the training examples.
        train: Tensors of all training examples.
        test: The same of the test examples.
    """
    whole = len(division.train) == len(train[0])
    valid = test if division.leaks else tuple(values[division.valid] for values in train)
    return {
        # Not copied where nothing is set aside.
        "train": train if whole else tuple(values[division.train] for values in train),
        "valid": valid,
        "test": test,
    }
