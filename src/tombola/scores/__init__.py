"""Scores: a number per weight, larger means keep (papers say criterion, saliency or importance).

One private file per score; ``tombola.scores.magnitude`` is imported when it is used. A score is a
function ``(state, mask, context) -> Scores``.
"""

from tombola.ground import catalogue

__getattr__, __dir__ = catalogue.lazy("tombola.scores")
