"""Spent: what the whole run took."""

from collections.abc import Sequence

from tombola.reports import decisions, table
from tombola.reports.section import OneRun, Section


class Spent(Section[OneRun]):
    """What the arms are charged together, and what was done in fact."""

    title = "Resources spent"

    def sentence(self, evidence: OneRun) -> Sequence[str]:
        lines = decisions.spent_lines(evidence.records, evidence.asked)
        return [*lines, *table.checks_lines(evidence.records)]
