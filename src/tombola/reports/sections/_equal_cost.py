"""Equal cost: tickets that are trained as long as another arm's search has cost."""

from collections.abc import Sequence

from tombola.reports.equal_cost import equal_cost_grids
from tombola.reports.grids import Grid
from tombola.reports.section import OneRun, Section


class EqualCost(Section[OneRun]):
    """A table for each arm whose cost others are trained up to."""

    def applies(self, evidence: OneRun) -> bool:
        return bool(evidence.asked.equal_cost)

    def grid(self, evidence: OneRun) -> Sequence[Grid]:
        return equal_cost_grids(evidence.records, evidence.asked)
