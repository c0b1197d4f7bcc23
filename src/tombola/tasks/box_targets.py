"""Targets: what a partition of classes sees of annotated pictures.

    boxes of a picture, partition -> [ pictures_of ] -> its pictures -> [ target ] -> boxes, labels

A picture may show objects of several partitions. It belongs to each that has a box of its own
classes in it, and what becomes of the other boxes is a policy:

- ``ignore``: they stay, and are neither object nor background;
- ``background``: they are dropped, so the network learns that there is nothing;
- ``exclude``: pictures with such a box are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tombola.data.boxes import Boxes
from tombola.data.partitions import Partition
from tombola.models.detectors import IGNORED

IGNORE, BACKGROUND, EXCLUDE = POLICIES = ("ignore", "background", "exclude")


@dataclass(frozen=True)
class View:
    """What a partition sees of the annotations.

    Attributes:
        classes: The classes that are its own, ascending; ``None``: all.
        own_head: Whether they are numbered from 1; otherwise class c is c + 1, as for all data.
        others: The policy for boxes of other classes.
        ignores: Whether the model knows boxes that are neither object nor background. Otherwise
            difficult objects are dropped.
    """

    classes: tuple[int, ...] | None = None
    own_head: bool = False
    others: str = IGNORE
    ignores: bool = True

    @classmethod
    def of(cls, part: Partition, others: str, *, ignores: bool) -> View:
        """Return the view of a partition, with the task's policy where it has none of its own."""
        return cls(part.classes, part.own_head, part.others or others, ignores)

    def is_own(self, labels: Tensor) -> Tensor:
        """Say which boxes are of its classes, bool [boxes]."""
        if self.classes is None:
            return torch.ones_like(labels, dtype=torch.bool)
        return torch.isin(labels, torch.tensor(self.classes))

    def target(self, boxes: Tensor, labels: Tensor, difficult: Tensor) -> dict[str, Tensor]:
        """Return the target of a picture, as torchvision's detectors take it.

        Labels are numbered from 1, 0 is background. A difficult object is `IGNORED`, as the
        challenge counts it neither as found nor as missed.

        Args:
            boxes: float32 [n, 4].
            labels: int64 [n], class numbers from 0.
            difficult: bool [n].

        >>> view = View((2, 3), own_head=True)
        >>> labels = torch.tensor([0, 2, 3])
        >>> view.target(torch.zeros(3, 4), labels, torch.zeros(3).bool())["labels"].tolist()
        [-1, 1, 2]
        """
        own = self.is_own(labels)
        seen = self.numbered(labels)
        seen = torch.where(own & ~difficult, seen, IGNORED)
        stays = torch.ones_like(own)
        if self.others != IGNORE:
            stays &= own
        if not self.ignores:
            stays &= ~difficult
        return {"boxes": boxes[stays], "labels": seen[stays]}

    def numbered(self, labels: Tensor) -> Tensor:
        """Return the numbers of classes in this view, from 1; 0 for other classes."""
        if not self.own_head or self.classes is None:
            return labels + 1
        numbers = torch.searchsorted(torch.tensor(self.classes), labels) + 1
        return torch.where(self.is_own(labels), numbers, 0)

    def pictures_of(self, split: Boxes) -> Tensor:
        """Return the positions of its pictures in a split, int64; of a view of all classes, all.

        Pictures without a box belong to no partition of classes.
        """
        if self.classes is None:
            return torch.arange(len(split))
        positions = []
        for position, labels in enumerate(split.labels):
            own = self.is_own(labels)
            foreign = bool((~own).any())
            if bool(own.any()) and not (foreign and self.others == EXCLUDE):
                positions.append(position)
        return torch.tensor(positions, dtype=torch.int64)


def shares(split: Boxes, view: View) -> dict[str, int]:
    """Count what a policy does to the pictures and boxes of a partition of classes.

    Args:
        split: The training pictures.
        view: The partition's.

    Returns:
        ``pictures`` and ``own_boxes`` that it has; ``shared_pictures`` among its own that hold
        boxes of other classes, whose number is ``other_boxes``; ``lost_pictures`` and
        ``lost_boxes`` of its own classes that the policy leaves out.
    """
    counts = dict.fromkeys(
        ("pictures", "own_boxes", "shared_pictures", "other_boxes", "lost_pictures", "lost_boxes"),
        0,
    )
    taken = set(view.pictures_of(split).tolist())
    for position, labels in enumerate(split.labels):
        own = int(view.is_own(labels).sum())
        foreign = len(labels) - own
        if not own:
            continue
        if position not in taken:
            counts["lost_pictures"] += 1
            counts["lost_boxes"] += own
            continue
        counts["pictures"] += 1
        counts["own_boxes"] += own
        counts["shared_pictures"] += foreign > 0
        counts["other_boxes"] += foreign
    return counts
