"""The headline metric of several runs at the densities asked for, a column a run."""

from collections.abc import Sequence

from tombola.reports import together
from tombola.reports.grids import Grid
from tombola.reports.section import Section, SeveralRuns


class RunsValues(Section[SeveralRuns]):
    """The dense network and every arm."""

    of = "several runs"

    def grid(self, evidence: SeveralRuns) -> Sequence[Grid]:
        return [together.metric_grid(evidence.parts)]
