"""The barriers of several runs: whether two trainings of a ticket come to one basin."""

from collections.abc import Mapping, Sequence

from tombola.reports import together
from tombola.reports.grids import Grid
from tombola.reports.section import Figure, Section, SeveralRuns


class RunsBarrier(Section[SeveralRuns]):
    """At the lowest density that every run reaches, and in a table at every one."""

    of = "several runs"

    def chart(self, evidence: SeveralRuns) -> Mapping[str, Figure]:
        metric = together.metric_of(evidence.parts)
        unit = f"{metric.points} of {metric.error_title}".removeprefix(" of ")
        caption = (
            f"How much worse the {metric.error_title} is between two trainings of one ticket that "
            "saw the data in other orders than at their ends"
        )
        if metric.fraction:
            caption += "; below 2 points they count as connected"
        figure = together.tickets_over_runs(
            evidence.parts, "barrier", metric.scale, f"Barrier ({unit})", caption
        )
        return {"barrier": figure} if figure else {}

    def grid(self, evidence: SeveralRuns) -> Sequence[Grid]:
        return [together.barrier_grid(evidence.parts)]
