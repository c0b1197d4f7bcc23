"""Similarity: whether two arms prune the same weights."""

from collections.abc import Mapping, Sequence

from tombola.reports import aggregate, figures, masks
from tombola.reports.grids import Grid
from tombola.reports.section import Figure, OneRun, Section


class Similarity(Section[OneRun]):
    """What the tickets of two arms prune alike at one density, beside chance."""

    def chart(self, evidence: OneRun) -> Mapping[str, Figure]:
        rows = masks.similarity_rows(evidence.records, evidence.asked)
        if not rows:
            return {}
        caption = (
            "What two arms prune alike (Jaccard: pruned by both over pruned by either) where they "
            "have rounds of about the same density. Points: measured; dashed: expected by chance, "
            "in each layer by its own rates"
        )
        if len({row["pair"] for row in rows}) <= figures.FEW_PAIRS:
            caption += (
                "; thin: what one arm shares with the weights that were smallest before training; "
                "dotted: the maximum"
            )
        caption += ". All of them rise as less is kept. Mean of the replicates."
        chart = figures.similarity(rows, aggregate.arms(evidence.records))
        return {"similarity": Figure(chart, caption)}

    def grid(self, evidence: OneRun) -> Sequence[Grid]:
        return [masks.similarity_grid(evidence.records, evidence.asked)]
