"""How far the kept weights of several runs move in training."""

from collections.abc import Mapping, Sequence

from tombola.evidence.comparisons import DENSE
from tombola.reports import across, drawing, together
from tombola.reports.grids import Grid, percent
from tombola.reports.section import Figure, Section, SeveralRuns


class RunsDistance(Section[SeveralRuns]):
    """At the lowest density that every run reaches, and in a table at every one."""

    of = "several runs"

    def chart(self, evidence: SeveralRuns) -> Mapping[str, Figure]:
        rows = together.rows_over_runs(evidence.parts, "distance", 1.0)
        if not rows:
            return {}
        arms = together.arms_of(evidence.parts)
        there = {row["of"] for row in rows}
        names = [name for name in (DENSE, *arms) if name in there]
        along, _ = together.places_of(evidence.parts)
        chart = across.over_runs(
            rows, along, "Distance from the initial weights", names, drawing.colours(arms)
        )
        caption = (
            "How far the kept weights have gone in training: the root of their mean squared change, of "
            "the dense network and of each arm's ticket"
        )
        at = percent(together.lowest_of(evidence.parts))
        caption += f" at {at} % density. Points: replicates; lines: their means."
        return {"distance": Figure(chart, caption)}

    def grid(self, evidence: SeveralRuns) -> Sequence[Grid]:
        return [together.distance_grid(evidence.parts)]
