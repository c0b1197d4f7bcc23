"""A section of the report: the sparsest ticket of each arm."""

from collections.abc import Sequence

from tombola.reports.grids import Grid
from tombola.reports.section import OneRun, Section


class Sparsest(Section[OneRun]):
    """The sparsest evaluated ticket of each arm, and what it reaches."""

    title = "The sparsest tickets"

    def grid(self, evidence: OneRun) -> Sequence[Grid]:
        metric = evidence.asked.metric
        sparsest = {}
        for record in evidence.records:
            value = record.get(metric.test)
            if record["round"] and value is not None:
                row = [f"{100 * record['density']:.2f}", metric.number(value)]
                best = sparsest.get(record["arm"])
                if best is None or record["density"] < best[0]:
                    sparsest[record["arm"]] = (record["density"], row)
        rows = [[arm, *row] for arm, (_, row) in sparsest.items()]
        return [Grid("", ["arm"], [("", ["density %", metric.title])], rows)]
