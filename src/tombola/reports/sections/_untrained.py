"""Untrained tickets: what tickets reach that are tested as they were found."""

from collections.abc import Mapping, Sequence

from tombola.reports import aggregate, decisions, figures
from tombola.reports.grids import Grid
from tombola.reports.section import Figure, OneRun, Section
from tombola.reports.untrained import untrained_grid, untrained_lines


class Untrained(Section[OneRun]):
    """The headline metric of untrained tickets over density, beside chance."""

    title = "Untrained tickets"

    def applies(self, evidence: OneRun) -> bool:
        return bool(aggregate.untrained(evidence.records))

    def sentence(self, evidence: OneRun) -> Sequence[str]:
        records = evidence.records
        lines = untrained_lines(records, evidence.asked)
        return lines + decisions.untrained_note(records)

    def chart(self, evidence: OneRun) -> Mapping[str, Figure]:
        asked, metric = evidence.asked, evidence.asked.metric
        caption = (
            f"Test {metric.title} of tickets that were tested as they were found, without "
            "training. Lines: mean over replicates; bars: 95 % intervals of the mean, of three or "
            "more; small points: replicates."
        )
        if asked.chance is not None:
            caption += " Dashed: guessing."
        chart = figures.untrained(evidence.records, asked.chance, metric)
        return {"untrained": Figure(chart, caption)}

    def grid(self, evidence: OneRun) -> Sequence[Grid]:
        return [untrained_grid(evidence.records, evidence.asked)]
