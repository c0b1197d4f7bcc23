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

    of = metric.name
    everything = [record for records in runs.values() for record in records]
    means: dict[str, list[aggregate.RoundRow]] = {}
    dense: dict[str, aggregate.Spread | None] = {}
    spans: list[dict[str, Any]] = []  # what the common axis must hold
    for label, records in runs.items():
        means[label] = [row for row in aggregate.by_round(records, metric) if row.density > 0]
        for row in means[label]:
            if row.value is not None:
                spans.append({of: metric.scale * row.value.lowest})
                spans.append({of: metric.scale * row.value.highest})
        network = dense[label] = aggregate.dense(records, metric)
        if network is not None:
            spans.append({of: metric.scale * network.mean})
    scale = alt.Scale(domain=around(spans, metric), nice=False, zero=False)
    x = alt.X("density:Q", title="Density (%, log scale)", **density_axis(everything, reverse=True))
    colour, shape = arm_encodings(names)
    drawn: list[Any] = []
    # so that no panel is alone in its row
    columns = 2 if len(runs) == 4 else min(_PANELS, len(runs))
    for index, label in enumerate(runs):
        y_axis: dict[str, Any] = {
            "title": None if index % columns else metric.axis(f"Test {metric.title}"),
            "scale": scale,
        }
        rows = []
        for row in means[label]:
            if row.value is not None:
                rows.append(
                    {
                        "arm": row.arm,
                        "round": row.round,
                        "density": 100 * row.density,
                        of: metric.scale * row.value.mean,
                        **interval_of(row.value, metric),
                        "replicates": row.replicates,
                    }
                )
        there = dense[label]
        rule = [] if there is None else [{of: metric.scale * there.mean}]
        over, y = alt.Chart(inline(rows)), alt.Y(f"{of}:Q", **y_axis)
        tips = tooltip("arm", "round", "density", of, "interval", "replicates", metric=metric)
        drawn.append(
            alt.layer(
                band(rows).encode(x=x, y=alt.Y("low:Q", **y_axis), color=colour),
                alt.Chart(inline(rule))
                .mark_rule(color=GREY, strokeDash=[6, 4], strokeWidth=1.5)
                .encode(y=y),
                over.mark_line(strokeWidth=2).encode(x=x, y=y, color=colour),
                over.mark_point(filled=True, size=50, opacity=1).encode(
                    x=x, y=y, color=colour, shape=shape, tooltip=tips
                ),
                width=WIDTH_OF_ROW // columns - 12,
                height=200,
                title=alt.Title(label, fontSize=13, fontWeight="normal", color=INK, anchor="start"),
            )
        )
    return side_by_side(drawn, columns)


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

    # What is no arm is told by its shade and its shape.
    shades = {name: (INK, GREY)[index % 2] for index, name in enumerate(names)}
    shades[aggregate.DENSE] = GREY
    palette = [(colour_of or {}).get(name, shades[name]) for name in names]
    means: dict[tuple[Any, str], list[float]] = {}
    for row in rows:
        means.setdefault((row["place"], row["of"]), []).append(row["value"])
    mean = [{"place": place, "of": of, "value": sum(found) / len(found), "n": len(found)}
            for (place, of), found in means.items()]  # fmt: skip
    places = list(dict.fromkeys(row["place"] for row in rows))
    if along:
        wide = min(places) > 0 and max(places) / min(places) > 10
        scale = alt.Scale(type="log", nice=False) if wide else alt.Scale(zero=False)
        axis = alt.Axis(values=places, format="~r", grid=False, labelOverlap=True)
        x = alt.X(
            "place:Q", title=f"{along} (log scale)" if wide else along, scale=scale, axis=axis
        )
    else:
        x = alt.X(
            "place:N",
            title=None,
            sort=places,
            axis=alt.Axis(labelAngle=0 if len(places) < 7 else -30, grid=False),
        )
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False))
    colour = alt.Color(
        "of:N", scale=alt.Scale(domain=list(names), range=palette), legend=legend_of(names)
    )
    shape = alt.Shape(
        "of:N",
        scale=alt.Scale(domain=list(names), range=list(SHAPES[: len(names)])),
        legend=legend_of(names),
    )
    tips = [alt.Tooltip("place:N", title=along or "run"), alt.Tooltip("of:N", title="of"),
            alt.Tooltip("value:Q", format=".4~g")]  # fmt: skip
    over_mean, over = alt.Chart(inline(mean)), alt.Chart(inline(rows))
    return styled(
        over_mean.mark_line(strokeWidth=1.5, strokeDash=[1, 0] if along else [3, 3]).encode(
            x=x, y=y, color=colour
        ),
        over.mark_point(filled=True, size=18, opacity=0.5).encode(
            x=x, y=y, color=colour, tooltip=tips
        ),
        over_mean.mark_point(filled=True, size=70, opacity=1).encode(
            x=x,
            y=y,
            color=colour,
            shape=shape,
            tooltip=[*tips, alt.Tooltip("n:N", title="replicates")],
        ),
        height=300,
    )
