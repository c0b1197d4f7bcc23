"""COCO folder: pictures of your own with boxes in a JSON file, as COCO has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn

from tombola.data.annotated import Annotation, LeftOut, boxes_of, without_boxes
from tombola.data.boxes import BoxData, Boxes, fingerprint_of
from tombola.data.roots import first_existing
from tombola.ground.errors import ConfigError, DataError, shown

# Sides are often written with two digits, so that a box at the edge may end just outside.
_ROUNDING = 0.01


def coco_folder(
    *,
    annotations: str,
    images: str,
    test_annotations: str,
    test_images: str | None = None,
    valid_annotations: str | None = None,
    valid_images: str | None = None,
    root: str | Path | None = None,
    unreadable: Literal["stop", "skip"] = "stop",
) -> BoxData:
    """Read pictures with boxes from a folder and an annotation file in COCO's format.

    A file has ``images`` (each with ``id`` and ``file_name``, and ``width`` and ``height`` that are
    compared with the picture's), ``annotations`` (each with ``image_id``, ``category_id`` and
    ``bbox``, which is left, top, width and height, counted from 0) and ``categories`` (each with
    ``id`` and ``name``). Classes are numbered in the order of their categories' ids. Crowds
    (``iscrowd``) count as difficult. A box that ends less than 0.01 pixels outside of its picture
    is cut off there. Pictures are decoded when they are needed. The fingerprint is that of the
    pictures' bytes and of what the annotations say.

    Args:
        annotations: The file of the training pictures; absolute, or relative to the data root, or
            else to the working folder. So are the other paths.
        images: The folder of the training pictures.
        test_annotations: The file of the test pictures, with the same categories.
        test_images: The folder of the test pictures; without it that of the training pictures.
        valid_annotations: The file of the validation pictures (``data.valid: published``).
        valid_images: The folder of the validation pictures; without it that of the training
            pictures.
        root: The data root; see ``tombola.data.roots.data_root``.
        unreadable: What to do about a picture that cannot be read or is missing, sizes that
            disagree, and a box outside of its picture or without area. ``"stop"`` names the file;
            ``"skip"`` leaves out the picture or the box and tells how many, for which every picture
            is decoded once at the beginning.

    Raises:
        ConfigError: There are validation pictures without annotations.
        DataError: A file or folder is missing, a file is not what it should be, or something in
            it cannot be used.

    Source:
        Lin et al., "Microsoft COCO: common objects in context", arXiv:1405.0312; the format is
        described at https://cocodataset.org/#format-data.
    """
    if valid_images is not None and valid_annotations is None:
        raise ConfigError(
            "coco_folder.valid_images is given without valid_annotations, the file that says what "
            "is in these pictures"
        )
    left_out = LeftOut(unreadable == "skip")
    sources = {
        "training": (annotations, images),
        "test": (test_annotations, test_images or images),
    }
    if valid_annotations is not None:
        sources["validation"] = valid_annotations, valid_images or images
    first: _File | None = None
    parts: dict[str, Boxes] = {}
    digests: list[str] = []
    facts: tuple[str, ...] = ()
    for split, (file, folder) in sources.items():
        content = _File(_place(file, root, "file", split))
        first = first or content
        if content.categories != first.categories:
            raise DataError(
                f"{content.path} and {first.path} have different categories: "
                f"{shown(content.categories)} and {shown(first.categories)}"
            )
        pictures = _place(folder, root, "folder", split)
        part, found = boxes_of(content.annotations(pictures), left_out)
        parts[split] = part
        digests += found
        facts = (*facts, *without_boxes(part, split))
    assert first is not None
    names = tuple(first.categories.values())
    return BoxData(
        train=parts["training"],
        test=parts["test"],
        valid=parts.get("validation"),
        class_names=names,
        fingerprint=fingerprint_of(list(parts.values()), names, digests),
        skipped=left_out.lines,
        facts=facts,
    )


def _place(path: str, root: str | Path | None, kind: Literal["file", "folder"], split: str) -> Path:
    """Find a file or folder that an option names."""
    option = {"file": "annotations", "folder": "images"}[kind]
    if split != "training":
        option = f"{'valid' if split == 'validation' else split}_{option}"
    content = "annotations in COCO's format" if kind == "file" else f"the {split} pictures"
    return first_existing(path, root, kind, content, option=option)


class _File:
    """An annotation file, checked entry by entry.

    Attributes:
        path: Its place.
        categories: The name of each category by its id, in the order of the ids.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            content = json.loads(path.read_bytes())
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from error
        # A text in no known encoding is a ValueError, too.
        except (ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"cannot read {path} as JSON: {reason}") from error
        self._images = self._list(content, "images")
        self._boxes = self._list(content, "annotations")
        categories = self._list(content, "categories")
        named: dict[int, str] = {}
        for place, entry in enumerate(categories):
            number = self._whole(entry, "id", f"category {place}")
            named[number] = self._text(entry, "name", f"category {number}")
        self.categories: dict[int, str] = dict(sorted(named.items()))
        if len(named) < len(categories):
            raise DataError(f"{path} has two categories of one id")

    def annotations(self, folder: Path) -> list[Annotation]:
        """Return what the file says about each picture, in its order.

        Args:
            folder: Of the pictures.
        """
        label_of = {number: label for label, number in enumerate(self.categories)}
        boxes_of_picture: dict[int, list[tuple[list[float], int, bool]]] = {}
        pictures: dict[int, tuple[str, tuple[float, float] | None]] = {}
        for place, entry in enumerate(self._images):
            number = self._whole(entry, "id", f"image {place}")
            name = self._text(entry, "file_name", f"image {number}")
            if number in boxes_of_picture:
                raise DataError(f"{self.path} has two images of the id {number}")
            boxes_of_picture[number] = []
            pictures[number] = name, self._size(entry, f"image {number}")
        for place, entry in enumerate(self._boxes):
            what = f"annotation {entry['id']}" if _has_id(entry) else f"annotation {place}"
            number = self._whole(entry, "image_id", what)
            category = self._whole(entry, "category_id", what)
            if number not in boxes_of_picture:
                raise DataError(f"{self.path}: {what} is of image {number}, which is not listed")
            if category not in label_of:
                raise DataError(
                    f"{self.path}: {what} is of category {category}, which is not listed; listed "
                    f"are {shown(list(label_of))}"
                )
            box = self._edges(entry, what, pictures[number][1])
            is_crowd = entry.get("iscrowd", 0)
            if is_crowd not in (0, 1):
                self._refuse(entry, "iscrowd", what, "0 or 1")
            boxes_of_picture[number].append((box, label_of[category], bool(is_crowd)))
        made = []
        for number, (name, size) in pictures.items():
            objects = boxes_of_picture[number]
            made.append(
                Annotation(
                    name,
                    folder / name,
                    self.path,
                    size,
                    [box for box, _, _ in objects],
                    [label for _, label, _ in objects],
                    [is_crowd for _, _, is_crowd in objects],
                )
            )
        return made

    def _edges(
        self, entry: Mapping[str, Any], what: str, size: tuple[float, float] | None
    ) -> list[float]:
        box = entry.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            raise DataError(
                f"{self.path}: the bbox of {what} is {shown(box)}; it is a list of left, top, width "
                "and height"
            )
        left, top, width, height = map(float, box)
        right, bottom = left + width, top + height
        if size is not None:
            right, bottom = _cut(right, size[0]), _cut(bottom, size[1])
        return [left, top, right, bottom]

    def _size(self, entry: Mapping[str, Any], what: str) -> tuple[float, float] | None:
        if "width" not in entry and "height" not in entry:
            return None
        return self._whole(entry, "width", what), self._whole(entry, "height", what)

    def _list(self, content: Any, key: str) -> list[Any]:
        value = content.get(key) if isinstance(content, dict) else None
        if not isinstance(value, list):
            raise DataError(
                f"{self.path} is no annotation file of COCO: it has no list '{key}'; it needs "
                "images, annotations and categories"
            )
        return value

    def _whole(self, entry: Any, key: str, what: str) -> int:
        value = entry.get(key) if isinstance(entry, dict) else None
        if isinstance(value, bool) or not isinstance(value, int):
            self._refuse(entry, key, what, "a whole number")
        return int(value)

    def _text(self, entry: Any, key: str, what: str) -> str:
        value = entry.get(key) if isinstance(entry, dict) else None
        if not isinstance(value, str) or not value:
            self._refuse(entry, key, what, "a text")
        return str(value)

    def _refuse(self, entry: Any, key: str, what: str, right: str) -> NoReturn:
        seen = shown(entry)
        if isinstance(entry, dict):
            seen = shown(entry[key]) if key in entry else "missing"
        raise DataError(f"{self.path}: '{key}' of {what} is {seen}; it should be {right}")


def _has_id(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("id"), int)


def _is_number(value: Any) -> bool:
    # A whole number of hundreds of digits is none that a float can hold.
    is_small = not isinstance(value, int) or abs(value) < 2**53
    return isinstance(value, int | float) and not isinstance(value, bool) and is_small


def _cut(edge: float, side: float) -> float:
    return side if side < edge <= side + _ROUNDING else edge
