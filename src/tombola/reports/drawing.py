"""Drawing: what all figures share: an arm's colour and shape, axes, legends, and the style.

    records -> figures, panels -> [ encodings, axes, style ] -> charts of Vega-Lite

Colours are told apart by colour-blind readers, shapes by everyone in print.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from tombola.ground.metrics import ACCURACY, Metric
from tombola.reports.aggregate import Record, Spread

if TYPE_CHECKING:
    from tombola.ground.extras import altair as alt

# Okabe and Ito's palette without its yellow, which white paper swallows, and with black last.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# On a dark page the same hues, light enough to be read on it: sheets put them in place by CSS.
ON_DARK = ("#3d8ee6", "#ff8a3d", "#25c795", "#e59bcb", "#f2b134", "#9bd8ff", "#f0f0f0")
# Of names in an arm's colour: three of the palette are too pale for letters on white.
LETTERS = ("#0072B2", "#B84F00", "#007F5C", "#A8467F", "#966400", "#1F74A8", "#000000")
# One more than colours, so that the eighth arm differs from the first in its shape.
SHAPES = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "triangle-right",
    "triangle-left",
)

WIDTH = 640  # of a figure, in pixels, without its labels
WIDTH_OF_ROW = 726  # of panels side by side, with theirs

INK, GREY, PRUNED, PAPER, GRID = "#222222", "#595959", "#c8c8c8", "#ffffff", "#e6e6e6"
# On a surface that is light on a dark page too, such as a cell of a heat map.
INK_ON_LIGHT = "#1f1f1f"
_FONT = "Helvetica, Arial, sans-serif"
DENSITY_TITLE = "Density: weights kept (%, log scale)"
# Without 90: on a phone its label would run into that of 100.
_TENS = (100, *range(80, 0, -10))
_ABOVE: dict[str, Any] = {"fontSize": 12, "fontWeight": "normal", "color": GREY, "anchor": "start"}


def colours(names: Sequence[str]) -> dict[str, str]:
    """Give every arm its colour, in order; from the eighth arm on they repeat.

    >>> colours(["colt-2", "lth"])
    {'colt-2': '#0072B2', 'lth': '#D55E00'}
    """
    return dict(zip(names, itertools.cycle(PALETTE), strict=False))


# Between these lie the colours of what has an order and is no arm: layers by depth, densities. They
# can be told from the background on a white page and on a dark one.
_ORDERED = ((14, 154, 167), (122, 92, 208), (181, 71, 155))


def ordered_colours(number: int) -> list[str]:
    """Return as many colours in an order, none of which is an arm's.

    >>> ordered_colours(3)
    ['#0e9aa7', '#7a5cd0', '#b5479b']
    """
    mixed = []
    for index in range(number):
        place = 2 * index / max(1, number - 1)
        left = min(int(place), 1)
        share = place - left
        code = "#"
        for begin, end in zip(_ORDERED[left], _ORDERED[left + 1], strict=True):
            code += f"{round((1 - share) * begin + share * end):02x}"
        mixed.append(code)
    return mixed


def letter_colours(names: Sequence[str]) -> dict[str, str]:
    """Give every arm the colour of its name, which is its own or a darker shade of it.

    >>> letter_colours(["colt-2", "lth"])
    {'colt-2': '#0072B2', 'lth': '#B84F00'}
    """
    return dict(zip(names, itertools.cycle(LETTERS), strict=False))


def marks(names: Sequence[str]) -> dict[str, str]:
    """Give every arm its mark, in order; colour and mark together are an arm's own up to 56 arms.

    >>> marks(["colt-2", "lth"])
    {'colt-2': 'circle', 'lth': 'square'}
    """
    return dict(zip(names, itertools.cycle(SHAPES), strict=False))


def spread_out(places: Sequence[float], gap: float, height: float) -> list[float]:
    """Move places apart so that neighbours are a gap from each other, as little as that takes.

    Args:
        places: In pixels, in any order.
        gap: Between two neighbours; less where the height has no room for that.
        height: Between 0 and this all places lie afterwards.

    >>> spread_out([50.0, 52.0, 10.0], 12.0, 100.0)
    [45.0, 57.0, 10.0]
    >>> spread_out([99.0, 100.0], 12.0, 100.0)
    [88.0, 100.0]
    """
    order = sorted(range(len(places)), key=lambda index: places[index])
    gap = min(gap, height / max(1, len(places) - 1))
    # Neighbours that would overlap are one block, which has its middle where its members want it.
    blocks: list[list[int]] = []
    tops: list[float] = []
    for index in order:
        blocks.append([index])
        tops.append(_top(blocks[-1], places, gap, height))
        while len(blocks) > 1 and tops[-2] + gap * len(blocks[-2]) > tops[-1]:
            last = blocks.pop()
            blocks[-1] += last
            tops[-2:] = [_top(blocks[-1], places, gap, height)]
    moved = [0.0] * len(places)
    for block, top in zip(blocks, tops, strict=True):
        for rank, index in enumerate(block):
            moved[index] = top + gap * rank
    return moved


def _top(block: Sequence[int], places: Sequence[float], gap: float, height: float) -> float:
    """Return where the first place of a block stands."""
    length = gap * (len(block) - 1)
    middle = sum(places[index] for index in block) / len(block)
    return min(max(middle - length / 2, 0.0), height - length)


def arm_switch(names: Sequence[str], field: str = "arm") -> alt.Parameter:
    """What a click on the legend switches: all arms, or what else the field tells apart, are on
    to begin with.
    """
    from tombola.ground.extras import altair as alt

    return alt.selection_point(
        name=f"{field}s",
        fields=[field],
        bind="legend",
        toggle="true",
        empty=False,
        value=[{field: name} for name in names],
    )


def arm_encodings(
    names: Sequence[str],
    shown: Sequence[str] | None = None,
    called: Mapping[str, str] | None = None,
    *,
    legend: bool = True,
) -> tuple[alt.Color, alt.Shape]:
    """One legend for colour and shape, whose rows also fit a phone.

    Args:
        names: All arms of the experiment: an arm has the same colour and shape in every figure.
        shown: Those that this figure has; all if not given.
        called: What the legend calls an arm, where that is not its name.
        legend: Without one, names stand in the figure.
    """
    from tombola.ground.extras import altair as alt

    shown = list(names if shown is None else shown)
    above = legend_of(shown, called or {}) if legend else None
    return (
        alt.Color("arm:N", scale=scale_of(shown, colours(names)), legend=above),
        alt.Shape("arm:N", scale=scale_of(shown, marks(names)), legend=above),
    )


def scale_of(shown: Sequence[str], looks: Mapping[str, str]) -> alt.Scale:
    """Return the scale that gives each name its colour or mark.

    Args:
        shown: The names that a figure has, in the order of its legend.
        looks: The colour or the mark of each, and of more.
    """
    from tombola.ground.extras import altair as alt

    return alt.Scale(domain=list(shown), range=[looks[name] for name in shown])


def legend_of(names: Sequence[str], called: Mapping[str, str] | None = None) -> alt.Legend:
    """Return a legend above the figure, in as many columns as fit a phone.

    Args:
        names: What it lists.
        called: What it calls them, where that is not the name.
    """
    from tombola.ground.extras import altair as alt

    shown = [(called or {}).get(name, name) for name in names]
    longest = max(map(len, shown), default=1)
    labels: dict[str, Any] = (
        {"labelExpr": f"({json.dumps(called)})[datum.label] || datum.label"} if called else {}
    )
    return alt.Legend(
        title=None,
        orient="top",
        columns=max(1, 330 // (36 + 7 * longest)),
        labelLimit=260,
        symbolOpacity=1,
        **labels,
    )


def density_axis(records: Sequence[Record], *, reverse: bool = False) -> dict[str, Any]:
    """A logarithmic axis from 100 % down to the sparsest ticket, with the ticks that the field
    reads: 50, 20, 10 …
    """
    from tombola.ground.extras import altair as alt

    lowest = 100 * min(
        (record["density"] for record in records if record["density"] > 0), default=1.0
    )
    # A bit beyond the sparsest ticket, and never so short that the axis has one tick.
    lowest = min(0.93 * lowest, 75.0)
    ticks: Iterable[float] = _TENS if lowest > 15 else one_two_five(lowest)
    shown = [tick for tick in ticks if tick >= lowest]
    scale = alt.Scale(type="log", domain=[lowest, 100], nice=False, reverse=reverse)
    return {"scale": scale, "axis": alt.Axis(values=shown, format="~r", labelOverlap=False)}


def density_x(records: Sequence[Mapping[str, Any]], *, titled: bool = True) -> alt.X:
    """Return the axis along which densities fall from left to right.

    Args:
        records: What it must hold; densities are fractions.
        titled: Only the last of several panels has a title below.
    """
    from tombola.ground.extras import altair as alt

    title = DENSITY_TITLE if titled else None
    return alt.X("density:Q", title=title, **density_axis(records, reverse=True))


def distinct(rows: Iterable[Mapping[str, Any]], field: str) -> list[str]:
    """Return what a field of the rows may be, each once, in order of appearance.

    >>> distinct([{"arm": "lth"}, {"arm": "colt-2"}, {"arm": "lth"}], "arm")
    ['lth', 'colt-2']
    """
    return list(dict.fromkeys(row[field] for row in rows))


def as_fractions(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Return the densities of rows to be drawn, which are in percent, as an axis takes them."""
    return [{"density": row["density"] / 100} for row in rows]


def one_two_five(lowest: float) -> list[float]:
    """Return the ticks of a logarithmic axis from 100 % down.

    >>> one_two_five(10.0)
    [100.0, 50.0, 20.0, 10.0]
    """
    ticks = []
    for exponent in range(2, math.floor(math.log10(lowest)) - 1, -1):
        for digit in (5, 2, 1):
            if digit * 10**exponent <= 100:
                ticks.append(digit * 10.0**exponent)
    return ticks


def around(rows: Sequence[dict[str, Any]], metric: Metric = ACCURACY) -> list[float]:
    """Return a domain that shows the metric of all rows, see `with_margin`."""
    return with_margin([row[metric.name] for row in rows], metric)


def with_margin(values: Sequence[float], metric: Metric = ACCURACY) -> list[float]:
    """Return a domain that shows all values of a metric, with a margin; equal ones get half a point
    on either side.

    >>> with_margin([90.0, 99.9])
    [89.406, 100.0]
    """
    low, high = (min(values), max(values)) if values else (0.0, 100.0)
    margin = 0.06 * (high - low) or 0.5
    if not metric.fraction:
        return [low - margin, high + margin]
    # There is nothing below 0 % and above 100 %.
    return [max(0.0, low - margin), min(100.0, high + margin)]


def interval_of(value: Spread, metric: Metric = ACCURACY) -> dict[str, Any]:
    """Return the ends of an interval as they are shown, and what is said of them; nothing where
    there is none.
    """
    if value.interval is None:
        return {"interval": ""}
    low, high = (metric.scale * end for end in value.interval)
    return {"low": low, "high": high, "interval": f"{low:.2f} to {high:.2f}"}


def band(rows: Sequence[dict[str, Any]], crowded: float = 1.0) -> alt.Chart:
    """Draw the area between the ends of intervals, ``low`` (to be encoded) and ``high``, within the
    axes.

    Args:
        rows: With `interval_of`; those without an interval leave the area out.
        crowded: How many times as many arms there are as colours: the more, the paler.
    """
    from tombola.ground.extras import altair as alt

    with_interval = inline([row for row in rows if "low" in row])
    area: alt.Chart = (
        alt.Chart(with_interval).mark_area(opacity=0.1 / crowded**2, clip=True).encode(y2="high:Q")
    )
    return area


def inline(rows: Sequence[Mapping[str, Any]]) -> alt.InlineData:
    """Return rows as the data of charts, which all layers of a figure share.

    Altair copies a chart, data and all, whenever something is laid over it or set; of thousands of
    rows that takes longer than all else.
    """
    from tombola.ground.extras import altair as alt

    # each number would be held to a schema, see `sheets.Sheet`
    with alt.utils.schemapi.debug_mode(False):
        shared: alt.InlineData = _shared_rows()(list(rows))
    return shared


@functools.cache
def _shared_rows() -> Any:
    from tombola.ground.extras import altair as alt

    class SharedRows(alt.InlineData):
        def __deepcopy__(self, _: object) -> SharedRows:
            return self

    return SharedRows


def tooltip(*fields: str, metric: Metric = ACCURACY) -> list[alt.Tooltip]:
    """Return what a point tells when it is pointed at, densities and the metric to two digits."""
    from tombola.ground.extras import altair as alt

    numbers = {"density": "density %", metric.name: metric.head}
    titles = {"interval": "95 % interval", "asked": "at density"}
    tips = []
    for field in fields:
        if field in numbers:
            tips.append(alt.Tooltip(f"{field}:Q", title=numbers[field], format=".2f"))
        else:
            tips.append(alt.Tooltip(f"{field}:N", title=titles.get(field, field)))
    return tips


def styled(*layers: alt.Chart | alt.LayerChart, height: int, title: str = "") -> alt.LayerChart:
    """Lay charts over each other, in the style of all figures."""
    chart: alt.LayerChart = configured(panel(*layers, height=height, title=title))
    return chart


def panel(*layers: alt.Chart | alt.LayerChart, height: int, title: str = "") -> alt.LayerChart:
    """Lay charts over each other, to be a part of a figure."""
    from tombola.ground.extras import altair as alt

    above = {"title": alt.Title(title, **_ABOVE)} if title else {}
    chart: Any = alt.layer(*layers, width=WIDTH, height=height, **above)
    return cast("alt.LayerChart", chart)


def stacked(*panels: alt.LayerChart, room: int) -> alt.VConcatChart:
    """Set panels below each other, in the style of all figures.

    Args:
        panels: The parts, the first one above.
        room: What labels and margins take of the width, in pixels; the page gives the panels the
            rest of its own.
    """
    from tombola.ground.extras import altair as alt

    chart: alt.VConcatChart = configured(alt.vconcat(*panels, spacing=14, usermeta={"room": room}))
    return chart


def side_by_side(panels: Sequence[Any], columns: int) -> alt.VConcatChart:
    """Set panels into rows, with one legend, in the style of all figures.

    The page sets them into as many columns as its width has room for.
    """
    from tombola.ground.extras import altair as alt

    rows = []
    for first in range(0, len(panels), columns):
        rows.append(alt.hconcat(*panels[first : first + columns], spacing=18))
    chart: alt.VConcatChart = configured(
        alt.vconcat(*rows, spacing=18, usermeta={"panels": True}).resolve_scale(
            color="shared", shape="shared"
        )
    )
    return chart


def configured(chart: Any) -> Any:
    """Return a chart in the style of all figures."""
    return (
        chart.configure(font=_FONT, background=PAPER, padding=12)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=INK,
            titleColor=INK,
            labelFontSize=12,
            labelFlush=False,
            titleFontSize=13,
            titleFontWeight="normal",
            titlePadding=10,
            gridColor=GRID,
            domainColor=GREY,
            tickColor=GREY,
        )
        .configure_legend(
            labelFontSize=12,
            labelColor=INK,
            titleColor=INK,
            titleFontSize=12,
            titleFontWeight="normal",
            symbolSize=80,
            columnPadding=18,
            offset=12,
        )
    )
