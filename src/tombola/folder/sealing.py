"""Sealing: what a run knows, written with a digest in each file.

run -> [ write_about, write_findings ] -> a folder: its own, or that of a packed run
a folder of before there were digests -> [ seal ] -> the same with them
"""

from __future__ import annotations

from dataclasses import replace

from tombola.folder.identity import shared
from tombola.folder.runs import UNSEALED, Run
from tombola.ground import catalogue
from tombola.ground.metrics import CLASSIFIED
from tombola.methods.own import facts_of
from tombola.records import seals
from tombola.records.layout import Layout
from tombola.records.seals import Seals
from tombola.records.storage import Store
from tombola.schema.recipe import FORMAT


def write_about(run: Run, to: Layout | None = None) -> None:
    """Write ``recipe.yaml`` and what the folder says of itself, into another folder if it
    is given.
    """
    to = to or run.layout
    now = Seals(to.top, run.digest)
    # The recipe first: it is held to what the other says, which knows only of what never
    # changes.
    now.write_yaml(to.recipe, run.recipe.to_dict())
    bare = replace(run.recipe, model=replace(run.recipe.model, weights=None))
    about = {
        "format": FORMAT,
        "digest": run.digest,
        "facts": run.facts,
        "shared": shared(bare),
    }
    methods = {}
    for name, arm in run.recipe.arms.items():
        if catalogue.is_own(arm.method):
            methods[f"arms.{name}"] = facts_of(arm)
    if methods:
        about["methods"] = methods  # by which the folder is read where their code is not
    if run.metrics != CLASSIFIED:  # what a run has that names none
        about["metrics"] = [metric.to_dict() for metric in run.metrics]
    Seals(to.top).write_json(to.about, {**about, "seals": seals.VERSION})


def write_findings(run: Run, to: Layout) -> None:
    """Write all that the run knows without its tickets, predictions and weights, each file with
    its digest.

    Args:
        to: The folder; it may be the run's own, if it is of before there were digests.

    Raises:
        ConfigError: A file of the run is damaged; nothing was written.
    """
    now = Seals(to.top, run.digest)
    environments, arms, states = run.environments(), run.definitions(), run.states()
    similar, measured = run.similarities(), run.latency()
    now.write_json(to.environments, environments)
    now.write_json(to.arms, arms)
    now.write_json(to.states, states)
    if similar:
        now.write_lines(to.similarities, similar)
    if measured:
        now.write_json(to.latency, measured)
    run.records.write(to.records, now)
    write_about(run, to)  # last: from now on a file without a digest is refused


def seal(run: Run) -> None:
    """Give every file of a folder of before there were digests its own; nobody else may work
    there.

    Raises:
        ConfigError: A file is seen to be damaged. Trainings that are go, and are done again.
    """
    before, now = run.seals, Seals(run.path, run.digest)
    predicted = run.prediction_files.by_name()
    masks = {}
    for path in sorted(run.layout.candidates.rglob("*.safetensors")):
        masks[path] = before.read_tensors(path)
    run.notes = [text for text in run.notes if text != UNSEALED]
    run.say(
        f"'{run.path}' was made before files carried digests of their contents; from now on they do"
    )
    for path, tensors in masks.items():
        now.write_tensors(path, tensors)
    if run.packed:
        now.write_arrays(run.layout.packed_predictions, predicted)
    else:
        for key, values in predicted.items():
            now.write_array(run.layout.predictions / f"{key}.npy", values)
    Store(run.trainings, tell=run.say, sealed=False).seal()
    write_findings(run, run.layout)
    run.seals = now
    run.records.seal(now)
