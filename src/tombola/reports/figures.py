"""Figures: the headline metric over density, and density over rounds, as charts of Vega-Lite.

    records -> aggregate -> [ metric_over_density, density_over_round, layers, curves, overlap ] ->
    page

An arm has the same colour and the same shape in every figure; colours are told apart by
colour-blind readers, shapes by everyone in print. Axes say percent; records stay fractions.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tombola.evidence import comparisons
from tombola.ground.metrics import ACCURACY, Metric
from tombola.reports import aggregate
from tombola.reports.aggregate import Record
from tombola.reports.drawing import (
    DENSITY_TITLE,
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
    as_fractions,
    colours,
    density_axis,
    density_x,
    distinct,
    inline,
    interval_of,
    legend_of,
    letter_colours,
    marks,
    one_two_five,
    ordered_colours,
    scale_of,
    side_by_side,
    spread_out,
    styled,
    tooltip,
    with_margin,
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
    at the densities that are asked for. Arms whose tickets stay untrained are not drawn, see
    `untrained`.

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
    names = aggregate.arms(records)
    printed = [row for row in paper if row["arm"] in names]
    dense = _dense_row(records, metric)
    records = aggregate.of_trained(records)
    means = _means(records, metric)
    dots, on_axis = _dots_and_axis(records, printed, at, metric)
    domain = _domain(means, dots, [*dense, *printed], metric)
    height = max(220, _LABEL * (len(names) + 1))
    lowest = density_axis(on_axis)["scale"]["domain"][0]
    labels = _end_labels(names, means, dense, domain, lowest, height, metric)
    plot = _Plot.of(names, on_axis, domain, metric)
    chart: alt.LayerChart = styled(
        # From the back to the front: dots lie over lines, and what a paper prints over both.
        *_draw_dense(plot, dense),
        _draw_leaders(plot, labels),
        *_draw_means(plot, means, crowded=len(names) > len(PALETTE)),
        *_draw_dots(plot, dots),
        *_draw_printed(plot, printed),
        *_draw_names(plot, labels),
        height=height,
        title=title,
    )
    # Names stand outside of the axes, and the page cannot know how much room they take.
    longest = max((len(label["label"]) for label in labels), default=0)
    chart["usermeta"] = {"room": 92 + round(6.8 * longest)}
    return chart


@dataclass(frozen=True)
class _Plot:
    """What the layers of `metric_over_density` share: axes, colours, marks, and which arms are
    switched on.
    """

    metric: Metric
    x: alt.X
    y_axis: Mapping[str, Any]
    colour: alt.Color
    shape: alt.Shape
    switch: alt.Parameter

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        on_axis: Sequence[Record],
        domain: Sequence[float],
        metric: Metric,
    ) -> _Plot:
        """Set up a plot of these arms.

        Args:
            names: All arms.
            on_axis: What the axis of densities must hold.
            domain: What the axis of the metric shows.
            metric: What is drawn.
        """
        from tombola.ground.extras import altair as alt

        y_axis = {
            "title": metric.axis(f"Test {metric.title}"),
            "scale": alt.Scale(domain=domain, nice=False),
            "axis": alt.Axis(tickCount=6),
        }
        colour, shape = arm_encodings(names, legend=False)
        # Without a legend, a click on a name switches its line off and on again.
        switch = alt.selection_point(
            name="arms",
            fields=["arm"],
            on="click",
            toggle="true",
            clear=False,
            empty=False,
            value=[{"arm": name} for name in names],
        )
        return cls(metric, density_x(on_axis), y_axis, colour, shape, switch)

    @property
    def value(self) -> alt.Y:
        """Where a row's metric puts it."""
        return self.y(self.metric.name)

    def y(self, field: str) -> alt.Y:
        """Return another field of the rows on the axis of the metric."""
        from tombola.ground.extras import altair as alt

        return alt.Y(f"{field}:Q", **self.y_axis)

    def switched(self, rows: Sequence[dict[str, Any]]) -> alt.Chart:
        """Return a chart of the rows whose arm is switched on."""
        from tombola.ground.extras import altair as alt

        chart: alt.Chart = alt.Chart(inline(rows)).transform_filter(self.switch)
        return chart


def _draw_dense(plot: _Plot, dense: Sequence[dict[str, Any]]) -> list[alt.Chart]:
    """Draw the dense network: a band over the whole width, and a line in it."""
    from tombola.ground.extras import altair as alt

    chart = alt.Chart(inline(dense))
    return [
        chart.mark_rect(color=GREY, opacity=0.16, clip=True).encode(y=plot.y("low"), y2="high:Q"),
        chart.mark_rule(color=GREY, strokeWidth=1).encode(y=plot.value),
    ]


def _draw_leaders(plot: _Plot, labels: Sequence[dict[str, Any]]) -> alt.Chart:
    """Draw the thin lines that lead from the ends of lines to their names."""
    ends = []
    for label in labels:
        if label["arm"]:
            ends.append({"arm": label["arm"], "density": label["from"], "place": label["end"]})
            ends.append({"arm": label["arm"], "density": label["to"], "place": label["place"]})
    chart: alt.Chart = (
        plot.switched(ends)
        .mark_line(strokeWidth=0.75, strokeDash=[2, 3], opacity=0.7)
        .encode(x=plot.x, y=plot.y("place"), color=plot.colour)
    )
    return chart


def _draw_means(plot: _Plot, means: Sequence[dict[str, Any]], *, crowded: bool) -> list[alt.Chart]:
    """Draw a line an arm, with a small point a round."""
    metric = plot.metric
    chart = plot.switched(means)
    tips = tooltip("arm", "round", "density", metric.name, "interval", "replicates", metric=metric)
    # Many arms' points would hide the lines.
    opacity = 0.45 if crowded else 0.9
    return [
        chart.mark_line(strokeWidth=1.75, clip=True).encode(
            x=plot.x, y=plot.value, color=plot.colour
        ),
        chart.mark_point(filled=True, size=22, opacity=opacity, clip=True).encode(
            x=plot.x, y=plot.value, color=plot.colour, shape=plot.shape, tooltip=tips
        ),
    ]


def _draw_dots(plot: _Plot, dots: Sequence[dict[str, Any]]) -> list[alt.Chart]:
    """Draw the means at the densities asked for, with their intervals."""
    from tombola.ground.extras import altair as alt

    metric = plot.metric
    chart, x = plot.switched(dots), alt.X("place:Q")
    tips = tooltip("arm", "asked", metric.name, "interval", "replicates", metric=metric)
    return [
        chart.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=1.75, clip=True)
        .encode(x=x, y=plot.y("low"), y2="high:Q", color=plot.colour),
        chart.mark_point(
            filled=True, size=75, opacity=1, stroke=PAPER, strokeWidth=0.8, clip=True
        ).encode(x=x, y=plot.value, color=plot.colour, shape=plot.shape, tooltip=tips),
    ]


def _draw_printed(plot: _Plot, printed: Sequence[dict[str, Any]]) -> list[alt.Chart]:
    """Draw what a paper prints as hollow marks."""
    if not printed:
        return []
    metric = plot.metric
    tips = tooltip("source", "arm", "density", metric.name, metric=metric)
    return [
        plot.switched(printed)
        .mark_point(filled=False, size=110, strokeWidth=2, opacity=1, clip=True)
        .encode(x=plot.x, y=plot.value, color=plot.colour, shape=plot.shape, tooltip=tips)
    ]


def _draw_names(plot: _Plot, labels: Sequence[dict[str, Any]]) -> list[alt.Chart]:
    """Draw the names at the ends of the lines: the dense network's, and each arm's behind its
    mark; those that are switched off are faint.
    """
    from tombola.ground.extras import altair as alt

    of_dense = alt.Chart(inline([label for label in labels if not label["arm"]]))
    of_arms = alt.Chart(inline([label for label in labels if label["arm"]]))
    right_edge, y = alt.value("width"), plot.y("place")
    opacity = alt.condition(plot.switch, alt.value(1), alt.value(0.35))
    return [
        of_dense.mark_text(color=GREY, align="left", dx=8, fontSize=12).encode(
            x=right_edge, y=y, text="label:N"
        ),
        of_arms.mark_point(filled=True, size=55, xOffset=13).encode(
            x=right_edge, y=y, color=plot.colour, shape=plot.shape, opacity=opacity
        ),
        of_arms.mark_text(align="left", dx=22, fontSize=12, cursor="pointer")
        .encode(
            x=right_edge,
            y=y,
            text="label:N",
            color=alt.Color("letters:N", scale=None),
            opacity=opacity,
            tooltip=alt.Tooltip("arm:N"),
        )
        .add_params(plot.switch),
    ]


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


def _dots_and_axis(
    records: Sequence[Record],
    printed: Sequence[dict[str, Any]],
    at: Sequence[float],
    metric: Metric,
) -> tuple[list[dict[str, Any]], list[Record]]:
    """Return the dots at the densities asked for, and what the axis of densities must hold."""
    on_axis: list[Record] = [*records, *as_fractions(printed)]
    lowest = density_axis(on_axis)["scale"]["domain"][0]
    # Eight pixels apart, in logarithms of the density, or less where arms are many: densities that
    # are asked for are often a factor of two apart.
    pixel = math.log(100 / lowest) / WIDTH
    step = min(8 * pixel, 0.75 * math.log(2) / max(1, len(aggregate.arms(records))))
    dots = _dots_at(records, aggregate.few(at), metric, step)
    # Dots that are moved to the right may need a longer axis.
    if dots and min(dot["place"] for dot in dots) < lowest:
        for dot in dots:
            on_axis.append({"density": dot["place"] / 100})
    return dots, on_axis


def _dots_at(
    records: Sequence[Record], densities: Sequence[float], metric: Metric, step: float
) -> list[dict[str, Any]]:
    """Return the mean of each arm at each density, with its interval, and where its dot stands:
    those of one density are a step from each other.
    """
    rows = []
    for density in densities:
        spreads = {}
        for arm in aggregate.arms(records):
            values = comparisons.values_at(records, arm, density, metric.test).values()
            if values:
                spreads[arm] = aggregate.spread(value.value for value in values)
        for index, (arm, value) in enumerate(spreads.items()):
            aside = (index - (len(spreads) - 1) / 2) * step
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
    compared = [row[metric.name] for row in (*dots, *others)]
    values = [row[metric.name] for row in means] + compared
    for row in dots:
        values += [row[end] for end in ("low", "high") if end in row]
    if not dots:
        return with_margin(values, metric)
    room = 0.6 * (max(compared) - min(compared)) or 1.0
    low, high = min(compared) - room, max(compared) + room
    return with_margin([min(max(value, low), high) for value in values], metric)


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
    last_rows = {row["arm"]: row for row in means}  # rows are in the order of rounds
    letters = letter_colours(names)
    labels: list[dict[str, Any]] = []
    for name in names:
        if name in last_rows:
            end = last_rows[name]
            labels.append(
                {
                    "arm": name,
                    "label": name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…",
                    "letters": letters[name],
                    "end": min(max(end[metric.name], low), high),
                    "from": end["density"],
                }
            )
    for row in dense:
        shown = f"dense {row[metric.name]:.{metric.digits}f}"
        labels.append({"arm": "", "label": shown, "end": row[metric.name], "from": lowest})
    pixels = [height * (high - label["end"]) / (high - low) for label in labels]
    for label, pixel in zip(labels, spread_out(pixels, _LABEL, height), strict=True):
        label |= {"place": high - pixel / height * (high - low), "to": lowest}
    return labels


def untrained(
    records: Sequence[Record], chance: float | None = None, metric: Metric = ACCURACY
) -> alt.LayerChart:
    """Draw what tickets that are tested untrained reach over density: a line an arm through the
    means, with intervals, and a small point a replicate.

    Args:
        records: Of the whole experiment.
        chance: What guessing reaches, a dashed line; ``None``: it is not known.
        metric: What is drawn, on the test split.
    """
    from tombola.ground.extras import altair as alt

    shown = aggregate.untrained(records)
    replicates, means = _untrained_rows(records, metric)
    colour, shape = arm_encodings(aggregate.arms(records), shown)
    x = density_x(as_fractions(means))
    values = [row[metric.name] for row in replicates]
    for row in means:
        values += [row[end] for end in ("low", "high") if end in row]
    guessed = [] if chance is None else [{metric.name: metric.scale * chance}]
    values += [row[metric.name] for row in guessed]
    scale = alt.Scale(domain=with_margin(values, metric), nice=False)

    def y(field: str) -> alt.Y:
        title = metric.axis(f"Test {metric.title}", more="untrained")
        return alt.Y(f"{field}:Q", title=title, scale=scale, axis=alt.Axis(tickCount=6))

    tips = tooltip("arm", "density", metric.name, "interval", "replicates", metric=metric)
    over_means, by_chance = alt.Chart(inline(means)), alt.Chart(inline(guessed))
    return styled(
        by_chance.mark_rule(color=GREY, strokeDash=[6, 4], strokeWidth=1.25, clip=True).encode(
            y=y(metric.name)
        ),
        # At the left, where there are no tickets.
        by_chance.mark_text(color=GREY, align="left", dx=4, dy=-8, fontSize=12).encode(
            x=alt.value(0), y=y(metric.name), text=alt.value("chance")
        ),
        alt.Chart(inline(replicates))
        .mark_point(filled=True, size=14, opacity=0.45, shape="circle", clip=True)
        .encode(x=x, y=y(metric.name), color=colour),
        over_means.mark_line(strokeWidth=1.75, clip=True).encode(
            x=x, y=y(metric.name), color=colour
        ),
        over_means.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=1.75, clip=True)
        .encode(x=x, y=y("low"), y2="high:Q", color=colour),
        over_means.mark_point(filled=True, size=70, opacity=1).encode(
            x=x, y=y(metric.name), color=colour, shape=shape, tooltip=tips
        ),
        height=300,
    )


def _untrained_rows(
    records: Sequence[Record], metric: Metric
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what `untrained` draws: a row a replicate, and their means by arm and round."""
    shown = aggregate.untrained(records)
    replicates, means = [], []
    for record in records:
        of_ticket = record["round"] > 0 and record["arm"] in shown
        if of_ticket and record[metric.test] is not None and record["density"] > 0:
            replicates.append(
                {
                    "arm": record["arm"],
                    "density": 100 * record["density"],
                    metric.name: metric.scale * record[metric.test],
                }
            )
    for row in aggregate.by_round(records, metric):
        if row.arm in shown and row.value is not None and row.density > 0:
            mean = {
                "arm": row.arm,
                "density": 100 * row.density,
                metric.name: metric.scale * row.value.mean,
                "replicates": row.value.n,
            }
            means.append(mean | interval_of(row.value, metric))
    return replicates, means


def density_over_round(records: Sequence[Record]) -> alt.LayerChart:
    """Draw the mean density of each arm over its rounds, on a logarithmic axis: a constant rate is
    a straight line.

    Arms with equal counts (a matched arm and its source) lie on each other: later arms are dashed
    and have smaller points, so that both can be seen.
    """
    from tombola.ground.extras import altair as alt

    names = aggregate.arms(records)
    rounds = aggregate.by_round(records)
    rows = []
    for row in rounds:
        if row.density > 0:  # zero has no place on a logarithmic axis
            order = names.index(row.arm)
            rows.append(
                {
                    "arm": row.arm,
                    "order": order,
                    "size": max(130 - 40 * order, 40),
                    "round": row.round,
                    "density": 100 * row.density,
                    "replicates": row.replicates,
                }
            )
    last = max((row.round for row in rounds), default=0)
    x = _round_axis(0, last, [0, max(last, 1)])
    y = alt.Y("density:Q", title=DENSITY_TITLE, **density_axis(records))
    colour, shape = arm_encodings(names)
    orders = list(range(len(names)))
    dashes = [[1, 0] if order == 0 else [8 - order % 6, 4 + order % 6] for order in orders]
    dash = alt.StrokeDash("order:O", scale=alt.Scale(domain=orders, range=dashes), legend=None)
    # The size itself and no scale of the arms: for a single arm Vega's scale gives NaN.
    size = alt.Size("size:Q", scale=None, legend=None)
    over_means = alt.Chart(inline(rows))
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


def _round_axis(first: int, last: int, domain: Sequence[float]) -> alt.X:
    """Return an axis of rounds, with at most 15 steps between ticks."""
    from tombola.ground.extras import altair as alt

    ticks = list(range(first, last + 1, last // 15 + 1))
    return alt.X(
        "round:Q",
        title="Round",
        scale=alt.Scale(domain=domain, nice=False),
        axis=alt.Axis(values=ticks, format="d", grid=False),
    )


def layers(records: Sequence[Record], arm: str) -> alt.LayerChart:
    """Draw which part of each layer an arm keeps over the density of the whole network: where the
    weights go.

    Layers are coloured by their depth, first to last. One that falls off steeply nears collapse.
    """
    from tombola.ground.extras import altair as alt

    of_arm = []
    for record in records:
        if record["arm"] == arm and record.get("layers") and record["density"] > 0:
            of_arm.append(record)
    names = list(of_arm[0]["layers"])
    densities = _density_by_round(of_arm)
    rows = _layer_rows(of_arm, names, densities)
    lowest = min((row["kept"] for row in rows), default=1.0)
    # Where a layer would be that keeps what the whole network keeps.
    alike = []
    for density in densities.values():
        if density >= lowest:
            alike.append({"density": density, "kept": density})
    x, colour = density_x(of_arm), _depth_colour(names)
    y = alt.Y(
        "kept:Q",
        title="Kept of each layer (%, log scale)",
        scale=alt.Scale(type="log", domain=[min(0.93 * lowest, 75.0), 100], nice=False),
        axis=alt.Axis(
            values=[tick for tick in one_two_five(lowest) if tick >= lowest], format="~r"
        ),
    )
    tips = [
        alt.Tooltip("layer:N"),
        alt.Tooltip("round:N"),
        alt.Tooltip("density:Q", title="density %", format=".2f"),
        alt.Tooltip("kept:Q", title="kept of it %", format=".2f"),
    ]
    chart = alt.Chart(inline(rows))
    return styled(
        alt.Chart(inline(alike))
        .mark_line(color=GREY, strokeDash=[6, 4], strokeWidth=1.25)
        .encode(x=x, y=y),
        chart.mark_line(strokeWidth=2).encode(x=x, y=y, color=colour, detail="layer:N"),
        chart.mark_point(filled=True, size=40, opacity=1).encode(
            x=x, y=y, color=colour, tooltip=tips
        ),
        height=300,
    )


def _density_by_round(records: Sequence[Record]) -> dict[int, float]:
    """Return the mean density of the replicates, in percent, by round."""
    densities: dict[int, list[float]] = {}
    for record in records:
        densities.setdefault(record["round"], []).append(record["density"])
    return {index: 100 * sum(values) / len(values) for index, values in densities.items()}


def _layer_rows(
    records: Sequence[Record], names: Sequence[str], densities: Mapping[int, float]
) -> list[dict[str, Any]]:
    """Return what `layers` draws: the mean share that each layer keeps in each round."""
    shares: dict[tuple[int, str], list[float]] = {}
    for record in records:
        for name, (kept, size) in record["layers"].items():
            shares.setdefault((record["round"], name), []).append(kept / size)
    rows = []
    for (index, name), values in shares.items():
        if any(values):  # zero has no place on a logarithmic axis
            rows.append(
                {
                    "layer": name.removesuffix(".weight"),
                    "depth": names.index(name),
                    "round": index,
                    "density": densities[index],
                    "kept": 100 * sum(values) / len(values),
                }
            )
    return rows


def _depth_colour(names: Sequence[str]) -> alt.Color:
    """Return the colours of layers: with a legend of names, or of many a scale of depths."""
    from tombola.ground.extras import altair as alt

    if len(names) > len(PALETTE):
        return alt.Color(
            "depth:Q",
            scale=alt.Scale(range=ordered_colours(3)),
            legend=alt.Legend(title="layer, first to last"),
        )
    shown = [name.removesuffix(".weight") for name in names]
    palette = alt.Scale(domain=shown, range=ordered_colours(len(shown)))
    return alt.Color("layer:N", scale=palette, legend=legend_of(shown))


def curves(records: Sequence[Record], density: float, metric: Metric = ACCURACY) -> alt.LayerChart:
    """Draw the headline metric on validation data over training steps.

    Of each arm it is the first ticket at or below a density, and dense. Lines are means over
    replicates. The density 1 shows the dense network alone.
    """
    from tombola.ground.extras import altair as alt

    arms = aggregate.arms(records)
    with_curve = [record for record in records if record.get("curve")]
    tickets: dict[str, dict[int, Record]] = {}
    for record in sorted(with_curve, key=lambda record: int(record["round"])):
        if comparisons.reaches(record, density):
            tickets.setdefault(record["arm"], {}).setdefault(record["replicate"], record)
    # Reversed, so that the arm that comes first wins.
    dense = {r["replicate"]: r for r in reversed(with_curve) if r["round"] == 0}
    # In the order of all other charts and tables, not in that in which arms come to the density.
    drawn = {arm: tickets[arm] for arm in arms if arm in tickets} | {aggregate.DENSE: dense}
    rows: list[dict[str, Any]] = []
    marked: list[dict[str, Any]] = []
    for arm, by_replicate in drawn.items():
        points = _mean_curve(arm, list(by_replicate.values()), metric)
        rows += points
        # A mark at every look would hide the line.
        marked += points[:: max(1, len(points) // _MARKS_OF_A_CURVE)]
    legend = legend_of(list(drawn))
    palette = scale_of(list(drawn), {**colours(arms), aggregate.DENSE: GREY})
    shapes = scale_of(list(drawn), {**marks(arms), aggregate.DENSE: "stroke"})
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

    by_density = {}
    reached = set()
    for target in targets:
        rows = _boxed(records, target, ends, metric)
        if any(row["ticket"] for row in rows):
            by_density[target] = rows
            reached |= {row["arm"] for row in rows}
    # All panels have the same arms, so that each stands at the same place in all of them.
    names = aggregate.arms(records)
    shown = [name for name in (aggregate.DENSE, *names) if name in reached]
    colour = alt.Color(
        "arm:N", scale=scale_of(shown, {**colours(names), aggregate.DENSE: GREY}), legend=None
    )
    axis = alt.Axis(labelAngle=-40, labelLimit=110, grid=False, ticks=False)
    x = alt.X("arm:N", sort=shown, scale=alt.Scale(domain=shown), title=None, axis=axis)
    columns = min(3, len(by_density))
    panels = []
    for index, (target, rows) in enumerate(by_density.items()):
        y = alt.Y(
            f"{metric.name}:Q",
            title=None if index % columns else metric.axis(f"Test {metric.title}"),
            scale=alt.Scale(domain=around(rows, metric), nice=False, zero=False),
            axis=alt.Axis(tickCount=5, minExtent=34),
        )
        panels.append(
            alt.layer(
                *_draw_boxes(rows, x, y, colour, metric),
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
    return side_by_side(panels, columns)


def _draw_boxes(
    rows: Sequence[dict[str, Any]], x: alt.X, y: alt.Y, colour: alt.Color, metric: Metric
) -> list[alt.Chart]:
    """Draw a box an arm, and its replicates as points over it."""
    from tombola.ground.extras import altair as alt

    chart = alt.Chart(inline(rows))
    tips = tooltip("arm", "density", metric.name, "at", "replicate", metric=metric)
    return [
        chart.mark_boxplot(extent="min-max", size=16, opacity=0.55).encode(x=x, y=y, color=colour),
        chart.mark_point(filled=True, size=16, opacity=0.9).encode(
            x=x, y=y, color=colour, tooltip=tips
        ),
    ]


def _boxed(
    records: Sequence[Record], target: float, ends: Collection[str], metric: Metric
) -> list[dict[str, Any]]:
    """Return what a panel shows: the first tickets at or below a density, and the dense
    networks.
    """
    chosen: dict[tuple[str, int], tuple[Record, bool]] = {}
    for record in sorted(records, key=lambda record: int(record["round"])):
        arm, replicate = record["arm"], record["replicate"]
        if record[metric.test] is None or record.get("untrained"):
            continue
        if record["round"] == 0:
            chosen.setdefault((aggregate.DENSE, replicate), (record, False))
        elif record["density"] == 1:  # trained longer: the last round is all there is
            chosen[arm, replicate] = record, False
        elif comparisons.reaches(record, target):
            chosen.setdefault((arm, replicate), (record, True))
    rows = []
    for (arm, replicate), (record, is_ticket) in chosen.items():
        value, moment = aggregate.early_value(record, metric), "early stop"
        if arm in ends or value is None:
            value, moment = metric.scale * record[metric.test], "the end"
        rows.append(
            {
                "arm": arm,
                "ticket": is_ticket,
                "density": 100 * record["density"],
                metric.name: value,
                "at": moment,
                "replicate": replicate,
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

    colour, shape = arm_encodings(arms, distinct(rows, "arm"))
    last = max(row["round"] for row in rows)
    x = _round_axis(1, last, [0.5, last + 0.5])

    def y(field: str) -> alt.Y:
        title = "Kept by all, of the weights before the round (%)"
        return alt.Y(f"{field}:Q", scale=alt.Scale(zero=False), title=title)

    tips = [
        alt.Tooltip("arm:N"),
        alt.Tooltip("round:N"),
        alt.Tooltip("kept:Q", title="kept %", format=".2f"),
        alt.Tooltip("chance:Q", title="by chance %", format=".2f"),
    ]
    chart = alt.Chart(inline(rows))
    return styled(
        chart.mark_area(opacity=0.08).encode(x=x, y=y("lowest"), y2="highest:Q", color=colour),
        chart.mark_line(strokeWidth=1.5, strokeDash=[5, 4]).encode(
            x=x, y=y("chance"), color=colour
        ),
        chart.mark_line(strokeWidth=2).encode(x=x, y=y("kept"), color=colour),
        chart.mark_point(filled=True, size=60, opacity=1).encode(
            x=x, y=y("kept"), color=colour, shape=shape, tooltip=tips
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

    fill = _cell_colour(cells)
    x = alt.X(
        "data:N",
        sort=list(data),
        title=None,
        axis=alt.Axis(orient="top", labelAngle=0, labelLimit=200),
    )
    y = alt.Y(
        "ticket:N", sort=list(tickets), title=None, axis=alt.Axis(labelLimit=240, labelPadding=8)
    )
    tips = [
        *tooltip("ticket", "data", "accuracy"),
        alt.Tooltip("difference:Q", title="points from dense", format="+.2f"),
        *tooltip("replicates"),
    ]
    chart = alt.Chart(inline(cells))
    # The accuracy moves up where its deviation stands below.
    up = -6 if any(cell["deviation"] for cell in cells) else 0
    return styled(
        chart.mark_rect(stroke=PAPER, strokeWidth=2).encode(x=x, y=y, color=fill, tooltip=tips),
        chart.mark_text(fontSize=13, dy=up, color=INK_ON_LIGHT).encode(
            x=x, y=y, text=alt.Text("accuracy:Q", format=".2f")
        ),
        chart.mark_text(fontSize=10, dy=9, color=INK_ON_LIGHT).encode(x=x, y=y, text="deviation:N"),
        height=44 * max(1, len(tickets)),
    )


def _cell_colour(cells: Sequence[dict[str, Any]]) -> alt.Color:
    """Return the colours of cells, with light ends, so that black text is read on all of them."""
    from tombola.ground.extras import altair as alt

    known = [cell["difference"] for cell in cells if cell["difference"] is not None]
    if any(known):
        most = max(map(abs, known))
        field, title, form = "difference", "points from dense", "+.1f"
        scale = alt.Scale(
            domain=[-most, 0, most], range=["#f2b25c", "#ffffff", "#85c5ee"], interpolate="rgb"
        )
    else:
        accuracies = [cell["accuracy"] for cell in cells]
        field, title, form = "accuracy", "test accuracy %", ".1f"
        domain = [min(accuracies), max(accuracies)]
        scale = alt.Scale(domain=domain, range=["#ffffff", "#85c5ee"])
    legend = alt.Legend(title=title, orient="top", gradientLength=120, format=form)
    return alt.Color(f"{field}:Q", scale=scale, legend=legend)


def line(rows: Sequence[dict[str, Any]], metric: Metric = ACCURACY) -> alt.LayerChart:
    """Draw the test error along the line between two trainings of a ticket, one line for each
    density.

    Args:
        rows: With density (as text), at (0 to 1), error (as `Metric.error` has it) and replicates.
        metric: Whose error it is.
    """
    from tombola.ground.extras import altair as alt

    names = distinct(rows, "density")
    palette = ordered_colours(len(names))
    colour = alt.Color(
        "density:N",
        sort=names,
        scale=alt.Scale(domain=names, range=palette),
        legend=legend_of(names),
    )
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
    chart = alt.Chart(inline(rows))
    return styled(
        chart.mark_line(strokeWidth=2).encode(x=x, y=y, color=colour),
        chart.mark_point(filled=True, size=40, opacity=1).encode(
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

    known = []
    for record in records:
        if record.get("barrier") is not None and record["density"] > 0:
            known.append(record)
    rows, means = _barrier_rows(known, metric)
    x = density_x(known)
    unit = f"{metric.points} of test {metric.error_title}".strip()
    y = alt.Y("barrier:Q", title=f"Barrier ({unit})")
    colour, shape = arm_encodings(aggregate.arms(records), distinct(rows, "arm"))
    title = f"barrier, {metric.points}" if metric.points else "barrier"
    tip = alt.Tooltip("barrier:Q", title=title, format=".2f")
    over_means, over_replicates = alt.Chart(inline(means)), alt.Chart(inline(rows))
    limit = [] if stable is None else [{"barrier": metric.scale * stable}]
    return styled(
        alt.Chart(inline(limit))
        .mark_rule(color=GREY, strokeDash=[6, 4], strokeWidth=1.5)
        .encode(y=y),
        over_replicates.mark_point(filled=True, size=14, opacity=0.45, shape="circle").encode(
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


def _barrier_rows(
    records: Sequence[Record], metric: Metric
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what `barrier` draws: a row a replicate, and their means by arm and round."""
    rows = []
    by_round: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for record in records:
        row = {
            "arm": record["arm"],
            "replicate": record["replicate"],
            "round": record["round"],
            "density": 100 * record["density"],
            "barrier": metric.scale * record["barrier"],
        }
        rows.append(row)
        by_round.setdefault((record["arm"], record["round"]), []).append(row)
    means = []
    for (arm, index), replicates in by_round.items():
        means.append(
            {
                "arm": arm,
                "round": index,
                "replicates": len(replicates),
                "density": sum(row["density"] for row in replicates) / len(replicates),
                "barrier": sum(row["barrier"] for row in replicates) / len(replicates),
            }
        )
    return rows, means


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

    pair_of = {row["arm"]: row["pair"] for row in rows}
    colour, shape = arm_encodings(arms, list(pair_of), pair_of)
    switch = arm_switch(list(pair_of))
    chart = alt.Chart(inline(rows)).transform_filter(switch)
    x = density_x(as_fractions(rows))

    def y(field: str) -> alt.Y:
        return alt.Y(
            f"{field}:Q",
            title="Pruned by both, of those pruned by either (%)",
            scale=alt.Scale(domain=[0, 100]),
        )

    def line(field: str, width: float, dash: Sequence[int] = ()) -> alt.Chart:
        drawn: alt.Chart = chart.mark_line(strokeWidth=width, strokeDash=list(dash)).encode(
            x=x, y=y(field), color=colour
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
    bounds = []
    if len(pair_of) <= FEW_PAIRS:
        bounds = [line("most", 1.25, (1, 3)), line("start", 1)]
    return styled(
        *bounds,
        line("chance", 1.5, (5, 4)),
        line("jaccard", 2),
        chart.mark_point(filled=True, size=60, opacity=1)
        .encode(x=x, y=y("jaccard"), color=colour, shape=shape, tooltip=tips)
        .add_params(switch),
        height=340,
    )
