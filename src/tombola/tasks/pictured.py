"""Pictured: tasks on pictures of one size, each of which may show several classes.

    pictures, targets -> [ partition ] -> rows, targets as it sees them -> batches -> train

A picture belongs to every partition that has a class it shows. What becomes of the other classes in
it is a policy:

- ``ignore``: they are neither right nor wrong, and give no gradient;
- ``background``: they count as not there;
- ``exclude``: pictures with such a class are dropped.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tombola.data.batches import Augment, Order, augment
from tombola.data.partitions import Partition
from tombola.ground.errors import ConfigError
from tombola.ground.types import State
from tombola.masks import states
from tombola.masks.digests import digest_json, digest_state
from tombola.masks.weights import copied
from tombola.models.building import replace_head_
from tombola.tasks.base import Base, architecture, order_seed
from tombola.tasks.rows import RowBatches

CPU = torch.device("cpu")
IGNORE, BACKGROUND, EXCLUDE = POLICIES = ("ignore", "background", "exclude")


@dataclass(frozen=True, eq=False)
class PictureSplit:
    """The pictures of one split.

    Attributes:
        pictures: uint8 [n, 3, height, width].
        targets: What is to be learnt of each, [n, ...]; what it means is the task's affair.
        shows: bool [n, classes], which classes each picture shows.
        indices: int64 [n], positions among the published pictures.
    """

    pictures: Tensor
    targets: Tensor
    shows: Tensor
    indices: Tensor

    def __len__(self) -> int:
        return len(self.pictures)

    def take(self, rows: Tensor) -> PictureSplit:
        """Return the pictures at these positions, int64, in that order."""
        return PictureSplit(
            self.pictures[rows], self.targets[rows], self.shows[rows], self.indices[rows]
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Pictured(Base):
    """Learn from pictures that may show several classes.

    Attributes:
        model: Gives the architecture, and the initial state where no other is given; never trained
            itself.
        splits: "train", "valid" and "test".
        class_names: By their numbers.
        head: Dotted name of the output layer.
        fingerprint: Of the data.
        published: How many training pictures there were before some were chosen.
        leaks: Whether the validation split is the test split.
        augment: How training pictures are varied.
        init: How a drawn head is initialised, "xavier" or "default".
        device: Where models are trained and tested; batches are moved there.
        draw: Builds the model in another initial state, from a seed and ``anew``.
        described: What is to be said about the data besides, by name.
        verified: Whether the data's files were compared with published checksums.
    """

    model: nn.Module
    splits: Mapping[str, PictureSplit]
    class_names: tuple[str, ...]
    head: str
    fingerprint: str
    published: int
    leaks: bool = False
    augment: Augment = field(default_factory=Augment)
    init: str = "xavier"
    device: torch.device = CPU
    draw: Callable[..., nn.Module]
    described: Mapping[str, str] = field(default_factory=dict)
    verified: bool = True
    others = POLICIES
    # By split and partition, the positions of its pictures.
    _positions: dict[tuple[str, str], Tensor] = field(default_factory=dict, init=False, repr=False)

    # What each task has of its own.

    def seen(self, part: Partition, targets: Tensor) -> Tensor:
        """Return targets as a partition sees them: renumbered, those of other classes hidden."""
        raise NotImplementedError

    def outputs(self, part: Partition) -> int:
        """Count the outputs of a partition's model."""
        raise NotImplementedError

    def varied(
        self, images: Tensor, targets: Tensor, indices: Tensor, seed: int, epoch: int
    ) -> tuple[Tensor, Tensor]:
        """Return pictures and targets as they are augmented in one epoch."""
        return augment(images, indices, self.augment, seed, epoch, self.published), targets

    # What they share.

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @functools.cached_property
    def digest(self) -> str:
        """Digest of all that a training depends on: architecture, head, data, augmentation."""
        indices = digest_state({which: self.splits[which].indices for which in ("train", "valid")})
        entries = {
            "head": [self.head, self.init],
            "data": [self.fingerprint, indices, self.leaks, list(self.size_of_pictures)],
            "augment": [self.augment.crop, self.augment.flip, self.augment.rotate],
            "device": self.device.type,
        }
        return digest_json(entries | architecture(self.model))

    @property
    def size_of_pictures(self) -> torch.Size:
        """Channels, height and width."""
        return self.splits["train"].pictures.shape[1:]

    @functools.cached_property
    def scale(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel of the training pictures, on the device."""
        pictures = self.splits["train"].pictures
        count = pictures.numel() / 3
        sums = torch.zeros(3, dtype=torch.float64)
        squares = torch.zeros(3, dtype=torch.float64)
        # In pieces, as a copy in float64 would take eight times their memory.
        for piece in torch.split(pictures, 64):
            values = piece.double()
            sums += values.sum((0, 2, 3))
            squares += values.square().sum((0, 2, 3))
        mean = sums / count
        std = (squares / count - mean.square()).clamp(min=0).sqrt()
        std = torch.where(std > 0, std, 1.0)
        shape = (1, 3, 1, 1)
        return mean.float().view(shape).to(self.device), std.float().view(shape).to(self.device)

    def model_of(self, seed: int, *, anew: bool = False) -> nn.Module:
        """Build the model in the initial state of a replicate's seed."""
        return self.draw(seed, anew=anew)

    def build(self, start: State, part: Partition, seed: int) -> nn.Module:
        """Make a fresh model in the start state.

        For class partitions it has a drawn head of their size, which depends on the replicate's
        seed and the classes alone.
        """
        model = copied(self.model)
        states.load_(model, start)
        if part.own_head:
            replace_head_(model, self.head, self.outputs(part), seed, part.classes, init=self.init)
        return model.to(self.device)

    def membership(self, which: str) -> Tensor:
        """Say which classes each picture of a split shows, bool [pictures, classes]."""
        return self.splits[which].shows

    def rows(self, part: Partition, which: str) -> Tensor:
        """Return the positions of a partition's pictures in a split, int64.

        Examples are divided in the training split only.
        """
        key = which, part.digest
        if key not in self._positions:
            taken = torch.ones(len(self.splits[which]), dtype=torch.bool)
            if part.examples is not None and which == "train":
                taken = torch.zeros_like(taken)
                taken[list(part.examples)] = True
            if part.classes is not None:
                own, foreign = self._shown(part, which)
                taken &= own
                if self.policy(part) == EXCLUDE:
                    taken &= ~foreign
            self._positions[key] = taken.nonzero().flatten()
        return self._positions[key]

    def _shown(self, part: Partition, which: str) -> tuple[Tensor, Tensor]:
        """Say which pictures show a class of a partition, and which one of other partitions."""
        is_own = torch.zeros(self.classes, dtype=torch.bool)
        is_own[list(part.classes or ())] = True
        shows = self.splits[which].shows
        return (shows & is_own).any(1), (shows & ~is_own).any(1)

    def policy(self, part: Partition) -> str:
        """Return what a partition does about other classes in its pictures."""
        return part.others or self.others[0]

    def size(self, part: Partition, which: str) -> int:
        """Count the pictures of a split of a partition."""
        return len(self.rows(part, which))

    def shares(self, part: Partition) -> Mapping[str, int] | None:
        """Count what the policy does to the pictures of a partition of classes."""
        if part.classes is None:
            return None
        own, foreign = self._shown(part, "train")
        taken = self.size(part, "train")
        return {
            "pictures": taken,
            "shared_pictures": int((own & foreign).sum()),
            "lost_pictures": int(own.sum()) - taken,
        }

    def _check_part(self, part: Partition, name: str) -> None:
        super()._check_part(part, name)
        if part.others is not None and part.others not in self.others:
            raise ConfigError(f"others is {part.others}; it is one of {', '.join(self.others)}")
        if part.classes is not None and not self.size(part, "train"):
            named = ", ".join(self.class_names[number] for number in part.classes)
            raise ConfigError(f"{name} has no picture to train on; its classes are {named}")

    def batches(self, part: Partition, batch_size: int, seed: int) -> RowBatches:
        """Return the training batches of a partition, epoch by epoch."""
        rows = self.rows(part, "train")

        def make(epoch: int, positions: Tensor) -> Any:
            return self.batch(part, "train", rows[positions], seed, epoch)

        order = Order(len(rows), batch_size=batch_size, seed=order_seed(seed, part))
        return RowBatches(order, make)

    def batch(
        self,
        part: Partition,
        which: str,
        rows: Tensor,
        seed: int | None = None,
        epoch: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """Return pictures and targets as a partition's model takes them, on the device.

        Args:
            part: The partition.
            which: The split.
            rows: int64, positions in it.
            seed: Of the augmentation; ``None``: as they are.
            epoch: From 0.
        """
        split = self.splits[which]
        images, targets = split.pictures[rows], split.targets[rows]
        if seed is not None:
            images, targets = self.varied(images, targets, split.indices[rows], seed, epoch)
        mean, std = self.scale
        inputs = torch.sub(images.to(self.device), mean).div_(std)
        return inputs, self.seen(part, targets).to(self.device)

    def probe(self, examples: int, seed: int) -> Tensor:
        """Draw pictures of noise."""
        generator = torch.Generator().manual_seed(seed)
        shape = (examples, *self.size_of_pictures)
        return torch.randn(shape, generator=generator).to(self.device)

    @property
    def bytes(self) -> int:
        """What the pictures take in the memory of each process."""
        splits = self.splits.values()
        return sum(split.pictures.nbytes + split.targets.nbytes for split in splits)

    @property
    def facts(self) -> Mapping[str, str]:
        """How many pictures show several classes, and what else there is to say."""
        shown = self.splits["train"].shows.sum(1)
        several, none = int((shown > 1).sum()), int((shown == 0).sum())
        text = f"{several:,} of {len(shown):,} training pictures show several, {none:,} none"
        return {"classes": text, **self.described}

    @property
    def notices(self) -> Sequence[str]:
        """A notice on checksums that were not verified."""
        if self.verified:
            return ()
        return ("the checksums of the data's files were not verified (data.verify: false)",)

    @property
    def origin(self) -> Mapping[str, Mapping[str, Any]]:
        """The size of the pictures, by what they are normalised, and the classes of the outputs."""
        mean, std = (values.flatten().tolist() for values in self.scale)
        inputs = {
            "shape": list(self.size_of_pictures),
            "dtype": "uint8",
            "mean": mean,
            "std": std,
            "classes": list(self.class_names),
        }
        return {"data": {"verified": self.verified}, "inputs": inputs}
