"""Basis: what the answer rests on, the ticket to take away, and the numbers as files."""

from collections.abc import Mapping, Sequence

from tombola.reports import decisions
from tombola.reports.grids import percent
from tombola.reports.section import OneRun, Section


class Basis(Section[OneRun]):
    """A line or two below the table of all arms."""

    look = "small"

    def sentence(self, evidence: OneRun) -> Sequence[str]:
        records = evidence.records
        return decisions.basis(records, evidence.asked) + decisions.untrained_note(records)

    def link(self, evidence: OneRun) -> Mapping[str, str]:
        links = {}
        best, metric = evidence.best, evidence.asked.metric
        if best is not None:
            value = "" if best.value is None else f"{metric.shown(best.value)}, "
            links[f"Best ticket ({value}{percent(best.density)} % density)"] = best.path
        return links | {name: name for name in evidence.files}
