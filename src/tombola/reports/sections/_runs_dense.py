"""The dense networks of several runs: their error on test and on training data."""

from collections.abc import Mapping

from tombola.reports import across, together
from tombola.reports.grids import capitalised
from tombola.reports.section import Figure, Section, SeveralRuns


class RunsDense(Section[SeveralRuns]):
    """What changes before any weight is pruned."""

    of = "several runs"

    def chart(self, evidence: SeveralRuns) -> Mapping[str, Figure]:
        metric = together.metric_of(evidence.parts)
        along, places = together.places_of(evidence.parts)
        rows = []
        for part, place in zip(evidence.parts, places, strict=True):
            for record in together.dense_of(part):
                for split, key in (("test", metric.test), ("training", metric.train)):
                    if record.get(key) is not None:
                        value = metric.error(record[key])
                        row = {"place": place, "of": split, "replicate": record["replicate"]}
                        rows.append(row | {"value": value})
        if not rows:
            return {}
        error = capitalised(metric.error_title)
        title = metric.axis(f"{error} of the dense network")
        caption = (
            f"{error} of the dense network on test and training data. Points: replicates; lines: "
            "their means."
        )
        return {
            "dense": Figure(across.over_runs(rows, along, title, ["test", "training"]), caption)
        }
