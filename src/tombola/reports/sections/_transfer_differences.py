"""The differences of a transfer: tickets beside dense, beside those found there, beside chance."""

from collections.abc import Sequence

from tombola.reports import matrix
from tombola.reports.grids import Grid
from tombola.reports.matrix import Transfer
from tombola.reports.section import Section
from tombola.reports.sections._transfer_answer import MOST


class TransferDifferences(Section[Transfer]):
    """Paired within replicates."""

    of = "transfer"

    def sentence(self, evidence: Transfer) -> Sequence[str]:
        return matrix.sentences(evidence.matrix)[MOST:]

    def grid(self, evidence: Transfer) -> Sequence[Grid]:
        return [matrix.difference_grid(evidence.matrix)]

    def legend(self, evidence: Transfer) -> Sequence[str]:
        return matrix.differences_legend(evidence.matrix)
