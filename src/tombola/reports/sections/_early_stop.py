"""Early stopping: when the validation loss is lowest, and the generalisation gap."""

from collections.abc import Mapping, Sequence

from tombola.reports import aggregate, panels, table
from tombola.reports.grids import Grid
from tombola.reports.section import Figure, OneRun, Section


class EarlyStop(Section[OneRun]):
    """Metric and step at the early stop, and how far training is above test."""

    def chart(self, evidence: OneRun) -> Mapping[str, Figure]:
        records, metric = evidence.records, evidence.asked.metric
        arms = aggregate.arms(records)
        tickets = [record for record in records if record["round"] and record["arm"] in arms]
        if not any(aggregate.early_value(record, metric) is not None for record in tickets):
            return {}
        caption = (
            f"At the early stop, where the validation loss is lowest: test {metric.title} and "
            f"training step; and at the end, the generalisation gap: {metric.title} on training "
            "data minus that on test data (dashed, where arms are few: minus that on validation "
            "data). Mean of the replicates; bands: lowest to highest."
        )
        return {"early-stop": Figure(panels.early_stop(records, metric), caption)}

    def grid(self, evidence: OneRun) -> Sequence[Grid]:
        asked = evidence.asked
        return [table.stop_grid(evidence.records, asked.at, asked.metric)]
