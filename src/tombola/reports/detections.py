"""Detections: what a ticket and the dense network find on a few test pictures.

    pictures, boxes by arm -> [ side by side ] -> chart

A picture stands in the chart as a data URI, so the page needs no other file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from tombola.reports.aggregate import DENSE
from tombola.reports.drawing import INK, INK_ON_LIGHT, configured, inline
from tombola.reports.grids import percent

if TYPE_CHECKING:
    from tombola.ground.extras import altair as alt

LEAST_SCORE = 0.5  # of a detection that is drawn
_SIDE = 290  # of a panel, in pixels, where the page does not give it another width
_ROOM = 24  # pixels of a panel's place that its picture does not take
_LINE, _LETTER = 19, 7.4  # how high a line of text is, and how wide a letter, in pixels

# None of them is a colour of the page, which a dark page would exchange: pictures stay as they are.
_LIGHT, _DARK, _FOUND = "#fffffe", INK_ON_LIGHT, "#c2410c"
_LETTERS: dict[str, Any] = {
    "align": "left",
    "dx": 2,
    "fontSize": 11,
    "clip": True,
    "strokeJoin": "round",
}
_OF_FOUND = _LETTERS | {"baseline": "bottom", "dy": -2, "fontWeight": "bold"}
_OF_OBJECTS = _LETTERS | {"baseline": "top", "dy": 2, "fontStyle": "italic"}


@dataclass(frozen=True)
class Box:
    """An object on a picture, or what a network takes for one.

    Attributes:
        corners: x1, y1, x2, y2 in pixels from the upper left corner.
        name: Of its class.
        score: The network's, 0 to 1; ``None`` of an object that is there.
    """

    corners: tuple[float, float, float, float]
    name: str
    score: float | None = None

    @property
    def text(self) -> str:
        """What stands at the box.

        >>> Box((0, 0, 9, 9), "cat", 0.914).text, Box((0, 0, 9, 9), "cat").text
        ('cat .91', 'cat')
        """
        if self.score is None:
            return self.name
        # Never 1.00, which would be certainty.
        return f"{self.name} {min(self.score, 0.99):.2f}".replace(" 0.", " .")


@dataclass(frozen=True)
class Picture:
    """A test picture with what is on it and what was found.

    Attributes:
        address: A data URI.
        width: In pixels.
        height: In pixels.
        objects: That are there.
        found: By arm, in all scores; an arm that found nothing has an empty list.
    """

    address: str
    width: int
    height: int
    objects: Sequence[Box]
    found: Mapping[str, Sequence[Box]]


@dataclass(frozen=True)
class Shown:
    """What the page draws of detections: pictures, and whose boxes.

    Attributes:
        pictures: A few of the test split.
        densities: By arm, the density of the ticket that is drawn; without the dense network.
        replicate: Whose networks they are.
    """

    pictures: Sequence[Picture]
    densities: Mapping[str, float]
    replicate: int


def beside_dense(shown: Shown, arm: str) -> alt.VConcatChart:
    """Draw each picture twice: with the boxes of the dense network, and with those of an arm's
    ticket.

    Each panel is as wide as the page gives it room for, and keeps the proportions of its picture.

    Args:
        shown: The pictures.
        arm: Whose ticket.
    """
    from tombola.ground.extras import altair as alt

    titles = {DENSE: "dense network", arm: f"{arm} at {percent(shown.densities[arm])} %"}
    rows = []
    for picture in shown.pictures:
        pair = [_panel(picture, picture.found[name], title) for name, title in titles.items()]
        rows.append(alt.hconcat(*pair, spacing=10))
    fitted = {"panels": True, "together": len(titles), "room": _ROOM}
    chart: alt.VConcatChart = configured(alt.vconcat(*rows, spacing=10, usermeta=fitted))
    return chart


def _panel(picture: Picture, found: Sequence[Box], title: str) -> alt.LayerChart:
    """Draw a picture, the objects that are there, and what a network has found."""
    from tombola.ground.extras import altair as alt

    whole = {"x1": 0, "y1": 0, "x2": picture.width, "y2": picture.height, "url": picture.address}
    image = alt.Chart(inline([whole])).mark_image(aspect=False)
    layers: list[Any] = [image.encode(url="url:N", **_corners(picture))]
    texts: list[Any] = []
    if picture.objects:
        objects = alt.Chart(inline([_row(box, picture) for box in picture.objects]))
        layers.append(_frames(objects, picture, _DARK, 3))
        layers.append(_frames(objects, picture, _LIGHT, 1.5, strokeDash=[5, 4]))
        texts += _texts(objects, picture, "below", _OF_OBJECTS)
    drawn = [box for box in found if (box.score or 0.0) > LEAST_SCORE]
    if drawn:
        boxes = alt.Chart(inline([_row(box, picture) for box in drawn]))
        layers.append(_frames(boxes, picture, _LIGHT, 4))
        layers.append(_frames(boxes, picture, _FOUND, 2))
        texts += _texts(boxes, picture, "above", _OF_FOUND)
    chart: Any = alt.layer(
        *layers,
        *texts,  # above all frames
        width=_SIDE,
        height=round(_SIDE * picture.height / picture.width),
        title=alt.Title(title, fontSize=12, fontWeight="normal", color=INK, anchor="start"),
    )
    return cast("alt.LayerChart", chart)


def _place(picture: Picture, x: str, y: str) -> dict[str, Any]:
    """Return where something is on a picture, in its pixels; rows of pixels count from above."""
    from tombola.ground.extras import altair as alt

    across = alt.Scale(domain=[0, picture.width], nice=False)
    down = alt.Scale(domain=[picture.height, 0], nice=False)
    return {
        "x": alt.X(f"{x}:Q", scale=across, axis=None),
        "y": alt.Y(f"{y}:Q", scale=down, axis=None),
    }


def _corners(picture: Picture) -> dict[str, Any]:
    return {**_place(picture, "x1", "y1"), "x2": "x2:Q", "y2": "y2:Q"}


def _frames(
    boxes: alt.Chart, picture: Picture, colour: str, width: float, **more: Any
) -> alt.Chart:
    """Draw the outlines of boxes.

    A light line over a dark one, or a dark one over a light one, is seen on any picture.
    """
    from tombola.ground.extras import altair as alt

    look = {"filled": False, "stroke": colour, "strokeWidth": width, "clip": True, **more}
    tips = [alt.Tooltip("text:N", title="box")]
    drawn: alt.Chart = boxes.mark_rect(**look).encode(tooltip=tips, **_corners(picture))
    return drawn


def _texts(boxes: alt.Chart, picture: Picture, y: str, letters: Mapping[str, Any]) -> list[Any]:
    """Write what stands at boxes: light on a dark edge."""
    place = _place(picture, "left", y)
    edge = boxes.mark_text(**letters, color=_DARK, stroke=_DARK, strokeWidth=3)
    text = boxes.mark_text(**letters, color=_LIGHT)
    return [edge.encode(text="text:N", **place), text.encode(text="text:N", **place)]


def _row(box: Box, picture: Picture) -> dict[str, Any]:
    """Return a box as it is drawn, with the places of a text above and below it; within it where
    there is no room, and never beyond the right edge.
    """
    x1, y1, x2, y2 = box.corners
    scale = picture.width / _SIDE  # pixels of the picture in one of the panel
    line = _LINE * scale
    above = y1 if y1 > line else y1 + line
    below = y2 if y2 < picture.height - line else y2 - line
    left = min(x1, picture.width - _LETTER * len(box.text) * scale)
    row = {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "text": box.text}
    return row | {"left": max(left, 0.0), "above": above, "below": below}
