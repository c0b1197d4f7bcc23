"""The setting of a transfer: what was trained, and how."""

from collections.abc import Mapping

from tombola.reports.matrix import Transfer
from tombola.reports.section import Section


class TransferSetting(Section[Transfer]):
    """The facts, in their order."""

    of = "transfer"

    def fact(self, evidence: Transfer) -> Mapping[str, str]:
        return evidence.facts
