"""Pictures: the test pictures that a report shows, with what networks found on them.

pictures of the run, detections kept beside its records -> [ a ticket of each arm ] -> Shown
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

from torch import Tensor

from tombola.folder.runs import Run
from tombola.ground.errors import DamagedError
from tombola.reports import aggregate
from tombola.reports.aggregate import DENSE
from tombola.reports.detections import Box, Picture, Shown

_MOST_ARMS = 2  # whose tickets are drawn
_MOST_PIXELS = 400  # of the longer side, on the page
_LOSSLESS = 200  # pixels of the longer side up to which a picture stays as it is
_DETECTIONS = ("picture", "boxes", "labels", "scores")

Found = Mapping[int, Sequence[Box]]  # by the picture's position in the test split


def shown_of(run: Run, arms: Sequence[str], at: Sequence[float]) -> Shown | None:
    """Return the test pictures of a run with what the dense network and tickets found on them.

    Of each arm it is the first ticket at or below the lowest of the densities that it has reached,
    of the first replicate whose detections are here.

    Args:
        run: The folder.
        arms: Whose tickets may be drawn, in order.
        at: Densities.

    Returns:
        ``None`` where the task shows no pictures, or nothing was kept of them yet.

    Raises:
        ConfigError: A file is damaged.
    """
    tensors = run.pictures()
    if not tensors:
        return None
    names = bytes(tensors["names"].tolist()).decode().split("\n")
    for replicate in range(run.recipe.replicates):
        dense = _dense(run, replicate, names)
        tickets = _tickets(run, arms, at, replicate, names)
        if dense is not None and tickets:
            found = {DENSE: dense} | {arm: of_arm for arm, (_, of_arm) in tickets.items()}
            densities = {arm: density for arm, (density, _) in tickets.items()}
            return Shown(_pictures(tensors, found, names), densities, replicate)
    return None


def _dense(run: Run, replicate: int, names: Sequence[str]) -> Found | None:
    """Return what the dense network found: round 0 of any arm."""
    for arm in run.recipe.arms:
        found = _found(run, arm, replicate, 0, names)
        if found is not None:
            return found
    return None


def _tickets(
    run: Run, arms: Sequence[str], at: Sequence[float], replicate: int, names: Sequence[str]
) -> dict[str, tuple[float, Found]]:
    """Return the ticket of each arm that is drawn: its density and what it found."""
    tickets: dict[str, tuple[float, Found]] = {}
    for arm in arms:
        records = [record for record in run.records.of(arm, replicate) if record["round"]]
        for density in sorted(at):
            for record in aggregate.firsts(records, density):
                found = _found(run, arm, replicate, record["round"], names)
                if found is not None:
                    tickets.setdefault(arm, (record["density"], found))
    return {arm: tickets[arm] for arm in list(tickets)[:_MOST_ARMS]}


def _found(run: Run, arm: str, replicate: int, index: int, names: Sequence[str]) -> Found | None:
    """Return the detections of a round; ``None`` where none were kept."""
    kept = run.kept(arm, replicate, index)
    if not kept.keys() >= set(_DETECTIONS):
        return None
    picture, boxes, labels, scores = (kept[name] for name in _DETECTIONS)
    rows = len(picture)
    if boxes.shape != (rows, 4) or labels.shape != (rows,) or scores.shape != (rows,):
        raise DamagedError(
            f"'{run.path}' has detections of round {index} of {arm} that are no boxes with a label "
            "and a score each"
        )
    found: dict[int, list[Box]] = {}
    for position, box in zip(picture.tolist(), _boxes(boxes, labels, names, scores), strict=True):
        found.setdefault(position, []).append(box)
    return found


def _pictures(
    tensors: Mapping[str, Tensor], found: Mapping[str, Found], names: Sequence[str]
) -> list[Picture]:
    pictures = []
    for index in range(sum(name.startswith("image_") for name in tensors)):
        image = tensors[f"image_{index}"]
        objects = _boxes(tensors[f"boxes_{index}"], tensors[f"labels_{index}"], names)
        on_it = {arm: of_arm.get(index, ()) for arm, of_arm in found.items()}
        height, width = image.shape[1:]
        pictures.append(Picture(_address(image), width, height, objects, on_it))
    return pictures


def _boxes(
    corners: Tensor, labels: Tensor, names: Sequence[str], scores: Tensor | None = None
) -> list[Box]:
    boxes = []
    of_boxes = [None] * len(labels) if scores is None else scores.tolist()
    for corner, label, score in zip(corners.tolist(), labels.tolist(), of_boxes, strict=True):
        # A label without a name is shown, not hidden.
        name = names[label] if 0 <= label < len(names) else f"class {label}"
        boxes.append(Box(tuple(corner), name, score))
    return boxes


def _address(image: Tensor) -> str:
    """Return a picture as a data URI, made smaller where a page has no room for its pixels."""
    from tombola.ground.extras import Image

    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    file = io.BytesIO()
    if max(picture.size) <= _LOSSLESS:
        kind = "png"
        picture.save(file, "PNG", optimize=True)
    else:
        kind = "jpeg"
        picture.thumbnail((_MOST_PIXELS, _MOST_PIXELS))
        picture.save(file, "JPEG", quality=80)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
