"""Verdicts: each condition of a winning ticket, with the limit that was tested."""

from collections.abc import Sequence

from tombola.reports import decisions
from tombola.reports.grids import Grid
from tombola.reports.section import OneRun, Section
from tombola.reports.sections._answer import left_out


class Verdicts(Section[OneRun]):
    """The conditions of every verdict, and the sentences that the answer has no room for."""

    title = "Verdicts"

    def sentence(self, evidence: OneRun) -> Sequence[str]:
        return left_out(evidence)

    def grid(self, evidence: OneRun) -> Sequence[Grid]:
        return [decisions.verdict_grid(evidence.records, evidence.asked)]

    def legend(self, evidence: OneRun) -> Sequence[str]:
        return decisions.verdict_legend(evidence.records, evidence.asked)
