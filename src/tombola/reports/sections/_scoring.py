"""Cost of scoring: what scores that need data cost, beside trainings."""

from collections.abc import Sequence

from tombola.reports.grids import Grid
from tombola.reports.scoring import scoring_grid, scoring_lines
from tombola.reports.section import OneRun, Section


class Scoring(Section[OneRun]):
    """Examples, FLOPs and seconds of scoring, of the search and of the evaluation."""

    title = "Cost of scoring"

    def sentence(self, evidence: OneRun) -> Sequence[str]:
        return scoring_lines(evidence.records, evidence.asked)

    def grid(self, evidence: OneRun) -> Sequence[Grid]:
        return [scoring_grid(evidence.records, evidence.asked)]
