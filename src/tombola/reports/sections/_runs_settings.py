"""The settings in which several runs differ."""

from collections.abc import Sequence

from tombola.reports import together
from tombola.reports.grids import Grid
from tombola.reports.section import Section, SeveralRuns


class RunsSettings(Section[SeveralRuns]):
    """A row a run, or a column where the settings are more than the runs."""

    of = "several runs"

    def grid(self, evidence: SeveralRuns) -> Sequence[Grid]:
        return [together.settings_grid(evidence.parts)]
