"""Against dense: every arm beside the dense network at the densities asked for."""

from collections.abc import Sequence

from tombola.reports import decisions
from tombola.reports.grids import Grid
from tombola.reports.section import OneRun, Section


class AgainstDense(Section[OneRun]):
    """Differences with their intervals and verdicts, and what each arm took to come there."""

    def grid(self, evidence: OneRun) -> Sequence[Grid]:
        return [decisions.against_dense_grid(evidence.records, evidence.asked)]
