"""The answer: which arms find tickets that train as well as the dense network."""

from collections.abc import Sequence

from tombola.reports import decisions, table
from tombola.reports.section import OneRun, Section

_MOST_ARMS = 3  # that are told above the chart


class Answer(Section[OneRun]):
    """The first sentence of the first arms, those that win before all others.

    Of a single arm it is all its sentences. `left_out` has the rest.
    """

    look = "answer"

    def sentence(self, evidence: OneRun) -> Sequence[str]:
        if not evidence.records:
            return table.summary(evidence.records, evidence.asked)
        return _told_and_left_out(evidence)[0]


def left_out(evidence: OneRun) -> list[str]:
    """Return the sentences of the answer that the first screen has no room for."""
    return _told_and_left_out(evidence)[1]


def _told_and_left_out(evidence: OneRun) -> tuple[list[str], list[str]]:
    by_arm = decisions.answer(evidence.records, evidence.asked)
    if len(by_arm) == 1:
        return list(by_arm[0]), []
    told, rest = [], []
    for index, of_arm in enumerate(by_arm):
        if index < _MOST_ARMS:
            told.append(of_arm[0])
            of_arm = of_arm[1:]
        if of_arm:
            rest.append(" ".join(of_arm))
    return told, rest
