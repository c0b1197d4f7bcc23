"""Notes of several runs: what a reader must know before believing the numbers."""

from collections.abc import Sequence

from tombola.reports.section import Section, SeveralRuns


class RunsNotes(Section[SeveralRuns]):
    """One line each."""

    of = "several runs"
    look = "notes"

    def sentence(self, evidence: SeveralRuns) -> Sequence[str]:
        return evidence.notes
