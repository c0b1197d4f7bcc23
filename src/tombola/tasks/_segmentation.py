"""Segmentation: the class of every pixel, measured by mean intersection over union.

The data are pictures with maps, such as ``voc_segmentation``. Pixels of the background are a class
of their own, which every partition learns.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tombola.data.batches import augment, check_crop
from tombola.data.loading import load
from tombola.data.maps import UNMARKED, MapData, classes_in
from tombola.data.partitions import Partition
from tombola.ground import devices, seeds
from tombola.ground.errors import ConfigError, InputError, shown
from tombola.ground.metrics import Metric
from tombola.kernels.recording import recordable
from tombola.models.building import build_for, head_name
from tombola.models.running import in_evaluation_mode
from tombola.tasks.dividing import divide, loading, refuse
from tombola.tasks.pictured import IGNORE, Pictured, PictureSplit
from tombola.tasks.protocol import Metrics
from tombola.tasks.settings import Data, Model

MIOU = Metric("miou", title="mIoU")
_MEASURED = 16  # pictures that are measured together


def segmentation(
    data: Data, model: Model, *, seed: int, device: str, root: Path | None
) -> Segmentation:
    """Classify every pixel; those that belong to nothing (255) are neither right nor wrong.

    Args:
        data: An entry for this task, such as ``voc_segmentation``.
        model: An entry for this task, such as ``small_unet``; called with the number of classes
            and one for the background.
        seed: The recipe's.
        device: Its name, as in a recipe.
        root: Root of the data sets.

    Raises:
        InputError: The data or the model cannot be had, or they do not fit each other.
    """
    refuse(data, "segmentation", "classes", "skew")
    if data.augment.rotate:
        raise ConfigError(
            f"data.augment.rotate is {shown(data.augment.rotate)}; the task segmentation moves its "
            "maps by whole pixels: crop and flip"
        )
    maps = load(data.name, root=root, options=data.options, kind=MapData)
    shape = tuple(maps.train_pictures.shape[1:])
    check_crop(data.augment, shape)
    train = _split(maps.train_pictures, maps.train_maps, len(maps.class_names))
    test = _split(maps.test_pictures, maps.test_maps, len(maps.class_names))
    division = divide(len(train), data, seed, "pictures", published=maps.valid)
    outputs = len(maps.class_names) + 1

    def draw(seed: int, *, anew: bool = False) -> nn.Module:
        with seeds.seeded(seed, "init"):
            built = build_for(
                "segmentation",
                model.name,
                outputs,
                options=model.options,
                init=model.init,
                head=model.head,
                inputs=torch.zeros(2, *shape),
                outputs=(2, outputs, *shape[1:]),
                image_shape=shape,
            )
        load_weights = loading(model)
        if load_weights is not None and not anew:
            load_weights(built)
        return built

    first = draw(seeds.derive(seed, "replicate", 0))
    return Segmentation(
        model=first,
        splits={
            "train": train.take(division.train),
            "valid": test if division.leaks else train.take(division.valid),
            "test": test,
        },
        class_names=maps.class_names,
        head=head_name(first, model.head),
        fingerprint=maps.fingerprint,
        published=len(train),
        leaks=division.leaks,
        augment=data.augment,
        init=model.init,
        device=devices.device(device),
        draw=draw,
        verified=maps.verified,
    )


def _split(pictures: Tensor, maps: Tensor, classes: int) -> PictureSplit:
    return PictureSplit(pictures, maps, classes_in(maps, classes), torch.arange(len(maps)))


def confusion(predicted: Tensor, truth: Tensor, outputs: int) -> Tensor:
    """Count the pixels of each true class (row) that are predicted as each class (column).

    Pixels that belong to nothing are left out.

    >>> confusion(torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, 0, 255]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    marked = truth != UNMARKED
    pairs = truth[marked].long() * outputs + predicted[marked]
    return torch.bincount(pairs.flatten(), minlength=outputs**2).view(outputs, outputs)


def intersections_over_unions(counts: Tensor) -> list[float | None]:
    """Return the IoU of each class from a confusion matrix; ``None`` where there is no such pixel.

    >>> intersections_over_unions(torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 0]]))
    [0.5, 0.5, None]
    """
    both = counts.diagonal()
    either = counts.sum(0) + counts.sum(1) - both
    found: list[float | None] = []
    for inside, union in zip(both.tolist(), either.tolist(), strict=True):
        found.append(inside / union if union else None)
    return found


@dataclass(frozen=True, eq=False, kw_only=True)
class Segmentation(Pictured):
    """Classify every pixel of pictures."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The mean over the classes, background included, of intersection over union."""
        return (MIOU,)

    def outputs(self, part: Partition) -> int:
        """Count the classes that a partition's model distinguishes, background included."""
        return 1 + (len(part.classes or ()) if part.own_head else self.classes)

    def seen(self, part: Partition, targets: Tensor) -> Tensor:
        """Return maps with a partition's own classes, renumbered where it has a head of its own.

        Pixels of other classes belong to nothing, or to the background, by the policy.
        """
        if part.classes is None:
            return targets.long()
        hidden = UNMARKED if self.policy(part) == IGNORE else 0
        number = torch.full((UNMARKED + 1,), hidden)
        number[0], number[UNMARKED] = 0, UNMARKED
        for position, label in enumerate(part.classes):
            number[label + 1] = 1 + (position if part.own_head else label)
        return number[targets.long()]

    def varied(
        self, images: Tensor, targets: Tensor, indices: Tensor, seed: int, epoch: int
    ) -> tuple[Tensor, Tensor]:
        """Return pictures and maps, moved alike; what comes in from outside belongs to nothing."""
        # A move fills in zeros. In a fourth channel 0 stands for nothing, so that the numbers of
        # classes are one higher there, and 255 becomes 0 as bytes do.
        together = torch.cat([images, targets[:, None] + 1], 1)
        moved = augment(together, indices, self.augment, seed, epoch, self.published)
        return moved[:, :3], moved[:, 3] - 1

    @recordable
    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Cross-entropy, the mean over all pixels that belong to something."""
        inputs, maps = batch
        total, marked = _summed_loss(model(inputs), maps)
        return total / marked.clamp(min=1)

    def measure(self, model: nn.Module, part: Partition, which: str) -> Metrics:
        """Measure a model on the split of a partition; the values of classes follow the mean."""
        outputs = self.outputs(part)
        counts = torch.zeros(outputs, outputs, dtype=torch.int64, device=self.device)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        marked = torch.zeros((), dtype=torch.int64, device=self.device)
        with in_evaluation_mode(model), torch.no_grad():
            for rows in torch.split(self.rows(part, which), _MEASURED):
                inputs, maps = self.batch(part, which, rows)
                logits = model(inputs).float()
                summed, pixels = _summed_loss(logits, maps)
                total += summed.double()
                marked += pixels
                counts += confusion(logits.argmax(1), maps, outputs)
        if not int(marked):
            raise InputError(
                f"no pixel of the {which} pictures belongs to a class or the background, so there "
                "is nothing to measure"
            )
        values = {}
        for name, value in zip(self._names(part), intersections_over_unions(counts), strict=True):
            if value is not None and name is not None:
                values[f"iou_{name}"] = value
        mean = sum(values.values()) / len(values)
        return Metrics(float(total / marked), {"miou": mean, **values})

    def _names(self, part: Partition) -> list[str | None]:
        """Name the outputs of a partition's model; ``None`` for those of other partitions."""
        own = range(self.classes) if part.classes is None else part.classes
        if part.own_head:
            return ["background", *(self.class_names[number] for number in own)]
        names: list[str | None] = ["background"]
        for number, name in enumerate(self.class_names):
            names.append(name if number in own else None)
        return names


def _summed_loss(logits: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss summed over the pixels that belong to something, and their number."""
    # As rows of pixels: the loss of maps has a sum on the GPU whose order varies.
    flat = logits.permute(0, 2, 3, 1).flatten(0, 2)
    total = cross_entropy(flat, maps.flatten(), ignore_index=UNMARKED, reduction="sum")
    return total, (maps != UNMARKED).sum()
