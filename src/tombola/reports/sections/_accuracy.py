"""Accuracy, or another headline metric, over density: the first chart of the page."""

from collections.abc import Mapping

from tombola.evidence.verdicts import LEAST
from tombola.reports import aggregate, decisions, figures
from tombola.reports.section import Figure, OneRun, Section


class Accuracy(Section[OneRun]):
    """A line an arm, with intervals at the densities asked for, beside what a paper prints."""

    def applies(self, evidence: OneRun) -> bool:
        return bool(aggregate.trained_arms(evidence.records))

    def chart(self, evidence: OneRun) -> Mapping[str, Figure]:
        asked, metric = evidence.asked, evidence.asked.metric
        source = asked.printed.source if asked.printed else ""
        printed = []
        for point, density in decisions.paper_points(evidence.records, asked):
            printed.append(
                {
                    "arm": point.arm,
                    "density": 100 * density,
                    metric.name: 100 * point.value,
                    "source": source,
                }
            )
        # Of one or two replicates the chart shows no interval, and no band.
        with_intervals = aggregate.replicates(evidence.records) >= LEAST
        dots = "95 % intervals of the mean" if with_intervals else "the means"
        caption = (
            f"Lines: mean over replicates; dots, moved apart sideways: {dots} at the densities "
            "asked for"
        )
        caption += "; band: that of the dense network." if with_intervals else "."
        if printed:
            caption += f" Hollow: printed in {source}."
        chart = figures.metric_over_density(
            evidence.records, printed, evidence.title, metric, asked.at
        )
        return {metric.name: Figure(chart, caption)}
