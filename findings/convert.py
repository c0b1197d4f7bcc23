"""Turn the first finding, which is older than packed runs, into one that `tombola report` reads.

    folder of format 1 (recipe, records, predictions) --> packed run of today's format

Nothing is computed anew. What the records of then do not say (weights by layer, the cost of each
training, its curve) stays out. What was not yet a choice is written out as it was: plain steps,
channels not innermost. The classes of the test examples come from the data set, whose fingerprint
must be the one that the run names.

    git worktree add before 8105699
    python -m findings.convert before/docs/findings/mnist-lenet5 docs/findings/mnist-lenet5
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from tombola.experiments.experiment import facts as facts_of
from tombola.experiments.plans import Plans, make_task
from tombola.folder.identity import definition_of, run_digest
from tombola.folder.packing import labelled
from tombola.folder.runs import Run
from tombola.ground.files import write_whole
from tombola.masks.digests import digest_json
from tombola.records.layout import Layout
from tombola.records.seals import VERSION, Seals
from tombola.schema.recipe import FORMAT, Recipe, parse

# What a training of format 1 did without saying so.
AS_IT_WAS = {"step": "eager", "channels_last": False}


def recipe_of(folder: Path) -> Recipe:
    """Read a recipe of format 1, with what was no choice then written out."""
    plain = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    plain["training"] |= AS_IT_WAS
    return parse(plain | {"device": "cpu"})


def converted(record: Mapping[str, Any], run: str, arm: str) -> dict[str, Any]:
    """Return a record of format 1 as one of today; every ticket was evaluated then."""
    digests = {"run_digest": run, "arm_digest": arm}
    return {"arm": record["arm"], **digests, **record, "evaluated": True}


def convert(old: Path, to: Path, labels: NDArray[np.integer[Any]], facts: Mapping[str, str]) -> Run:
    """Write a packed run of today's format.

    Args:
        old: A folder of format 1.
        to: Where the packed run goes; files of these names are replaced.
        labels: The class of every test example.
        facts: What the run's page says of it.
    """
    recipe = recipe_of(old)
    digest = run_digest(recipe)
    lines = (old / "records.jsonl").read_text(encoding="utf-8").splitlines()
    before = [json.loads(line) for line in lines]
    environment = json.loads((old / "environment.json").read_text(encoding="utf-8"))
    with np.load(old / "predictions.npz", allow_pickle=False) as packed:
        predictions = {}
        for key in packed:
            # Rounds had two digits, and have three.
            predictions[re.sub(r"round-(\d\d)$", r"round-0\1", key)] = packed[key]

    # Everything is written with seals, as runs of today are.
    to.mkdir(parents=True, exist_ok=True)
    arms = {name: definition_of(recipe, name) for name in recipe.arms}
    records = [converted(r, digest, digest_json(arms[r["arm"]])) for r in before]
    layout, seals = Layout.of(to), Seals(to, digest)
    path = layout.records
    about = {"format": FORMAT, "digest": digest, "facts": dict(facts), "seals": VERSION}
    seals.write_yaml(layout.recipe, recipe.to_dict())
    seals.write_json(layout.arms, arms)
    seals.write_json(layout.environments, [environment])
    Seals(to).write_json(layout.about, about)
    seals.write_arrays(layout.packed_predictions, predictions | labelled(labels))
    write_whole(path, [seals.line(path, record) for record in records])
    seals.write_json(layout.states, _endings(recipe, records))
    return Run(to)


def _endings(recipe: Recipe, records: list[dict[str, Any]]) -> dict[str, Any]:
    """Say that every arm of every replicate came to its end, with the rounds that are recorded."""
    endings = {}
    for name, arm in recipe.arms.items():
        goal = {"until": recipe.to_dict()["until"], "evaluate_at": list(arm.evaluate_at or ())}
        for replicate in range(recipe.replicates):
            of_arm = [r for r in records if (r["arm"], r["replicate"]) == (name, replicate)]
            rounds = max(record["round"] for record in of_arm)
            ending = {"state": "finished", "why": "", "rounds": rounds, "goal": goal}
            endings[f"{name}/{replicate}"] = ending
    return endings


def main(old: Path, to: Path) -> None:
    """Convert a folder; the data set that it names gives the classes of the test examples."""
    recipe = recipe_of(old)
    task = make_task(recipe, None)
    environment = json.loads((old / "environment.json").read_text(encoding="utf-8"))
    if task.fingerprint != environment["data_fingerprint"]:
        raise SystemExit(
            f"the {recipe.data.name} that is here is not the one that '{old}' was made with"
        )
    labels = task.labels("test")
    assert labels is not None
    facts = dict(facts_of(Plans.of(recipe, task)))
    facts["converted"] = "from format 1, which had no costs by training, weights by layer or curves"
    convert(old, to, labels.numpy().astype(np.uint8), facts)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
