"""Panels: figures that set arms side by side, or one thing above another over the same density.

    records, comparisons -> [ differences, costs, accuracy and rounds, early stop, distance ] ->
    page

Arms have the colours and shapes that they have in all figures.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from tombola.evidence import ledger
from tombola.evidence.comparisons import DENSE, Comparison
from tombola.ground.metrics import ACCURACY, Metric
from tombola.reports import aggregate, class_values
from tombola.reports.aggregate import Record
from tombola.reports.drawing import (
    GREY,
    PALETTE,
    PAPER,
    PRUNED,
    arm_encodings,
    arm_switch,
    as_fractions,
    colours,
    density_x,
    distinct,
    inline,
    panel,
    scale_of,
    stacked,
    styled,
)
from tombola.reports.grids import capitalised, percent

if TYPE_CHECKING:
    from tombola.ground.extras import altair as alt

# an axis of arms
_NAMES: dict[str, Any] = {"labelLimit": 260, "labelPadding": 8, "grid": False, "ticks": False}

Value = Callable[[Record], "float | None"]


def differences(
    compared: Sequence[Comparison], arms: Sequence[str] | None = None
) -> alt.LayerChart:
    """Draw each pair's mean difference with its interval: a row a pair, in it a line a density,
    with the density behind it.

    A line has the colour and the mark of its first arm. What the recipe takes for "as good as" is a
    grey band around zero. An interval that would leave no room for the rest ends in an arrow where
    it is cut off.

    Args:
        compared: Of one run; densities beyond four are thinned out.
        arms: All arms of the experiment, for their colours; the first arms of the pairs if not
            given.
    """
    from tombola.ground.extras import altair as alt

    metric = compared[0].metric
    densities = sorted({comparison.density for comparison in compared}, reverse=True)
    shown = aggregate.few(densities)
    chosen = [comparison for comparison in compared if comparison.density in shown]
    margins = [comparison.margin for comparison in chosen if comparison.margin is not None]
    margin = metric.scale * max(margins, default=0.0)
    ends = _difference_ends(chosen, margin)
    rows = _difference_rows(chosen, ends)
    pairs = distinct(rows, "arms")
    firsts = distinct(rows, "arm")
    labels = [f"{percent(density)} %" for density in shown]

    def x(field: str) -> alt.X:
        return alt.X(
            f"{field}:Q",
            title=metric.axis("First arm minus second", differences=True),
            scale=alt.Scale(domain=ends, nice=False),
            axis=alt.Axis(tickCount=8),
        )

    colour, shape = arm_encodings(arms or firsts, firsts, legend=False)
    place = {
        "y": alt.Y("arms:N", sort=pairs, title=None, axis=alt.Axis(**_NAMES, domain=False)),
        "yOffset": alt.YOffset("density:N", sort=labels, scale=alt.Scale(paddingOuter=0.6)),
    }
    chart = alt.Chart(inline(rows))
    zero = alt.Chart(inline([{"zero": 0.0, "from": -margin, "to": margin}]))
    band = []
    if margin:
        band.append(zero.mark_rect(color=GREY, opacity=0.14).encode(x=x("from"), x2="to:Q"))
    arrows = []
    for end, cut_off, symbol in (
        ("low", "from", "triangle-left"),
        ("high", "to", "triangle-right"),
    ):
        arrows.append(
            chart.transform_filter(f"datum['{end}'] != datum['{cut_off}']")
            .mark_point(filled=True, shape=symbol, size=45, opacity=1)
            .encode(x=x(cut_off), color=colour, **place)
        )
    return styled(
        *band,
        zero.mark_rule(color=GREY, strokeWidth=1.25).encode(x=x("zero")),
        chart.mark_rule(strokeWidth=2).encode(x=x("from"), x2="to:Q", color=colour, **place),
        *arrows,
        chart.mark_point(filled=True, size=65, opacity=1).encode(
            x=x("mean"), color=colour, shape=shape, tooltip=_difference_tips(), **place
        ),
        chart.mark_text(align="left", dx=7, fontSize=11, color=GREY).encode(
            x=x("to"), text="density:N", **place
        ),
        height=(13 * len(labels) + 9) * len(pairs),
    )


def _difference_tips() -> list[alt.Tooltip]:
    from tombola.ground.extras import altair as alt

    return [
        alt.Tooltip("arms:N"),
        alt.Tooltip("density:N"),
        alt.Tooltip("mean:Q", title="difference", format="+.2f"),
        alt.Tooltip("low:Q", title="interval from", format="+.2f"),
        alt.Tooltip("high:Q", title="to", format="+.2f"),
        alt.Tooltip("n:Q"),
        alt.Tooltip("verdict:N"),
        alt.Tooltip("p:Q", format=".3f"),
    ]


def _difference_ends(compared: Sequence[Comparison], margin: float) -> list[float]:
    """Return the ends of the axis: all means, the margin, and as much room again for intervals."""
    means = [comparison.metric.scale * comparison.paired.mean for comparison in compared]
    room = max(0.5 * (max(means) - min(means)), 1.2 * margin, 0.5)
    return [min(*means, -margin, 0.0) - room, max(*means, margin, 0.0) + room]


def _difference_rows(compared: Sequence[Comparison], ends: Sequence[float]) -> list[dict[str, Any]]:
    """Return what `differences` draws: the mean and its interval, cut off at the ends of the axis;
    without an interval both of its ends are the mean.
    """
    rows = []
    for comparison in compared:
        paired, scale = comparison.paired, comparison.metric.scale
        low = scale * (paired.mean if paired.low is None else paired.low)
        high = scale * (paired.mean if paired.high is None else paired.high)
        rows.append(
            {
                "arm": comparison.arm,
                "arms": f"{comparison.arm} - {comparison.other}",
                "density": f"{percent(comparison.density)} %",
                "mean": scale * paired.mean,
                "low": low,
                "high": high,
                "from": max(ends[0], low),
                "to": min(ends[1], high),
                "n": len(comparison.values),
                "verdict": comparison.verdict,
                "p": comparison.p,
            }
        )
    return rows


# The parts of a bar, and how dark each is.
_PARTS = {"search": 1.0, "its evaluation": 0.6, "evaluations before": 0.3}


def costs(
    records: Sequence[Record],
    densities: Sequence[float],
    made_of: Mapping[str, str] = ledger.UNKNOWN,
    metric: Metric = ACCURACY,
) -> alt.VConcatChart:
    """Draw what it costs each arm to reach a density, in full-data trainings, with what is had
    for it.

    A bar begins with the search (dark), then comes the training that evaluates the ticket
    (lighter), then those that evaluate the tickets before it (palest).

    Args:
        records: Of the whole experiment.
        densities: At which arms are compared, beyond four thinned out; those that none reaches are
            left out.
        made_of: By arm, whose tickets it takes.
        metric: What is told of a ticket.

    Source:
        COLT, arXiv:2212.12770, Fig. 2, has accuracy and rounds as bars; what is trained to know
        them is ours.
    """
    from tombola.ground.extras import altair as alt

    names = aggregate.arms(records)
    by_density = {}
    most = 0.0
    for density in aggregate.few(densities):
        rows = _cost_rows(records, density, made_of, metric)
        if rows:
            by_density[density] = rows
            most = max(most, *(row["to"] for row in rows))
    panels = []
    for index, (density, rows) in enumerate(by_density.items(), start=1):
        shown = distinct(rows, "arm")
        along = {
            "title": "Full-data trainings" if index == len(by_density) else None,
            # Behind the longest bar there is room for its label.
            "scale": alt.Scale(domain=[0, 1.3 * most], nice=False),
            "axis": alt.Axis(tickCount=6),
        }
        y = alt.Y("arm:N", sort=shown, title=None, axis=alt.Axis(**_NAMES))
        panels.append(
            panel(
                *_draw_costs(rows, along, y, scale_of(shown, colours(names)), metric),
                height=19 * len(shown),
                title=f"To reach {percent(density)} % density",
            )
        )
    return stacked(*panels, room=58 + 7 * max(map(len, names)))


def _draw_costs(
    rows: Sequence[dict[str, Any]],
    along: Mapping[str, Any],
    y: alt.Y,
    palette: alt.Scale,
    metric: Metric,
) -> list[alt.Chart]:
    """Draw a bar an arm, of three parts, and the metric at its end."""
    from tombola.ground.extras import altair as alt

    chart = alt.Chart(inline(rows))
    tips = [
        alt.Tooltip("arm:N"),
        alt.Tooltip("part:N"),
        alt.Tooltip("cost:Q", title="trainings", format=".1f"),
        alt.Tooltip(f"{metric.name}:Q", title=metric.head, format=".2f"),
        alt.Tooltip("rounds:Q", format=".1f"),
        alt.Tooltip("replicates:Q"),
    ]
    return [
        chart.mark_bar(stroke=PAPER, strokeWidth=0.5).encode(
            x=alt.X("from:Q", **along),
            x2="to:Q",
            y=y,
            color=alt.Color("arm:N", scale=palette, legend=None),
            opacity=alt.Opacity("dark:Q", scale=None, legend=None),
            tooltip=tips,
        ),
        chart.transform_filter("datum.last")
        .mark_text(align="left", dx=5, fontSize=11, color=GREY)
        .encode(x=alt.X("to:Q", scale=along["scale"], axis=along["axis"]), y=y, text="label:N"),
    ]


def _cost_rows(
    records: Sequence[Record], density: float, made_of: Mapping[str, str], metric: Metric
) -> list[dict[str, Any]]:
    """Return the parts of all bars at a density, from left to right."""
    values = {row.arm: row.value for row in aggregate.by_target(records, [density], metric=metric)}
    without_training = aggregate.untrained(records)
    rows: list[dict[str, Any]] = []
    for reached in ledger.to_reach(records, density, made_of):
        ends = (reached.search, reached.this_ticket, reached.so_far)
        if reached.arm == DENSE or None in ends:
            continue
        spread = values.get(reached.arm)
        label = "" if spread is None else metric.shown(spread.mean)
        if label and reached.arm in without_training:
            label += " untrained"
        begin = 0.0
        for (part, dark), total in zip(_PARTS.items(), ends, strict=True):
            # Each total is counted by itself, and a bar must not run backwards.
            end = max(begin, total or 0.0)
            rows.append(
                {
                    "arm": reached.arm,
                    "part": part,
                    "dark": dark,
                    "from": begin,
                    "to": end,
                    "cost": end - begin,
                    "last": part == "evaluations before",
                    metric.name: None if spread is None else metric.scale * spread.mean,
                    "rounds": reached.rounds,
                    "label": label,
                    "replicates": reached.replicates,
                }
            )
            begin = end
    return rows


def metric_and_rounds(
    records: Sequence[Record], arms: Sequence[str], metric: Metric = ACCURACY
) -> alt.LayerChart:
    """Draw the headline metric (solid, left axis) and the rounds it took (dashed, right axis) over
    density.

    COLT's Fig. 5 does so.

    Two scales in one picture: where lines cross means nothing. `rounds` has them apart.

    Args:
        records: Of the whole experiment.
        arms: Those to draw.
        metric: On the test split.
    """
    from tombola.ground.extras import altair as alt

    values, rounds = _metric_and_rounds(records, arms, metric)
    x = density_x([record for record in records if record["arm"] in arms])
    colour, shape = arm_encodings(aggregate.arms(records), arms)
    left = alt.Y(
        "mean:Q",
        title=metric.axis(f"Test {metric.title}", more="solid"),
        scale=alt.Scale(zero=False),
    )
    right = alt.Y(
        "mean:Q", title="Rounds (dashed)", axis=alt.Axis(grid=False, tickMinStep=1, format="d")
    )
    over_values, over_rounds = alt.Chart(inline(values)), alt.Chart(inline(rounds))
    chart: alt.LayerChart = styled(
        _together(
            over_values.mark_line(strokeWidth=2).encode(x=x, y=left, color=colour),
            over_values.mark_point(filled=True, size=60, opacity=1).encode(
                x=x, y=left, color=colour, shape=shape, tooltip=_tips(metric.head, ".2f")
            ),
        ),
        _together(
            over_rounds.mark_line(strokeWidth=1.5, strokeDash=[5, 4]).encode(
                x=x, y=right, color=colour
            ),
            over_rounds.mark_point(filled=False, size=40, opacity=1).encode(
                x=x, y=right, color=colour, shape=shape, tooltip=_tips("rounds", ".1f")
            ),
        ),
        height=340,
    ).resolve_scale(y="independent")
    return chart


def _together(*charts: alt.Chart) -> alt.LayerChart:
    from tombola.ground.extras import altair as alt

    chart: Any = alt.layer(*charts)
    return cast("alt.LayerChart", chart)


def rounds(
    records: Sequence[Record], arms: Sequence[str], metric: Metric = ACCURACY
) -> alt.VConcatChart:
    """Draw the headline metric above and the rounds it took below, over one density axis.

    Args:
        records: Of the whole experiment.
        arms: Those to draw.
        metric: On the test split.

    Source:
        COLT, arXiv:2212.12770, Fig. 5, has both in one picture with two scales, see
        `metric_and_rounds`.
    """
    values, taken = _metric_and_rounds(records, arms, metric)
    return _over_density(
        aggregate.arms(records),
        [
            _Panel(metric.axis(f"Test {metric.title}"), values, ".2f", 210),
            _Panel("Rounds", taken, ".1f", 130),
        ],
    )


def _metric_and_rounds(
    records: Sequence[Record], arms: Sequence[str], metric: Metric
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    drawn = [record for record in records if record["arm"] in arms]
    values = _rows(drawn, lambda record: aggregate.scaled(record[metric.test], metric))
    return values, _rows(drawn, lambda record: float(record["round"]))


def early_stop(records: Sequence[Record], metric: Metric = ACCURACY) -> alt.VConcatChart:
    """Draw, over density, the headline metric at the early stop, when that was, and how far
    training is above test.

    Lines are means, bands go from the lowest to the highest replicate; dashed, unless arms are
    many: training above validation.

    Source:
        Frankle & Carbin 2019, arXiv:1803.03635, Fig. 3 and 4; COLT, arXiv:2212.12770, on the gap.
    """
    tickets = _of_tickets(aggregate.of_trained(records))
    early = _rows(tickets, lambda record: aggregate.early_value(record, metric))
    steps = _rows(tickets, lambda record: record["early_stop_step"])
    gaps = _rows(tickets, lambda record: aggregate.above_test(record, metric))
    # Two lines an arm can be told apart while each arm has a colour of its own.
    if len({record["arm"] for record in tickets}) <= len(PALETTE):
        gaps += _rows(tickets, lambda record: aggregate.above_valid(record, metric), dashed=True)
    title = capitalised(metric.title)
    return _over_density(
        aggregate.arms(records),
        [
            _Panel(metric.axis(f"{title} at early stop"), early, ".2f", 170),
            _Panel("Early stop (step)", steps, ",.0f", 170),
            _Panel(metric.axis("Train - test", differences=True), gaps, ".2f", 170),
        ],
    )


def layers_alive(records: Sequence[Record], few: int) -> alt.VConcatChart:
    """Draw, over density, in how many layers tickets keep any weight; dashed, unless arms are many:
    in how many they keep at least a few.

    Args:
        records: Of the whole experiment.
        few: Weights that a layer needs to be no longer nearly empty.
    """
    tickets = []
    for record in _of_tickets(records):
        if record.get("layers"):
            tickets.append(record)
    rows = _rows(tickets, lambda record: _layers_with(record, 1))
    if len({record["arm"] for record in tickets}) <= len(PALETTE):
        rows += _rows(tickets, lambda record: _layers_with(record, few), dashed=True)
    most = max(len(record["layers"]) for record in tickets)
    alive = _Panel(f"Layers with weights, of {most}", rows, ".1f", 220, (0.0, float(most)))
    return _over_density(aggregate.arms(records), [alive])


def _layers_with(record: Record, least: int) -> float:
    """Return in how many layers a ticket keeps at least so many weights, or all that there are."""
    return float(sum(kept >= min(least, size) for kept, size in record["layers"].values()))


def distance(records: Sequence[Record]) -> alt.VConcatChart:
    """Draw, over density, how far the kept weights went in a training from where it began."""
    trained = aggregate.of_trained(records)
    rows = _rows(_of_tickets(trained), lambda record: record.get("distance"))
    title = "Change of a kept weight (root mean square)"
    return _over_density(aggregate.arms(records), [_Panel(title, rows, ".4f", 260)])


def classes(records: Sequence[Record], density: float, metric: Metric = ACCURACY) -> alt.LayerChart:
    """Draw what the dense network and each arm's ticket reach of every class: a row a class, the
    best one above, in it a line an arm.

    Args:
        records: Of the whole experiment.
        density: Of each arm the first ticket at or below is shown.
        metric: By whose unit the values are shown.
    """
    from tombola.ground.extras import altair as alt

    rows = _class_rows(records, density, metric)
    names = aggregate.arms(records)
    reached = set(distinct(rows, "arm"))
    shown = [name for name in names if name in reached]
    title = class_values.kind_of(records)
    axis = metric.axis(f"Test {title}")
    x_of: dict[str, Any] = {
        "scale": alt.Scale(domain=_around_classes(rows), nice=False),
        "title": axis,
    }
    x_of["axis"] = alt.Axis(tickCount=8)
    place = {
        "y": alt.Y(
            "class:N",
            sort=class_values.classes_of(records),
            title=None,
            axis=alt.Axis(**(_NAMES | {"grid": True}), domain=False, tickBand="extent"),
        ),
    }
    beside = place | {
        "yOffset": alt.YOffset("arm:N", sort=shown, scale=alt.Scale(paddingOuter=0.8))
    }
    colour, shape = arm_encodings(names, shown)
    tips = [
        alt.Tooltip("class:N"),
        alt.Tooltip("arm:N"),
        alt.Tooltip("mean:Q", title=f"{title} {metric.shown_unit}".strip(), format=".2f"),
        alt.Tooltip("low:Q", title="lowest", format=".2f"),
        alt.Tooltip("high:Q", title="highest", format=".2f"),
        alt.Tooltip("replicates:Q"),
    ]
    dense = alt.Chart(inline([row for row in rows if row["arm"] == DENSE]))
    tickets = alt.Chart(inline([row for row in rows if row["arm"] != DENSE]))
    return styled(
        # As high as the row: what tickets are compared with.
        dense.mark_bar(color=GREY, opacity=0.22, height={"band": 0.86}).encode(
            x=alt.X("low:Q", **x_of), x2="high:Q", **place
        ),
        dense.mark_tick(color=GREY, thickness=2, height={"band": 0.86}).encode(
            x=alt.X("mean:Q", **x_of), tooltip=tips, **place
        ),
        tickets.mark_rule(strokeWidth=1.5).encode(
            x=alt.X("low:Q", **x_of), x2="high:Q", color=colour, **beside
        ),
        tickets.mark_point(filled=True, size=48, opacity=1).encode(
            x=alt.X("mean:Q", **x_of), color=colour, shape=shape, tooltip=tips, **beside
        ),
        height=(9 * max(1, len(shown)) + 10) * len(distinct(rows, "class")),
    )


def _class_rows(records: Sequence[Record], density: float, metric: Metric) -> list[dict[str, Any]]:
    """Return what is drawn of each class: the dense network's rows first."""
    by_arm = {DENSE: class_values.dense_by_class(records)}
    by_arm |= class_values.tickets_by_class(records, density)
    rows = []
    for arm, by_class in by_arm.items():
        for name, spread in by_class.items():
            rows.append(
                {
                    "class": name,
                    "arm": arm,
                    "mean": metric.scale * spread.mean,
                    "low": metric.scale * spread.lowest,
                    "high": metric.scale * spread.highest,
                    "replicates": spread.n,
                }
            )
    return rows


def _around_classes(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return a domain with a margin in which all of the rows lie."""
    low, high = min(row["low"] for row in rows), max(row["high"] for row in rows)
    margin = 0.04 * (high - low) or 0.5
    # A mark at the end of the axis would be cut off, so only zero and what lies below ends it.
    return [max(0.0, low - margin), high + margin]


def _of_tickets(records: Sequence[Record]) -> list[Record]:
    """Return the records of the arms that prune: a dense network that is trained longer has its
    own density alone.
    """
    pruning = {record["arm"] for record in records if record["density"] < 1}
    return [record for record in records if record["arm"] in pruning]


def _rows(records: Sequence[Record], of: Value, *, dashed: bool = False) -> list[dict[str, Any]]:
    """Return means over replicates, by arm and round, of what is known."""
    by_round: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for record in records:
        value = of(record)
        # A density of zero has no place on a logarithmic axis.
        if value is not None and record["density"] > 0:
            place = record["arm"], record["round"]
            by_round.setdefault(place, []).append((record["density"], value))
    rows = []
    for arm, index in sorted(by_round, key=lambda place: place[1]):
        densities, values = zip(*by_round[arm, index], strict=True)
        rows.append(
            {
                "arm": arm,
                "round": index,
                "density": 100 * statistics.fmean(densities),
                "mean": statistics.fmean(values),
                "lowest": min(values),
                "highest": max(values),
                "replicates": len(values),
                "dashed": dashed,
            }
        )
    return rows


def _tips(title: str, form: str) -> list[alt.Tooltip]:
    from tombola.ground.extras import altair as alt

    return [
        alt.Tooltip("arm:N"),
        alt.Tooltip("round:N"),
        alt.Tooltip("density:Q", title="density %", format=".2f"),
        alt.Tooltip("mean:Q", title=title, format=form),
        alt.Tooltip("lowest:Q", format=form),
        alt.Tooltip("highest:Q", format=form),
        alt.Tooltip("replicates:N"),
    ]


@dataclass(frozen=True)
class _Panel:
    """One of the panels over a density axis.

    Attributes:
        title: Of its vertical axis.
        rows: What `_rows` returns; without any, the panel is left out.
        form: How the values are written.
        height: In pixels.
        domain: What the vertical axis of counts shows; what the values need if not given.
    """

    title: str
    rows: Sequence[dict[str, Any]]
    form: str
    height: int
    domain: tuple[float, float] | None = None

    def layers(
        self, x: alt.X, colour: alt.Color, shape: alt.Shape, switch: alt.Parameter, crowded: float
    ) -> list[alt.Chart]:
        """Draw a band, a line and points an arm; dashed rows are a line alone.

        Args:
            x: The axis of densities.
            colour: Of arms.
            shape: Of arms.
            switch: Which arms are shown.
            crowded: How many times as many arms there are as colours: the more, the paler.
        """
        from tombola.ground.extras import altair as alt

        scale, ticks = alt.Scale(zero=False), alt.Axis(tickCount=5, minExtent=46)
        if self.domain is not None:  # of counts
            scale = alt.Scale(domain=list(self.domain), nice=False)
            ticks = alt.Axis(tickCount=5, minExtent=46, tickMinStep=1, format="d")

        def y(field: str) -> alt.Y:
            return alt.Y(
                f"{field}:Q",
                title=self.title,
                scale=scale,
                axis=ticks,
            )

        plain = alt.Chart(inline([row for row in self.rows if not row["dashed"]]))
        plain = plain.transform_filter(switch)
        layers = [
            plain.mark_area(opacity=0.1 / crowded**2).encode(
                x=x, y=y("lowest"), y2="highest:Q", color=colour
            )
        ]
        dashed = [row for row in self.rows if row["dashed"]]
        if dashed:
            layers.append(
                alt.Chart(inline(dashed))
                .transform_filter(switch)
                .mark_line(strokeWidth=1.25, strokeDash=[5, 4])
                .encode(x=x, y=y("mean"), color=colour)
            )
        layers += [
            plain.mark_line(strokeWidth=2).encode(x=x, y=y("mean"), color=colour),
            plain.mark_point(filled=True, size=45, opacity=1).encode(
                x=x, y=y("mean"), color=colour, shape=shape, tooltip=_tips(self.title, self.form)
            ),
        ]
        return layers


def _over_density(names: Sequence[str], panels: Sequence[_Panel]) -> alt.VConcatChart:
    """Draw one panel below the other over the same density axis, arms with one legend.

    Args:
        names: All arms of the experiment.
        panels: From the top.
    """
    panels = [part for part in panels if part.rows]
    everything = [row for part in panels for row in part.rows]
    drawn = {row["arm"] for row in everything}
    shown = [name for name in names if name in drawn]
    crowded = max(1.0, len(shown) / len(PALETTE))
    switch = arm_switch(shown)
    colour, shape = arm_encodings(names, shown)
    charts = []
    for index, part in enumerate(panels, start=1):
        x = density_x(as_fractions(everything), titled=index == len(panels))
        layers = part.layers(x, colour, shape, switch, crowded)
        # Vega-Lite refuses one parameter that two panels define.
        if index == 1:
            layers[-1] = layers[-1].add_params(switch)
        charts.append(panel(*layers, height=part.height))
    return stacked(*charts, room=80)


def weights(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> alt.VConcatChart:
    """Draw the trained dense network's weights of a layer by value, a panel an arm: coloured what
    its ticket keeps.

    Args:
        rows: With arm, layer, round, density, from, to, kept, pruned; see
            `tombola.folder.weight_histograms`.
        names: All arms of the experiment, for their colours.

    Source:
        COLT, arXiv:2212.12770, Fig. 1.
    """
    shown = distinct(rows, "arm")
    panels = []
    for arm in shown:
        bars = []
        for row in rows:
            if row["arm"] == arm:
                bars.append(row | {"all": row["kept"] + row["pruned"], "none": 0})
        first = bars[0]
        title = "Weight of the trained dense network" if arm == shown[-1] else None
        panels.append(
            panel(
                _bars(bars, "none", "kept", colours(names)[arm], title),
                _bars(bars, "kept", "all", PRUNED, title),
                height=120,
                title=f"{arm}, round {first['round']}: keeps {percent(first['density'])} % of "
                f"{first['layer'].removesuffix('.weight')}",
            )
        )
    return stacked(*panels, room=80)


def _bars(
    rows: Sequence[dict[str, Any]], low: str, high: str, colour: str, title: str | None
) -> alt.Chart:
    from tombola.ground.extras import altair as alt

    chart: alt.Chart = (
        alt.Chart(inline(rows))
        .mark_rect(color=colour, stroke=PAPER, strokeWidth=0.4)
        .encode(
            x=alt.X("from:Q", title=title, axis=alt.Axis(tickCount=7)),
            x2="to:Q",
            y=alt.Y(
                f"{low}:Q", title="Weights", axis=alt.Axis(tickCount=4, format=",.0f", minExtent=46)
            ),
            y2=f"{high}:Q",
            tooltip=[
                alt.Tooltip("from:Q", format=".3f"),
                alt.Tooltip("to:Q", format=".3f"),
                alt.Tooltip("kept:Q", format=","),
                alt.Tooltip("pruned:Q", format=","),
            ],
        )
    )
    return chart
