"""Layers alive: in how many layers tickets keep any weight, where one is nearly empty."""

from collections.abc import Mapping, Sequence

from tombola.reports import alive, panels
from tombola.reports.grids import Grid
from tombola.reports.section import Figure, OneRun, Section


class LayersAlive(Section[OneRun]):
    """The number of layers with weights over density, and the thinnest layer."""

    title = "Layers left alive"

    def applies(self, evidence: OneRun) -> bool:
        return any(map(alive.is_thin, evidence.records))

    def sentence(self, evidence: OneRun) -> Sequence[str]:
        return alive.alive_lines(evidence.records)

    def chart(self, evidence: OneRun) -> Mapping[str, Figure]:
        caption = (
            "Layers in which a ticket keeps any weight; dashed, where arms are few: in which it "
            f"keeps at least {alive.FEW}. Mean of the replicates; bands: lowest to highest."
        )
        chart = panels.layers_alive(evidence.records, alive.FEW)
        return {"layers-alive": Figure(chart, caption)}

    def grid(self, evidence: OneRun) -> Sequence[Grid]:
        return [alive.alive_grid(evidence.records, evidence.asked)]
