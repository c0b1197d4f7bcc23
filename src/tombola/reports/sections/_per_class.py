"""Per class: the headline metric of each class, where it is measured class by class."""

from collections.abc import Mapping, Sequence

from tombola.reports import class_values, panels
from tombola.reports.grids import Grid, percent
from tombola.reports.section import Figure, OneRun, Section


class PerClass(Section[OneRun]):
    """Every class of the dense network and of the arms' tickets, as dots and as a table."""

    title = "Class by class"

    def applies(self, evidence: OneRun) -> bool:
        return any(map(class_values.values_by_class, evidence.records))

    def sentence(self, evidence: OneRun) -> Sequence[str]:
        return class_values.change_lines(evidence.records, evidence.asked)

    def chart(self, evidence: OneRun) -> Mapping[str, Figure]:
        records, asked = evidence.records, evidence.asked
        density = class_values.shown_density(records, asked)
        if density is None:
            return {}
        caption = (
            f"Test {class_values.kind_of(records)} of each class at the first ticket at or below "
            f"{percent(density)} % density, the classes on which the dense network is best above. "
            "Points: mean of the replicates; lines: lowest to highest; grey: the dense network."
        )
        chart = panels.classes(records, density, asked.metric)
        return {"per-class": Figure(chart, caption)}

    def grid(self, evidence: OneRun) -> Sequence[Grid]:
        return [class_values.class_grid(evidence.records, evidence.asked)]

    def legend(self, evidence: OneRun) -> Sequence[str]:
        return [
            "A row is the mean over n replicates of each one's first ticket at or below the density."
        ]
