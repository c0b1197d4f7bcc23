"""Paper: what was printed of the same experiment, beside what it has here."""

from collections.abc import Sequence

from tombola.reports import class_values, decisions
from tombola.reports.grids import Grid
from tombola.reports.section import OneRun, Section


class Paper(Section[OneRun]):
    """Printed results beside ours at the same density."""

    def grid(self, evidence: OneRun) -> Sequence[Grid]:
        records, asked = evidence.records, evidence.asked
        return [
            decisions.paper_grid(records, asked),
            class_values.paper_classes_grid(records, asked),
        ]

    def legend(self, evidence: OneRun) -> Sequence[str]:
        printed = evidence.asked.printed
        if printed is None or not printed.note:
            return []
        return [f"What is odd about {printed.source}: {printed.note}."]
