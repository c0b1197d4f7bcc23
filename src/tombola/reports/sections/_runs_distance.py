"""How far the kept weights of several runs move in training."""

from collections.abc import Mapping, Sequence

from tombola.reports import together
from tombola.reports.grids import Grid
from tombola.reports.section import Figure, Section, SeveralRuns


class RunsDistance(Section[SeveralRuns]):
    """At the lowest density that every run reaches, and in a table at every one."""

    of = "several runs"

    def chart(self, evidence: SeveralRuns) -> Mapping[str, Figure]:
        caption = (
            "How far the kept weights have gone in training: the root of their mean squared "
            "change, of the dense network and of each arm's ticket"
        )
        figure = together.tickets_over_runs(
            evidence.parts, "distance", 1.0, "Distance from the initial weights", caption
        )
        return {"distance": figure} if figure else {}

    def grid(self, evidence: SeveralRuns) -> Sequence[Grid]:
        return [together.distance_grid(evidence.parts)]
