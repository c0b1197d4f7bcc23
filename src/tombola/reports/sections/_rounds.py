"""Rounds: every arm round by round, and the first round at or below each density."""

from collections.abc import Mapping, Sequence

from tombola.reports import aggregate, figures, panels, table
from tombola.reports.grids import Grid
from tombola.reports.section import Figure, OneRun, Section

_CAPTION = (
    "Density over rounds. A constant rate is a straight line; arms with equal counts lie on each "
    "other."
)


class Rounds(Section[OneRun]):
    """The results as they were recorded, without any comparison."""

    title = "Round by round"

    def applies(self, evidence: OneRun) -> bool:
        return bool(aggregate.arms(evidence.records))

    def sentence(self, evidence: OneRun) -> Sequence[str]:
        return table.pace_lines(evidence.records, evidence.asked)

    def chart(self, evidence: OneRun) -> Mapping[str, Figure]:
        records, metric = evidence.records, evidence.asked.metric
        charts = {"density": Figure(figures.density_over_round(records), _CAPTION)}
        trained = aggregate.trained_arms(records)
        drawn = [arm for arm in trained if arm in evidence.asked.drawn]
        if len(drawn) > 1:
            # For papers; on the page the two scales are the first chart and the one above.
            both = panels.metric_and_rounds(records, drawn, metric)
            charts[f"{metric.name}-and-rounds"] = Figure(both)
            charts["rounds"] = Figure(panels.rounds(records, drawn, metric))
        return charts

    def grid(self, evidence: OneRun) -> Sequence[Grid]:
        return table.recorded_grids(evidence.records, evidence.asked)

    def legend(self, evidence: OneRun) -> Sequence[str]:
        return table.recorded_legend(evidence.records, evidence.asked.metric)
