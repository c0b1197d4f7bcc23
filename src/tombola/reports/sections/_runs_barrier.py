"""The barriers of several runs: whether two trainings of a ticket come to one basin."""

from collections.abc import Mapping, Sequence

from tombola.evidence.comparisons import DENSE
from tombola.reports import across, drawing, together
from tombola.reports.grids import Grid, percent
from tombola.reports.section import Figure, Section, SeveralRuns


class RunsBarrier(Section[SeveralRuns]):
    """At the lowest density that every run reaches, and in a table at every one."""

    of = "several runs"

    def chart(self, evidence: SeveralRuns) -> Mapping[str, Figure]:
        metric = together.metric_of(evidence.parts)
        rows = together.rows_over_runs(evidence.parts, "barrier", metric.scale)
        if not rows:
            return {}
        arms = together.arms_of(evidence.parts)
        there = {row["of"] for row in rows}
        names = [name for name in (DENSE, *arms) if name in there]
        along, _ = together.places_of(evidence.parts)
        unit = f"{metric.points} of {metric.error_title}".removeprefix(" of ")
        axis = f"Barrier ({unit})"
        chart = across.over_runs(rows, along, axis, names, drawing.colours(arms))
        caption = (
            f"How much worse the {metric.error_title} is between two trainings of one ticket that saw "
            "the data in other orders than at their ends"
        )
        if metric.fraction:
            caption += "; below 2 points they count as connected"
        at = percent(together.lowest_of(evidence.parts))
        caption += f" at {at} % density. Points: replicates; lines: their means."
        return {"barrier": Figure(chart, caption)}

    def grid(self, evidence: SeveralRuns) -> Sequence[Grid]:
        return [together.barrier_grid(evidence.parts)]
