"""The early stops of several runs, a column a run."""

from collections.abc import Sequence

from tombola.reports import together
from tombola.reports.grids import Grid
from tombola.reports.section import Section, SeveralRuns


class RunsEarlyStop(Section[SeveralRuns]):
    """The step at which the validation loss is lowest."""

    of = "several runs"

    def grid(self, evidence: SeveralRuns) -> Sequence[Grid]:
        return [together.early_stop_grid(evidence.parts)]
