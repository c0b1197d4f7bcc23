"""Detection: boxes around the objects of a picture, by class; Faster R-CNN and mAP.

A batch is a list of pictures (float [3, height, width], 0 to 1) and a list of targets (boxes and
labels), as torchvision's detectors take them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from tombola.data import moving
from tombola.data.batches import Augment, Order, drawn_moves
from tombola.data.boxes import BoxData, Boxes, BoxSplits, split_boxes
from tombola.data.loading import load
from tombola.data.partitions import WHOLE, Partition
from tombola.ground import devices, extras, seeds
from tombola.ground.errors import ConfigError, DataError, TrainingError, shown
from tombola.ground.metrics import Metric
from tombola.ground.types import State
from tombola.masks import states
from tombola.masks.digests import digest_json, digest_state
from tombola.masks.weights import copied
from tombola.models.detectors import (
    IGNORED,
    Detector,
    build_detector,
    flops_of,
    losses_in_evaluation,
    redraw_box_predictor_,
    uncounted_of,
)
from tombola.models.flops import Flops
from tombola.models.running import in_evaluation_mode
from tombola.tasks import average_precision
from tombola.tasks.average_precision import Found, Truth
from tombola.tasks.base import FromSplits, architecture, order_seed
from tombola.tasks.box_targets import EXCLUDE, POLICIES, View, shares
from tombola.tasks.protocol import Metrics
from tombola.tasks.settings import Data, Model

CPU = torch.device("cpu")
_LEAST_LEFT = 0.5  # of an object's area, to be one, where a picture is cut
_SHOWN = 4  # test pictures whose detections are kept for the page
_MAP50 = Metric("map50", "mAP@0.5")
_COCO = Metric("coco_map", "COCO mAP")

Detections = Literal["shown", "all"]
Resize = Literal["model", "letterbox", "warp"]


def detection(
    data: Data,
    model: Model,
    /,
    *,
    seed: int,
    device: str,
    root: Path | None,
    points: Literal["11", "area"] = "11",
    coco: bool = False,
    resize: Resize = "model",
    zoom: float = 0.0,
    measured: int = 500,
    detections: Detections = "shown",
) -> Detection:
    """Detect objects, a box and a class each; measured by VOC's mean average precision.

    Args:
        data: Which data set, and how it is split; validation pictures are drawn by pictures.
        model: Which detector; its initial state is that of replicate 0.
        seed: The recipe's.
        device: Its name, as in a recipe.
        root: Root of the data sets.
        points: How the precision is averaged: at the ``11`` recalls of VOC 2007, or as the ``area``
            under the curve, as from VOC 2010.
        coco: Measure COCO's mAP (IoU 0.5 to 0.95), too; needs the extra ``detection``.
        resize: How pictures get the model's ``size``. ``model``: as the model does, which scales
            the longer side to it, and torchvision's own the shorter one; ``letterbox``: a square
            with grey borders; ``warp``: a square, whatever becomes of the proportions.
        zoom: Training pictures are enlarged or shrunk about their centre by up to this fraction,
            drawn anew in every epoch. An object of which less than half is left counts as
            difficult.
        measured: How many training pictures a trained network is measured on, the first ones; 0 is
            all. All of them take a quarter of a training's time.
        detections: Which test detections are kept beside the record: those of the pictures that the
            page shows, or ``all``.

    Raises:
        InputError: The data or the model cannot be had, or they do not fit each other.

    >>> data = Data("shapes", valid=8, options={"train": 24, "test": 4})
    >>> task = detection(data, Model("faster_rcnn_small"), seed=0, device="cpu", root=None)
    >>> task.size(WHOLE, "train"), task.head, task.classes
    (16, 'roi_heads.box_predictor', 6)
    """
    _check_settings(data, model)
    if not 0 <= zoom < 1:
        raise ConfigError(f"task.zoom is {shown(zoom)}; it is a fraction, from 0 to below 1")
    if measured < 0:
        raise ConfigError(f"task.measured is {shown(measured)}; it is a number of pictures, or 0")
    if coco:
        extras.require("detection")
    loaded = load(data.name, root=root, options=data.options, kind=BoxData)
    splits = split_boxes(loaded, valid=data.valid, subset=data.subset, seed=seed)
    _check_countable(splits, measured)
    draw = functools.partial(draw_detector, model, len(splits.class_names))
    first = draw(seeds.derive(seed, "replicate", 0))
    return Detection(
        first,
        splits,
        described=[model.name, model.options, model.weights],
        init=model.init,
        flip=data.augment.flip,
        points=points,
        coco=coco,
        resize=resize,
        zoom=zoom,
        measured=measured,
        detections=detections,
        device=devices.device(device),
        draw=draw,
    )


def _check_settings(data: Data, model: Model) -> None:
    """Refuse settings that only other tasks have."""
    others = {
        "data.augment.crop": data.augment.crop,
        "data.augment.rotate": data.augment.rotate,
        "data.classes": data.classes,
        "data.skew": data.skew,
        "model.head": model.head,
        "model.mask": model.mask,
    }
    for name, value in others.items():
        if value:
            raise ConfigError(f"{name} is given; the task detection does not have it")


def _check_countable(splits: BoxSplits, measured: int) -> None:
    """Refuse splits without an object that counts: a mean of no average precision is no number."""
    looked_at = {
        "training": splits.train.difficult[: measured or None],
        "validation": splits.valid.difficult,
        "test": splits.test.difficult,
    }
    for split, flags in looked_at.items():
        if flags and all(bool(of_picture.all()) for of_picture in flags):
            raise DataError(
                f"of the {len(flags):,} {split} pictures that are measured none shows an object "
                "that counts (not difficult, no crowd), so they have no mean average precision"
            )


def draw_detector(model: Model, classes: int, seed: int, *, anew: bool = False) -> Detector:
    """Build a detector, drawn at a seed; its backbone from the checkpoint if it has one.

    Args:
        model: Which one.
        classes: How many there are, without background.
        seed: Where the initial state is drawn.
        anew: Draw it whatever weights the model starts from.
    """
    return build_detector(
        model.name,
        classes,
        options=model.options,
        init=model.init,
        seed=seed,
        weights=model.weights,
        anew=anew,
    )


@dataclass(frozen=True, eq=False)
class Detection(FromSplits):
    """Detect objects with one model.

    Attributes:
        model: Gives the architecture, and the initial state where no other is given; never trained
            itself.
        splits: Training, validation and test pictures.
        described: What makes the model besides its printed form, such as its anchors: its name and
            options, plain data.
        init: How a drawn head is initialised, "xavier" or "default".
        flip: Whether half of the training pictures are mirrored, with their boxes.
        points: Of the average precision, see `detection`.
        coco: Whether COCO's mAP is measured, too.
        resize: How pictures get the model's size, see `detection`.
        zoom: By which fraction training pictures are enlarged or shrunk at most.
        measured: How many training pictures are measured; 0 is all.
        detections: Which test detections are kept.
        device: Where models are trained and tested.
        draw: Builds the model in another initial state, from a seed and ``anew``.
    """

    model: Detector
    splits: BoxSplits
    described: Sequence[Any] = ()
    init: str = "default"
    flip: bool = False
    points: Literal["11", "area"] = "11"
    coco: bool = False
    resize: Resize = "model"
    zoom: float = 0.0
    measured: int = 500
    detections: Detections = "shown"
    device: torch.device = CPU
    draw: Callable[..., Detector] | None = None
    # By split and partition, the positions of its pictures.
    _positions: dict[tuple[str, str], Tensor] = field(default_factory=dict, init=False, repr=False)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The mean over classes of VOC's average precision at an overlap of one half."""
        return (_MAP50, _COCO) if self.coco else (_MAP50,)

    @property
    def head(self) -> str:  # type: ignore[override]
        """The box predictor: it has the classes of a partition."""
        return self.model.head

    @property
    def classes(self) -> int:
        """How many classes there are, without background."""
        return len(self.splits.class_names)

    @property
    def others(self) -> tuple[str, ...]:  # type: ignore[override]
        """What may become of boxes of another partition's classes; the first is the default."""
        return POLICIES if self.model.knows_ignored else POLICIES[1:]

    @functools.cached_property
    def digest(self) -> str:
        """Digest of all that a training depends on: architecture, data, augmentation."""
        splits = self.splits
        drawn = digest_state({"train": splits.indices})
        entries = {
            "head": [self.head, self.init],
            "detector": [*self.described, self.size_of_pictures],
            "data": [splits.fingerprint, drawn, splits.valid.names],
            "pictures": [self.flip, self.resize, self.zoom],
            "measured": [self.points, self.coco, self.measured],
            "device": self.device.type,
        }
        return digest_json(entries | architecture(self.model))

    @property
    def size_of_pictures(self) -> int:
        """The model's size of pictures, in pixels, see `detection`."""
        return self.model.size

    def build(self, start: State, part: Partition, seed: int) -> Detector:
        """Make a fresh model in the start state.

        For class partitions it has a drawn box predictor of their size, which depends on the
        replicate's seed and the classes alone. All else is shared: the RPN, too.
        """
        model = cast(Detector, copied(self.model))
        states.load_(model, start)
        if part.own_head:
            assert part.classes is not None
            redraw_box_predictor_(model, len(part.classes), seed, part.classes, init=self.init)
        return model.to(self.device)

    def outputs(self, part: Partition) -> int:
        """Count the classes that a partition's model distinguishes."""
        return len(part.classes or ()) if part.own_head else self.classes

    def probe(self, examples: int, seed: int) -> Tensor:
        """Draw pictures of noise, in the model's size."""
        generator = torch.Generator().manual_seed(seed)
        side = self.size_of_pictures
        return torch.rand(examples, 3, side, side, generator=generator).to(self.device)

    def flops(self, part: Partition) -> dict[str, Flops]:
        """Count the FLOPs of a partition's model for one picture of one size, layer by layer."""
        return flops_of(self.build(self.initial_state(), part, 0), self.size_of_pictures)

    @functools.cached_property
    def uncounted(self) -> list[str]:
        """The operations of the model that `flops` cannot count."""
        return uncounted_of(self.build(self.initial_state(), WHOLE, 0), self.size_of_pictures)

    def view(self, part: Partition) -> View:
        """Return what a partition sees of the annotations."""
        return View.of(part, self.others[0], ignores=self.model.knows_ignored)

    def split(self, which: str) -> Boxes:
        """Return the "train", "valid" or "test" pictures."""
        split: Boxes = getattr(self.splits, which)
        return split

    def positions(self, part: Partition, which: str) -> Tensor:
        """Return the positions of a partition's pictures in a split, int64 [pictures].

        Examples are divided in the training split only.
        """
        key = which, part.digest
        if key not in self._positions:
            positions = self.view(part).pictures_of(self.split(which))
            if part.examples is not None and which == "train":
                chosen = torch.tensor(part.examples)
                positions = chosen[torch.isin(chosen, positions)]
            self._positions[key] = positions
        return self._positions[key]

    def size(self, part: Partition, which: str) -> int:
        """Count the pictures of a split of a partition."""
        return len(self.positions(part, which))

    def measures(self, part: Partition, which: str) -> int:
        """Count those of these pictures that `measure` looks at."""
        size = self.size(part, which)
        # Who names the examples has chosen them already.
        limited = which == "train" and part.examples is None and self.measured > 0
        return min(size, self.measured) if limited else size

    def membership(self, which: str) -> Tensor:
        """Say which classes each picture of a split shows, bool [pictures, classes]."""
        split = self.split(which)
        shown = torch.zeros(len(split), self.classes, dtype=torch.bool)
        for position, labels in enumerate(split.labels):
            shown[position, labels] = True
        return shown

    def _check_part(self, part: Partition, name: str) -> None:
        super()._check_part(part, name)
        if part.others is not None and part.others not in self.others:
            raise ConfigError(
                f"others is {part.others}; the model {type(self.model).__name__} knows "
                f"{', '.join(self.others)}"
            )
        if part.classes is not None and not self.size(part, "train"):
            policy = " with others: exclude" if part.others == EXCLUDE else ""
            raise ConfigError(
                f"{name} has no picture to train on{policy}; its classes are "
                f"{self._named(part.classes)}"
            )

    def _named(self, classes: Sequence[int]) -> str:
        return ", ".join(self.splits.class_names[number] for number in classes)

    def shares(self, part: Partition) -> Mapping[str, int] | None:
        """Count what the policy for other classes does to a partition of classes."""
        if part.classes is None:
            return None
        return shares(self.split("train"), self.view(part))

    @property
    def notices(self) -> Sequence[str]:
        """Notices on what is left out of the data."""
        return self.splits.skipped

    @property
    def facts(self) -> Mapping[str, str]:
        """What the report says about the pictures and where the weights begin."""
        boxes = [len(labels) for labels in self.splits.train.labels]
        several = int((self.membership("train").sum(1) > 1).sum())
        difficult = sum(int(marks.sum()) for marks in self.splits.train.difficult)
        treated = "ignored" if self.model.knows_ignored else "left out"
        facts = {
            "objects": (
                f"{sum(boxes):,} in the training pictures, {difficult:,} of them difficult and "
                f"{treated}; {several:,} pictures show several classes"
            ),
            "average precision": _POINTS[self.points],
            "initial weights": self.model.begins,
        }
        if self.splits.facts:
            facts["pictures"] = "; ".join(self.splits.facts)
        if self.splits.skipped:
            facts["left out"] = "; ".join(self.splits.skipped)
        return facts

    @property
    def origin(self) -> Mapping[str, Mapping[str, Any]]:
        """The classes of the outputs, and how large pictures are."""
        inputs = {
            "pictures": "float32 [3, height, width], 0 to 1",
            "size": self.size_of_pictures,
            "resize": self.resize,
            "classes": list(self.splits.class_names),
        }
        return {"data": {"verified": self.splits.verified}, "inputs": inputs}

    def batches(self, part: Partition, batch_size: int, seed: int) -> PictureBatches:
        """Return the training batches of a partition, epoch by epoch."""
        positions = self.positions(part, "train")
        order = Order(len(positions), batch_size=batch_size, seed=order_seed(seed, part))
        return PictureBatches(self, self.view(part), order, positions, seed)

    def batch(
        self,
        split: Boxes,
        pictures: Sequence[Tensor],
        positions: Sequence[int],
        view: View,
        moves: Sequence[Move] | None = None,
    ) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        """Return pictures and their targets as the model takes them, on the device.

        Args:
            split: Where they are from.
            pictures: uint8, as they were read.
            positions: Of the pictures in the split.
            view: What a partition sees of them.
            moves: How each is moved; not at all if not given.
        """
        images, targets = [], []
        for raw, position, move in zip(
            pictures, positions, moves or [STILL] * len(positions), strict=True
        ):
            target = view.target(
                split.boxes[position], split.labels[position], split.difficult[position]
            )
            picture = raw.to(self.device).float().div_(255)
            picture, boxes, labels = _moved(picture, move, view, **target)
            picture, boxes = self._resized(picture, boxes)
            images.append(picture)
            targets.append({"boxes": boxes.to(self.device), "labels": labels.to(self.device)})
        return images, targets

    def _resized(self, picture: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        if self.resize == "warp":
            return moving.warp(picture, boxes, self.size_of_pictures)
        if self.resize == "letterbox":
            return moving.letterbox(picture, boxes, self.size_of_pictures)
        return picture, boxes

    def _in_picture(self, boxes: Tensor, raw: Tensor) -> Tensor:
        """Return boxes in the pixels of the picture as it was published."""
        height, width = raw.shape[1:]
        if self.resize == "warp":
            return moving.unwarp(boxes, self.size_of_pictures, (height, width))
        if self.resize == "letterbox":
            return moving.unletterbox(boxes, self.size_of_pictures, (height, width))
        return boxes

    def loss(self, model: nn.Module, batch: tuple[list[Tensor], list[dict[str, Tensor]]]) -> Tensor:
        """Return the sum of the detector's losses, a scalar.

        Scores such as SNIP ask for it in evaluation mode, too.
        """
        images, targets = batch
        if model.training:
            losses = model(images, targets)
        else:
            losses = losses_in_evaluation(cast(Detector, model), images, targets)
        total: Tensor = sum(losses.values())
        # On a GPU reading a number would make it wait in every step.
        if total.device.type == "cpu" and not math.isfinite(total.detach().item()):
            broken = [
                name for name, value in losses.items() if not math.isfinite(value.detach().item())
            ]
            raise TrainingError(
                f"{' and '.join(broken)} of a batch is not finite; a lower learning rate may help"
            )
        return total

    def measure(self, model: nn.Module, part: Partition, which: str) -> Metrics:
        """Measure a model on the pictures of a split of a partition, one picture at a time.

        Args:
            model: The partition's, with its own head where it has one.
            part: The partition: average precisions are of its classes.
            which: The split; of the training pictures only the first ``measured`` ones.
        """
        split, view = self.split(which), self.view(part)
        positions = self.positions(part, which)[: self.measures(part, which)].tolist()
        classes = list(range(self.classes)) if part.classes is None else list(part.classes)
        sums: dict[str, float] = {}
        found, truths = [], []
        with in_evaluation_mode(model), torch.no_grad():
            for position, (raw,) in zip(
                positions, split.pictures.read([[position] for position in positions]), strict=True
            ):
                # The losses are of proposals that are drawn.
                seeds.reseed(0, "measure", position)
                images, targets = self.batch(split, [raw], [position], view)
                of_picture = losses_in_evaluation(cast(Detector, model), images, targets)
                for name, value in of_picture.items():
                    sums[name] = sums.get(name, 0.0) + float(value)
                (detected,) = model(images)
                found.append(self._found(detected, raw, view))
                truths.append(_truth(split, position, view))
        losses = {name: value / max(len(positions), 1) for name, value in sums.items()}
        values = self._values(found, truths, classes)
        kept = self._kept(positions, found) if which == "test" else {}
        return Metrics(sum(losses.values()), values | losses, kept=kept)

    def _found(self, detected: Mapping[str, Tensor], raw: Tensor, view: View) -> Found:
        """Return the detections of a picture by class numbers from 0, in the published pixels."""
        boxes = self._in_picture(detected["boxes"].cpu(), raw)
        labels = detected["labels"].cpu() - 1
        if view.own_head and view.classes is not None:
            labels = torch.tensor(view.classes)[labels]
        own = view.is_own(labels)
        return Found(
            boxes[own].double().numpy(),
            labels[own].numpy(),
            detected["scores"].cpu()[own].double().numpy(),
        )

    def _values(
        self, found: Sequence[Found], truths: Sequence[Truth], classes: Sequence[int]
    ) -> dict[str, float]:
        """Return the declared metrics, then the average precision of each class that has one."""
        precisions = average_precision.average_precisions(
            found, truths, self.classes, points=self.points
        )
        of_classes = {}
        for number in classes:
            value = precisions[number]
            if value is not None:
                of_classes[f"ap_{self.splits.class_names[number]}"] = value
        values = {_MAP50.name: _mean(of_classes.values())}
        if self.coco:
            coco = average_precision.coco_map(found, truths, self.classes)
            values[_COCO.name] = math.nan if coco is None else coco
        return values | of_classes

    def _kept(self, positions: Sequence[int], found: Sequence[Found]) -> dict[str, Tensor]:
        """Return the detections that are kept, one row each."""
        number = len(positions) if self.detections == "all" else _SHOWN
        pictures = [torch.empty(0, dtype=torch.int64)]
        boxes, labels, scores = [torch.empty(0, 4)], [pictures[0]], [torch.empty(0)]
        for position, of_picture in zip(positions[:number], found, strict=False):
            pictures.append(torch.full((len(of_picture.labels),), position))
            boxes.append(torch.from_numpy(of_picture.boxes).float())
            labels.append(torch.from_numpy(of_picture.labels))
            scores.append(torch.from_numpy(of_picture.scores).float())
        return {
            "picture": torch.cat(pictures),
            "boxes": torch.cat(boxes),
            "labels": torch.cat(labels),
            "scores": torch.cat(scores),
        }

    def examples_shown(self) -> Mapping[str, Tensor]:
        """Return the test pictures that the page shows, with their truths and the class names."""
        test = self.splits.test
        number = min(_SHOWN, len(test))
        shown: dict[str, Tensor] = {"names": _as_bytes("\n".join(self.splits.class_names))}
        for index in range(number):
            shown[f"image_{index}"] = test.pictures[index]
            shown[f"boxes_{index}"] = test.boxes[index]
            shown[f"labels_{index}"] = test.labels[index]
            shown[f"difficult_{index}"] = test.difficult[index]
        return shown


class Move(NamedTuple):
    """How a training picture is moved with its boxes: mirrored or not, and zoomed by a factor."""

    mirrored: bool = False
    factor: float = 1.0


STILL = Move()


def _moved(
    picture: Tensor, move: Move, view: View, *, boxes: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Move a picture with its boxes; what is left of an object may be too little to be one."""
    if move.mirrored:
        picture, boxes = moving.flip(picture, boxes)
    if move.factor != 1:
        picture, boxes, left = moving.zoom(picture, boxes, move.factor)
        labels = torch.where(left >= _LEAST_LEFT, labels, IGNORED)
        stays = (left > 0) if view.ignores else (left >= _LEAST_LEFT)
        boxes, labels = boxes[stays], labels[stays]
    return picture, boxes, labels


_POINTS = {
    "11": "mean precision at 11 recalls, as in VOC 2007",
    "area": "area under the curve of precision, as from VOC 2010 on",
}


def _truth(split: Boxes, position: int, view: View) -> Truth:
    """Return what a picture shows of the classes of a view."""
    own = view.is_own(split.labels[position])
    return Truth(
        split.boxes[position][own].double().numpy(),
        split.labels[position][own].numpy(),
        split.difficult[position][own].numpy(),
    )


def _mean(values: Iterable[float]) -> float:
    """Return the mean; NaN where no class has an object that counts."""
    numbers = list(values)
    return math.fsum(numbers) / len(numbers) if numbers else math.nan


def _as_bytes(text: str) -> Tensor:
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


@dataclass(frozen=True)
class PictureBatches:
    """The batches of pictures of a partition, one epoch after another.

    Attributes:
        task: Makes batches of pictures.
        view: What the partition sees of them.
        order: Which of its pictures make each batch.
        positions: Of its pictures in the training split.
        seed: The replicate's; mirroring is addressed by it and the epoch.
    """

    task: Detection
    view: View
    order: Order
    positions: Tensor
    seed: int

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        return len(self.order)

    def examples(self, first: int, last: int) -> int:
        """Count the pictures of the steps from ``first`` up to, not including, ``last``."""
        return self.order.examples(first, last)

    def epoch(self, epoch: int) -> Iterator[tuple[list[Tensor], list[dict[str, Tensor]]]]:
        """Yield the batches of an epoch; pictures of files are read ahead."""
        splits = self.task.splits
        train = splits.train
        pieces = [self.positions[rows].tolist() for rows in self.order.epoch(epoch)]
        moves = self._moves(epoch)
        for piece, pictures in zip(pieces, train.pictures.read(pieces), strict=True):
            published = splits.indices[piece].tolist()
            of_pictures = [moves[index] for index in published]
            yield self.task.batch(train, pictures, piece, self.view, of_pictures)

    def _moves(self, epoch: int) -> list[Move]:
        """Say how each of the published pictures is moved in an epoch."""
        task, published = self.task, self.task.splits.published
        # The column that images of classification have, so that a seed mirrors the same examples.
        augment = Augment(flip=task.flip)
        mirrored = drawn_moves(augment, self.seed, epoch, published, CPU)[2].tolist()
        # At an address of its own: zooming changes nothing else.
        generator = seeds.generator(self.seed, "zoom", epoch)
        drawn = torch.rand(published, generator=generator, dtype=torch.float64)
        factors = (1 + task.zoom * (2 * drawn - 1)).tolist()
        return [Move(*move) for move in zip(mirrored, factors, strict=True)]
