"""A packed run of any number of results: one replicate that was really run, and others made of it.

So the time of a report over the number of its results is measured without training for days. Every
replicate has the rounds, the weights of each layer and the costs of the one that ran. It differs in
its accuracies, by a draw of its own, and in its digests, so that no training is taken for another
replicate's.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tombola.experiments.experiment import run
from tombola.folder.packing import pack
from tombola.folder.runs import Run
from tombola.folder.sealing import write_about
from tombola.schema.recipe import parse

ARMS: Mapping[str, Mapping[str, Any]] = {
    "lth": {"method": "lth", "rate": 0.2},
    "colt-2": {"method": "colt", "partitions": 2, "rate": 0.11},
    "matched": {"match": "colt-2"},
    "by-examples": {"method": "colt", "split_by": "examples", "rate": 0.15},
    "random": {"method": "random_ticket", "source": "lth"},
    "shuffled": {"method": "shuffled", "source": "lth"},
    "reinitialised": {"method": "reinitialised", "source": "lth"},
    "fine-tune": {"method": "fine_tune", "match": "lth"},
    "lr-rewind": {"method": "lr_rewind", "rate": 0.2},
    "random-colt": {"method": "random_ticket", "source": "colt-2"},
}
ROUNDS = 10
A_REPLICATE = len(ARMS) * (ROUNDS + 1)  # results
_SPREAD = 0.01  # of the accuracies, a fraction


def crowd(folder: Path, replicates: int) -> Run:
    """Make a packed run of so many replicates, with `A_REPLICATE` results each, in a new folder.

    Args:
        folder: Where to; it is not there yet.
        replicates: How many.
    """
    recipe = parse(
        {
            "name": "crowd",
            "data": {"name": "digits", "valid": 0.15},
            "model": {"name": "mlp", "hidden": [24]},
            "training": {"lr": 0.1, "momentum": 0.9, "epochs": 2},
            "arms": {name: dict(arm) for name, arm in ARMS.items()},
            "until": {"rounds": ROUNDS},
            "verdict": {"margin": 0.02, "at": [0.5, 0.2]},
        }
    )
    outcome = run(recipe, runs=folder.parent / "one", workers=1)
    packed = pack(outcome.folder, folder)

    # Its recipe asks for all of them; nothing else that names the run depends on their number.
    packed.recipe = replace(packed.recipe, replicates=replicates)
    write_about(packed)
    states, ends = packed.states(), {}
    for arm in ARMS:
        for k in range(replicates):
            ends[f"{arm}/{k}"] = states[f"{arm}/0"]
    packed.seals.write_json(packed.layout.states, ends)

    path, results = packed.layout.records, packed.records.all()
    lines = [packed.seals.line(path, record) for record in results]
    for k in range(1, replicates):
        draw = random.Random(k)
        for record in results:
            lines.append(packed.seals.line(path, _another(record, k, draw)))
    path.write_bytes(b"".join(lines))

    arrays = {}
    for name, predictions in packed.predictions().items():
        if "/" not in name:
            arrays[name] = predictions
            continue
        arm, _, index = name.partition("/replicate-0/")
        for k in range(replicates):
            arrays[f"{arm}/replicate-{k}/{index}"] = predictions
    labels = packed.labels()
    if labels is not None:
        arrays["labels"] = labels
    packed.seals.write_arrays(packed.layout.packed_predictions, arrays)
    return Run(folder)


def _another(record: Mapping[str, Any], replicate: int, draw: random.Random) -> dict[str, Any]:
    """Return a result as it could be in another replicate."""
    shift = draw.gauss(0, _SPREAD)

    def digest(value: str) -> str:
        return hashlib.sha256(f"{value} {replicate}".encode()).hexdigest()

    another = dict(record) | {"replicate": replicate}
    for name, value in record.items():
        if value is None:
            continue
        if name.endswith("_digest") and name not in ("run_digest", "arm_digest"):
            another[name] = digest(value)
        if name.endswith("accuracy") or name == "test_accuracy_early":
            another[name] = min(1.0, max(0.0, value + shift))
    another["costs"] = [cost | {"training": digest(cost["training"])} for cost in record["costs"]]
    return another
