"""Paper: what was printed of the same experiment, beside what it has here."""

from collections.abc import Sequence

from tombola.reports import decisions
from tombola.reports.grids import Grid
from tombola.reports.section import OneRun, Section


class Paper(Section[OneRun]):
    """Printed results beside ours at the same density."""

    def grid(self, evidence: OneRun) -> Sequence[Grid]:
        return [decisions.paper_grid(evidence.records, evidence.asked)]
