"""Stability: the line between two trainings of one ticket, and its barrier."""

from collections.abc import Mapping, Sequence

from tombola.ground.metrics import Metric
from tombola.reports import decisions, figures, table
from tombola.reports.grids import Grid, percent
from tombola.reports.section import Figure, OneRun, Section


class Stability(Section[OneRun]):
    """Whether a ticket trains to one basin whatever the order of the data."""

    def applies(self, evidence: OneRun) -> bool:
        return bool(decisions.connected(evidence.records))

    def sentence(self, evidence: OneRun) -> Sequence[str]:
        return decisions.stability(evidence.records, evidence.asked)

    def chart(self, evidence: OneRun) -> Mapping[str, Figure]:
        records, metric = evidence.records, evidence.asked.metric
        charts = {}
        for arm in decisions.connected(records):
            rows = decisions.line_rows(records, arm, evidence.asked)
            charts[f"line-{arm}"] = Figure(
                figures.line(rows, metric),
                f"Test {metric.error_title} on the straight line between two trainings of one "
                f"ticket, in two orders of the data: those of {arm}, and the dense network. A "
                "level line: both came to one basin. Mean of the replicates.",
            )
        stable = decisions.STABLE if metric.fraction else None
        caption = (
            f"Barrier over density: {_barrier(metric)}. Lines: mean of the replicates; points: "
            "replicates."
        )
        if stable is not None:
            caption += f" Stable where it is below {percent(stable)} points (dashed)."
        charts["barrier"] = Figure(figures.barrier(records, stable, metric), caption)
        return charts

    def grid(self, evidence: OneRun) -> Sequence[Grid]:
        return [decisions.barrier_grid(evidence.records, evidence.asked.metric)]

    def legend(self, evidence: OneRun) -> Sequence[str]:
        return table.barrier_legend(evidence.records, evidence.asked.metric)


def _barrier(metric: Metric) -> str:
    """Say what the height of a barrier is."""
    beyond = "below" if metric.worst == "lowest" else "above"
    return f"the {metric.worst} {metric.error_title} on that line {beyond} the mean of its ends"
