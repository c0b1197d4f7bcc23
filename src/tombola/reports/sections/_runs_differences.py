"""The differences between several runs, arm by arm."""

from collections.abc import Sequence

from tombola.reports import together
from tombola.reports.grids import Grid
from tombola.reports.section import Section, SeveralRuns
from tombola.reports.sections._runs_answer import MOST


class RunsDifferences(Section[SeveralRuns]):
    """Each run minus the first one, within replicates."""

    of = "several runs"

    def sentence(self, evidence: SeveralRuns) -> Sequence[str]:
        return together.sentences(evidence.parts)[MOST:]

    def grid(self, evidence: SeveralRuns) -> Sequence[Grid]:
        return [together.differences_grid(evidence.parts)]
