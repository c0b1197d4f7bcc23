"""Figures: the headline metric over density, and density over rounds, as charts of Vega-Lite.

    records -> aggregate -> [ metric_over_density, density_over_round, layers, curves, overlap ] ->
    page

An arm has the same colour and the same shape in every figure; colours are told apart by
colour-blind readers, shapes by everyone in print. Axes say percent; records stay fractions.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from tombola.evidence import comparisons
from tombola.ground.metrics import ACCURACY, Metric
from tombola.reports import aggregate
from tombola.reports.aggregate import Record
from tombola.reports.drawing import (
    GREY,
    INK,
    INK_ON_LIGHT,
    PALETTE,
    PAPER,
    WIDTH,
    WIDTH_OF_ROW,
    arm_encodings,
    arm_switch,
    around,
    colours,
    density_axis,
    inline,
    interval_of,
    legend_of,
    letter_colours,
    marks,
    one_two_five,
    ordered_colours,
    side_by_side,
    spread_out,
    styled,
    tooltip,
)
from tombola.reports.grids import percent

if TYPE_CHECKING:
    from tombola.ground.extras import altair as alt

_MARKS_OF_A_CURVE = 6

FEW_PAIRS = 4  # of which `similarity` has room for more than chance


def metric_over_density(
    records: Sequence[Record],
    paper: Sequence[dict[str, Any]] = (),
    title: str = "",
    metric: Metric = ACCURACY,
    at: Sequence[float] = (0.5, 0.2, 0.1),
) -> alt.LayerChart:
    """Draw the headline metric over density: a line an arm, with its name at the end, and intervals
    at the densities that are asked for.

    Density falls from left to right on a logarithmic axis; the metric's does not start at zero and
    shows what happens around the densities asked for: what lies far beyond is cut off. A line is
    the mean of the replicates. A dot at a density asked for is their mean there, with its 95 % t
    interval of three or more; the dots of one density stand side by side, so that none hides
    another. The band is that interval of the dense network.

    Args:
        records: Of the whole experiment.
        paper: What a paper prints, drawn as hollow marks: arm, density in percent, the metric as it
            is shown, source.
        title: Stands above, so that a figure that is cut out says how large the experiment was.
        metric: What is drawn, on the test split.
        at: The densities asked for, fractions; beyond four thinned out.
    """
    from tombola.ground.extras import altair as alt

    names, of = aggregate.arms(records), metric.name
    printed = [row for row in paper if row["arm"] in names]
    means = _means(records, metric)
    sparsest = [{"density": row["density"] / 100} for row in printed]
    axis = density_axis([*records, *sparsest], reverse=True)
    lowest = axis["scale"]["domain"][0]
    dots = _dots_at(records, aggregate.few(at), metric, _dot_step(lowest, len(names)))
    if dots and min(row["place"] for row in dots) < lowest:  # room for those moved to the right
        sparsest += [{"density": row["place"] / 100} for row in dots]
        axis = density_axis([*records, *sparsest], reverse=True)
        lowest = axis["scale"]["domain"][0]
    dense = _dense_row(records, metric)
    domain = _domain(means, dots, [*dense, *printed], metric)
    height = max(220, _LABEL * (len(names) + 1))
    labels = _end_labels(names, means, dense, domain, lowest, height, metric)

    x = alt.X("density:Q", title="Density: weights kept (%, log scale)", **axis)
    y_axis: dict[str, Any] = {
        "title": metric.axis(f"Test {metric.title}"),
        "scale": alt.Scale(domain=domain, nice=False),
        "axis": alt.Axis(tickCount=6),
    }
    y = alt.Y(f"{of}:Q", **y_axis)
    colour, shape = arm_encodings(names, legend=False)
    # A click on a name switches its line off and on again.
    switch = alt.selection_point(
        name="arms",
        fields=["arm"],
        on="click",
        toggle="true",
        clear=False,
        empty=False,
        value=[{"arm": name} for name in names],
    )
    tips = tooltip("arm", "round", "density", of, "interval", "replicates", metric=metric)
    at_tips = tooltip("arm", "asked", of, "interval", "replicates", metric=metric)
    over_dense = alt.Chart(inline(dense))
    over_means = alt.Chart(inline(means)).transform_filter(switch)
    over_dots = alt.Chart(inline(dots)).transform_filter(switch)
    over_leaders = alt.Chart(inline(_leaders(labels))).transform_filter(switch)
    over_labels = alt.Chart(inline([label for label in labels if label["arm"] in names]))
    beyond = alt.value("width")
    end = alt.Y("place:Q", **y_axis)
    letters = alt.Color("letters:N", scale=None)
    # Many arms' points would hide the lines.
    faint = 0.9 if len(names) <= len(PALETTE) else 0.45
    hollow = []
    if printed:
        hollow.append(
            alt.Chart(inline(printed))
            .transform_filter(switch)
            .mark_point(filled=False, size=110, strokeWidth=2, opacity=1, clip=True)
            .encode(
                x=x,
                y=y,
                color=colour,
                shape=shape,
                tooltip=tooltip("source", "arm", "density", of, metric=metric),
            )
        )
    chart: alt.LayerChart = styled(
        over_dense.mark_rect(color=GREY, opacity=0.16, clip=True).encode(
            y=alt.Y("low:Q", **y_axis), y2="high:Q"
        ),
        over_dense.mark_rule(color=GREY, strokeWidth=1).encode(y=y),
        over_leaders.mark_line(strokeWidth=0.75, strokeDash=[2, 3], opacity=0.7).encode(
            x=x, y=alt.Y("place:Q", **y_axis), color=colour
        ),
        over_means.mark_line(strokeWidth=1.75, clip=True).encode(x=x, y=y, color=colour),
        over_means.mark_point(filled=True, size=22, opacity=faint, clip=True).encode(
            x=x, y=y, color=colour, shape=shape, tooltip=tips
        ),
        over_dots.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=1.75, clip=True)
        .encode(x=alt.X("place:Q"), y=alt.Y("low:Q", **y_axis), y2="high:Q", color=colour),
        over_dots.mark_point(
            filled=True, size=75, opacity=1, stroke=PAPER, strokeWidth=0.8, clip=True
        ).encode(x=alt.X("place:Q"), y=y, color=colour, shape=shape, tooltip=at_tips),
        *hollow,
        alt.Chart(inline([label for label in labels if label["arm"] not in names]))
        .mark_text(color=GREY, align="left", dx=8, fontSize=12)
        .encode(x=beyond, y=end, text="label:N"),
        over_labels.mark_point(filled=True, size=55, xOffset=13).encode(
            x=beyond,
            y=end,
            color=colour,
            shape=shape,
            opacity=alt.condition(switch, alt.value(1), alt.value(0.35)),
        ),
        over_labels.mark_text(align="left", dx=22, fontSize=12, cursor="pointer")
        .encode(
            x=beyond,
            y=end,
            text="label:N",
            color=letters,
            opacity=alt.condition(switch, alt.value(1), alt.value(0.35)),
            tooltip=alt.Tooltip("arm:N"),
        )
        .add_params(switch),
        height=height,
        title=title,
    )
    longest = max((len(label["label"]) for label in labels), default=0)
    chart["usermeta"] = {"room": 92 + round(6.8 * longest)}
    return chart


_LABEL = 14  # pixels from one name to the next, where they stand at the ends of lines
_LONGEST = 24  # letters of a name there


def _means(records: Sequence[Record], metric: Metric) -> list[dict[str, Any]]:
    """Return what lines go through: the mean of each arm's replicates, by round."""
    rows = []
    for row in aggregate.by_round(records, metric):
        # Zero has no place on a logarithmic axis.
        if row.density > 0 and row.value is not None:
            rows.append(
                {
                    "arm": row.arm,
                    "round": row.round,
                    "density": 100 * row.density,
                    metric.name: metric.scale * row.value.mean,
                    "interval": interval_of(row.value, metric)["interval"],
                    "replicates": row.value.n,
                }
            )
    return rows


def _dot_step(lowest: float, arms: int) -> float:
    """Return how far the dots of one density are from each other, in logarithms of the density:
    eight pixels, or less where arms are many.
    """
    pixel = math.log(100 / lowest) / WIDTH
    # Densities that are asked for are often a factor of two apart.
    room = 0.75 * math.log(2)
    return min(8 * pixel, room / max(1, arms))


def _dots_at(
    records: Sequence[Record], at: Sequence[float], metric: Metric, step: float
) -> list[dict[str, Any]]:
    """Return the mean of each arm at each density, with its interval, and where its dot stands."""
    rows = []
    for density in at:
        here = []
        for arm in aggregate.arms(records):
            values = comparisons.values_at(records, arm, density, metric.test).values()
            if values:
                here.append((arm, aggregate.spread(value.value for value in values)))
        for index, (arm, value) in enumerate(here):
            aside = (index - (len(here) - 1) / 2) * step
            rows.append(
                {
                    "arm": arm,
                    "asked": f"{percent(density)} %",
                    "place": 100 * density * math.exp(-aside),
                    metric.name: metric.scale * value.mean,
                    **interval_of(value, metric),
                    "replicates": value.n,
                }
            )
    return rows


def _dense_row(records: Sequence[Record], metric: Metric) -> list[dict[str, Any]]:
    """Return the mean of the dense network with its interval, one row, or none."""
    dense = aggregate.dense(records, metric)
    if dense is None:
        return []
    mean = metric.scale * dense.mean
    return [{"low": mean, "high": mean} | interval_of(dense, metric) | {metric.name: mean}]


def _domain(
    means: Sequence[dict[str, Any]],
    dots: Sequence[dict[str, Any]],
    others: Sequence[dict[str, Any]],
    metric: Metric,
) -> list[float]:
    """Return what the axis of the metric shows: the dots and what is nearly as good or bad.

    An arm that collapses beyond the densities asked for would squeeze all that is compared into
    one line.
    """
    core = [row[metric.name] for row in (*dots, *others)]
    everything = [{metric.name: row[metric.name]} for row in (*means, *dots, *others)]
    for row in dots:
        everything += [{metric.name: row[end]} for end in ("low", "high") if end in row]
    if not dots:
        return around(everything, metric)
    room = 0.6 * (max(core) - min(core)) or 1.0
    low, high = min(core) - room, max(core) + room
    within = [{metric.name: min(max(row[metric.name], low), high)} for row in everything]
    return around(within, metric)


def _end_labels(
    names: Sequence[str],
    means: Sequence[dict[str, Any]],
    dense: Sequence[dict[str, Any]],
    domain: Sequence[float],
    lowest: float,
    height: int,
    metric: Metric,
) -> list[dict[str, Any]]:
    """Return the names at the ends of the lines, moved apart so that each can be read."""
    low, high = domain
    ends = {row["arm"]: row for row in means}  # the last row of an arm stands
    letters = letter_colours(names)
    labels: list[dict[str, Any]] = []
    for name in names:
        if name in ends:
            shown = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
            value = min(max(ends[name][metric.name], low), high)
            labels.append(
                {
                    "arm": name,
                    "label": shown,
                    "letters": letters[name],
                    "end": value,
                    "from": ends[name]["density"],
                }
            )
    for row in dense:
        shown = f"dense {row[metric.name]:.{metric.digits}f}"
        labels.append({"arm": "", "label": shown, "end": row[metric.name], "from": lowest})
    pixels = [height * (high - label["end"]) / (high - low) for label in labels]
    for label, pixel in zip(labels, spread_out(pixels, _LABEL, height), strict=True):
        label |= {"place": high - pixel / height * (high - low), "to": lowest}
    return labels


def _leaders(labels: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the two ends of the thin line that leads from a line to its name."""
    rows = []
    for label in labels:
        if label["arm"]:
            rows.append({"arm": label["arm"], "density": label["from"], "place": label["end"]})
            rows.append({"arm": label["arm"], "density": label["to"], "place": label["place"]})
    return rows


def density_over_round(records: Sequence[Record]) -> alt.LayerChart:
    """Draw the mean density of each arm over its rounds, on a logarithmic axis: a constant rate is
    a straight line.

    Arms with equal counts (a matched arm and its source) lie on each other: later arms are dashed
    and have smaller points, so that both can be seen.
    """
    from tombola.ground.extras import altair as alt

    names = aggregate.arms(records)
    means = [
        {
            "arm": row.arm,
            "order": names.index(row.arm),
            "size": max(130 - 40 * names.index(row.arm), 40),
            "round": row.round,
            "density": 100 * row.density,
            "replicates": row.replicates,
        }
        for row in aggregate.by_round(records)
        if row.density > 0
    ]
    last = max((row.round for row in aggregate.by_round(records)), default=0)
    x = alt.X(
        "round:Q",
        title="Round",
        scale=alt.Scale(domain=[0, max(last, 1)], nice=False),
        axis=alt.Axis(values=list(range(0, last + 1, last // 15 + 1)), format="d", grid=False),
    )
    y = alt.Y("density:Q", title="Density: weights kept (%, log scale)", **density_axis(records))
    colour, shape = arm_encodings(names)
    over_means = alt.Chart(inline(means))
    order = list(range(len(names)))
    dashes = [[1, 0] if index == 0 else [8 - index % 6, 4 + index % 6] for index in order]
    dash = alt.StrokeDash("order:O", scale=alt.Scale(domain=order, range=dashes), legend=None)
    # The size itself and no scale of the arms: for a single arm Vega's scale gives NaN.
    size = alt.Size("size:Q", scale=None, legend=None)
    return styled(
        over_means.mark_line(strokeWidth=2).encode(x=x, y=y, color=colour, strokeDash=dash),
        over_means.mark_point(filled=True, opacity=1).encode(
            x=x,
            y=y,
            color=colour,
            shape=shape,
            size=size,
            tooltip=tooltip("arm", "round", "density", "replicates"),
        ),
        height=320,
    )


def layers(records: Sequence[Record], arm: str) -> alt.LayerChart:
    """Draw which part of each layer an arm keeps over the density of the whole: where the weights
    go.

    Layers are coloured by their depth, first to last. One that falls off steeply nears collapse.
    """
    from tombola.ground.extras import altair as alt

    own = [
        record
        for record in records
        if record["arm"] == arm and record.get("layers") and record["density"] > 0
    ]
    order = list(own[0]["layers"])
    kept_of_layers: dict[tuple[int, str], list[float]] = {}
    densities: dict[int, list[float]] = {}  # by round, of all weights that may be pruned
    for record in own:
        densities.setdefault(record["round"], []).append(record["density"])
        for name, (kept, size) in record["layers"].items():
            kept_of_layers.setdefault((record["round"], name), []).append(kept / size)
    rows: list[dict[str, Any]] = []
    for (index, name), shares in kept_of_layers.items():
        if any(shares):  # nothing kept has no place on a log scale
            rows.append(
                {
                    "layer": name.removesuffix(".weight"),
                    "depth": order.index(name),
                    "round": index,
                    "density": 100 * sum(densities[index]) / len(densities[index]),
                    "kept": 100 * sum(shares) / len(shares),
                }
            )
    lowest = min((row["kept"] for row in rows), default=1.0)
    y = alt.Y(
        "kept:Q",
        title="Kept of each layer (%, log scale)",
        scale=alt.Scale(type="log", domain=[min(0.93 * lowest, 75.0), 100], nice=False),
        axis=alt.Axis(
            values=[tick for tick in one_two_five(lowest) if tick >= lowest], format="~r"
        ),
    )
    x = alt.X(
        "density:Q", title="Density: weights kept (%, log scale)", **density_axis(own, reverse=True)
    )
    names = [name.removesuffix(".weight") for name in order]
    few = len(order) <= len(PALETTE)
    colour = (
        alt.Color(
            "layer:N",
            scale=alt.Scale(domain=names, range=ordered_colours(len(names))),
            legend=legend_of(names),
        )
        if few
        else alt.Color(
            "depth:Q",
            scale=alt.Scale(range=ordered_colours(3)),
            legend=alt.Legend(title="layer, first to last"),
        )
    )
    over = alt.Chart(inline(rows))
    tips = [
        alt.Tooltip("layer:N"),
        alt.Tooltip("round:N"),
        alt.Tooltip("density:Q", title="density %", format=".2f"),
        alt.Tooltip("kept:Q", title="kept of it %", format=".2f"),
    ]
    alike = []  # where a layer would be that keeps what the whole network keeps
    for of_round in densities.values():
        density = 100 * sum(of_round) / len(of_round)
        if density >= lowest:
            alike.append({"density": density, "kept": density})
    return styled(
        alt.Chart(inline(alike))
        .mark_line(color=GREY, strokeDash=[6, 4], strokeWidth=1.25)
        .encode(x=x, y=y),
        over.mark_line(strokeWidth=2).encode(x=x, y=y, color=colour, detail="layer:N"),
        over.mark_point(filled=True, size=40, opacity=1).encode(
            x=x,
            y=y,
            color=colour,
            tooltip=tips,
        ),
        height=300,
    )


def curves(records: Sequence[Record], density: float, metric: Metric = ACCURACY) -> alt.LayerChart:
    """Draw the headline metric on validation data over training steps.

    Of each arm it is the first ticket at or below a density, and dense. Lines are means over
    replicates. The density 1 shows the dense network alone.
    """
    from tombola.ground.extras import altair as alt

    chosen: dict[str, dict[int, Record]] = {}
    for record in sorted(records, key=lambda record: int(record["round"])):
        if record.get("curve") and comparisons.reaches(record, density):
            first = chosen.setdefault(record["arm"], {})
            first.setdefault(record["replicate"], record)
    # In the order of all other charts and tables, not in that in which arms come to the density.
    chosen = {arm: chosen[arm] for arm in aggregate.arms(records) if arm in chosen}
    dense = {r["replicate"]: r for r in reversed(records) if r["round"] == 0 and r.get("curve")}
    rows: list[dict[str, Any]] = []
    marked: list[dict[str, Any]] = []
    for arm, by_replicate in {**chosen, aggregate.DENSE: dense}.items():
        points = _mean_curve(arm, list(by_replicate.values()), metric)
        rows += points
        # A mark at every look would hide the line.
        marked += points[:: max(1, len(points) // _MARKS_OF_A_CURVE)]
    arms = aggregate.arms(records)
    shown = [*chosen, aggregate.DENSE]
    colour_of = {**colours(arms), aggregate.DENSE: GREY}
    mark_of = {**marks(arms), aggregate.DENSE: "stroke"}
    legend = legend_of(shown)
    palette = alt.Scale(domain=shown, range=[colour_of[name] for name in shown])
    shapes = alt.Scale(domain=shown, range=[mark_of[name] for name in shown])
    colour = alt.Color("arm:N", scale=palette, legend=legend)
    shape = alt.Shape("arm:N", scale=shapes, legend=legend)
    x = alt.X("step:Q", title="Training step")
    y = alt.Y(
        f"{metric.name}:Q",
        title=metric.axis(f"Validation {metric.title}"),
        scale=alt.Scale(zero=False),
    )
    tips = tooltip("arm", "step", metric.name, "replicates", metric=metric)
    return styled(
        alt.Chart(inline(rows))
        .mark_line(strokeWidth=1.75)
        .encode(x=x, y=y, color=colour, order="place:Q", tooltip=tips),
        alt.Chart(inline(marked))
        .mark_point(filled=True, size=40, opacity=1)
        .encode(x=x, y=y, color=colour, shape=shape, tooltip=tips),
        height=300,
    )


def _mean_curve(arm: str, records: Sequence[Record], metric: Metric) -> list[dict[str, Any]]:
    """Return the means over replicates wherever all of them were looked at."""
    # By their place too: gradual pruning looks twice at a step, before a cut and after it.
    looks: dict[tuple[int, float], list[float]] = {}
    for record in records:
        curve = record["curve"]
        for place, (step, value) in enumerate(zip(curve["step"], curve[metric.valid], strict=True)):
            looks.setdefault((place, step), []).append(value)
    points = []
    for (place, step), values in looks.items():
        if len(values) == len(records):
            points.append(
                {
                    "arm": arm,
                    "place": place,
                    "step": step,
                    metric.name: metric.scale * sum(values) / len(values),
                    "replicates": len(values),
                }
            )
    return points


def boxes(
    records: Sequence[Record],
    targets: Sequence[float],
    ends: Collection[str] = (),
    metric: Metric = ACCURACY,
) -> alt.VConcatChart:
    """Draw the headline metric of the replicates as boxes, a panel for each density on a scale of
    its own.

    Each panel has the dense network and those that were trained longer, which have no density,
    beside the tickets. A box holds the middle half, its line is the median; whiskers reach the
    outermost replicates, each drawn as a point. Values are those of the early stop; without
    validation data there is none, and those of the end stand for it.

    Args:
        records: Of the whole experiment.
        targets: Densities; of each arm the first ticket at or below is shown.
        ends: Arms whose values are those of the end: networks that were pruned and trained on.
        metric: What is drawn, on the test split.

    Source:
        Havinga & Sawhney, Fig. 6: tickets are stopped early, and the pruned network is not. Theirs
        share one scale.
    """
    from tombola.ground.extras import altair as alt

    names = aggregate.arms(records)
    shown = [aggregate.DENSE, *names]
    palette = {**colours(names), aggregate.DENSE: GREY}
    by_density = {}
    reached = set()
    for target in targets:
        rows = _boxed(records, target, ends, metric)
        if any(row["ticket"] for row in rows):
            by_density[target] = rows
            reached |= {row["arm"] for row in rows}
    here = [name for name in shown if name in reached]
    columns = min(3, len(by_density))
    scale = alt.Scale(domain=here, range=[palette[name] for name in here])
    colour = alt.Color("arm:N", scale=scale, legend=None)
    axis = alt.Axis(labelAngle=-40, labelLimit=110, grid=False, ticks=False)
    drawn = []
    for index, (target, rows) in enumerate(by_density.items()):
        x = alt.X("arm:N", sort=here, scale=alt.Scale(domain=here), title=None, axis=axis)
        y = alt.Y(
            f"{metric.name}:Q",
            title=None if index % columns else metric.axis(f"Test {metric.title}"),
            scale=alt.Scale(domain=around(rows, metric), nice=False, zero=False),
            axis=alt.Axis(tickCount=5, minExtent=34),
        )
        over = alt.Chart(inline(rows))
        drawn.append(
            alt.layer(
                over.mark_boxplot(extent="min-max", size=16, opacity=0.55).encode(
                    x=x, y=y, color=colour
                ),
                over.mark_point(filled=True, size=16, opacity=0.9).encode(
                    x=x,
                    y=y,
                    color=colour,
                    tooltip=tooltip(
                        "arm", "density", metric.name, "at", "replicate", metric=metric
                    ),
                ),
                width=WIDTH_OF_ROW // columns - 60,
                height=190,
                title=alt.Title(
                    f"{percent(target)} % density",
                    fontSize=13,
                    fontWeight="normal",
                    color=INK,
                    anchor="start",
                ),
            )
        )
    return side_by_side(drawn, columns)


def _boxed(
    records: Sequence[Record], target: float, ends: Collection[str], metric: Metric
) -> list[dict[str, Any]]:
    """Return what a panel shows: the first tickets at or below a density, and the dense
    networks.
    """
    chosen: dict[tuple[str, int], tuple[Record, bool]] = {}
    for record in sorted(records, key=lambda record: int(record["round"])):
        arm, k = record["arm"], record["replicate"]
        if record[metric.test] is None:
            continue
        if record["round"] == 0:
            chosen.setdefault((aggregate.DENSE, k), (record, False))
        elif record["density"] == 1:  # trained longer: the last round is all there is
            chosen[arm, k] = record, False
        elif comparisons.reaches(record, target):
            chosen.setdefault((arm, k), (record, True))
    rows = []
    for (arm, k), (record, ticket) in chosen.items():
        early = None if arm in ends else aggregate.early_value(record, metric)
        value, at = (
            (metric.scale * record[metric.test], "the end")
            if early is None
            else (early, "early stop")
        )
        rows.append(
            {
                "arm": arm,
                "ticket": ticket,
                "density": 100 * record["density"],
                metric.name: value,
                "at": at,
                "replicate": k,
            }
        )
    return rows


def overlap(rows: Sequence[dict[str, Any]], arms: Sequence[str]) -> alt.LayerChart:
    """Draw what candidates have in common of the weights before a round, with what chance gives.

    Args:
        rows: With arm, round, kept and chance (percent), and lowest and highest, between which
            arithmetic leaves it.
        arms: All arms of the experiment, for their colours.
    """
    from tombola.ground.extras import altair as alt

    colour, shape = arm_encodings(arms, list(dict.fromkeys(row["arm"] for row in rows)))
    over = alt.Chart(inline(rows))
    last = max(row["round"] for row in rows)
    x = alt.X(
        "round:Q",
        title="Round",
        scale=alt.Scale(domain=[0.5, last + 0.5], nice=False),
        axis=alt.Axis(values=list(range(1, last + 1, last // 15 + 1)), format="d", grid=False),
    )
    scale: dict[str, Any] = {
        "scale": alt.Scale(zero=False),
        "title": "Kept by all, of the weights before the round (%)",
    }
    tips = [
        alt.Tooltip("arm:N"),
        alt.Tooltip("round:N"),
        alt.Tooltip("kept:Q", title="kept %", format=".2f"),
        alt.Tooltip("chance:Q", title="by chance %", format=".2f"),
    ]
    return styled(
        over.mark_area(opacity=0.08).encode(
            x=x, y=alt.Y("lowest:Q", **scale), y2="highest:Q", color=colour
        ),
        over.mark_line(strokeWidth=1.5, strokeDash=[5, 4]).encode(
            x=x, y=alt.Y("chance:Q", **scale), color=colour
        ),
        over.mark_line(strokeWidth=2).encode(x=x, y=alt.Y("kept:Q", **scale), color=colour),
        over.mark_point(filled=True, size=60, opacity=1).encode(
            x=x, y=alt.Y("kept:Q", **scale), color=colour, shape=shape, tooltip=tips
        ),
        height=300,
    )


def matrix(
    cells: Sequence[dict[str, Any]], tickets: Sequence[str], data: Sequence[str]
) -> alt.LayerChart:
    """Draw what tickets reach on data sets: one cell each, with its mean accuracy.

    Colour is the difference from the dense network where that is known, white for none; else the
    accuracy itself.

    Args:
        cells: With ticket, data, accuracy and difference (percent and points), deviation in words,
            replicates.
        tickets: The rows, from the top.
        data: The columns, from the left.
    """
    from tombola.ground.extras import altair as alt

    known = [cell["difference"] for cell in cells if cell["difference"] is not None]
    signed = any(known)
    most = max(map(abs, known), default=1.0) or 1.0
    accuracies = [cell["accuracy"] for cell in cells]
    # Light ends, so that black text is read on every one of them.
    scale = (
        alt.Scale(
            domain=[-most, 0, most], range=["#f2b25c", "#ffffff", "#85c5ee"], interpolate="rgb"
        )
        if signed
        else alt.Scale(domain=[min(accuracies), max(accuracies)], range=["#ffffff", "#85c5ee"])
    )
    of, title = ("difference", "points from dense") if signed else ("accuracy", "test accuracy %")
    legend = alt.Legend(
        title=title, orient="top", gradientLength=120, format="+.1f" if signed else ".1f"
    )
    x = alt.X(
        "data:N",
        sort=list(data),
        title=None,
        axis=alt.Axis(orient="top", labelAngle=0, labelLimit=200),
    )
    y = alt.Y(
        "ticket:N", sort=list(tickets), title=None, axis=alt.Axis(labelLimit=240, labelPadding=8)
    )
    over = alt.Chart(inline(cells))
    tips = [
        *tooltip("ticket", "data", "accuracy"),
        alt.Tooltip("difference:Q", title="points from dense", format="+.2f"),
        *tooltip("replicates"),
    ]
    spread = any(cell["deviation"] for cell in cells)
    return styled(
        over.mark_rect(stroke=PAPER, strokeWidth=2).encode(
            x=x, y=y, color=alt.Color(f"{of}:Q", scale=scale, legend=legend), tooltip=tips
        ),
        over.mark_text(fontSize=13, dy=-6 if spread else 0, color=INK_ON_LIGHT).encode(
            x=x, y=y, text=alt.Text("accuracy:Q", format=".2f")
        ),
        over.mark_text(fontSize=10, dy=9, color=INK_ON_LIGHT).encode(x=x, y=y, text="deviation:N"),
        height=44 * max(1, len(tickets)),
    )


def line(rows: Sequence[dict[str, Any]], metric: Metric = ACCURACY) -> alt.LayerChart:
    """Draw the test error along the line between two trainings of a ticket, one line for each
    density.

    Args:
        rows: With density (as text), at (0 to 1), error (as `Metric.error` has it) and replicates.
        metric: Whose error it is.
    """
    from tombola.ground.extras import altair as alt

    names = list(dict.fromkeys(row["density"] for row in rows))
    palette = ordered_colours(len(names))
    colour = alt.Color(
        "density:N",
        sort=names,
        scale=alt.Scale(domain=names, range=palette),
        legend=legend_of(names),
    )
    over = alt.Chart(inline(rows))
    x = alt.X("at:Q", title="Place on the line: 0 the first training, 1 the second")
    y = alt.Y(
        "error:Q", title=metric.axis(f"Test {metric.error_title}"), scale=alt.Scale(zero=False)
    )
    error_title = f"{metric.error_title} {metric.shown_unit}".strip()
    tips = [
        alt.Tooltip("density:N"),
        alt.Tooltip("at:Q", format=".2f"),
        alt.Tooltip("error:Q", title=error_title, format=".2f"),
        alt.Tooltip("replicates:N"),
    ]
    return styled(
        over.mark_line(strokeWidth=2).encode(x=x, y=y, color=colour),
        over.mark_point(filled=True, size=40, opacity=1).encode(
            x=x, y=y, color=colour, tooltip=tips
        ),
        height=300,
    )


def barrier(
    records: Sequence[Record], stable: float | None, metric: Metric = ACCURACY
) -> alt.LayerChart:
    """Draw the barrier between two trainings of a ticket over density: the mean of each arm, and
    its replicates.

    Args:
        records: Of the whole experiment.
        stable: The barrier below which a ticket counts as stable, a fraction; a dashed line.
            ``None``: none is known.
        metric: Whose barrier it is.
    """
    from tombola.ground.extras import altair as alt

    own = [
        record for record in records if record.get("barrier") is not None and record["density"] > 0
    ]
    names = list(dict.fromkeys(record["arm"] for record in own))
    singles = []
    by_round: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for record in own:
        single = {
            "arm": record["arm"],
            "replicate": record["replicate"],
            "round": record["round"],
            "density": 100 * record["density"],
            "barrier": metric.scale * record["barrier"],
        }
        singles.append(single)
        by_round.setdefault((record["arm"], record["round"]), []).append(single)
    means = []
    for (arm, index), here in by_round.items():
        means.append(
            {
                "arm": arm,
                "round": index,
                "replicates": len(here),
                "density": sum(single["density"] for single in here) / len(here),
                "barrier": sum(single["barrier"] for single in here) / len(here),
            }
        )
    x = alt.X(
        "density:Q", title="Density: weights kept (%, log scale)", **density_axis(own, reverse=True)
    )
    unit = f"{metric.points} of test {metric.error_title}".strip()
    y = alt.Y("barrier:Q", title=f"Barrier ({unit})")
    colour, shape = arm_encodings(aggregate.arms(records), names)
    over_means, over_singles = alt.Chart(inline(means)), alt.Chart(inline(singles))
    tip = alt.Tooltip(
        "barrier:Q", title=", ".join(filter(None, ("barrier", metric.points))), format=".2f"
    )
    limit = [] if stable is None else [{"barrier": metric.scale * stable}]
    return styled(
        alt.Chart(inline(limit))
        .mark_rule(color=GREY, strokeDash=[6, 4], strokeWidth=1.5)
        .encode(y=y),
        over_singles.mark_point(filled=True, size=14, opacity=0.45, shape="circle").encode(
            x=x, y=y, color=colour, tooltip=[*tooltip("arm", "replicate", "round", "density"), tip]
        ),
        over_means.mark_line(strokeWidth=2).encode(x=x, y=y, color=colour),
        over_means.mark_point(filled=True, size=70, opacity=1).encode(
            x=x,
            y=y,
            color=colour,
            shape=shape,
            tooltip=[*tooltip("arm", "round", "density", "replicates"), tip],
        ),
        height=300,
    )


def similarity(rows: Sequence[dict[str, Any]], arms: Sequence[str]) -> alt.LayerChart:
    """Draw which part of the weights that either of two arms prunes both prune, over density, and
    what explains it.

    Solid: measured. Dashed: by chance, in each layer by its own counts. Of a few pairs also,
    dotted, the most that is possible, and, thin, what the initial weights alone give. It rises by
    itself: who prunes all agrees.

    Args:
        rows: With arm (whose colour it has), pair, density and in percent jaccard, chance, most,
            start.
        arms: All arms of the experiment, for their colours.
    """
    from tombola.ground.extras import altair as alt

    called = {row["arm"]: row["pair"] for row in rows}
    colour, shape = arm_encodings(arms, list(called), called)
    switch = arm_switch(list(called))
    over = alt.Chart(inline(rows)).transform_filter(switch)
    x = alt.X(
        "density:Q",
        title="Density: weights kept (%, log scale)",
        **density_axis([{"density": row["density"] / 100} for row in rows], reverse=True),
    )

    def y(of: str) -> alt.Y:
        return alt.Y(
            f"{of}:Q",
            title="Pruned by both, of those pruned by either (%)",
            scale=alt.Scale(domain=[0, 100]),
        )

    def line(of: str, width: float, dash: Sequence[int] = ()) -> alt.Chart:
        drawn: alt.Chart = over.mark_line(strokeWidth=width, strokeDash=list(dash)).encode(
            x=x, y=y(of), color=colour
        )
        return drawn

    tips = [
        alt.Tooltip("pair:N", title="arms"),
        alt.Tooltip("rounds:N"),
        alt.Tooltip("replicates:N"),
        alt.Tooltip("density:Q", title="density %", format=".2f"),
        alt.Tooltip("jaccard:Q", title="pruned by both %", format=".2f"),
        alt.Tooltip("chance:Q", title="by chance %", format=".2f"),
        alt.Tooltip("most:Q", title="at most %", format=".2f"),
        alt.Tooltip("start:Q", title="by initial weights %", format=".2f"),
    ]
    few = [line("most", 1.25, (1, 3)), line("start", 1)] if len(called) <= FEW_PAIRS else []
    return styled(
        *few,
        line("chance", 1.5, (5, 4)),
        line("jaccard", 2),
        over.mark_point(filled=True, size=60, opacity=1)
        .encode(x=x, y=y("jaccard"), color=colour, shape=shape, tooltip=tips)
        .add_params(switch),
        height=340,
    )
