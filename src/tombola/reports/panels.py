"""Panels: figures that set arms side by side, or one thing above another over the same density.

    records, comparisons -> [ differences, costs, accuracy and rounds, early stop, distance ] ->
    page

Arms have the colours and shapes that they have in all figures.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from tombola.evidence import ledger
from tombola.evidence.comparisons import DENSE, Comparison
from tombola.ground.metrics import ACCURACY, Metric
from tombola.reports import aggregate
from tombola.reports.aggregate import Record
from tombola.reports.drawing import (
    GREY,
    PALETTE,
    PAPER,
    PRUNED,
    arm_encodings,
    arm_switch,
    colours,
    density_axis,
    inline,
    panel,
    stacked,
    styled,
)
from tombola.reports.grids import percent

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
    shown = aggregate.few(sorted({one.density for one in compared}, reverse=True))
    chosen = [one for one in compared if one.density in shown]
    rows, (low, high), margin = _difference_rows(chosen, metric)
    pairs = list(dict.fromkeys(row["arms"] for row in rows))
    firsts = list(dict.fromkeys(row["arm"] for row in rows))
    labels = [f"{percent(density)} %" for density in shown]
    colour, shape = arm_encodings(arms or firsts, firsts, legend=False)
    scale = alt.Scale(domain=[low, high], nice=False)
    y = alt.Y("arms:N", sort=pairs, title=None, axis=alt.Axis(**_NAMES, domain=False))
    offset = alt.YOffset("density:N", sort=labels, scale=alt.Scale(paddingOuter=0.6))
    over = alt.Chart(inline(rows))

    def x(of: str) -> alt.X:
        return alt.X(
            f"{of}:Q",
            title=metric.axis("First arm minus second", differences=True),
            scale=scale,
            axis=alt.Axis(tickCount=8),
        )

    def cut(of: str, end: str, symbol: str) -> alt.Chart:
        drawn: alt.Chart = (
            over.transform_filter(f"datum['{of}'] != datum['{end}']")
            .mark_point(filled=True, shape=symbol, size=45, opacity=1)
            .encode(x=x(end), y=y, yOffset=offset, color=colour)
        )
        return drawn

    tips = [
        alt.Tooltip("arms:N"),
        alt.Tooltip("density:N"),
        alt.Tooltip("mean:Q", title="difference", format="+.2f"),
        alt.Tooltip("low:Q", title="interval from", format="+.2f"),
        alt.Tooltip("high:Q", title="to", format="+.2f"),
        alt.Tooltip("n:Q"),
        alt.Tooltip("verdict:N"),
        alt.Tooltip("p:Q", format=".3f"),
    ]
    zero = alt.Chart(inline([{"zero": 0.0, "from": -margin, "to": margin}]))
    band = []
    if margin:
        band.append(zero.mark_rect(color=GREY, opacity=0.14).encode(x=x("from"), x2="to:Q"))
    return styled(
        *band,
        zero.mark_rule(color=GREY, strokeWidth=1.25).encode(x=x("zero")),
        over.mark_rule(strokeWidth=2).encode(
            x=x("from"), x2="to:Q", y=y, yOffset=offset, color=colour
        ),
        cut("low", "from", "triangle-left"),
        cut("high", "to", "triangle-right"),
        over.mark_point(filled=True, size=65, opacity=1).encode(
            x=x("mean"), y=y, yOffset=offset, color=colour, shape=shape, tooltip=tips
        ),
        over.mark_text(align="left", dx=7, fontSize=11, color=GREY).encode(
            x=x("to"), y=y, yOffset=offset, text="density:N"
        ),
        height=(13 * len(labels) + 9) * len(pairs),
    )


def _difference_rows(
    compared: Sequence[Comparison], metric: Metric
) -> tuple[list[dict[str, Any]], tuple[float, float], float]:
    """Return what `differences` draws, the ends of its axis, and the margin."""
    means = [metric.scale * one.paired.mean for one in compared]
    margins = [metric.scale * one.margin for one in compared if one.margin is not None]
    margin = max(margins, default=0.0)
    room = max(0.5 * (max(means) - min(means)), 1.2 * margin, 0.5)
    low, high = min(*means, -margin, 0.0) - room, max(*means, margin, 0.0) + room
    rows = []
    for one, mean in zip(compared, means, strict=True):
        paired = one.paired
        begin = mean if paired.low is None else metric.scale * paired.low
        end = mean if paired.high is None else metric.scale * paired.high
        rows.append(
            {
                "arm": one.arm,
                "arms": f"{one.arm} - {one.other}",
                "density": f"{percent(one.density)} %",
                "mean": mean,
                "low": begin,
                "high": end,
                "from": max(low, begin),
                "to": min(high, end),
                "n": len(one.values),
                "verdict": one.verdict,
                "p": one.p,
            }
        )
    return rows, (low, high), margin


# how dark the parts of a bar are: the search, its evaluation, the evaluations before
_DARK = (1.0, 0.6, 0.3)


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
    by_density = {
        density: _cost_rows(records, density, made_of, metric)
        for density in aggregate.few(densities)
    }
    most = max(row["to"] for rows in by_density.values() for row in rows)
    x: dict[str, Any] = {
        "scale": alt.Scale(domain=[0, 1.3 * most], nice=False),
        "axis": alt.Axis(tickCount=6),
    }
    shown = [(density, rows) for density, rows in by_density.items() if rows]
    panels = []
    for index, (density, rows) in enumerate(shown):
        here = list(dict.fromkeys(row["arm"] for row in rows))
        of_all = colours(names)
        colour = alt.Color(
            "arm:N", scale=alt.Scale(domain=here, range=[of_all[arm] for arm in here]), legend=None
        )
        y = alt.Y("arm:N", sort=here, title=None, axis=alt.Axis(**_NAMES))
        along = alt.X(
            "from:Q", title="Full-data trainings" if index == len(shown) - 1 else None, **x
        )
        over = alt.Chart(inline(rows))
        tips = [
            alt.Tooltip("arm:N"),
            alt.Tooltip("part:N"),
            alt.Tooltip("cost:Q", title="trainings", format=".1f"),
            alt.Tooltip(f"{metric.name}:Q", title=metric.head, format=".2f"),
            alt.Tooltip("rounds:Q", format=".1f"),
            alt.Tooltip("replicates:Q"),
        ]
        dark = alt.Opacity("dark:Q", scale=None, legend=None)
        panels.append(
            panel(
                over.mark_bar(stroke=PAPER, strokeWidth=0.5).encode(
                    x=along, x2="to:Q", y=y, color=colour, opacity=dark, tooltip=tips
                ),
                over.transform_filter("datum.last")
                .mark_text(align="left", dx=5, fontSize=11, color=GREY)
                .encode(x=alt.X("to:Q", **x), y=y, text="label:N"),
                height=19 * len(here),
                title=f"To reach {percent(density)} % density",
            )
        )
    return stacked(*panels, room=58 + 7 * max(map(len, names)))


def _cost_rows(
    records: Sequence[Record], density: float, made_of: Mapping[str, str], metric: Metric
) -> list[dict[str, Any]]:
    parts = ("search", "its evaluation", "evaluations before")
    values = {row.arm: row.value for row in aggregate.by_target(records, [density], metric=metric)}
    rows: list[dict[str, Any]] = []
    for one in ledger.to_reach(records, density, made_of):
        if one.arm == DENSE or one.search is None or one.this_ticket is None or one.so_far is None:
            continue
        spread = values.get(one.arm)
        to_this_ticket = max(one.search, one.this_ticket)
        ends = [0.0, one.search, to_this_ticket, max(to_this_ticket, one.so_far)]
        for index, (part, dark) in enumerate(zip(parts, _DARK, strict=True)):
            rows.append(
                {
                    "arm": one.arm,
                    "part": part,
                    "dark": dark,
                    "from": ends[index],
                    "to": ends[index + 1],
                    "cost": ends[index + 1] - ends[index],
                    "last": index == len(parts) - 1,
                    metric.name: None if spread is None else metric.scale * spread.mean,
                    "rounds": one.rounds,
                    "label": "" if spread is None else metric.shown(spread.mean),
                    "replicates": one.replicates,
                }
            )
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

    names, values, rounds, x = _metric_and_rounds(records, arms, metric)
    colour, shape = arm_encodings(names, arms)
    left = alt.Y(
        "mean:Q",
        title=metric.axis(f"Test {metric.title}", more="solid"),
        scale=alt.Scale(zero=False),
    )
    right = alt.Y(
        "mean:Q", title="Rounds (dashed)", axis=alt.Axis(grid=False, tickMinStep=1, format="d")
    )
    of_metric, of_rounds = (alt.Chart(inline(rows)) for rows in (values, rounds))
    chart: alt.LayerChart = styled(
        _together(
            of_metric.mark_line(strokeWidth=2).encode(x=x, y=left, color=colour),
            of_metric.mark_point(filled=True, size=60, opacity=1).encode(
                x=x, y=left, color=colour, shape=shape, tooltip=_tips(metric.head, ".2f")
            ),
        ),
        _together(
            of_rounds.mark_line(strokeWidth=1.5, strokeDash=[5, 4]).encode(
                x=x, y=right, color=colour
            ),
            of_rounds.mark_point(filled=False, size=40, opacity=1).encode(
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
    names, values, taken, _ = _metric_and_rounds(records, arms, metric)
    return _over_density(
        names,
        [(metric.axis(f"Test {metric.title}"), values, ".2f", 210), ("Rounds", taken, ".1f", 130)],
    )


def _metric_and_rounds(
    records: Sequence[Record], arms: Sequence[str], metric: Metric
) -> tuple[list[str], list[dict[str, Any]], list[dict[str, Any]], alt.X]:
    names = aggregate.arms(records)
    own = [record for record in records if record["arm"] in arms]
    values = _rows(own, lambda record: aggregate.scaled(record[metric.test], metric))
    taken = _rows(own, lambda record: float(record["round"]))
    return names, values, taken, _density(own, title=True)


def early_stop(records: Sequence[Record], metric: Metric = ACCURACY) -> alt.VConcatChart:
    """Draw, over density, the headline metric at the early stop, when that was, and how far
    training is above test.

    Lines are means, bands go from the lowest to the highest replicate; dashed, unless arms are
    many: training above validation.

    Source:
        Frankle & Carbin 2019, arXiv:1803.03635, Fig. 3 and 4; COLT, arXiv:2212.12770, on the gap.
    """
    names, own = aggregate.arms(records), _of_tickets(records)
    few = len({record["arm"] for record in own}) <= len(PALETTE)
    gaps = _rows(own, lambda record: aggregate.above_test(record, metric))
    if few:
        gaps += _rows(own, lambda record: aggregate.above_valid(record, metric), dashed=True)
    title = metric.title[:1].upper() + metric.title[1:]
    early = _rows(own, lambda record: aggregate.early_value(record, metric))
    return _over_density(
        names,
        [
            (metric.axis(f"{title} at early stop"), early, ".2f", 170),
            (
                "Early stop (step)",
                _rows(own, lambda record: record["early_stop_step"]),
                ",.0f",
                170,
            ),
            (metric.axis("Train - test", differences=True), gaps, ".2f", 170),
        ],
    )


def distance(records: Sequence[Record]) -> alt.VConcatChart:
    """Draw, over density, how far the kept weights went in a training from where it began."""
    names, own = aggregate.arms(records), _of_tickets(records)
    title = "Change of a kept weight (root mean square)"
    return _over_density(
        names, [(title, _rows(own, lambda record: record.get("distance")), ".4f", 260)]
    )


def _of_tickets(records: Sequence[Record]) -> list[Record]:
    """Return the records of the arms that prune: a dense network that is trained longer has its
    own density alone.
    """
    pruning = {record["arm"] for record in records if record["density"] < 1}
    return [record for record in records if record["arm"] in pruning]


def _rows(records: Sequence[Record], of: Value, *, dashed: bool = False) -> list[dict[str, Any]]:
    """Return means over replicates, by arm and round, of what is known; a density of zero has
    no place on the axis.
    """
    densities: dict[tuple[str, int], list[float]] = {}
    values: dict[tuple[str, int], list[float]] = {}
    for record in records:
        value = of(record)
        if value is not None and record["density"] > 0:
            place = record["arm"], record["round"]
            densities.setdefault(place, []).append(record["density"])
            values.setdefault(place, []).append(value)
    rows = []
    for arm, index in sorted(values, key=lambda place: place[1]):
        here = values[arm, index]
        rows.append(
            {
                "arm": arm,
                "round": index,
                "density": 100 * statistics.fmean(densities[arm, index]),
                "mean": statistics.fmean(here),
                "lowest": min(here),
                "highest": max(here),
                "replicates": len(here),
                "dashed": dashed,
            }
        )
    return rows


def _density(records: Sequence[Mapping[str, Any]], *, title: bool) -> alt.X:
    from tombola.ground.extras import altair as alt

    return alt.X(
        "density:Q",
        title="Density: weights kept (%, log scale)" if title else None,
        **density_axis(records, reverse=True),
    )


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


def _over_density(
    names: Sequence[str], of: Sequence[tuple[str, Sequence[dict[str, Any]], str, int]]
) -> alt.VConcatChart:
    """Draw one panel below the other over the same density axis, arms with one legend.

    Args:
        names: All arms of the experiment.
        of: Of each panel its title, rows, how numbers are written, and its height.
    """
    from tombola.ground.extras import altair as alt

    of = [one for one in of if one[1]]
    everything = [row for _, rows, *_ in of for row in rows]
    drawn = {row["arm"] for row in everything}
    here = [name for name in names if name in drawn]
    every_density = [{"density": row["density"] / 100} for row in everything]
    crowded = max(1.0, len(here) / len(PALETTE))
    switch = arm_switch(here)
    panels = []
    for index, (title, rows, form, height) in enumerate(of):
        colour, shape = arm_encodings(names, here)
        x = _density(every_density, title=index == len(of) - 1)
        y: dict[str, Any] = {
            "title": title,
            "scale": alt.Scale(zero=False),
            "axis": alt.Axis(tickCount=5, minExtent=46),
        }
        plain = alt.Chart(inline([row for row in rows if not row["dashed"]])).transform_filter(
            switch
        )
        dashed = [row for row in rows if row["dashed"]]
        over_dashed = alt.Chart(inline(dashed)).transform_filter(switch)
        layers = [
            plain.mark_area(opacity=0.1 / crowded**2).encode(
                x=x, y=alt.Y("lowest:Q", **y), y2="highest:Q", color=colour
            ),
            plain.mark_line(strokeWidth=2).encode(x=x, y=alt.Y("mean:Q", **y), color=colour),
            plain.mark_point(filled=True, size=45, opacity=1).encode(
                x=x, y=alt.Y("mean:Q", **y), color=colour, shape=shape, tooltip=_tips(title, form)
            ),
        ]
        if dashed:
            layers.insert(
                1,
                over_dashed.mark_line(strokeWidth=1.25, strokeDash=[5, 4]).encode(
                    x=x, y=alt.Y("mean:Q", **y), color=colour
                ),
            )
        if index == 0:
            layers[-1] = layers[-1].add_params(switch)
        panels.append(panel(*layers, height=height))
    return stacked(*panels, room=80)


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
    of_all = colours(names)
    here = list(dict.fromkeys(row["arm"] for row in rows))
    panels = []
    for arm in here:
        own = [
            row | {"all": row["kept"] + row["pruned"], "none": 0}
            for row in rows
            if row["arm"] == arm
        ]
        layer, index, density = (own[0][of] for of in ("layer", "round", "density"))
        title = "Weight of the trained dense network" if arm == here[-1] else None
        panels.append(
            panel(
                _bars(own, "none", "kept", of_all[arm], title),
                _bars(own, "kept", "all", PRUNED, title),
                height=120,
                title=f"{arm}, round {index}: keeps {percent(density)} % of "
                f"{layer.removesuffix('.weight')}",
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
