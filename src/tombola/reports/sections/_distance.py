"""Distance: how far the kept weights move in training."""

from collections.abc import Mapping

from tombola.reports import panels
from tombola.reports.section import Figure, OneRun, Section

_CAPTION = (
    "How far the kept weights went in the training that evaluates a ticket, from where it began: "
    "root of the mean square. Mean of the replicates; bands: lowest to highest."
)


class Distance(Section[OneRun]):
    """The root mean square of what training changes."""

    def applies(self, evidence: OneRun) -> bool:
        tickets = [record for record in evidence.records if record["round"]]
        return any(record.get("distance") is not None for record in tickets)

    def chart(self, evidence: OneRun) -> Mapping[str, Figure]:
        return {"distance": Figure(panels.distance(evidence.records), _CAPTION)}
