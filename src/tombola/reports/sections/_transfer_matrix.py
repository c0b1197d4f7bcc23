"""The matrix of a transfer: tickets by data sets."""

from collections.abc import Mapping, Sequence

from tombola.reports import figures, matrix
from tombola.reports.grids import Grid
from tombola.reports.matrix import Transfer
from tombola.reports.section import Figure, Section


class TransferMatrix(Section[Transfer]):
    """A figure and a table of what all tickets reach on all data sets."""

    of = "transfer"

    def applies(self, evidence: Transfer) -> bool:
        return bool(evidence.matrix.groups)

    def chart(self, evidence: Transfer) -> Mapping[str, Figure]:
        results = evidence.matrix
        names = [results.name(group) for group in results.groups]
        chart = figures.matrix(matrix.cells(results), names, results.data)
        return {"matrix": Figure(chart, matrix.caption(results))}

    def grid(self, evidence: Transfer) -> Sequence[Grid]:
        return [matrix.matrix_grid(evidence.matrix)]

    def legend(self, evidence: Transfer) -> Sequence[str]:
        return matrix.matrix_legend(evidence.matrix)
