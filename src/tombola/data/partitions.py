"""Partitions: divide the training split among N models.

    split -> [ skew -> divide ] -> batches -> train

A partition is plain data: which classes or which examples a model is trained on, and which data
order it follows. Class partitions renumber their labels from 0 and get a head of their own size;
all others share the full head. Where classes are skewed, the examples that a replicate has are a
partition, too, and it is this one that is divided.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from tombola.data.settings import Skew as Skew
from tombola.ground import seeds
from tombola.ground.checking import own_numbers, take_own_numbers_
from tombola.ground.errors import ConfigError
from tombola.masks.digests import digest_json


@dataclass(frozen=True)
class Partition:
    """The part of the training data that one model sees; the default is all of it.

    Attributes:
        classes: Class numbers, ascending; label ``classes[i]`` becomes i. ``None``: all classes.
        examples: Positions in the training split. ``None``: all examples (of the classes).
        order: Address of a data order of its own; ``None`` follows the replicate's order.
        full_head: With classes: labels keep their numbers and the head all its outputs; otherwise
            the partition has a head of its own.
        others: With classes: what its training does about the objects of other classes in its
            examples, one of the task's ``others``; ``None`` where an example has one class.

    >>> Partition(classes=(0, 3, 4)).describe()
    {'classes': (0, 3, 4), 'examples': None, 'order': None, 'full_head': False}
    """

    classes: tuple[int, ...] | None = None
    examples: tuple[int, ...] | None = None
    order: int | None = None
    full_head: bool = False
    others: str | None = None

    def __post_init__(self) -> None:
        take_own_numbers_(self)

    @property
    def own_head(self) -> bool:
        """Whether its model gets a drawn head of the size of its classes."""
        return self.classes is not None and not self.full_head

    @functools.cached_property
    def digest(self) -> str:
        """Digest of what the partition holds."""
        entries = [self.classes, self.examples, self.order, self.full_head]
        # Only where it is set, so that partitions of before keep their digests.
        return digest_json(entries if self.others is None else [*entries, self.others])

    def describe(self) -> dict[str, object]:
        """Describe the partition for a ticket's origin: examples by their number and digest."""
        examples: dict[str, object] | None = None
        if self.examples is not None:
            examples = {"number": len(self.examples), "digest": self.digest}
        described: dict[str, object] = {
            "classes": self.classes,
            "examples": examples,
            "order": self.order,
            "full_head": self.full_head,
        }
        return described if self.others is None else described | {"others": self.others}


WHOLE = Partition()


def skewed(labels: Int64[Tensor, " examples"], skew: Skew, seed: int) -> Partition:
    """Leave out a random fraction of each class's examples, rounded down, so never its last one.

    The draw of a class depends on the seed and its number alone, so it is the same for every arm of
    a replicate.

    Args:
        labels: Of the training split.
        skew: How much may be missing.
        seed: The replicate's.

    Source:
        COLT, arXiv:2212.12770, Table V: up to 30 % of each class are removed at random.

    >>> labels = torch.tensor([0] * 100 + [1] * 100)
    >>> left = skewed(labels, Skew(0.3), seed=0).examples
    >>> torch.bincount(labels[list(left)]).tolist()
    [84, 73]
    """
    remaining = []
    for number in torch.unique(labels).tolist():
        positions = torch.nonzero(labels.cpu() == number).flatten()
        generator = seeds.generator(seed, "skew", number)
        fraction = skew.most * torch.rand((), dtype=torch.float64, generator=generator).item()
        missing = int(fraction * len(positions))
        order = torch.randperm(len(positions), generator=generator)
        remaining.append(positions[order[missing:]])
    return Partition(examples=tuple(torch.cat(remaining).sort().values.tolist()))


def within(
    available: Partition,
    parts: Sequence[Partition],
    membership: Bool[Tensor, "examples classes"] | None,
) -> list[Partition]:
    """Restrict partitions to the available examples: the division of a skewed training split.

    Args:
        available: The available part of the training split; with ``WHOLE`` the partitions stay as
            they are.
        parts: Its division. Examples that they name are positions among the available ones.
        membership: Which classes each example of the full training split has; an example is given
            to every partition that has one of them. ``None`` where there are no classes.

    >>> membership = torch.eye(4, dtype=torch.bool).repeat(2, 1)
    >>> available = Partition(examples=(0, 1, 2, 5, 7))
    >>> halves = [Partition((0, 1)), Partition((2, 3))]
    >>> [part.examples for part in within(available, halves, membership)]
    [(0, 1, 5), (2, 7)]
    >>> halves = [Partition(examples=(0, 4)), Partition(examples=(1, 2, 3))]
    >>> [part.examples for part in within(available, halves, membership)]
    [(0, 7), (1, 2, 5)]
    """
    # Partitions of a part are positions within it; batches need positions in the full split.
    if available.examples is None:
        return list(parts)
    positions = torch.tensor(available.examples)
    restricted = []
    for part in parts:
        chosen = positions if part.examples is None else positions[list(part.examples)]
        if part.classes is not None:
            assert membership is not None  # as there are classes
            of_part = membership.cpu()[chosen][:, list(part.classes)].any(1)
            chosen = chosen[of_part]
        restricted.append(replace(part, examples=tuple(chosen.tolist())))
    return restricted


def by_classes(
    num_classes: int,
    n: int,
    seed: int | None,
    *,
    full_head: bool = False,
    drop_remainder: bool = False,
    others: str | None = None,
) -> list[Partition]:
    """Divide the classes among n partitions, at random or in order.

    Sizes differ by at most one class and nothing is dropped; the first partitions are the larger
    ones.

    Args:
        num_classes: How many classes there are.
        n: How many partitions.
        seed: Of the division; ``None``: classes in order.
        full_head: Labels keep their numbers, and each model the head of all classes.
        drop_remainder: Leave out the last classes where the division does not come out even, as the
            authors' code does.
        others: What training does about objects of other classes, see `Partition`.

    Raises:
        ConfigError: A partition would get no class, or a single one: a head of one output cannot
            learn.

    Source:
        COLT, arXiv:2212.12770, section III-C (a). The authors' code takes contiguous classes and
        drops the remainder of a division that does not come out even.

    >>> [len(part.classes) for part in by_classes(10, 3, seed=0)]
    [4, 3, 3]
    >>> [part.classes for part in by_classes(5, 2, seed=None)]
    [(0, 1, 2), (3, 4)]
    """
    num_classes, n = own_numbers((num_classes, n))
    _check_number(n)
    most = num_classes // 2
    if n > 1 and most < 2:
        classes = "1 class" if num_classes == 1 else f"{num_classes} classes"
        raise ConfigError(
            f"partitions is {n}; the data has {classes}, and each partition needs at least two: "
            "divide by examples"
        )
    if n > num_classes:
        raise ConfigError(
            f"partitions is {n}; the data has {num_classes} classes, so at most {most}"
        )
    if n > 1 and n > most:
        raise ConfigError(
            f"partitions is {n}; with {num_classes} classes one would hold a single class, and a "
            f"head of one output cannot learn: take at most {most}, or divide by examples"
        )
    # The only partition holds everything and has the same digest as any other that does.
    if n == 1:
        return [WHOLE]
    if seed is None:
        order = list(range(num_classes))
    else:
        order = torch.randperm(num_classes, generator=seeds.generator(seed, "classes", n)).tolist()
    if drop_remainder:
        order = order[: num_classes // n * n]
    chunks = _chunks(order, n)
    parts = []
    for chunk in chunks:
        parts.append(Partition(tuple(sorted(chunk)), full_head=full_head, others=others))
    return parts


def by_examples(num_examples: int, n: int, seed: int) -> list[Partition]:
    """Divide the examples among n partitions at random; sizes differ by at most one.

    >>> sorted(sum((part.examples for part in by_examples(5, 2, seed=0)), ()))
    [0, 1, 2, 3, 4]
    """
    num_examples, n = own_numbers((num_examples, n))
    _check_number(n)
    if n > num_examples:
        raise ConfigError(f"partitions is {n}; the training split has {num_examples} examples")
    if n == 1:
        return [WHOLE]
    order = torch.randperm(num_examples, generator=seeds.generator(seed, "examples", n)).tolist()
    return [Partition(examples=tuple(sorted(part))) for part in _chunks(order, n)]


def by_seeds(n: int) -> list[Partition]:
    """Give all data to each of n models, each with its own order; the first keeps the replicate's.

    >>> [part.order for part in by_seeds(3)]
    [None, 1, 2]
    """
    _check_number(n)
    return [Partition(order=index or None) for index in range(n)]


def _check_number(n: int) -> None:
    if n < 1:
        raise ConfigError(f"partitions is {n}; it must be 1 or more")


def _chunks(order: list[int], n: int) -> list[list[int]]:
    """Divide a list into n parts whose sizes differ by at most one, the larger ones first."""
    size, larger = divmod(len(order), n)
    chunks, start = [], 0
    for index in range(n):
        end = start + size + (index < larger)
        chunks.append(order[start:end])
        start = end
    return chunks
