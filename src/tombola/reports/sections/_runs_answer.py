"""The answer of several runs: how each differs from the first one."""

from collections.abc import Sequence

from tombola.reports import together
from tombola.reports.section import Section, SeveralRuns

MOST = 3  # sentences above the chart; the others are told with the table of differences


class RunsAnswer(Section[SeveralRuns]):
    """The first sentences; those that say which runs cannot be compared before all others."""

    of = "several runs"
    look = "answer"

    def sentence(self, evidence: SeveralRuns) -> Sequence[str]:
        return together.sentences(evidence.parts)[:MOST]
