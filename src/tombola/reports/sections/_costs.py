"""Costs: what it takes each arm to reach a density, and what each has at equal cost."""

from collections.abc import Mapping, Sequence

from tombola.reports import decisions, panels, table
from tombola.reports.grids import Grid
from tombola.reports.section import Figure, OneRun, Section


class Costs(Section[OneRun]):
    """The cost of the search and of the evaluations, as if each arm ran alone."""

    def chart(self, evidence: OneRun) -> Mapping[str, Figure]:
        asked = evidence.asked
        if not decisions.cost_grid(evidence.records, asked).rows:
            return {}
        chart = panels.costs(evidence.records, asked.at, asked.made_of, asked.metric)
        caption = (
            "Cost of reaching a density, as if each arm ran alone. Dark: the search; lighter: the "
            f"training that evaluates the ticket (its {asked.metric.title} stands at the end of "
            "the bar); palest: the evaluations of the tickets before it."
        )
        return {"costs": Figure(chart, caption)}

    def grid(self, evidence: OneRun) -> Sequence[Grid]:
        records, asked = evidence.records, evidence.asked
        return [decisions.cost_grid(records, asked), decisions.budget_grid(records, asked)]

    def legend(self, evidence: OneRun) -> Sequence[str]:
        return table.cost_legend(evidence.records)
