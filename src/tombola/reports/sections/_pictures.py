"""Pictures: what a ticket and the dense network find on a few test pictures."""

from collections.abc import Mapping

from tombola.reports import detections
from tombola.reports.grids import percent
from tombola.reports.section import Figure, OneRun, Section


class Pictures(Section[OneRun]):
    """The first test pictures, with the boxes of the dense network beside those of tickets."""

    title = "What they find"

    def applies(self, evidence: OneRun) -> bool:
        shown = evidence.asked.shown
        return shown is not None and bool(shown.densities)

    def chart(self, evidence: OneRun) -> Mapping[str, Figure]:
        shown = evidence.asked.shown
        assert shown is not None
        charts = {}
        for arm, density in shown.densities.items():
            caption = (
                f"The first test pictures: on the left with what the dense network finds, on the "
                f"right (on a phone: below it) the ticket of {arm} at {percent(density)} % density, "
                f"replicate {shown.replicate}. Solid: boxes with a score above "
                f"{detections.LEAST_SCORE:g}, with class and score; dashed, in italics: the objects "
                "that are there."
            )
            charts[f"pictures-{arm}"] = Figure(detections.beside_dense(shown, arm), caption)
        return charts
