"""Figures: how far each goal is reached, and the curves of the rows that have one; SVG on white."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from typing import Any

import altair as alt

from benchmarks import rows
from benchmarks.harness import Series
from benchmarks.results import Result, entries
from benchmarks.table import with_interval
from tombola.reports.figures import PALETTE

_INK, _GREY, _GRID = "#222222", "#595959", "#e6e6e6"
_FONT = "Helvetica, Arial, sans-serif"
_VERDICTS = {"met": PALETTE[0], "missed": PALETTE[1]}
_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


def draw(results: Sequence[Result]) -> dict[str, tuple[str, bytes]]:
    """Draw all figures of the results: title and SVG by the file's name."""
    figures = {}
    goals = reached(results)
    if goals:
        figures["goals.svg"] = ("How far each goal is reached", _svg(over_goals(goals)))
    for result in results:
        for index, series in enumerate(result.measured.series if result.measured else ()):
            if series.points:
                number = "" if index == 0 else f"-{index + 1}"
                figures[f"{result.name}{number}.svg"] = (series.title, _svg(curve(series)))
    return figures


def reached(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Divide every judged number by its goal, so that 1 is the goal and more is better."""
    points = []
    for result in results:
        goals = {goal.line: goal for goal in rows.get(result.name).ROW.goals}
        for entry in entries(result):
            goal, line = goals.get(entry.line), entry.measured
            if goal is None or line is None or min(line.low, line.value) <= 0:
                continue
            # Where less is better the quotient is inverted, so that more is better everywhere.
            low, value, high = (number / goal.value for number in (line.low, line.value, line.high))
            if goal.sign != ">=":
                low, value, high = 1 / high, 1 / value, 1 / low
            points.append(
                {
                    "line": f"{result.name}: {entry.line}",
                    "value": value,
                    "low": low,
                    "high": high,
                    "verdict": entry.verdict,
                    "text": f"{with_interval(line)}, goal {goal}",
                }
            )
    return points


def over_goals(reached: Sequence[dict[str, Any]]) -> alt.LayerChart:
    """Draw a point with its interval for every goal, on a logarithmic axis where 1 is the goal."""
    # Room for the intervals, and for the goal itself where all are far from it.
    lowest = min([0.8, *(0.9 * point["low"] for point in reached)])
    highest = max([1.25, *(1.1 * point["high"] for point in reached)])
    scale = alt.Scale(type="log", domain=[lowest, highest], nice=False)
    ticks = [tick for tick in _TICKS if lowest <= tick <= highest]
    x = alt.X(
        "value:Q",
        title="Reached / goal (log scale; 1 is the goal, more is better)",
        scale=scale,
        axis=alt.Axis(values=ticks, format="~r"),
    )
    # As in the table; altair would sort by name.
    order = [point["line"] for point in reached]
    axis = alt.Axis(grid=False, labelLimit=320, ticks=False)
    y = alt.Y("line:N", title=None, sort=order, axis=axis)
    words = list(_VERDICTS)
    colour = alt.Color(
        "verdict:N",
        scale=alt.Scale(domain=words, range=list(_VERDICTS.values())),
        legend=alt.Legend(title=None, orient="top"),
    )
    shapes = alt.Scale(domain=words, range=["circle", "diamond"])
    shape = alt.Shape("verdict:N", scale=shapes, legend=None)

    base = alt.Chart(alt.InlineData(list(reached)))
    goal = alt.Chart(alt.InlineData([{"value": 1}])).mark_rule(
        color=_GREY, strokeDash=[6, 4], strokeWidth=1.5
    )
    interval, point = (
        base.mark_rule(strokeWidth=2.5),
        base.mark_point(filled=True, size=90, opacity=1),
    )
    label = base.mark_text(align="left", dx=8, fontSize=11, color=_GREY)
    return _styled(
        goal.encode(x=x),
        interval.encode(x=alt.X("low:Q", scale=scale), x2="high:Q", y=y, color=colour),
        point.encode(x=x, y=y, color=colour, shape=shape),
        label.encode(x=alt.value("width"), y=y, text="text:N"),
        height=alt.Step(26),
    )


def curve(series: Series) -> alt.LayerChart:
    """Draw a number over another one: the median, and the range of the repetitions as a bar."""
    points = [dict(point) for point in series.points]
    across = [point["x"] for point in points]
    up = [point["low"] for point in points] + [point["high"] for point in points]
    # Each axis fits its own numbers, so the two are scaled separately.
    if series.log:
        horizontal, x_axis = _logarithmic(across, "~s")
        vertical, y_axis = _logarithmic(up, "~g")
    else:
        horizontal, x_axis = _linear(across)
        vertical, y_axis = alt.Scale(zero=True), alt.Axis(format="~f", tickCount=6)
    x = alt.X("x:Q", title=series.x, scale=horizontal, axis=x_axis)
    y = alt.Y("y:Q", title=series.y, scale=vertical, axis=y_axis)
    # A single curve needs no legend.
    names = list(dict.fromkeys(str(point.get("name", "")) for point in points))
    legend = alt.Legend(title=None, orient="top") if len(names) > 1 else None
    colours = alt.Scale(domain=names, range=list(PALETTE[: len(names)]))
    colour = alt.Color("name:N", scale=colours, legend=legend)

    base = alt.Chart(alt.InlineData(points))
    low = alt.Y("low:Q", scale=vertical)
    return _styled(
        base.mark_rule(strokeWidth=2, opacity=0.6).encode(x=x, y=low, y2="high:Q", color=colour),
        base.mark_line(strokeWidth=2).encode(x=x, y=y, color=colour),
        base.mark_point(filled=True, size=70, opacity=1).encode(x=x, y=y, color=colour),
        height=300,
    )


def _linear(values: Sequence[float]) -> tuple[alt.Scale, alt.Axis]:
    """A linear axis; of small whole numbers one with a tick at each of them, where they are few."""
    if not all(float(value).is_integer() and value < 1000 for value in values):
        return alt.Scale(zero=True), alt.Axis(format="~s", tickCount=6)
    ticks: Any = sorted(set(values))
    axis = alt.Axis(format="d", tickMinStep=1, values=ticks if len(ticks) <= 12 else alt.Undefined)
    return alt.Scale(zero=False, padding=20), axis


def _logarithmic(values: Sequence[float], format_: str) -> tuple[alt.Scale, alt.Axis]:
    """A logarithmic axis a little wider than the values.

    Ticks are at 1, 2 and 5, over more than two decades at 1 alone.
    """
    low, high = min(values) / 1.3, 1.3 * max(values)
    digits = (1, 2, 5) if high / low < 100 else (1,)
    ticks = []
    for exponent in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        ticks += [digit * 10.0**exponent for digit in digits]
    ticks = [tick for tick in ticks if low <= tick <= high]
    scale = alt.Scale(type="log", domain=[low, high], nice=False)
    return scale, alt.Axis(values=ticks, format=format_)


def _svg(chart: alt.LayerChart) -> bytes:
    file = io.StringIO()
    chart.save(file, format="svg")
    # Editors and linters strip trailing blanks and end the last line: so do we.
    text = re.sub(r"[ \t]+$", "", file.getvalue(), flags=re.MULTILINE)
    return f"{text.rstrip()}\n".encode()


def _styled(*layers: alt.Chart, height: Any) -> alt.LayerChart:
    chart: alt.LayerChart = (
        alt.layer(*layers)
        .properties(width=560, height=height)
        .configure(font=_FONT, background="white", padding=12)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=_INK,
            titleColor=_INK,
            labelFontSize=12,
            titleFontSize=13,
            titleFontWeight="normal",
            titlePadding=10,
            gridColor=_GRID,
            domainColor=_GREY,
            tickColor=_GREY,
        )
        .configure_legend(
            labelFontSize=12, labelColor=_INK, symbolSize=80, columnPadding=18, offset=12
        )
    )
    return chart
