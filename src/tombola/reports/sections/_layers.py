"""Layers: where the weights went, and where a layer is left without any."""

from collections.abc import Mapping, Sequence

from tombola.reports import aggregate, figures, masks
from tombola.reports.grids import Grid
from tombola.reports.section import Figure, OneRun, Section

_MOST = 4  # arms whose layers are drawn; more figures than that nobody looks at


class Layers(Section[OneRun]):
    """What each arm keeps of each layer."""

    title = "Where the weights went"

    def sentence(self, evidence: OneRun) -> Sequence[str]:
        return masks.collapse_lines(evidence.records, evidence.asked)

    def chart(self, evidence: OneRun) -> Mapping[str, Figure]:
        charts = {}
        for arm in _arms_with_layers(evidence)[:_MOST]:
            charts[f"layers-{arm}"] = Figure(
                figures.layers(evidence.records, arm),
                f"Where {arm} leaves its weights: what it keeps of each layer over the density of "
                "the whole network; dashed: as much of each. A layer that falls off nears "
                "collapse.",
            )
        return charts

    def grid(self, evidence: OneRun) -> Sequence[Grid]:
        return [masks.collapse_grid(evidence.records, evidence.asked)]


def _arms_with_layers(evidence: OneRun) -> list[str]:
    """Return the arms that search and whose tickets say what they keep of each layer."""
    with_layers = set()
    for record in evidence.records:
        if record["round"] and record.get("layers"):
            with_layers.add(record["arm"])
    drawn = evidence.asked.drawn & with_layers
    return [arm for arm in aggregate.arms(evidence.records) if arm in drawn]
