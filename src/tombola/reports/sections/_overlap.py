"""Overlap: whether the partitions of an arm prune the same weights."""

from collections.abc import Mapping, Sequence

from tombola.reports import aggregate, decisions, figures
from tombola.reports.grids import Grid
from tombola.reports.section import Figure, OneRun, Section

_CAPTION = (
    "What all partitions keep of the weights before a round (points), what is expected by chance, "
    "in each layer by its own rate (dashed), and between which bounds arithmetic leaves it (band). "
    "Mean of the replicates."
)


class Overlap(Section[OneRun]):
    """What the candidates of a round have in common, beside chance."""

    def chart(self, evidence: OneRun) -> Mapping[str, Figure]:
        rows = decisions.overlap_rows(evidence.records, evidence.asked)
        if not rows:
            return {}
        chart = figures.overlap(rows, aggregate.arms(evidence.records))
        return {"overlap": Figure(chart, _CAPTION)}

    def grid(self, evidence: OneRun) -> Sequence[Grid]:
        return [decisions.overlap_grid(evidence.records, evidence.asked)]
