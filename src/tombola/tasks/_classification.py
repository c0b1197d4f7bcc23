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
from tombola.tasks.base import FromSplits, architecture, order_seed
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

    >>> data, model = Data("synthetic"), Model("lenet_300_100")
    >>> task = classification(data, model, seed=0, device="cpu", root=None)
    >>> task.size(WHOLE, "train"), task.head
    (900, 'head')
    """
    options = options_of(data)
    dataset = load(data.name, root=root, options=options)
    # A data set that took the number of classes as an option has no more of them to choose from.
    classes = None if "classes" in options else data.classes
    splits = split(dataset, valid=data.valid, subset=data.subset, classes=classes, seed=seed)
    draw = functools.partial(build_model, model, splits)
    first = draw(seeds.derive(seed, "replicate", 0))
    check_crop(data.augment, splits.image_shape)
    head = _head(model, first, splits.num_classes)
    return Classification(
        first, splits, head, data.augment, model.init, devices.device(device), draw
    )


def options_of(data: Data) -> dict[str, Any]:
    """Return the options of a data set, with its number of classes where that is one of them."""
    if data.classes is not None and takes(data.name, "classes"):
        return data.options | {"classes": data.classes}
    return data.options


def build_model(model: Model, splits: Splits, seed: int, *, anew: bool = False) -> nn.Module:
    """Build a model for the data, drawn at a seed or with the weights of its checkpoint.

    Args:
        model: Which one.
        splits: Give the classes and the shape of the images.
        seed: Where the initial state is drawn.
        anew: Draw it whatever weights the model starts from.
    """
    # Built with drawn weights even where a checkpoint follows: its head may be for other classes.
    built = build(
        model.name,
        splits.num_classes,
        splits.image_shape,
        options=model.options,
        init=model.init,
        head=model.head,
        seed=seed,
    )
    if model.weights is not None and not anew:
        load_weights_(built, model.weights, _head(model, built, splits.num_classes))
    return built


def _head(model: Model, built: nn.Module, classes: int) -> str:
    """Name the output layer of a model."""
    outputs = classes if model.name.startswith(TORCHVISION) else None
    return head_name(built, model.head, outputs=outputs)


@dataclass(frozen=True, eq=False)
class Classification(FromSplits):
    """Classify images with one model.

    Attributes:
        model: Gives the architecture, and the initial state where no other is given; never trained
            itself. A wrapper around it (data parallel, ``torch.compile``, Fabric) is ignored;
            ``Training(compile=True)`` compiles.
        splits: Training, validation and test examples.
        head: Dotted name of the output layer; ``None`` takes the model's attribute ``head``.
        augment: Augmentation of training images.
        init: How a drawn head is initialised, "xavier" or "default".
        device: Where models are trained and tested. The images are moved there once; those that its
            memory cannot hold stay where they are and are moved batch by batch.
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
    # By split, the images as trainings read them: on the device, where its memory holds them.
    _resident: dict[str, Tensor | Pictures] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        # A wrapper, such as data parallel, changes no result, and copies of the model are trained.
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
        """Digest of all that a training depends on: architecture, head, data, augmentation."""
        splits = self.splits
        indices = digest_state({"train": splits.train.indices, "valid": splits.valid.indices})
        entries = {
            "head": [self.head, self.init],
            "data": [splits.fingerprint, indices, splits.mean.tolist(), splits.std.tolist()],
            "augment": [self.augment.crop, self.augment.flip, self.augment.rotate],
            "device": self.device.type,
        }
        return digest_json(entries | architecture(self.model))

    def build(self, start: State, partition: Partition, seed: int) -> nn.Module:
        """Make a fresh model in the start state.

        For class partitions it has a drawn head of their size, which depends on the replicate's
        seed and the classes alone: it is the same in every arm and round.
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
        """Count the classes that a partition's model distinguishes."""
        return len(partition.classes or ()) if partition.own_head else self.splits.num_classes

    def probe(self, examples: int, seed: int) -> Tensor:
        """Draw images of noise."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(examples, *self.splits.image_shape, generator=generator).to(self.device)

    def flops(self, partition: Partition) -> dict[str, Flops]:
        """Count the FLOPs of a partition's model for one example, layer by layer."""
        model = self.build(self.initial_state(), partition, seed=0)
        return per_example(model, torch.zeros(2, *self.splits.image_shape, device=self.device))

    @functools.cached_property
    def uncounted(self) -> list[str]:
        """The operations of the model that `flops` cannot count."""
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
        """Return the "train", "valid" or "test" examples of a partition.

        Labels are renumbered where it has classes. Examples are divided in the training split only:
        a partition of examples is validated on the full validation split.
        """
        split: Split = getattr(self.splits, which)
        if partition.examples is not None and which == "train":
            split = split.take(torch.tensor(partition.examples))
        if partition.classes is None:
            return split
        # The partition's own number of each class, -1 for classes that it lacks.
        number = torch.full((self.splits.num_classes,), -1)
        number[list(partition.classes)] = torch.arange(len(partition.classes))
        taken = split.take(torch.nonzero(number[split.labels] >= 0).flatten())
        return replace(taken, labels=number[taken.labels]) if partition.own_head else taken

    def resident(self, partition: Partition, which: str) -> Split:
        """Return a split of a partition on the task's device, as trainings and tests read it."""
        split = self.split(partition, which)
        if split.labels.device == self.device:
            return split
        if which not in self._resident:
            self._resident[which] = self._moved(split.source)
        return split.on(self.device, self._resident[which])

    def _moved(self, images: Tensor | Pictures) -> Tensor | Pictures:
        # Training and validation examples share their images, which are moved once.
        for name, resident in self._resident.items():
            if getattr(self.splits, name).source is images:
                return resident
        if isinstance(images, Tensor) and self._fits(images):
            return images.to(self.device)
        return images

    def _fits(self, images: Tensor | Pictures) -> bool:
        # A quarter is left to the models: their weights, gradients and activations.
        return images.nbytes <= 0.75 * devices.free_memory(self.device)

    @property
    def notices(self) -> Sequence[str]:
        """Notices on images that are streamed, files left out, and checksums not verified."""
        unverified = "" if self.splits.verified else UNVERIFIED
        return [text for text in (self.streams, self.skips, unverified) if text]

    @property
    def facts(self) -> Mapping[str, str]:
        """What is left out of the data set: unreadable files, classes that were not taken."""
        facts = {}
        if self.skips:
            facts["left out"] = self.skips
        numbers = self.splits.classes
        if numbers is not None:
            drawn = ", ".join(map(str, numbers))
            facts["classes"] = f"{len(numbers)} of the data set's, drawn by the seed: {drawn}"
        return facts

    @property
    def origin(self) -> Mapping[str, Mapping[str, Any]]:
        """The inputs and outputs of a model, and which of the classes were taken."""
        splits = self.splits
        data: dict[str, Any] = {"verified": splits.verified}
        if splits.classes is not None:
            data["class_numbers"] = splits.classes
        return {"data": data, "inputs": inputs(splits)}

    @property
    def bytes(self) -> int:
        """What the images take in the memory of each process; 0 where they are streamed."""
        return 0 if self.splits.streamed else self._size_of_images

    @property
    def _size_of_images(self) -> int:
        return self.splits.train.source.nbytes + self.splits.test.source.nbytes

    @property
    def streams(self) -> str:
        """Say why images are read or moved batch by batch; empty where they are held."""
        size = f"{self._size_of_images / 2**30:.1f} GiB of images"
        if self.splits.streamed:
            return (
                f"{size} are too much for the memory that is free; they are read from the disk as "
                "they are needed"
            )
        if self.device.type != "cpu" and not self._fits(self.splits.train.source):
            return (
                f"{size} are too much for the GPU's free memory; they are brought to it batch by "
                "batch"
            )
        return ""

    @property
    def skips(self) -> str:
        """Say how many files of the data set were left out; empty if none was."""
        number = self.splits.skipped
        if not number:
            return ""
        if number == 1:
            return "1 file cannot be read and is left out (data.unreadable: skip)"
        return f"{number:,} files cannot be read and are left out (data.unreadable: skip)"

    def batches(self, partition: Partition, batch_size: int, seed: int) -> Batches:
        """Return the training batches of a partition, epoch by epoch."""
        splits = self.splits
        return Batches(
            self.resident(partition, "train"),
            batch_size=batch_size,
            seed=seed,
            mean=splits.mean,
            std=splits.std,
            published=splits.published,
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
