"""Several labels a picture: which classes it shows, measured by mean average precision.

The data are annotated pictures (``voc``, ``shapes``, ``coco_folder``), of which only the classes of
the boxes are used, and the models are those of classification.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from tombola.data import moving
from tombola.data.batches import check_crop
from tombola.data.boxes import BoxData, Boxes, split_boxes
from tombola.data.dataset import SHARE
from tombola.data.loading import load
from tombola.data.partitions import Partition
from tombola.ground import devices, seeds
from tombola.ground.catalogue import TORCHVISION
from tombola.ground.errors import ConfigError, InputError, shown
from tombola.ground.metrics import Metric
from tombola.kernels.recording import recordable
from tombola.models.building import build, head_name, load_weights_
from tombola.models.running import in_evaluation_mode
from tombola.tasks.dividing import refuse
from tombola.tasks.evaluation import EXAMPLES
from tombola.tasks.pictured import IGNORE, Pictured, PictureSplit
from tombola.tasks.protocol import Metrics
from tombola.tasks.settings import Data, Model

MAP = Metric("map", title="mAP")
UNKNOWN = -1  # a target that is neither right nor wrong


def multi_label(
    data: Data, model: Model, *, seed: int, device: str, root: Path | None, size: int = 128
) -> MultiLabel:
    """Say of each class whether a picture shows it.

    A class that a picture shows in difficult objects alone is neither right nor wrong, as in Pascal
    VOC's challenge.

    Args:
        data: An entry of annotated pictures, such as ``voc`` or ``shapes``.
        model: A classifier; called with the number of classes.
        seed: The recipe's.
        device: Its name, as in a recipe.
        root: Root of the data sets.
        size: Height and width to which every picture is resized, in pixels.

    Raises:
        InputError: The data or the model cannot be had, or they do not fit each other.

    >>> data = Data("shapes", options={"train": 20, "test": 5})
    >>> task = multi_label(data, Model("conv2"), seed=0, device="cpu", root=None, size=32)
    >>> task.classes, [len(task.splits[which]) for which in ("train", "valid", "test")]
    (6, [18, 2, 5])
    """
    refuse(data, "multi_label", "classes", "skew")
    if size < 1:
        raise ConfigError(f"size is {shown(size)}; it is a number of pixels")
    loaded = load(data.name, root=root, options=data.options, kind=BoxData)
    chosen = split_boxes(loaded, valid=data.valid, subset=data.subset, seed=seed)
    classes = len(chosen.class_names)
    check_crop(data.augment, (3, size, size))
    _check_memory(sum(map(len, (chosen.train, chosen.valid, chosen.test))), size)
    splits = {}
    for which in ("train", "valid", "test"):
        # Only those of the training pictures are looked up.
        indices = chosen.indices if which == "train" else None
        splits[which] = pictures_of(getattr(chosen, which), classes, size, indices)
    draw = functools.partial(_draw, model, classes, size)
    first = draw(seeds.derive(seed, "replicate", 0))
    described = {}
    if chosen.skipped:
        described["left out"] = "; ".join(chosen.skipped)
    return MultiLabel(
        model=first,
        splits=splits,
        class_names=chosen.class_names,
        head=_head(model, first, classes),
        fingerprint=chosen.fingerprint,
        published=chosen.published,
        leaks=chosen.leaks,
        augment=data.augment,
        init=model.init,
        device=devices.device(device),
        draw=draw,
        described=described,
        verified=chosen.verified,
    )


def _check_memory(pictures: int, size: int) -> None:
    needed, free = 3 * size**2 * pictures, devices.free_memory(torch.device("cpu"))
    if needed > SHARE * free:
        raise ConfigError(
            f"{pictures:,} pictures of {size} x {size} pixels take {needed / 2**30:.1f} GiB, and "
            f"{free / 2**30:.1f} GiB of memory are free; a smaller size or data.subset would fit"
        )


def pictures_of(boxes: Boxes, classes: int, size: int, indices: Tensor | None) -> PictureSplit:
    """Resize annotated pictures, and say which classes they show.

    Args:
        boxes: The pictures and their boxes.
        classes: How many classes there are.
        size: Height and width of the result.
        indices: Their positions among the published pictures; ``None``: as they come.
    """
    pictures = torch.empty(len(boxes), 3, size, size, dtype=torch.uint8)
    targets = torch.zeros(len(boxes), classes, dtype=torch.int8)
    for row, [raw] in enumerate(boxes.pictures.read([[row] for row in range(len(boxes))])):
        resized, _ = moving.warp(raw.float(), boxes.boxes[row], size)
        pictures[row] = resized.round().clamp(0, 255).to(torch.uint8)
        # The surely shown last: they count although others of their class are difficult.
        labels, difficult = boxes.labels[row], boxes.difficult[row]
        targets[row, labels[difficult]] = UNKNOWN
        targets[row, labels[~difficult]] = 1
    indices = torch.arange(len(boxes)) if indices is None else indices
    return PictureSplit(pictures, targets, targets == 1, indices)


def _draw(model: Model, classes: int, size: int, seed: int, *, anew: bool = False) -> nn.Module:
    built = build(
        model.name,
        classes,
        (3, size, size),
        options=model.options,
        init=model.init,
        head=model.head,
        seed=seed,
    )
    if model.weights is not None and not anew:
        load_weights_(built, model.weights, _head(model, built, classes))
    return built


def _head(model: Model, built: nn.Module, classes: int) -> str:
    outputs = classes if model.name.startswith(TORCHVISION) else None
    return head_name(built, model.head, outputs=outputs)


def average_precisions(logits: Tensor, targets: Tensor) -> list[float | None]:
    """Return the average precision of each class.

    Args:
        logits: [examples, classes].
        targets: [examples, classes]: 1, 0, or `UNKNOWN`, which counts neither way.

    Returns:
        By class; ``None`` where no example surely shows it.

    Source:
        scikit-learn's ``average_precision_score``: the sum of the precisions at each new recall.

    >>> average_precisions(torch.tensor([[2.0], [1.0], [0.0]]), torch.tensor([[0], [1], [1]]))
    [0.5833333333333333]
    """
    from tombola.ground.extras import sklearn

    found: list[float | None] = []
    for scores, truth in zip(logits.T, targets.T, strict=True):
        known = truth != UNKNOWN
        if not (truth == 1).any():
            found.append(None)
            continue
        right, order = truth[known].numpy(), scores[known].double().numpy()
        found.append(float(sklearn.metrics.average_precision_score(right, order)))
    return found


@dataclass(frozen=True, eq=False, kw_only=True)
class MultiLabel(Pictured):
    """Say of each class whether a picture shows it."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The mean over classes of the average precision."""
        return (MAP,)

    def outputs(self, part: Partition) -> int:
        """Count the classes that a partition's model distinguishes."""
        return len(part.classes or ()) if part.own_head else self.classes

    def seen(self, part: Partition, targets: Tensor) -> Tensor:
        """Return the targets of a partition's own classes; of all outputs with a full head.

        There, other classes are unknown or not there, by the policy.
        """
        if part.classes is None:
            return targets
        own = list(part.classes)
        if part.own_head:
            return targets[:, own]
        hidden = torch.full_like(targets, UNKNOWN if self.policy(part) == IGNORE else 0)
        hidden[:, own] = targets[:, own]
        return hidden

    @recordable
    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Binary cross-entropy, the mean over all targets that are known."""
        inputs, targets = batch
        total, known = _summed_loss(model(inputs), targets)
        return total / known.clamp(min=1)

    def measure(self, model: nn.Module, part: Partition, which: str) -> Metrics:
        """Measure a model on the split of a partition; the values of classes follow the mean."""
        logits, targets = [], []
        with in_evaluation_mode(model), torch.no_grad():
            for rows in torch.split(self.rows(part, which), EXAMPLES[self.device.type]):
                inputs, truth = self.batch(part, which, rows)
                logits.append(model(inputs).float())
                targets.append(truth)
        if not logits:
            raise InputError(f"there is no {which} picture to measure a model on")
        all_logits, all_targets = torch.cat(logits).cpu(), torch.cat(targets).cpu()
        total, known = _summed_loss(all_logits.double(), all_targets)
        precisions = average_precisions(all_logits, all_targets)
        by_class = {}
        for name, value in zip(self._names(part), precisions, strict=True):
            if value is not None:
                by_class[f"ap_{name}"] = value
        if not by_class:
            raise InputError(
                f"no {which} picture shows a class, so there is no average precision; more "
                "pictures would have one"
            )
        mean = sum(by_class.values()) / len(by_class)
        return Metrics(float(total / known.clamp(min=1)), {"map": mean, **by_class})

    def _names(self, part: Partition) -> list[str]:
        """Name the outputs of a partition's model."""
        numbers = part.classes if part.own_head and part.classes else range(self.classes)
        return [self.class_names[number] for number in numbers]


def _summed_loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss summed over the known targets, and their number."""
    known = (targets != UNKNOWN).to(logits.dtype)
    # The target of what is unknown may be anything: it is multiplied by zero.
    truth = targets.clamp(min=0).to(logits.dtype)
    losses = binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return (losses * known).sum(), known.sum()
