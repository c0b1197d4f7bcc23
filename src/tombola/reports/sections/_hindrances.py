"""Hindrances: what keeps a run from saying more, each with its cure; and its notes."""

from collections.abc import Sequence

from tombola.reports import decisions
from tombola.reports.section import OneRun, Section


class Hindrances(Section[OneRun]):
    """What a reader must know before believing the answer."""

    look = "notes"

    def sentence(self, evidence: OneRun) -> Sequence[str]:
        return [*evidence.notes, *decisions.hindered(evidence.records, evidence.asked)]
