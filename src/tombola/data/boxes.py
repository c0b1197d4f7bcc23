"""Boxes: annotated pictures of various sizes, and their splits.

    files or drawn shapes -> [ boxes ] -> split -> partition -> batches

A box is x1, y1, x2, y2 in pixels: its left and upper edge, and its right and lower edge, which is
the first column and row outside of it. So its width is x2 - x1, and a box of the whole picture is
0, 0, width, height.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from tombola.data.splits import valid_size
from tombola.ground import seeds
from tombola.ground.errors import ConfigError, DataError, shown
from tombola.ground.notebooks import one_line


@runtime_checkable
class PictureList(Protocol):
    """Pictures by their numbers, each a uint8 tensor [3, height, width] in RGB."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int, /) -> Tensor: ...

    def read(self, pieces: Sequence[Sequence[int]], /) -> Iterator[list[Tensor]]:
        """Yield the pictures of each piece, a list of numbers; files may be decoded ahead."""


class HeldPictures:
    """Pictures that are in memory."""

    def __init__(self, pictures: Sequence[Tensor]) -> None:
        self._pictures = tuple(pictures)

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, position: int) -> Tensor:
        return self._pictures[position]

    def read(self, pieces: Sequence[Sequence[int]]) -> Iterator[list[Tensor]]:
        """Yield the pictures of each piece."""
        for piece in pieces:
            yield [self[position] for position in piece]


class ChosenPictures:
    """Some of the pictures of another list, in an order of their own."""

    def __init__(self, pictures: PictureList, positions: Sequence[int]) -> None:
        self._pictures, self._positions = pictures, tuple(positions)

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, position: int) -> Tensor:
        return self._pictures[self._positions[position]]

    def read(self, pieces: Sequence[Sequence[int]]) -> Iterator[list[Tensor]]:
        """Yield the pictures of each piece."""
        chosen = []
        for piece in pieces:
            chosen.append([self._positions[row] for row in piece])
        return self._pictures.read(chosen)

    def of(self, positions: Sequence[int]) -> ChosenPictures:
        """Return some of these, chosen from the list below, so that choices do not pile up."""
        return ChosenPictures(self._pictures, [self._positions[row] for row in positions])


@dataclass(frozen=True, eq=False)
class Boxes:
    """The annotated pictures of one split.

    Attributes:
        pictures: uint8 [3, height, width] each, of various sizes.
        boxes: float32 [n, 4] of each picture, x1 y1 x2 y2 in pixels; [0, 4] where there is none.
        labels: int64 [n] of each picture, class numbers from 0.
        difficult: bool [n] of each picture: neither a miss nor a false alarm in the metric.
        names: Of the pictures.
    """

    pictures: PictureList
    boxes: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]
    difficult: tuple[Tensor, ...]
    names: tuple[str, ...]

    def __repr__(self) -> str:
        return one_line("Boxes", f"{len(self):,} pictures", f"{self.count:,} boxes")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def count(self) -> int:
        """How many boxes the pictures have together."""
        return sum(map(len, self.labels))

    @property
    def nbytes(self) -> int:
        """Bytes of the pictures that are held in memory; 0 where they are files."""
        if not isinstance(self.pictures, HeldPictures):
            return 0
        return sum(self.pictures[row].nbytes for row in range(len(self)))

    def take(self, positions: Tensor | Sequence[int]) -> Boxes:
        """Return the pictures at these positions (whole numbers, or a bool each), in that order."""
        rows = torch.as_tensor(positions)
        rows = rows.nonzero().flatten() if rows.dtype is torch.bool else rows.long()
        chosen: list[int] = rows.tolist()
        pictures: PictureList
        if isinstance(self.pictures, HeldPictures):
            pictures = HeldPictures([self.pictures[row] for row in chosen])
        elif isinstance(self.pictures, ChosenPictures):
            pictures = self.pictures.of(chosen)
        else:
            pictures = ChosenPictures(self.pictures, chosen)
        return Boxes(
            pictures,
            tuple(self.boxes[row] for row in chosen),
            tuple(self.labels[row] for row in chosen),
            tuple(self.difficult[row] for row in chosen),
            tuple(self.names[row] for row in chosen),
        )


@dataclass(frozen=True, eq=False)
class BoxData:
    """A data set of annotated pictures as it was published; contradictions raise a DataError.

    Attributes:
        train: To train on.
        test: To test on.
        class_names: Names of the classes, by their numbers.
        fingerprint: The sha256 (hex) of pictures and annotations.
        valid: The published validation pictures; ``None`` where none are published. They may be
            among those of ``train``.
        verified: False: the files were not compared with published checksums.
        skipped: What was left out, a line for each kind of thing, with numbers.
        facts: What else there is to say about the data, a line each.
    """

    task: ClassVar[str] = "detection"

    train: Boxes
    test: Boxes
    class_names: tuple[str, ...]
    fingerprint: str
    valid: Boxes | None = None
    verified: bool = True
    skipped: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()

    def __repr__(self) -> str:
        pictures = f"{len(self.train):,} training, {len(self.test):,} test pictures"
        return one_line("BoxData", pictures, f"{len(self.class_names)} classes")

    def __post_init__(self) -> None:
        if not self.class_names:
            raise DataError("a data set of boxes names no class; it needs at least one")
        if len(set(self.class_names)) < len(self.class_names):
            raise DataError(f"two classes have one name: {shown(list(self.class_names))}")
        _check(self.train, "training", len(self.class_names))
        _check(self.test, "test", len(self.class_names))
        if self.valid is not None:
            _check(self.valid, "validation", len(self.class_names))


@dataclass(frozen=True, eq=False)
class BoxSplits:
    """The three splits of a data set of boxes and what belongs to all of them.

    Attributes:
        train: The pictures to train on.
        valid: Pictures to validate on; may be none. The test split itself where it was asked for.
        test: The published test pictures.
        class_names: Names of the classes, by their numbers.
        fingerprint: Of the data set.
        verified: As in `BoxData`.
        skipped: As in `BoxData`.
        facts: As in `BoxData`.
        published: How many training pictures were published.
        indices: int64, the positions of the pictures of ``train`` among these.
    """

    train: Boxes
    valid: Boxes
    test: Boxes
    class_names: tuple[str, ...]
    fingerprint: str
    verified: bool
    skipped: tuple[str, ...]
    facts: tuple[str, ...]
    published: int
    indices: Tensor

    def __repr__(self) -> str:
        trained = f"{len(self.train):,} training, {len(self.valid):,} validation"
        classes = f"{len(self.class_names)} classes"
        return one_line("BoxSplits", f"{trained}, {len(self.test):,} test pictures", classes)

    @property
    def has_valid(self) -> bool:
        """Whether there are validation pictures."""
        return len(self.valid) > 0

    @property
    def leaks(self) -> bool:
        """Whether the validation split is the test split."""
        return self.valid is self.test


def split_boxes(
    data: BoxData,
    *,
    valid: int | float | Literal["published", "test"] = 0.1,
    subset: int | None = None,
    seed: int = 0,
) -> BoxSplits:
    """Divide the training pictures into a training and a validation split, drawn by pictures.

    A picture may hold several classes, so nothing is stratified. Pictures stay in published order.
    Validation pictures are drawn first and do not depend on ``subset`` when ``valid`` is a number
    of pictures.

    Args:
        data: As published.
        valid: Number of validation pictures; a number below 1 is a fraction, of ``subset`` if that
            is given, else of the training pictures; 0 is none. "published" takes the published
            validation pictures, which then are not trained on. "test" takes the test split, which
            is a leak: only for comparison with authors who select so.
        subset: Number of training pictures, drawn from those not in the validation split; ``None``
            takes them all. Those of a smaller number are among those of a larger one.
        seed: Of all draws.

    Raises:
        ConfigError: ``valid`` or ``subset`` is no such number, or no validation pictures are
            published.
        DataError: There are not that many pictures.

    >>> from tombola.data.loading import load
    >>> data = load("shapes", options={"train": 40, "test": 10}, kind=BoxData)
    >>> splits = split_boxes(data, valid=0.25)
    >>> len(splits.train), len(splits.valid), len(splits.test)
    (30, 10, 10)
    """
    if isinstance(valid, str) and valid not in ("published", "test"):
        raise ConfigError(
            f"valid is {shown(valid)}; it is a number of pictures, a fraction below 1, 'published' "
            "or 'test'"
        )
    if valid == "published" and data.valid is None:
        raise ConfigError(
            "valid is 'published', and this data set has no published validation pictures; give "
            "a number of training pictures to set aside, or a fraction"
        )
    published = len(data.train)
    drawn = 0 if isinstance(valid, str) else valid
    size = valid_size(drawn, published, subset, "pictures")

    # Validation pictures first, so that they do not depend on the subset.
    order = torch.randperm(published, generator=seeds.generator(seed, "valid"))
    validated = order[:size].sort().values
    is_left = torch.ones(published, dtype=torch.bool)
    is_left[validated] = False
    if valid == "published" and data.valid is not None:
        held_out = set(data.valid.names)
        is_left &= torch.tensor([name not in held_out for name in data.train.names])
    trained = is_left.nonzero().flatten()
    if len(trained) < (subset or 1):
        wanted = "at least one" if subset is None else shown(subset)
        raise DataError(
            f"{wanted} to train on are more than the {len(trained)} training pictures that are not "
            "published for validation"
        )
    if subset is not None:
        order = torch.randperm(len(trained), generator=seeds.generator(seed, "subset"))
        trained = trained[order[:subset].sort().values]

    if valid == "test":
        valid_split = data.test
    elif valid == "published" and data.valid is not None:
        valid_split = data.valid
    else:
        valid_split = data.train.take(validated)
    return BoxSplits(
        train=data.train if len(trained) == published else data.train.take(trained),
        valid=valid_split,
        test=data.test,
        class_names=data.class_names,
        fingerprint=data.fingerprint,
        verified=data.verified,
        skipped=data.skipped,
        facts=data.facts,
        published=published,
        indices=trained,
    )


def fingerprint_of(
    parts: Sequence[Boxes], class_names: Sequence[str], contents: Sequence[str] = ()
) -> str:
    """Return the sha256 (hex) of pictures, boxes, labels and names of a data set's splits.

    Args:
        parts: The splits.
        class_names: Names of the classes.
        contents: What stands for the pixels of pictures that are files: a digest of each file.
            Pictures that are held are hashed themselves.
    """
    digest = hashlib.sha256(repr((list(class_names), list(contents))).encode())
    for part in parts:
        digest.update(f"{len(part)} pictures;".encode())
        for row, name in enumerate(part.names):
            tensors = [part.boxes[row], part.labels[row], part.difficult[row]]
            if isinstance(part.pictures, HeldPictures):
                tensors.append(part.pictures[row])
            digest.update(repr(name).encode())
            for tensor in tensors:
                array = np.ascontiguousarray(tensor.numpy())
                digest.update(f"{array.dtype.str} {array.shape};".encode())
                digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _check(part: Boxes, name: str, classes: int) -> None:
    """Refuse annotations that would train in silence on nonsense, or fail far from their cause."""
    columns = {"boxes": part.boxes, "labels": part.labels, "difficult flags": part.difficult}
    lengths = {what: len(column) for what, column in columns.items()}
    for what, length in {"pixels": len(part.pictures), **lengths}.items():
        if length != len(part):
            raise DataError(
                f"{len(part)} {name} pictures are named, and there are {what} of {length}"
            )
    if len(part) == 0:
        raise DataError(f"there are no {name} pictures; at least one is needed")
    kinds = {"boxes": torch.float32, "labels": torch.int64, "difficult flags": torch.bool}
    for row, picture in enumerate(part.names):
        place = f"{name} picture {shown(picture)}"
        boxes, labels = part.boxes[row], part.labels[row]
        for what, column in columns.items():
            if column[row].dtype is not kinds[what]:
                seen, right = str(column[row].dtype)[6:], str(kinds[what])[6:]
                raise DataError(f"the {what} of {place} are {seen}; they must be {right}")
        shape = [len(labels), 4]
        if list(boxes.shape) != shape or part.difficult[row].shape != labels.shape:
            raise DataError(
                f"{place} has {shape[0]} labels, boxes of shape {list(boxes.shape)} and "
                f"{len(part.difficult[row])} difficult flags; there must be one each, and four "
                "numbers for a box"
            )
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise DataError(
                f"{place} has the labels {shown(labels.tolist())}; with {classes} classes they run "
                f"from 0 to {classes - 1}"
            )
        height = width = None
        if isinstance(part.pictures, HeldPictures):
            _check_picture(part.pictures[row], place)
            height, width = part.pictures[row].shape[1:]
        for box in boxes.tolist():
            reason = wrong_with(box, width, height)
            if reason:
                raise DataError(f"{place} has the box {shown(box)}, which {reason}")


def _check_picture(picture: Tensor, place: str) -> None:
    is_rgb = picture.ndim == 3 and picture.shape[0] == 3 and 0 not in picture.shape
    if picture.dtype is not torch.uint8 or not is_rgb:
        raise DataError(
            f"{place} is {str(picture.dtype)[6:]} of shape {list(picture.shape)}; it must be uint8 "
            "of 3 x height x width"
        )


def wrong_with(
    box: Sequence[float], width: float | None = None, height: float | None = None
) -> str:
    """Say what is wrong with a box in a picture of that size; empty: nothing.

    >>> wrong_with([5, 5, 5, 9]), wrong_with([0, 0, 9, 12], 9, 9), wrong_with([0, 0, 9, 9], 9, 9)
    ('has no area', 'reaches out of the picture (9 x 9 pixels)', '')
    """
    x1, y1, x2, y2 = box
    if not np.isfinite(box).all():
        return "is not made of finite numbers"
    if x2 <= x1 or y2 <= y1:
        return "has no area"
    if x1 < 0 or y1 < 0:
        return "begins left of or above the picture"
    if width is not None and height is not None and (x2 > width or y2 > height):
        return f"reaches out of the picture ({width:g} x {height:g} pixels)"
    return ""
