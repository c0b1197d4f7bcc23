"""Pascal VOC: photographs with boxes of twenty kinds of things."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple
from xml.etree import ElementTree

from tombola.data import devkit
from tombola.data.annotated import Annotation, LeftOut, boxes_of, without_boxes
from tombola.data.boxes import BoxData, fingerprint_of
from tombola.ground.errors import DataError, near, shown

_PICTURE = "JPEGImages/{}.jpg"
_ANNOTATION = "Annotations/{}.xml"
_NO_TEST = (
    "no annotations of the test pictures of Pascal VOC 2012 are published: trained on its train "
    "split, tested on its val split"
)


class _Lists(NamedTuple):
    """Which lists of a year make the splits; an empty text: none."""

    year: int
    train: str
    valid: str
    test: str


_EDITIONS = {
    2007: (_Lists(2007, "trainval", "val", "test"),),
    2012: (_Lists(2012, "train", "", "val"),),
    "2007+2012": (_Lists(2007, "trainval", "val", "test"), _Lists(2012, "trainval", "val", "")),
}


def voc(
    *,
    root: str | Path | None = None,
    year: Literal[2007, 2012, "2007+2012"] = 2007,
    unreadable: Literal["stop", "skip"] = "stop",
    download: bool = True,
    verify: bool = True,
) -> BoxData:
    """Photographs of about 500 x 375 pixels with boxes of 20 classes: aeroplane, bicycle, bird …

    Read from ``VOCdevkit/VOC2007`` and ``VOCdevkit/VOC2012`` under the root, where torchvision has
    them, too. Boxes in the files count pixels from 1 and include the last one; here they are
    [xmin - 1, ymin - 1, xmax, ymax]. Difficult objects keep their flag. Pictures are decoded when
    they are needed. The fingerprint is that of the files' bytes and of what the annotations say.

    Args:
        root: The data root; see ``tombola.data.roots.data_root``.
        year: ``2007`` trains on its ``trainval`` (5,011 pictures) and tests on its ``test``
            (4,952). ``2012`` trains on its ``train`` (5,717) and tests on its ``val`` (5,823), as
            no annotations of its test pictures are published. ``2007+2012`` trains on ``trainval``
            of both (16,551) and tests on ``test`` of 2007. The published validation pictures
            (``data.valid: published``) are ``val`` of the same years, which then is not trained on;
            2012 by itself has none left.
        unreadable: What to do about a picture or annotation that cannot be read, one that a list
            names and that is missing, sizes that disagree, and a box outside of its picture or
            without area. ``"stop"`` names the file; ``"skip"`` leaves out the picture or the box
            and tells how many, for which every picture is decoded once at the beginning.
        download: Download what is missing; what is there is never replaced.
        verify: Accept only the published files. A checksum is published for the archives alone;
            tombola compares it when it downloads, and writes the sha256 of each file beside them,
            with which they are compared whenever they are read. Without, any folder of this layout
            is accepted as it is, such as a part of the data set, and the data set says so.

    Raises:
        DataError: Files are missing and cannot be downloaded, they are not the published ones, or
            something in them cannot be used.

    Source:
        Everingham et al., "The Pascal Visual Object Classes (VOC) challenge", IJCV 2010.
    """
    left_out = LeftOut(unreadable == "skip")
    train: list[Annotation] = []
    test: list[Annotation] = []
    validated: set[str] = set()
    for lists in _EDITIONS[year]:
        used = [f"Main/{name}" for name in lists[1:] if name]
        folder = devkit.folder_of(lists.year, root, used, download=download)
        names = {name: devkit.listed(folder, f"Main/{name}") for name in lists[1:] if name}
        if verify:
            devkit.verify(folder, _files(names))
        both = sorted(set(names[lists.train]) & set(names.get(lists.test, ())))
        if both:
            raise DataError(
                f"{folder}/ImageSets/Main/{lists.test}.txt names '{both[0]}', which is in "
                f"{lists.train}.txt, too; no picture is trained on and tested on"
            )
        train += _annotations(folder, names[lists.train], left_out)
        if lists.test:
            test += _annotations(folder, names[lists.test], left_out)
        if lists.valid:
            odd = sorted(set(names[lists.valid]) - set(names[lists.train]))
            if odd:
                raise DataError(
                    f"{folder}/ImageSets/Main/{lists.valid}.txt names '{odd[0]}', which is not in "
                    f"{lists.train}.txt; validation pictures are a part of it"
                )
            validated.update(names[lists.valid])

    parts, digests = [], []
    for split in (train, test):
        part, found = boxes_of(split, left_out)
        parts.append(part)
        digests += found
    facts = (*without_boxes(parts[0], "training"), *without_boxes(parts[1], "test"))
    if year == 2012:
        facts = (_NO_TEST, *facts)
    valid = None
    if validated:
        valid = parts[0].take([name in validated for name in parts[0].names])
    return BoxData(
        train=parts[0],
        test=parts[1],
        class_names=devkit.CLASSES,
        fingerprint=fingerprint_of(parts, devkit.CLASSES, digests),
        valid=valid,
        verified=verify,
        skipped=left_out.lines,
        facts=facts,
    )


def _files(names: Mapping[str, Sequence[str]]) -> list[str]:
    """List the files of a year that some lists need, the lists among them."""
    files = []
    for name, pictures in names.items():
        files.append(f"ImageSets/Main/{name}.txt")
        for picture in pictures:
            files += [_PICTURE.format(picture), _ANNOTATION.format(picture)]
    # The lists overlap.
    return list(dict.fromkeys(files))


def _annotations(folder: Path, names: Sequence[str], left_out: LeftOut) -> list[Annotation]:
    """Read the annotations of the pictures of a list, except those to be left out."""
    annotations = []
    for name in names:
        file = folder / _ANNOTATION.format(name)
        try:
            annotations.append(_annotation(name, folder / _PICTURE.format(name), file))
        except (OSError, ElementTree.ParseError, _NoAnnotationError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            left_out.add("pictures", file, f"cannot be read as an annotation: {reason}")
    return annotations


class _NoAnnotationError(Exception):
    """A file is not what an annotation of VOC should be."""


def _annotation(name: str, picture: Path, file: Path) -> Annotation:
    content = file.read_bytes()
    # An annotation has none; entities that name each other can fill the memory.
    if b"<!ENTITY" in content:
        raise _NoAnnotationError("it declares entities")
    root = ElementTree.fromstring(content)
    if root.tag != "annotation":
        raise _NoAnnotationError(f"its first element is <{root.tag}>, not <annotation>")
    size = None
    if root.find("size") is not None:
        size = _number(root, "size/width"), _number(root, "size/height")
    boxes, labels, difficult = [], [], []
    for thing in root.findall("object"):
        kind = (thing.findtext("name") or "").strip()
        # Of a class that is not known nothing could be learnt, and to leave it out would teach that
        # it is nothing.
        if kind not in devkit.CLASSES:
            raise DataError(
                f"{file} has an object of the class {shown(kind)}, which is none of the 20 of "
                f"Pascal VOC.{near(kind, devkit.CLASSES)}"
            )
        edges = [_number(thing, f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax")]
        boxes.append([edges[0] - 1, edges[1] - 1, edges[2], edges[3]])
        labels.append(devkit.CLASSES.index(kind))
        flag = (thing.findtext("difficult") or "0").strip()
        if flag not in ("0", "1"):
            raise _NoAnnotationError(f"<difficult> is {shown(flag)}, which is neither 0 nor 1")
        difficult.append(flag == "1")
    return Annotation(name, picture, file, size, boxes, labels, difficult)


def _number(element: ElementTree.Element, path: str) -> float:
    text = element.findtext(path)
    if text is None:
        raise _NoAnnotationError(f"<{element.tag}> has no <{path.replace('/', '><')}>")
    try:
        return float(text)
    except ValueError:
        raise _NoAnnotationError(
            f"<{path.rpartition('/')[2]}> is {shown(text)}, which is no number"
        ) from None
