"""Notes of a transfer: what could not be trained, and what else a reader must know."""

from collections.abc import Sequence

from tombola.reports.matrix import Transfer
from tombola.reports.section import Section


class TransferNotes(Section[Transfer]):
    """One line each."""

    of = "transfer"
    look = "notes"

    def sentence(self, evidence: Transfer) -> Sequence[str]:
        return evidence.notes
