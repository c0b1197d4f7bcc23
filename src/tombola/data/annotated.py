"""Annotated: pictures in files and their annotations, checked and made into `Boxes`.

    XML or JSON -> annotations -> [ boxes_of ] -> boxes of one split

What is wrong stops with the file named, or is left out and counted, as the user prefers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from tombola.data.boxes import Boxes, wrong_with
from tombola.data.picture_files import PictureFiles, inspect_all
from tombola.ground.errors import DataError, shown

SKIP = "put it right, or leave such things out and have them counted with unreadable: skip"


@dataclass(frozen=True)
class Annotation:
    """What an annotation says about one picture; nothing of it is checked yet.

    Attributes:
        name: Of the picture, unique among those of its split.
        picture: Its file.
        source: The file that the annotation stands in.
        size: Width and height of the picture; ``None`` where the annotation does not say it.
        boxes: x1, y1, x2, y2 of each object, half-open.
        labels: The class number of each object.
        difficult: Whether each object is hard to see, or a crowd.
    """

    name: str
    picture: Path
    source: Path
    size: tuple[float, float] | None = None
    boxes: Sequence[Sequence[float]] = ()
    labels: Sequence[int] = ()
    difficult: Sequence[bool] = ()


@dataclass
class LeftOut:
    """Stops at the first thing that cannot be used, or counts such things.

    Attributes:
        skip: Count them.
        numbers: How many were left out, by what they are: "pictures", "boxes".
        first: Name and reason of the first of each.
    """

    skip: bool
    numbers: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, file: Path, reason: str) -> None:
        """Leave something out, or stop.

        Args:
            kind: What it is, in the plural.
            file: Where it is.
            reason: Why it cannot be used, as a sentence that begins with the file.

        Raises:
            DataError: It was not asked to skip.
        """
        if not self.skip:
            raise DataError(f"{file} {reason}; {SKIP}")
        self.numbers[kind] = self.numbers.get(kind, 0) + 1
        # By its name alone: where the data lie here concerns no reader of a report.
        self.first.setdefault(kind, f"{file.name} {reason}")

    @property
    def lines(self) -> tuple[str, ...]:
        """Say for each kind how many were left out, and why the first was."""
        told = []
        for kind, number in self.numbers.items():
            told.append(f"left out {number:,} unusable {kind}; the first: {self.first[kind]}")
        return tuple(told)


def boxes_of(annotations: Sequence[Annotation], left_out: LeftOut) -> tuple[Boxes, list[str]]:
    """Check the annotations of a split and return them with their pictures.

    All files are read once. Where unusable pictures are to be left out, all are decoded, too.

    Returns:
        The pictures with their boxes, and the sha256 (hex) of each picture's file.

    Raises:
        DataError: Something cannot be used, and is not to be left out.
    """
    inspected = inspect_all([entry.picture for entry in annotations], whole=left_out.skip)
    kept: list[Annotation] = []
    boxes: list[Tensor] = []
    labels: list[Tensor] = []
    difficult: list[Tensor] = []
    digests: list[str] = []
    for entry, found in zip(annotations, inspected, strict=True):
        if found.problem:
            left_out.add("pictures", entry.picture, f"cannot be read as an image: {found.problem}")
            continue
        if entry.size is not None and entry.size != found.size:
            said, real = (f"{width:g} x {height:g}" for width, height in (entry.size, found.size))
            reason = f"says that {entry.name} has {said} pixels, and it has {real}"
            left_out.add("pictures", entry.source, reason)
            continue
        usable = []
        for row, box in enumerate(entry.boxes):
            reason = wrong_with(box, *found.size)
            if reason:
                values = shown([float(f"{value:.6g}") for value in box])
                left_out.add(
                    "boxes", entry.source, f"has the box {values} in {entry.name}, which {reason}"
                )
            else:
                usable.append(row)
        kept.append(entry)
        digests.append(found.digest)
        chosen = [entry.boxes[row] for row in usable]
        boxes.append(torch.tensor(chosen, dtype=torch.float32).reshape(-1, 4))
        labels.append(torch.tensor([entry.labels[row] for row in usable], dtype=torch.int64))
        difficult.append(torch.tensor([entry.difficult[row] for row in usable], dtype=torch.bool))
    part = Boxes(
        PictureFiles([entry.picture for entry in kept]),
        tuple(boxes),
        tuple(labels),
        tuple(difficult),
        tuple(entry.name for entry in kept),
    )
    return part, digests


def without_boxes(part: Boxes, split: str) -> tuple[str, ...]:
    """Say how many pictures of a split have no box; nothing where all have one."""
    number = sum(len(labels) == 0 for labels in part.labels)
    return (f"{number:,} of {len(part):,} {split} pictures have no box",) if number else ()
