"""Differences: pairs of arms beside each other, and how certain all differences are."""

from collections.abc import Mapping, Sequence

from tombola.evidence.comparisons import DENSE, Comparison
from tombola.reports import aggregate, decisions, panels
from tombola.reports.grids import Grid, percent
from tombola.reports.section import Figure, OneRun, Section


class Differences(Section[OneRun]):
    """What pairs of arms differ by; those with the dense network stand in the first table."""

    title = "Differences"

    def chart(self, evidence: OneRun) -> Mapping[str, Figure]:
        asked = evidence.asked
        compared = _between_arms(evidence)
        if not compared:
            return {}
        caption = (
            f"Paired differences in test {asked.metric.title} between arms: mean and "
            f"{percent(1 - asked.alpha)} % interval over the replicates, at the density behind it, "
            "in the colour of the first arm. An arrow: the interval goes on"
        )
        caption += "; grey: the margin." if asked.margin is not None else "."
        return {
            "differences": Figure(
                panels.differences(compared, aggregate.arms(evidence.records)), caption
            )
        }

    def grid(self, evidence: OneRun) -> Sequence[Grid]:
        others = list(dict.fromkeys(compared.other for compared in _between_arms(evidence)))
        grids = [decisions.tests_grid(evidence.records, evidence.asked)]
        if others:
            grids.insert(0, decisions.comparison_grid(evidence.records, evidence.asked, others))
        return grids

    def legend(self, evidence: OneRun) -> Sequence[str]:
        return decisions.differences_legend(evidence.records, evidence.asked)


def _between_arms(evidence: OneRun) -> list[Comparison]:
    compared = decisions.comparisons(evidence.records, evidence.asked)
    return [comparison for comparison in compared if comparison.other != DENSE]
