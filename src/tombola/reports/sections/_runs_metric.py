"""The headline metric of several runs over density, a panel a run."""

from collections.abc import Mapping

from tombola.reports import across, together
from tombola.reports.section import Figure, Section, SeveralRuns


class RunsMetric(Section[SeveralRuns]):
    """Panels on common axes."""

    of = "several runs"

    def applies(self, evidence: SeveralRuns) -> bool:
        return bool(together.arms_of(evidence.parts))

    def chart(self, evidence: SeveralRuns) -> Mapping[str, Figure]:
        metric = together.metric_of(evidence.parts)
        shown = {part.label: part.records for part in evidence.parts}
        caption = (
            f"Test {metric.title} over density, one panel a run on common axes. Lines: mean of the "
            "replicates; bands: 95 % t interval of the mean, of three or more, cut off where the "
            "replicates end; dashed: mean of the dense network of that run."
        )
        chart = across.by_run(shown, together.arms_of(evidence.parts), metric)
        return {metric.name: Figure(chart, caption)}
