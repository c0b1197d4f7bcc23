"""Weights: which of the trained dense network's weights a ticket keeps."""

from collections.abc import Mapping

from tombola.reports import aggregate, panels
from tombola.reports.section import Figure, OneRun, Section

_CAPTION = (
    "The weights of the trained dense network by value, in its largest layer: coloured those that "
    "a ticket keeps, grey those that it prunes. One replicate; the outer bars hold all beyond."
)


class Weights(Section[OneRun]):
    """Histograms of the dense network's weights, kept and pruned."""

    def applies(self, evidence: OneRun) -> bool:
        return bool(evidence.asked.pruned)

    def chart(self, evidence: OneRun) -> Mapping[str, Figure]:
        chart = panels.weights(evidence.asked.pruned, aggregate.arms(evidence.records))
        return {"weights": Figure(chart, _CAPTION)}
