"""Boxes: the replicates of every arm, where each density was searched for by itself."""

from collections.abc import Mapping

from tombola.reports import aggregate, figures
from tombola.reports.grids import listed
from tombola.reports.section import Figure, OneRun, Section

_LEAST = 3  # replicates, of which a box says something


class Boxes(Section[OneRun]):
    """Box plots of the headline metric, a panel a density."""

    def applies(self, evidence: OneRun) -> bool:
        independent = False
        for record in evidence.records:
            # Tickets that are tested untrained have a section of their own.
            if record["round"] and not record.get("untrained"):
                independent = independent or bool(record.get("by_itself"))
        return independent and aggregate.replicates(evidence.records) >= _LEAST

    def chart(self, evidence: OneRun) -> Mapping[str, Figure]:
        records, asked, metric = evidence.records, evidence.asked, evidence.asked.metric
        early = any(aggregate.early_value(record, metric) is not None for record in records)
        at_end = [arm for arm in aggregate.arms(records) if arm in asked.networks]
        caption = (
            f"Test {metric.title} of the replicates, each density on a scale of its own, the dense "
            "networks in all of them: box and median of the middle half, whiskers to the outermost "
            "replicates. "
        )
        if not early:
            caption += "All at the end of training."
        elif at_end:
            caption += (
                f"Tickets and dense networks at their early stop, {listed(at_end)} at the end of "
                "training."
            )
        else:
            caption += "Tickets and dense networks at their early stop."
        return {"boxes": Figure(figures.boxes(records, asked.at, at_end, metric), caption)}
