"""Classes of several runs: the headline metric of each class, where it is measured so."""

from collections.abc import Sequence

from tombola.reports import together
from tombola.reports.grids import Grid
from tombola.reports.section import Section, SeveralRuns


class RunsClasses(Section[SeveralRuns]):
    """Every class of the dense networks and of tickets, a column a run."""

    of = "several runs"

    def grid(self, evidence: SeveralRuns) -> Sequence[Grid]:
        return [together.classes_grid(evidence.parts)]
