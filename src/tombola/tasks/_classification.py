"""Classification of images: one class an example, cross-entropy, accuracy.

The recipe's data set and model are entries of ``tombola.data`` and ``tombola.models``, or the
user's own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tombola.data.batches import Augment, Batches, check_crop
from tombola.data.loading import load, takes
from tombola.data.partitions import WHOLE, Partition
from tombola.data.pictures import Pictures
from tombola.data.splits import Split, Splits, inputs, split
from tombola.ground import devices, seeds
from tombola.ground.catalogue import TORCHVISION
from tombola.ground.metrics import CLASSIFIED, Metric
from tombola.ground.types import State
from tombola.kernels.recording import recordable
from tombola.masks import names, states
from tombola.masks.digests import digest_json, digest_state
from tombola.masks.weights import copied
from tombola.models.building import (
    build,
    check_head,
    check_shapes,
    head_name,
    load_weights_,
    replace_head_,
)
from tombola.models.flops import Flops, per_example, uncounted
from tombola.tasks.base import Base, architecture, order_seed
from tombola.tasks.evaluation import evaluate_split, logits_of
from tombola.tasks.protocol import Metrics
from tombola.tasks.settings import Data, Model

CPU = torch.device("cpu")
UNVERIFIED = "the checksums of the data's files were not verified (data.verify: false)"


def classification(
    data: Data, model: Model, *, seed: int, device: str, root: Path | None
) -> Classification:
    """Classify images, one class each; measured by accuracy.

    Args:
        data: Which data set, and how it is split.
        model: Which model; its initial state is that of replicate 0.
        seed: The recipe's.
        device: Its name, as in a recipe.
        root: Root of the data sets.

    Raises:
        InputError: The data or the model cannot be had, or they do not fit each other.

    >>> task = classification(Data("synthetic"), Model("lenet_300_100"), seed=0, device="cpu", root=None)
    >>> task.size(WHOLE, "train"), task.head
    (900, 'head')
    """
    # A data set that is made, such as the synthetic one, is made of so many classes; of others so
    # many are taken.
    made_so = data.classes is not None and takes(data.name, "classes")
    dataset = load(data.name, root=root, options=options_of(data))
    classes = None if made_so else data.classes
    splits = split(dataset, valid=data.valid, subset=data.subset, classes=classes, seed=seed)
    draw = functools.partial(build_model, model, splits)
    made = draw(seeds.derive(seed, "replicate", 0))
    check_crop(data.augment, splits.image_shape)
    head = _head(model, made, splits.num_classes)
    return Classification(
        made, splits, head, data.augment, model.init, devices.device(device), draw
    )


def options_of(data: Data) -> dict[str, Any]:
    """Return the options of a data set, among them its number of classes where it is made of so
    many.
    """
    made_so = data.classes is not None and takes(data.name, "classes")
    return data.options | ({"classes": data.classes} if made_so else {})


def build_model(model: Model, splits: Splits, seed: int, *, anew: bool = False) -> nn.Module:
    """Build a model for the data, drawn at a seed or with the weights of its checkpoint.

    Args:
        model: Which one.
        splits: Give the classes and the shape of the images.
        seed: Where the initial state is drawn.
        anew: Draw it whatever weights the model starts from.
    """
    m = model
    made = build(
        m.name,
        splits.num_classes,
        splits.image_shape,
        options=m.options,
        init=m.init,
        head=m.head,
        seed=seed,
    )
    if m.weights is not None and not anew:
        load_weights_(made, m.weights, _head(m, made, splits.num_classes))
    return made


def _head(model: Model, made: nn.Module, classes: int) -> str:
    """Name the output layer of a model."""
    return head_name(
        made, model.head, outputs=classes if model.name.startswith(TORCHVISION) else None
    )


@dataclass(frozen=True, eq=False)
class Classification(Base):
    """Classify images with one model.

    Attributes:
        model: Gives the architecture, and the initial state where no other is given; never trained
            itself. A wrapper around it (data parallel, ``torch.compile``, Fabric) is left aside;
            ``Training(compile=True)`` compiles.
        splits: Training, validation and test examples.
        head: Dotted name of the output layer; ``None`` takes the model's attribute ``head``.
        augment: What is done to training images.
        init: How a drawn head is initialised, "xavier" or "default".
        device: Where models are trained and tested. The images go there once; those that its memory
            cannot hold stay where they are and are brought batch by batch.
        draw: Builds the model in another initial state, from a seed and ``anew``, see
            `build_model`; a task that is only trained from given states needs none.

    >>> from tombola.data import synthetic
    >>> from tombola.data.splits import split
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
    draw: Callable[..., nn.Module] | None = None
    _there: dict[str, Tensor | Pictures] = field(
        default_factory=dict, init=False, repr=False
    )  # images that are on the device

    def __post_init__(self) -> None:
        # What is put around a model, such as data parallel, changes no result, and copies of it are
        # trained here.
        object.__setattr__(self, "model", names.unwrapped(self.model))
        check_shapes(self.model)
        head = head_name(self.model, self.head)
        check_head(self.model, head, self.splits.num_classes)
        object.__setattr__(self, "head", head)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy: the fraction of examples that are right."""
        return CLASSIFIED

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return self.splits.num_classes

    @functools.cached_property
    def digest(self) -> str:
        """Digest of all that decides what a training on this task does: architecture, head,
        data, augmentation.
        """
        s = self.splits
        indices = {"train": s.train.indices, "valid": s.valid.indices}
        return digest_json(
            {
                "head": [self.head, self.init],
                "data": [s.fingerprint, digest_state(indices), s.mean.tolist(), s.std.tolist()],
                "augment": [self.augment.crop, self.augment.flip, self.augment.rotate],
                "device": self.device.type,
            }
            | architecture(self.model)
        )

    @property
    def fingerprint(self) -> str:
        """Of the data set."""
        return self.splits.fingerprint

    @property
    def leaks(self) -> bool:
        """Whether what is validated on is the test split."""
        return self.splits.leaks

    def model_of(self, seed: int, *, anew: bool = False) -> nn.Module:
        """Build the model in the initial state of a replicate's seed; ``anew``: whatever
        weights it starts from.
        """
        if self.draw is None:
            raise ValueError(
                "this task was made of one model and cannot draw another: give it draw"
            )
        return self.draw(seed, anew=anew)

    def build(self, start: State, partition: Partition, seed: int) -> nn.Module:
        """Make a fresh model in the start state; for class partitions with a drawn head of their
        size.

        The head depends on the replicate's seed and the classes alone, so it is the same in every
        arm and round.
        """
        model = copied(self.model)
        states.load_(model, start)
        if partition.own_head:
            assert self.head is not None
            assert partition.classes is not None
            replace_head_(
                model, self.head, len(partition.classes), seed, partition.classes, init=self.init
            )
        return model.to(self.device)

    def outputs(self, partition: Partition) -> int:
        """Count the classes that a model of a partition tells apart."""
        return len(partition.classes or ()) if partition.own_head else self.splits.num_classes

    def probe(self, examples: int, seed: int) -> Tensor:
        """Draw pictures of noise."""
        drawn = torch.Generator().manual_seed(seed)
        return torch.randn(examples, *self.splits.image_shape, generator=drawn).to(self.device)

    def flops(self, partition: Partition) -> dict[str, Flops]:
        """Count what an example costs a model of a partition, layer by layer."""
        model = self.build(self.initial_state(), partition, seed=0)
        return per_example(model, torch.zeros(2, *self.splits.image_shape, device=self.device))

    @functools.cached_property
    def uncounted(self) -> list[str]:
        """Name the operations of the model that `flops` cannot count; once, and before anything
        is trained.
        """
        model = self.build(self.initial_state(), WHOLE, seed=0)
        return uncounted(model, torch.zeros(2, *self.splits.image_shape, device=self.device))

    def size(self, partition: Partition, which: str) -> int:
        """Count the examples of a split of a partition."""
        return len(self.split(partition, which))

    def labels(self, which: str) -> Tensor:
        """Return the class of each example of a split."""
        split: Split = getattr(self.splits, which)
        return split.labels

    def split(self, partition: Partition, which: str) -> Split:
        """Return the "train", "valid" or "test" examples of a partition, labels renumbered where it
        has classes.

        Examples are divided in the training split only: such a partition is validated on the whole
        validation split.
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
            same = next(
                (at for at in self._there if getattr(self.splits, at).source is split.source), None
            )
            self._there[which] = self._there[same] if same else self._moved(split.source)
        return split.on(self.device, self._there[which])

    def _moved(self, images: Tensor | Pictures) -> Tensor | Pictures:
        return (
            images.to(self.device) if isinstance(images, Tensor) and self._fits(images) else images
        )

    def _fits(self, images: Tensor | Pictures) -> bool:
        # A quarter is left to the models: their weights, gradients and what their layers give.
        return images.nbytes <= 0.75 * devices.free_memory(self.device)

    @property
    def notices(self) -> Sequence[str]:
        """What somebody who runs the task must know: how images are brought, files left out,
        and not verified.
        """
        unverified = "" if self.splits.verified else UNVERIFIED
        return [text for text in (self.streams, self.skips, unverified) if text]

    @property
    def facts(self) -> Mapping[str, str]:
        """What of the data set no training sees: files that cannot be read, classes that were
        not taken.
        """
        said, numbers = {"left out": self.skips} if self.skips else {}, self.splits.classes
        if numbers is not None:
            drawn = ", ".join(map(str, numbers))
            said["classes"] = f"{len(numbers)} of the data set's, drawn by the seed: {drawn}"
        return said

    @property
    def origin(self) -> Mapping[str, Mapping[str, Any]]:
        """What a model is given, what its outputs stand for, and which of the classes were
        taken.
        """
        splits = self.splits
        data: dict[str, Any] = {"verified": splits.verified}
        if splits.classes is not None:
            data["class_numbers"] = splits.classes
        return {"data": data, "inputs": inputs(splits)}

    @property
    def bytes(self) -> int:
        """What the images take in the memory of each process; 0 where they are read while they
        are used.
        """
        splits = self.splits
        return (
            0
            if splits.streamed
            else sum(split.source.nbytes for split in (splits.train, splits.test))
        )

    @property
    def streams(self) -> str:
        """Say why images are brought piece by piece while they are used; nothing where they are
        held.
        """
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
        return (
            f"{files} be read and {'are' if number > 1 else 'is'} left out (data.unreadable: skip)"
            if number
            else ""
        )

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
            order_seed=order_seed(seed, partition),
        )

    @recordable
    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Cross-entropy of a batch, a scalar.

        It reads nothing of the task, so a step of it may be recorded; one that overrides it is
        called in every step.
        """
        inputs, labels = batch
        return cross_entropy(logits_of(model, inputs, labels), labels)

    def measure(self, model: nn.Module, partition: Partition, which: str) -> Metrics:
        """Measure a model on the split of a partition."""
        return evaluate_split(
            model, self.resident(partition, which), self.splits.mean, self.splits.std
        )
