"""Curves: the headline metric on validation data while tickets train."""

from collections.abc import Mapping

from tombola.reports import aggregate, figures
from tombola.reports.grids import percent
from tombola.reports.section import Figure, OneRun, Section


class Curves(Section[OneRun]):
    """A figure for each density asked for, with the first tickets at or below it."""

    title = "Training curves"

    def applies(self, evidence: OneRun) -> bool:
        return any(record.get("curve") for record in evidence.records if record["round"])

    def chart(self, evidence: OneRun) -> Mapping[str, Figure]:
        records, metric = evidence.records, evidence.asked.metric
        arms = aggregate.arms(records)
        tickets = [record for record in records if record.get("curve") and record["arm"] in arms]
        charts = {}
        for density in evidence.asked.at:
            if any(record["density"] <= density for record in tickets):
                charts[f"curves-{percent(density)}"] = Figure(
                    figures.curves(records, density, metric),
                    f"Validation {metric.title} while training the first tickets at or below "
                    f"{percent(density)} % density, and the dense network. Mean of the replicates.",
                )
        return charts
