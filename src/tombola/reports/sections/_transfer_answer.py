"""The answer of a transfer: how found tickets train on other data."""

from collections.abc import Sequence

from tombola.reports import matrix
from tombola.reports.matrix import Transfer
from tombola.reports.section import Section

MOST = 3  # sentences above the figure; the others are told with the table of differences


class TransferAnswer(Section[Transfer]):
    """The first sentences, those on the dense network before all others."""

    of = "transfer"
    look = "answer"

    def sentence(self, evidence: Transfer) -> Sequence[str]:
        if not evidence.matrix.groups:
            return ["No ticket has been trained."]
        return matrix.sentences(evidence.matrix)[:MOST]
