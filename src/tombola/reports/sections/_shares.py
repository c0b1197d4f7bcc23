"""Shares: what partitions of classes take where an example holds several classes."""

from collections.abc import Sequence

from tombola.reports import class_partitions
from tombola.reports.grids import Grid
from tombola.reports.section import OneRun, Section

_LEGEND = (
    "Mean of an arm's partitions in all replicates (lowest to highest). A picture belongs to every "
    "partition that has an object of its own classes. Lost: what the arm's policy for others leaves "
    "out though it has a class of the partition."
)


class Shares(Section[OneRun]):
    """Pictures and boxes of class partitions, and how many are of other classes, too."""

    title = "Partitions of classes"

    def applies(self, evidence: OneRun) -> bool:
        return bool(class_partitions.shares_by_arm(evidence.records))

    def sentence(self, evidence: OneRun) -> Sequence[str]:
        return class_partitions.partition_lines(evidence.records)

    def grid(self, evidence: OneRun) -> Sequence[Grid]:
        return [class_partitions.partition_grid(evidence.records)]

    def legend(self, evidence: OneRun) -> Sequence[str]:
        return [_LEGEND]
