"""Experiment: arms x replicates on one pool; records, tickets and a report come out.

recipe -> task -> for every arm and replicate: find -> ticket -> evaluation -> record -> report
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tombola.arms import ArmRun, Feed, Shared
from tombola.errors import ConfigError
from tombola.estimate import estimate
from tombola.executors import Pool
from tombola.plans import Plans, make_model, make_task, settle
from tombola.progress import Display
from tombola.recipe import Recipe
from tombola.records import Record
from tombola.reports import page
from tombola.runs import RunFolder, cores


@dataclass(frozen=True)
class Outcome:
    """What a run left.

    Attributes:
        folder: The run folder.
        records: All results of the recipe's arms and replicates.
        notes: How arms ended that did not simply reach their goal, and what a reader must know.
        complete: Whether every arm of every replicate finished.
        files: Tables, figures and the page.
    """

    folder: Path
    records: list[Record]
    notes: list[str]
    complete: bool
    files: list[Path]


def run(
    recipe: Recipe,
    *,
    runs: Path = Path("runs"),
    data_root: Path | None = None,
    workers: int | None = None,
    display: Display | None = None,
) -> Outcome:
    """Run an experiment, or go on with one that was stopped.

    Args:
        recipe: What to do.
        runs: Parent of the run folder.
        data_root: Root of the data sets; the environment variable ``TOMBOLA_DATA`` or the default if not given.
        workers: Worker processes; one a core (divided by the threads of a training) if not given, on a GPU one. They
            change no bit.
        display: What is told meanwhile; nothing if not given.

    Raises:
        InputError: The recipe cannot be run as it is; nothing was trained.

    >>> import tempfile
    >>> from tombola.recipe import parse
    >>> arms = {"lth": {"method": "lth", "rate": 0.2}}
    >>> recipe = parse({"name": "x", "training": {"epochs": 1}, "arms": arms, "until": {"rounds": 1}})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [round(record["density"], 3) for record in run(recipe, runs=Path(folder), workers=1).records]
    [1.0, 0.8]
    """
    display = display or Display(quiet=True)
    if workers is not None and workers < 1:
        raise ConfigError(f"workers is {workers}; it must be 1 or more")
    task = make_task(recipe, data_root)
    recipe = settle(recipe, task)
    if workers is None:
        workers = 1 if recipe.device == "cuda" else max(1, cores() // recipe.training.threads)
    if task.streams:
        display.say(task.streams)
    plans = Plans.of(recipe, task)
    folder = RunFolder(recipe, runs, task.splits.fingerprint)
    try:
        _search(plans, folder, data_root, workers, display)
        return _report(plans, folder)
    finally:
        folder.close()


def _search(plans: Plans, folder: RunFolder, data_root: Path | None, workers: int, display: Display) -> None:
    """Drive every arm of every replicate that is not finished, all on one pool."""
    recipe, task = plans.recipe, plans.task
    keys = [(name, replicate) for replicate in range(recipe.replicates) for name in recipe.arms]
    todo = [key for key in keys if not folder.finished(*key)]
    if not todo:
        folder.clear_trainings()
        display.say(f"nothing left to train: {folder.path} is complete")
        return
    # An arm that follows another one needs its rounds: one that is finished gives those of its tickets.
    sources = {(recipe.arms[name].match, replicate) for name, replicate in todo}
    todo = [key for key in keys if key in todo or key in sources]
    pool = Pool(
        task,
        folder.trainings,
        workers=workers,
        make_task=functools.partial(make_task, recipe, data_root),
        progress=display.progress,
    )
    replicates = sorted({replicate for _, replicate in todo})
    shared = Shared(
        plans,
        pool,
        folder,
        display,
        origin=_origin(plans),
        initial={k: make_model(recipe, task.splits, k).state_dict() for k in replicates},
        feeds={key: Feed() for key in keys},
        stopped=threading.Event(),
    )
    done = {key: len(folder.rounds_done(*key)) for key in todo}
    display.start(recipe.name, estimate(plans, done, workers))
    threads = ThreadPoolExecutor(max_workers=len(todo), thread_name_prefix="tombola-arm")
    try:
        arms = [threads.submit(ArmRun(shared, *key).run) for key in todo]
        for arm in as_completed(arms):
            arm.result()
        pool.close()
    except BaseException:
        shared.stopped.set()
        pool.close(now=True)
        for feed in shared.feeds.values():
            feed.end("the run was stopped")
        raise
    finally:
        display.stop()
        threads.shutdown(wait=False, cancel_futures=True)
    if all(folder.finished(*key) for key in keys):
        folder.clear_trainings()


def _origin(plans: Plans) -> dict[str, Any]:
    """Say where the tickets of this run come from, as far as they share it."""
    recipe, task = plans.recipe, plans.task
    model = {"name": recipe.model.name, "options": recipe.model.options, "head": task.head, "init": recipe.model.init}
    data = {
        "name": recipe.data.name,
        "options": recipe.data.options,
        "valid": recipe.data.valid,
        "subset": recipe.data.subset,
        "augment": asdict(recipe.data.augment),
        "verified": task.splits.verified,
        "fingerprint": task.splits.fingerprint,
    }
    return {
        "model": model,
        "data": data,
        "training": asdict(recipe.training),
        "prunable": recipe.prunable,
        "rewind_step": recipe.rewind,
    }


def _report(plans: Plans, folder: RunFolder) -> Outcome:
    recipe = plans.recipe
    keys = [(name, replicate) for name in recipe.arms for replicate in range(recipe.replicates)]
    records = [r for r in folder.records.all() if (r["arm"], r["replicate"]) in set(keys)]
    order = list(recipe.arms)
    records.sort(key=lambda r: (order.index(r["arm"]), r["replicate"], r["round"]))
    notes = []
    for name, replicate in keys:
        how, why = folder.state(name, replicate)
        if how != "finished" or why:
            notes.append(f"arm {name}, replicate {replicate}: {how}{': ' if why else ''}{why}")
    if not plans.task.splits.has_valid:
        notes.append("selected without validation data (data.valid: 0)")
    if not plans.task.splits.verified:
        notes.append("the checksums of the data's files were not verified (data.verify: false)")
    complete = all(folder.finished(*key) for key in keys)
    files = page.write(folder.path, recipe.name, records, notes, facts(plans)) if records else []
    return Outcome(folder.path, records, notes, complete, files)


def facts(plans: Plans) -> Mapping[str, str]:
    """Say in a few words what a run was, for the head of its page."""
    recipe, task = plans.recipe, plans.task
    t, splits = recipe.training, task.splits
    length = f"{t.epochs:g} epochs" if t.epochs is not None else f"{t.steps:,} steps"
    examples = f"{len(splits.train):,} training, {len(splits.valid):,} validation, {len(splits.test):,} test examples"
    return {
        "data": f"{recipe.data.name}: {examples}",
        "model": f"{recipe.model.name}: {plans.total:,} weights, {sum(m.numel() for m in plans.mask.values()):,} "
        f"of them prunable ({recipe.prunable})",
        "training": f"{t.optimizer}, learning rate {t.lr:g}, batch {t.batch_size}, {length}, weights taken: {t.select}",
        "rewind": f"step {recipe.rewind}",
        "replicates": f"{recipe.replicates}, from seed {recipe.seed}",
    }
