"""Average precision: how well the boxes that were found agree with the true ones.

    boxes by falling score -> each is right, wrong or not counted -> precision at each recall

A class's average precision is the area under its curve of precision over recall, as Pascal VOC
defines it. COCO defines it otherwise; that one is pycocotools' (`coco_map`).

Boxes are ``x1 y1 x2 y2`` in half-open pixels: their areas are those that VOC's own "+ 1" gives.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Found:
    """What a detector found in one picture.

    Attributes:
        boxes: [n, 4].
        labels: The class of each, whole numbers from 0.
        scores: The higher, the surer.
    """

    boxes: NDArray[Any]
    labels: NDArray[Any]
    scores: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Truth:
    """What is in one picture.

    Attributes:
        boxes: [n, 4].
        labels: The class of each, whole numbers from 0.
        difficult: Booleans: who finds such a box gains nothing, who misses it loses nothing. COCO's
            word for them is crowd.
    """

    boxes: NDArray[Any]
    labels: NDArray[Any]
    difficult: NDArray[Any]


def average_precisions(
    found: Sequence[Found],
    truths: Sequence[Truth],
    classes: int,
    *,
    iou: float = 0.5,
    points: Literal["11", "area"] = "11",
) -> list[float | None]:
    """Return the average precision of every class, as Pascal VOC defines it.

    The boxes of a class are judged by falling score; those of one score keep their order. Each is
    compared with the one truth of its class that it overlaps most. Where they overlap by at least
    ``iou``, it is right, unless a box before it has found the same truth; where that truth is
    difficult, it is not counted. All others are wrong, even if another truth is near and not found
    yet.

    Args:
        found: What was found in each picture.
        truths: What is in the same pictures.
        classes: How many classes there are.
        iou: The least overlap, intersection over union, above 0.
        points: ``11``: the mean over the recalls 0, 0.1 ... 1 of the best precision at that recall
            or above, as in VOC 2007. ``area``: the area under that curve, as from 2010 on.

    Returns:
        A fraction for each class; None where no truth counts.

    Raises:
        ValueError: The pictures of both are not the same number, or a picture's arrays are not
            as described.

    Source:
        Everingham et al. 2010, "The Pascal Visual Object Classes (VOC) Challenge", section 4.2;
        the development kit's VOCevaldet.m.

    >>> no = np.array([False, False])
    >>> truth = Truth(np.array([[0, 0, 10, 10], [20, 0, 30, 10]]), np.array([0, 0]), no)
    >>> found = Found(np.array([[0, 0, 10, 9], [5, 0, 15, 9]]), np.array([0, 0]), np.array([9, 8]))
    >>> average_precisions([found], [truth], 2, points="area")
    [0.5, None]
    """
    _check(found, truths, classes)
    found_boxes = _joined([(each.boxes, each.labels, each.scores) for each in found])
    found_boxes = found_boxes.take(np.argsort(-found_boxes.marks, kind="stable"))
    true_boxes = _joined([(each.boxes, each.labels, each.difficult) for each in truths])

    averages: list[float | None] = []
    for label in range(classes):
        of_class = true_boxes.take(true_boxes.labels == label)
        number = int(np.count_nonzero(of_class.marks == 0))
        if number == 0:
            averages.append(None)
            continue
        right = _right(found_boxes.take(found_boxes.labels == label), of_class, iou)
        averages.append(_average(right, number, points))
    return averages


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are not None, or None if there are none.

    >>> mean([0.5, None, 1.0]), mean([None])
    (0.75, None)
    """
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def coco_map(found: Sequence[Found], truths: Sequence[Truth], classes: int) -> float | None:
    """Return COCO's mean average precision: over overlaps of 0.5, 0.55 ... 0.95 and all classes.

    It is pycocotools' number, "AP" in COCO's tables. It differs from VOC's also at one overlap: the
    curve is read at 101 recalls, a box is compared with the nearest truth that is not found yet, a
    picture's 100 surest boxes of a class count, and difficult truths are crowds, which any number
    of boxes may lie in.

    Args:
        found: What was found in each picture.
        truths: What is in the same pictures.
        classes: How many classes there are.

    Returns:
        A fraction; None where no truth counts.

    Raises:
        MissingExtraError: pycocotools is not installed.
        ValueError: As of `average_precisions`.
    """
    from tombola.ground.extras import coco, cocoeval

    _check(found, truths, classes)
    true_boxes: list[dict[str, Any]] = []
    for image, truth in enumerate(truths):
        crowds = truth.difficult.tolist()
        for annotation, crowd in zip(_annotations(image, truth), crowds, strict=True):
            true_boxes.append({**annotation, "id": len(true_boxes) + 1, "iscrowd": int(crowd)})
    found_boxes: list[dict[str, Any]] = []
    for image, each in enumerate(found):
        scores = each.scores.tolist()
        for annotation, score in zip(_annotations(image, each), scores, strict=True):
            found_boxes.append({**annotation, "id": len(found_boxes) + 1, "score": score})

    with _silenced(coco, cocoeval):
        sides = []
        for annotations in (true_boxes, found_boxes):
            side = coco.COCO()
            side.dataset = {
                "images": [{"id": image} for image in range(len(truths))],
                "categories": [{"id": label} for label in range(classes)],
                "annotations": annotations,
            }
            side.createIndex()
            sides.append(side)
        evaluation = cocoeval.COCOeval(*sides, iouType="bbox")
        # The other areas and numbers of boxes are for numbers that are not returned.
        evaluation.params.areaRng = evaluation.params.areaRng[:1]
        evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
    precisions = evaluation.eval["precision"]
    # -1 stands for a class without a truth that counts.
    precisions = precisions[precisions >= 0]
    return float(precisions.mean()) if precisions.size else None


@dataclass(frozen=True, eq=False)
class _Boxes:
    """The boxes of all pictures.

    Attributes:
        pictures: The number of each box's picture.
        marks: The score of a box that was found; of a true one, 1 if it is difficult, else 0.
    """

    pictures: NDArray[Any]
    boxes: NDArray[Any]
    labels: NDArray[Any]
    marks: NDArray[Any]

    def take(self, which: NDArray[Any]) -> _Boxes:
        return _Boxes(
            self.pictures[which], self.boxes[which], self.labels[which], self.marks[which]
        )


def _joined(pictures: Sequence[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]) -> _Boxes:
    numbers = [len(labels) for _, labels, _ in pictures]
    # numpy joins no empty list, and there may be no pictures.
    return _Boxes(
        np.repeat(np.arange(len(pictures)), numbers),
        np.concatenate([np.empty((0, 4)), *(boxes for boxes, _, _ in pictures)]),
        np.concatenate([np.empty(0, np.int64), *(labels for _, labels, _ in pictures)]),
        np.concatenate([np.empty(0), *(marks for _, _, marks in pictures)]),
    )


def _right(found: _Boxes, truths: _Boxes, iou: float) -> NDArray[np.bool_]:
    """Say of each box that counts whether it is right.

    Args:
        found: Boxes of one class, by falling score.
        truths: The true boxes of this class, picture by picture.
        iou: The least overlap.
    """
    # Every pair of a found box and a truth in its picture.
    first = np.searchsorted(truths.pictures, found.pictures, "left")
    numbers = np.searchsorted(truths.pictures, found.pictures, "right") - first
    box = np.repeat(np.arange(len(numbers)), numbers)
    before = np.cumsum(numbers) - numbers
    truth = np.arange(len(box)) + np.repeat(first - before, numbers)
    overlaps = _overlaps(found.boxes[box], truths.boxes[truth])

    # The nearest truth of each box; of equally near ones the first. It is nearest whether or not
    # it is found already, so no box need wait for another.
    order = np.lexsort((-overlaps, box))
    box, position = np.unique(box[order], return_index=True)
    nearest = order[position]
    close = overlaps[nearest] >= iou
    box, truth = box[close], truth[nearest[close]]

    # Boxes are in the order of their scores: the first that is close to a truth has found it.
    _, position = np.unique(truth, return_index=True)
    right = np.zeros(len(numbers), dtype=bool)
    right[box[position]] = True
    counts = np.ones(len(numbers), dtype=bool)
    counts[box[truths.marks[truth] == 1]] = False
    return right[counts]


def _overlaps(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """Return the intersection over union of each pair of boxes."""
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    shared = np.maximum(sides, 0).prod(axis=1)
    total = (first[:, 2:] - first[:, :2]).prod(axis=1) + (second[:, 2:] - second[:, :2]).prod(
        axis=1
    )
    # Boxes without area share none.
    overlaps: NDArray[Any] = shared / np.maximum(total - shared, np.finfo(float).tiny)
    return overlaps


def _average(right: NDArray[np.bool_], number: int, points: Literal["11", "area"]) -> float:
    """Return the average precision of boxes by falling score, of which ``number`` could be right."""
    found = np.cumsum(right)
    precision = found / np.arange(1, len(right) + 1)
    # At each recall, the best precision at that recall or above.
    best = np.maximum.accumulate(precision[::-1])[::-1]
    if points == "area":
        return float(best[right].sum() / number)
    # Whole numbers: of 0.1, 0.2 ... as floats, some lie above the fractions that they stand for.
    reached = np.searchsorted(10 * found, number * np.arange(11), "left")
    return float(best[reached[reached < len(best)]].sum() / 11)


def _check(found: Sequence[Found], truths: Sequence[Truth], classes: int) -> None:
    if len(found) != len(truths):
        raise ValueError(
            f"found has {len(found)} pictures and truths {len(truths)}; they are the same pictures"
        )
    for index, each in enumerate(found):
        _check_picture(f"found[{index}]", each, "scores", each.scores, classes)
        if not np.isfinite(each.scores).all():
            raise ValueError(f"found[{index}].scores has a score that is no finite number")
    for index, truth in enumerate(truths):
        _check_picture(f"truths[{index}]", truth, "difficult", truth.difficult, classes)


def _check_picture(
    name: str, picture: Found | Truth, mark: str, marks: NDArray[Any], classes: int
) -> None:
    number = len(picture.labels)
    for entry, shape, right in (
        ("boxes", picture.boxes.shape, (number, 4)),
        ("labels", picture.labels.shape, (number,)),
        (mark, marks.shape, (number,)),
    ):
        if shape != right:
            raise ValueError(f"{name}.{entry} has shape {shape}; of {number} boxes it is {right}")
    if not np.isfinite(picture.boxes).all():
        raise ValueError(f"{name}.boxes has a box that is not of finite numbers")
    if number and not 0 <= picture.labels.min() <= picture.labels.max() < classes:
        odd = picture.labels[(picture.labels < 0) | (picture.labels >= classes)][0]
        raise ValueError(f"{name}.labels has {odd}; the classes are 0 to {classes - 1}")


def _annotations(image: int, picture: Found | Truth) -> Iterator[dict[str, Any]]:
    boxes = picture.boxes.astype(float)
    # COCO's boxes are x, y, width, height.
    sizes = boxes[:, 2:] - boxes[:, :2]
    rows = np.concatenate([boxes[:, :2], sizes], axis=1).tolist()
    areas = sizes.prod(axis=1).tolist()
    for row, area, label in zip(rows, areas, picture.labels.tolist(), strict=True):
        yield {"image_id": image, "category_id": label, "bbox": row, "area": area, "iscrowd": 0}


_PRINTING = threading.Lock()


@contextlib.contextmanager
def _silenced(*modules: ModuleType) -> Iterator[None]:
    """Keep modules from printing; whatever other threads print meanwhile is printed."""

    def say_nothing(*words: object, **options: object) -> None:
        pass

    with _PRINTING:
        for module in modules:
            vars(module)["print"] = say_nothing
        try:
            yield
        finally:
            for module in modules:
                del vars(module)["print"]
