"""Layers alive in several runs, where a layer of any of them is nearly empty."""

from collections.abc import Sequence

from tombola.reports import together
from tombola.reports.grids import Grid
from tombola.reports.section import Section, SeveralRuns


class RunsLayersAlive(Section[SeveralRuns]):
    """In how many layers tickets keep any weight, a column a run."""

    of = "several runs"

    def grid(self, evidence: SeveralRuns) -> Sequence[Grid]:
        return [together.layers_alive_grid(evidence.parts)]
