"""Each of several runs by itself: what its own page answers."""

from collections.abc import Sequence

from tombola.reports import decisions
from tombola.reports.section import Section, SeveralRuns


class RunsEach(Section[SeveralRuns]):
    """The sentences of every run, behind its name."""

    of = "several runs"

    def sentence(self, evidence: SeveralRuns) -> Sequence[str]:
        lines = []
        for part in evidence.parts:
            for line in decisions.sentences(part.records, part.asked):
                lines.append(f"{part.label}: {line}")
        return lines
