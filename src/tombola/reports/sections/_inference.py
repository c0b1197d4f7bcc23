"""Inference: what a trained ticket costs an example."""

from collections.abc import Sequence

from tombola.reports.grids import Grid
from tombola.reports.inference import inference_grid, inference_lines
from tombola.reports.section import OneRun, Section


class Inference(Section[OneRun]):
    """Counted operations and measured times of the sparsest tickets."""

    def grid(self, evidence: OneRun) -> Sequence[Grid]:
        return [inference_grid(evidence.records, evidence.asked)]

    def legend(self, evidence: OneRun) -> Sequence[str]:
        return inference_lines(evidence.records, evidence.asked)
