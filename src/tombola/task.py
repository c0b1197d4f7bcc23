"""Task: what a problem is; here classification of images.

A task holds the model and the data of an experiment and knows the loss, the splits of a partition, and how a model gets
a head for its classes. The training loop never looks inside a batch, so another task is another class like this one.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tombola import devices, names, states
from tombola.batches import Augment, Batches, batches_per_epoch
from tombola.data.pictures import Pictures
from tombola.digests import digest_json, digest_state
from tombola.errors import ConfigError
from tombola.evaluation import Metrics, evaluate_split, logits_of
from tombola.flops import Flops, per_example, uncounted
from tombola.kernels.recording import recordable
from tombola.models.building import check_shapes, head_name, replace_head_
from tombola.partitions import WHOLE, Partition
from tombola.seeds import derive
from tombola.splits import Split, Splits
from tombola.types import State
from tombola.weights import copied

CPU = torch.device("cpu")
UNVERIFIED = "the checksums of the data's files were not verified (data.verify: false)"


@dataclass(frozen=True, eq=False)
class Classification:
    """Classify images with one model.

    Attributes:
        model: Gives the architecture, and the initial state where no other is given; never trained itself. A wrapper
            around it (data parallel, ``torch.compile``, Fabric) is left aside; ``Training(compile=True)`` compiles.
        splits: Training, validation and test examples.
        head: Dotted name of the output layer; ``None`` takes the model's attribute ``head``.
        augment: What is done to training images.
        init: How a drawn head is initialised, "xavier" or "default".
        device: Where models are trained and tested. The images go there once; those that its memory cannot hold stay
            where they are and are brought batch by batch.

    >>> from tombola.data import synthetic
    >>> from tombola.splits import split
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    >>> task = Classification(model, split(synthetic()), head="1")
    >>> sorted(set(task.split(Partition(classes=(2, 5)), "train").labels.tolist()))
    [0, 1]
    """

    model: nn.Module
    splits: Splits
    head: str | None = None
    augment: Augment = field(default_factory=Augment)
    init: str = "xavier"
    device: torch.device = CPU
    _there: dict[str, Tensor | Pictures] = field(
        default_factory=dict, init=False, repr=False
    )  # images that are on the device

    def __post_init__(self) -> None:
        # What is put around a model, such as data parallel, changes no result, and copies of it are trained here.
        object.__setattr__(self, "model", names.unwrapped(self.model))
        check_shapes(self.model)
        object.__setattr__(self, "head", head_name(self.model, self.head))

    @functools.cached_property
    def digest(self) -> str:
        """Digest of all that decides what a training on this task does: architecture, head, data, augmentation."""
        s = self.splits
        indices = {"train": s.train.indices, "valid": s.valid.indices}
        return digest_json(
            {
                "model": repr(self.model),
                "shapes": {name: list(value.shape) for name, value in states.state_of(self.model).items()},
                "head": [self.head, self.init],
                "data": [s.fingerprint, digest_state(indices), s.mean.tolist(), s.std.tolist()],
                "augment": [self.augment.crop, self.augment.flip, self.augment.rotate],
                "device": self.device.type,
            }
            | _not_seen(self.model)
        )

    def initial_state(self) -> dict[str, Tensor]:
        """Copy the model's own state: the rewind point of a search that rewinds to the very start."""
        return states.copied(states.state_of(self.model))

    def build(self, start: State, partition: Partition, seed: int) -> nn.Module:
        """Make a fresh model in the start state; for class partitions with a drawn head of their size.

        The head depends on the replicate's seed and the classes alone, so it is the same in every arm and round.
        """
        model = copied(self.model)
        states.load_(model, start)
        if partition.own_head:
            assert self.head is not None
            assert partition.classes is not None
            replace_head_(model, self.head, len(partition.classes), seed, partition.classes, init=self.init)
        return model.to(self.device)

    def outputs(self, partition: Partition) -> int:
        """Count the classes that a model of a partition tells apart."""
        return len(partition.classes or ()) if partition.own_head else self.splits.num_classes

    def flops(self, partition: Partition) -> dict[str, Flops]:
        """Count what an example costs a model of a partition, layer by layer."""
        model = self.build(self.initial_state(), partition, seed=0)
        return per_example(model, torch.zeros(2, *self.splits.image_shape, device=self.device))

    @functools.cached_property
    def uncounted(self) -> list[str]:
        """Name the operations of the model that `flops` cannot count; once, and before anything is trained."""
        model = self.build(self.initial_state(), WHOLE, seed=0)
        return uncounted(model, torch.zeros(2, *self.splits.image_shape, device=self.device))

    def split(self, partition: Partition, which: str) -> Split:
        """Return the "train", "valid" or "test" examples of a partition, labels renumbered where it has classes.

        Examples are divided in the training split only: such a partition is validated on the whole validation split.
        """
        split: Split = getattr(self.splits, which)
        if partition.examples is not None and which == "train":
            split = split.take(torch.tensor(partition.examples))
        if partition.classes is None:
            return split
        number = torch.full((self.splits.num_classes,), -1)
        number[list(partition.classes)] = torch.arange(len(partition.classes))
        own = split.take(torch.nonzero(number[split.labels] >= 0).flatten())
        return replace(own, labels=number[own.labels]) if partition.own_head else own

    def resident(self, partition: Partition, which: str) -> Split:
        """Return a split of a partition on the task's device, as trainings and tests read it."""
        split = self.split(partition, which)
        if split.labels.device == self.device:
            return split
        if which not in self._there:
            same = next((at for at in self._there if getattr(self.splits, at).source is split.source), None)
            self._there[which] = self._there[same] if same else self._moved(split.source)
        return split.on(self.device, self._there[which])

    def _moved(self, images: Tensor | Pictures) -> Tensor | Pictures:
        return images.to(self.device) if isinstance(images, Tensor) and self._fits(images) else images

    def _fits(self, images: Tensor | Pictures) -> bool:
        # A quarter is left to the models: their weights, gradients and what their layers give.
        return images.nbytes <= 0.75 * devices.free_memory(self.device)

    @property
    def streams(self) -> str:
        """Say why images are brought piece by piece while they are used; nothing where they are held."""
        size = f"{sum(s.source.nbytes for s in (self.splits.train, self.splits.test)) / 2**30:.1f} GiB of images"
        if self.splits.streamed:
            return f"{size} are too much for the memory that is free; they are read from the disk as they are needed"
        if self.device.type != "cpu" and not self._fits(self.splits.train.source):
            return f"{size} are too much for the GPU's free memory; they are brought to it batch by batch"
        return ""

    @property
    def skips(self) -> str:
        """Say how many files of the data set were left out; nothing where there is none."""
        number = self.splits.skipped
        files = f"{number:,} files cannot" if number > 1 else "1 file cannot"
        return f"{files} be read and {'are' if number > 1 else 'is'} left out (data.unreadable: skip)" if number else ""

    @property
    def unverified(self) -> str:
        """Say that the data's files may be others than the published ones; nothing where they were compared."""
        return "" if self.splits.verified else UNVERIFIED

    def batches(self, partition: Partition, batch_size: int, seed: int) -> Batches:
        """Give the training batches of a partition, epoch by epoch."""
        s = self.splits
        return Batches(
            self.resident(partition, "train"),
            batch_size=batch_size,
            seed=seed,
            mean=s.mean,
            std=s.std,
            published=s.published,
            augment=self.augment,
            order_seed=seed if partition.order is None else order_seed(seed, partition.order),
        )

    def steps_per_epoch(self, batch_size: int, partition: Partition = WHOLE) -> int:
        """Count the batches of one epoch of a partition; of the full training split if none is given."""
        return batches_per_epoch(len(self.split(partition, "train")), batch_size)

    @recordable
    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Cross-entropy of a batch, a scalar.

        It reads nothing of the task, so a step of it may be recorded; one that overrides it is called in every step.
        """
        inputs, labels = batch
        return cross_entropy(logits_of(model, inputs, labels), labels)

    def measure(self, model: nn.Module, partition: Partition, which: str) -> Metrics:
        """Measure a model on the split of a partition."""
        return evaluate_split(model, self.resident(partition, which), self.splits.mean, self.splits.std)

    def check(self, partitions: Sequence[Partition], *, covering: bool = True, whole: Partition = WHOLE) -> None:
        """Refuse partitions that do not divide the data: each class, or each training example, belongs to exactly one.

        Partitions that hold all data (``whole``, ``by_seeds``) are good in any number.

        Args:
            partitions: What is to divide the training split.
            covering: ``False``: classes or examples may be missing; none may be held twice.
            whole: What there is of the training split, see `partitions.skewed`.

        Raises:
            ConfigError: There is no partition; one is empty, has a single class, or holds what the data has not; some
                divide otherwise than others; classes or examples are missing or held twice.
        """
        if not partitions:
            raise ConfigError("there are no partitions; WHOLE is the one that holds all data")
        for number, part in enumerate(partitions, 1):
            self._check_part(part, f"partition {number}")
        kinds = {(p.classes is not None, p.examples != whole.examples) for p in partitions}
        if len(kinds) > 1:
            raise ConfigError("some partitions hold classes, examples or all data and others do not; all divide alike")
        ((has_classes, has_examples),) = kinds
        held = sorted(c for p in partitions for c in p.classes or ())
        if has_classes and not _divides(held, range(self.splits.num_classes), covering):
            raise ConfigError(f"the partitions hold the classes {held}; each of the {self.splits.num_classes} "
                              "classes belongs to exactly one")  # fmt: skip
        positions = sorted(e for p in partitions for e in p.examples or ())
        there = range(len(self.splits.train)) if whole.examples is None else whole.examples
        if has_examples and not _divides(positions, there, covering):
            raise ConfigError("each training example belongs to exactly one partition; some are missing or doubled")

    def _check_part(self, part: Partition, name: str) -> None:
        there = (("class", part.classes, self.splits.num_classes), ("example", part.examples, len(self.splits.train)))
        for what, held, number in there:
            if held is None:
                continue
            if not held:
                raise ConfigError(f"{name} holds no {what}")
            outside = [one for one in held if not 0 <= one < number]
            if outside:
                raise ConfigError(f"{name} holds {what} {outside[0]}; the training split has {what} 0 to {number - 1}")
        if part.classes is not None and len(part.classes) == 1:
            raise ConfigError(f"{name} holds the single class {part.classes[0]}, and a head of one output cannot learn")


def _not_seen(model: nn.Module) -> dict[str, Any]:
    """Say what decides how a model trains and is not seen when it is printed; nothing of most models."""
    frozen = [name for name, parameter in names.parameters(model).items() if not parameter.requires_grad]
    still = [name for name, module in names.modules(model).items() if model.training and not module.training]
    first: dict[int, str] = {}
    named = names.parameters(model, shared=True)
    ties = [[first[id(p)], name] for name, p in named.items() if first.setdefault(id(p), name) != name]
    found = {"frozen": frozen, "in evaluation mode": still, "shared": ties}
    return {what: there for what, there in found.items() if there}


def _divides(held: Sequence[int], there: Sequence[int], covering: bool) -> bool:
    return list(held) == list(there) if covering else len(set(held)) == len(held)


def order_seed(seed: int, order: int) -> int:
    """Return the seed of a data order that is not the replicate's own."""
    return derive(seed, "own order", order)
