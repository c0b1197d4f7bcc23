"""Across: figures of several runs beside each other.

records of each run -> [ by_run, over_runs ] -> together
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tombola.ground.metrics import ACCURACY, Metric
from tombola.reports import aggregate
from tombola.reports.aggregate import Record
from tombola.reports.drawing import (
    GREY,
    INK,
    SHAPES,
    WIDTH_OF_ROW,
    arm_encodings,
    around,
    band,
    density_axis,
    inline,
    interval_of,
    legend_of,
    side_by_side,
    styled,
    tooltip,
)

if TYPE_CHECKING:
    from tombola.ground.extras import altair as alt

_PANELS = 3  # beside each other, at most


def by_run(
    runs: Mapping[str, Sequence[Record]], names: Sequence[str], metric: Metric = ACCURACY
) -> alt.VConcatChart:
    """Draw the headline metric over density of several runs, one panel each on common axes.

    Args:
        runs: Their records, by what they are called.
        names: All arms of all of them, for their colours.
        metric: On the test split.
    """
    from tombola.ground.extras import altair as alt

    everything: list[Record] = []
    for records in runs.values():
        everything += records
    x = alt.X("density:Q", title="Density (%, log scale)", **density_axis(everything, reverse=True))
    scale = alt.Scale(domain=around(_extremes(runs, metric), metric), nice=False, zero=False)
    colour, shape = arm_encodings(names)
    # So that no panel is alone in its row.
    columns = 2 if len(runs) == 4 else min(_PANELS, len(runs))
    tips = tooltip("arm", "round", "density", metric.name, "interval", "replicates", metric=metric)
    panels: list[Any] = []
    for index, (label, records) in enumerate(runs.items()):
        y_title = None if index % columns else metric.axis(f"Test {metric.title}")
        y = alt.Y(f"{metric.name}:Q", title=y_title, scale=scale)
        rows, dense = _means(records, metric), aggregate.dense(records, metric)
        level = [] if dense is None else [{metric.name: metric.scale * dense.mean}]
        lines = alt.Chart(inline(rows))
        panel = alt.layer(
            band(rows).encode(x=x, y=alt.Y("low:Q", title=y_title, scale=scale), color=colour),
            alt.Chart(inline(level))
            .mark_rule(color=GREY, strokeDash=[6, 4], strokeWidth=1.5)
            .encode(y=y),
            lines.mark_line(strokeWidth=2).encode(x=x, y=y, color=colour),
            lines.mark_point(filled=True, size=50, opacity=1).encode(
                x=x, y=y, color=colour, shape=shape, tooltip=tips
            ),
            width=WIDTH_OF_ROW // columns - 12,
            height=200,
            title=alt.Title(label, fontSize=13, fontWeight="normal", color=INK, anchor="start"),
        )
        panels.append(panel)
    return side_by_side(panels, columns)


def _means(records: Sequence[Record], metric: Metric) -> list[dict[str, Any]]:
    """Return the mean of every round that has one, as it is drawn."""
    rows = []
    for row in aggregate.by_round(records, metric):
        # A density of zero has no place on a logarithmic axis.
        if row.density > 0 and row.value is not None:
            rows.append(
                {
                    "arm": row.arm,
                    "round": row.round,
                    "density": 100 * row.density,
                    metric.name: metric.scale * row.value.mean,
                    **interval_of(row.value, metric),
                    "replicates": row.replicates,
                }
            )
    return rows


def _extremes(runs: Mapping[str, Sequence[Record]], metric: Metric) -> list[dict[str, Any]]:
    """Return the values that the common axis must hold: of each replicate, and of dense."""
    values = []
    for records in runs.values():
        for row in aggregate.by_round(records, metric):
            if row.density > 0 and row.value is not None:
                values += [row.value.lowest, row.value.highest]
        dense = aggregate.dense(records, metric)
        if dense is not None:
            values.append(dense.mean)
    return [{metric.name: metric.scale * value} for value in values]


def over_runs(
    rows: Sequence[dict[str, Any]],
    along: str,
    title: str,
    names: Sequence[str],
    colour_of: Mapping[str, str] | None = None,
) -> alt.LayerChart:
    """Draw a value over several runs: its replicates as points, their mean as a line.

    Args:
        rows: With place (of the run: a number, or its name), of (whose value), replicate and value.
        along: What the numbers are; empty where the runs have only names.
        title: Of the value's axis.
        names: What ``of`` may be, in order.
        colour_of: Colours of arms; others are black or grey.
    """
    from tombola.ground.extras import altair as alt

    values: dict[tuple[Any, str], list[float]] = {}
    for row in rows:
        values.setdefault((row["place"], row["of"]), []).append(row["value"])
    means = []
    for (place, of), known in values.items():
        mean = sum(known) / len(known)
        means.append({"place": place, "of": of, "value": mean, "n": len(known)})

    x = _places_axis(list(dict.fromkeys(row["place"] for row in rows)), along)
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False))
    # What is no arm is told by its shade and its shape.
    shades = {name: (INK, GREY)[index % 2] for index, name in enumerate(names)}
    shades |= {aggregate.DENSE: GREY, **(colour_of or {})}
    domain, legend = list(names), legend_of(names)
    colours = alt.Scale(domain=domain, range=[shades[name] for name in names])
    colour = alt.Color("of:N", scale=colours, legend=legend)
    shapes = alt.Scale(domain=domain, range=list(SHAPES[: len(names)]))
    shape = alt.Shape("of:N", scale=shapes, legend=legend)
    tips = [
        alt.Tooltip("place:N", title=along or "run"),
        alt.Tooltip("of:N", title="of"),
        alt.Tooltip("value:Q", format=".4~g"),
    ]
    tips_of_mean = [*tips, alt.Tooltip("n:N", title="replicates")]
    of_means, of_replicates = alt.Chart(inline(means)), alt.Chart(inline(rows))
    # Between runs that have only names there is nothing: their lines are dashed.
    dash = [1, 0] if along else [3, 3]
    return styled(
        of_means.mark_line(strokeWidth=1.5, strokeDash=dash).encode(x=x, y=y, color=colour),
        of_replicates.mark_point(filled=True, size=18, opacity=0.5).encode(
            x=x, y=y, color=colour, tooltip=tips
        ),
        of_means.mark_point(filled=True, size=70, opacity=1).encode(
            x=x, y=y, color=colour, shape=shape, tooltip=tips_of_mean
        ),
        height=300,
    )


def _places_axis(places: list[Any], along: str) -> alt.X:
    """Return the axis of the runs: over their numbers, or beside each other by their names."""
    from tombola.ground.extras import altair as alt

    if not along:
        axis = alt.Axis(labelAngle=0 if len(places) < 7 else -30, grid=False)
        return alt.X("place:N", title=None, sort=places, axis=axis)
    axis = alt.Axis(values=places, format="~r", grid=False, labelOverlap=True)
    is_wide = min(places) > 0 and max(places) / min(places) > 10
    if is_wide:
        scale, title = alt.Scale(type="log", nice=False), f"{along} (log scale)"
    else:
        scale, title = alt.Scale(zero=False), along
    return alt.X("place:Q", title=title, scale=scale, axis=axis)
