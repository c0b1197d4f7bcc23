"""Experiment: arms x replicates on one pool; records, tickets and a report come out.

recipe -> task -> for every arm and replicate: find -> ticket -> evaluation -> record -> report
"""

from __future__ import annotations

import functools
import math
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tombola.data.partitions import WHOLE, Partition
from tombola.executors import Pool
from tombola.experiments import latency
from tombola.experiments.driver import ArmRun
from tombola.experiments.estimate import Estimate
from tombola.experiments.feeds import feeds_of
from tombola.experiments.plans import Plans, check_seeded, make_model, make_task, resolve_defaults
from tombola.experiments.progress import Display, duration, in_bytes
from tombola.experiments.rehearsal import estimate, rehearse
from tombola.experiments.reporting import (
    Outcome,
    chosen_replicates,
    keys_of,
    replicates_in_words,
    report,
)
from tombola.experiments.shared import Shared
from tombola.exports.reading import read_elsewhere
from tombola.folder import similarity
from tombola.folder.identity import folder_of
from tombola.folder.run_folder import RunFolder
from tombola.folder.runs import Run
from tombola.ground import catalogue, devices, extras, waiting
from tombola.ground.errors import DiskError
from tombola.ground.plain import plain
from tombola.ground.settings import in_words
from tombola.ground.types import State
from tombola.masks.masks import size
from tombola.masks.states import noted_versions, shared_names, state_of
from tombola.records.layout import is_run
from tombola.reports.grids import percent
from tombola.schema.arms import order
from tombola.schema.recipe import Recipe, without_arms
from tombola.tasks.protocol import Task, check_task

# Seconds between two reports of a run that is under way, at least, and before the first one.
_REFRESH, _FIRST_REPORT = 60.0, 180.0
_ARMS_AT_A_TIME = 32  # that are driven, and two more for each worker


def run(
    recipe: Recipe,
    *,
    runs: str | Path = "runs",
    data_root: str | Path | None = None,
    workers: int | None = None,
    executor: str | None = None,
    address: str | None = None,
    replicates: Sequence[int] | None = None,
    display: Display | None = None,
) -> Outcome:
    """Run an experiment, or continue one that was stopped.

    Args:
        recipe: What to do.
        runs: Parent of the run folder.
        data_root: Root of the data sets; the environment variable ``TOMBOLA_DATA`` or the default
            if not given.
        workers: Worker processes; if not given, one per core (divided by the threads of a
            training), or one on a GPU. Their number does not affect results.
        executor: Where the workers run, an entry of ``tombola.executors``: processes of this
            machine if not given, or with one worker a thread of this process. It does not affect
            results.
        address: Of the executor's cluster, where it has one.
        replicates: Run only these, by their numbers from 0; the others may be run elsewhere, see
            `merging.merge`.
        display: Shows the progress; ``Display(quiet=True)`` shows none.

    Raises:
        InputError: The recipe cannot be run as it is; nothing was trained.

    >>> import tempfile
    >>> from tombola.schema.recipe import parse
    >>> arms = {"lth": {"method": "lth", "rate": 0.2}}
    >>> entries = {"name": "x", "training": {"epochs": 1}, "arms": arms, "until": {"rounds": 1}}
    >>> recipe = parse(entries)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [round(record["density"], 3) for record in run(recipe, runs=folder, workers=1).records]
    [1.0, 0.8]
    """
    # Now, and not when all is trained.
    extras.require("report")
    display = display or Display()
    data_root = None if data_root is None else Path(data_root)
    with waiting.told(loading(recipe), display.say):
        plans = plan(recipe, data_root)
        # All of the data is gone through for it: here, where its loading is announced.
        fingerprint = plans.task.fingerprint
    room = _workers(plans.recipe, workers, executor)
    chosen = chosen_replicates(recipe, replicates)
    _announce(plans, display)
    metrics = plans.task.metrics
    display.metric = metrics[0]
    folder = RunFolder(plans.recipe, Path(runs), fingerprint, facts(plans), display.say, metrics)
    try:
        labels = plans.task.labels("test")
        if labels is not None:
            folder.keep_labels(labels.cpu().numpy())
        pictures = plans.task.examples_shown()
        if pictures is not None:
            folder.keep_pictures(pictures)
        # Made only if anything is left to train: workers load the data and import torch.
        make_pool = functools.partial(
            Pool,
            plans.task,
            folder.trainings,
            workers=workers,
            room=room,
            executor=executor,
            options={} if address is None else {"address": address},
            make_task=functools.partial(make_task, without_arms(plans.recipe), data_root),
            progress=display.progress,
            tell=folder.say,
            threads=plans.recipe.training.threads,
            own_code=_own_code(plans.recipe, folder),
        )
        _search(plans, folder, make_pool, chosen, display)
        # After the search: what is measured here needs its tickets, and nothing that is trained.
        models = functools.partial(make_model, plans.recipe, plans.task)
        similarity.measure(folder, lambda k: state_of(models(k)), plans.mask)
        latency.measure(folder, plans, models)
        return report(folder, chosen)
    finally:
        folder.close()


def plan(recipe: Recipe, data_root: Path | None = None) -> Plans:
    """Load the data, build the model, resolve the recipe's defaults, and refuse what cannot work.

    Raises:
        InputError: The recipe cannot be run as it is.
    """
    task = make_task(recipe, data_root)
    # A task of the user's own is held to the protocol before it is made a second time.
    if catalogue.is_own(recipe.task.name):
        check_task(task, recipe.task.name)
    check_seeded(recipe, task, data_root)
    return Plans.of(resolve_defaults(recipe, task), task)


def _announce(plans: Plans, display: Display) -> None:
    """Show what a reader of the run must know of its data and model."""
    for text in (*plans.task.notices, plans.zeros):
        if text:
            display.say(text)
    for subject, text in plans.left_out.items():
        display.say(f"{subject}: {text}")


def loading(recipe: Recipe) -> str:
    """Say what is loaded before a run, for whoever waits for it."""
    path = recipe.data.options.get("path")
    return f"loading the data {recipe.data.name}{f' from {path}' if path else ''}"


def foresee(
    plans: Plans, *, runs: Path, workers: int | None = None, replicates: Sequence[int] | None = None
) -> Estimate:
    """Estimate what a run would still do, without beginning it: what its folder has is not done
    again.
    """
    keys = keys_of(plans.recipe, chosen_replicates(plans.recipe, replicates))
    path = folder_of(plans.recipe, runs)
    # The recipe may ask for more than when the run began.
    known = Run(path).going_on(plans.recipe) if is_run(path) else None
    todo = keys if known is None else _todo(known, keys)
    return estimate(plans, todo, _states(plans), known, _workers(plans.recipe, workers))


def outlook(plans: Plans, ahead: Estimate, runs: Path) -> dict[str, Any]:
    """Describe what a run would do, as plain data: what it is, its arms, its costs, and the cap of
    what can be pruned.
    """
    recipe = plans.recipe
    prunable = size(plans.mask) / plans.total
    time_needed = f"about {duration(ahead.seconds)}"
    if ahead.cut_short:
        time_needed += ", and more: not all of the run could be rehearsed"
    elif not ahead.bounded:
        time_needed += "; an accuracy stop may end it earlier"
    # The estimate knows only the arms that still have something to do.
    reached = ahead.rounds
    if reached.keys() != recipe.arms.keys():
        reached = rehearse(plans, [(name, 0) for name in recipe.arms], _states(plans)).rounds
    arms = []
    for name, arm in recipe.arms.items():
        # An arm is missing where the rehearsal was cut short before it.
        rounds, density = reached.get(name, (None, None))
        arms.append(
            {
                "name": name,
                "method": arm.method,
                "rounds": rounds,
                "density": density,
                "follows": arm.source,
            }
        )
    return {
        **facts(plans),
        "cap": f"{prunable:.2%} of all weights can be pruned",
        "trainings": ahead.counted,
        "compute": f"{ahead.examples:,} training examples, {ahead.flops:.3g} FLOP with all weights",
        "time": time_needed,
        "disk": f"about {in_bytes(ahead.bytes)}",
        "folder": str(folder_of(recipe, runs)),
        "arms": arms,
    }


def _workers(recipe: Recipe, workers: int | None, executor: str | None = None) -> int:
    if workers is None:
        return devices.workers(recipe.device, recipe.training.threads)
    # On the machines of an executor there may be room for more.
    if executor is None or workers < 1:
        devices.check_workers(workers)
    return workers


def _own_code(recipe: Recipe, run: Run) -> dict[str, str]:
    """Return the user's own functions that trainings call, with their files' digests."""
    own_code = dict(run.environments()[-1]["own_code"])
    # Data is sent to other machines, which need no code for it.
    own_code.pop(recipe.data.name, None)
    return own_code


def _search(
    plans: Plans,
    folder: RunFolder,
    make_pool: Callable[[], Pool],
    chosen: Sequence[int],
    display: Display,
) -> None:
    """Drive every arm of the chosen replicates that is not finished, all on one pool."""
    keys = keys_of(plans.recipe, chosen)
    todo = _todo(folder, keys)
    if not todo:
        folder.clear_trainings()
        display.say(f"nothing left to train: {folder.path} is complete")
        return
    with make_pool() as pool:
        _drive(plans, folder, pool, chosen, todo, display)
    if all(folder.finished(*key) for key in keys):
        folder.clear_trainings()


def _todo(run: Run, keys: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the arms and replicates that are to be driven, in the order of the keys."""
    todo = set()
    for name, replicate in keys:
        if run.finished(name, replicate):
            continue
        todo.add((name, replicate))
        # An arm that follows another one needs its rounds: one that is finished gives those of its
        # tickets.
        for source in _sources(run.recipe, name):
            todo.add((source, replicate))
    return [key for key in keys if key in todo]


def _drive(
    plans: Plans,
    folder: RunFolder,
    pool: Pool,
    chosen: Sequence[int],
    todo: Sequence[tuple[str, int]],
    display: Display,
) -> None:
    """Drive arms of replicates to their ends, a thread each."""
    initial = _initial_states(plans, {replicate for _, replicate in todo})
    shared = Shared(
        plans,
        pool,
        folder,
        display,
        origin=_origin(plans),
        initial=initial,
        flops=plans.flops(todo),
        feeds=feeds_of(plans.recipe.arms, todo),
        todo=todo,
        stopped=threading.Event(),
    )
    # Arms that are finished are not driven, and cannot say what they need themselves.
    pool.needs("the folder", folder.trainings_to_keep())
    display.start(plans.recipe.name, estimate(plans, todo, lambda _: initial, folder, pool.slots))
    # An arm's thread waits: for the pool, or for the arm that it follows. That one has begun before
    # it, so some of the arms at a time are enough, as long as they keep the workers busy.
    names = order(plans.recipe.arms)
    in_turn = sorted(todo, key=lambda key: (key[1], names.index(key[0])))
    most = min(len(todo), _ARMS_AT_A_TIME + 2 * pool.slots)
    threads = ThreadPoolExecutor(max_workers=most, thread_name_prefix="tombola-arm")
    try:
        running = {threads.submit(ArmRun(shared, *key).run) for key in in_turn}
        refreshed = _RefreshedReport(folder, chosen, display)
        while running:
            ended, running = wait(running, timeout=_REFRESH, return_when=FIRST_COMPLETED)
            # An arm notes its own errors. What is raised here, such as a full disk, ends the run.
            for arm in ended:
                arm.result()
            if running:
                refreshed.refresh()
    except BaseException:
        shared.stopped.set()
        # Before the arms hear of it: they must not begin anything more.
        pool.close(now=True)
        for feed in shared.feeds.values():
            feed.end("the run was stopped")
        raise
    finally:
        display.stop()
        threads.shutdown(wait=False, cancel_futures=True)


class _RefreshedReport:
    """The report of a run that is under way, written again when there are new results."""

    def __init__(self, folder: RunFolder, chosen: Sequence[int], display: Display) -> None:
        self.folder, self.chosen, self.display = folder, chosen, display
        self._results = len(folder.records)
        self._due = time.monotonic() + _FIRST_REPORT

    def refresh(self) -> None:
        """Write the report, unless it is too early or nothing is new."""
        began = time.monotonic()
        if began < self._due or len(self.folder.records) == self._results:
            return
        self._results = len(self.folder.records)
        try:
            report(self.folder, self.chosen, formats=(), under_way=True)
        except DiskError:
            raise
        except Exception as error:
            # What is being found is worth more than its picture.
            self.folder.log_error(f"report while running\n{traceback.format_exc()}")
            text = " ".join(str(error).split())
            self.display.say(
                f"no report while running: {type(error).__name__}: {text} (more in errors.log)"
            )
            self._due = math.inf
            return
        # So that reports take 2 % of the time at most.
        ended = time.monotonic()
        self._due = ended + max(_REFRESH, 50 * (ended - began))


def _initial_states(plans: Plans, replicates: Iterable[int]) -> dict[tuple[int, bool], State]:
    """Draw the initial states of the replicates, and those of re-initialised tickets where an arm
    needs them.
    """
    # All of them before the arms begin: torch's global generator, which initialisers draw from, is
    # not for threads.
    draws = {False} | {arm.draws_anew for arm in plans.recipe.arms.values()}
    states: dict[tuple[int, bool], State] = {}
    for replicate in replicates:
        for anew in draws:
            model = make_model(plans.recipe, plans.task, replicate, anew=anew)
            states[replicate, anew] = state_of(model)
    return states


def _states(plans: Plans) -> Callable[[Iterable[int]], dict[tuple[int, bool], State]]:
    return functools.partial(_initial_states, plans)


def _sources(recipe: Recipe, name: str) -> list[str]:
    """Return the arms that an arm follows, those that these follow, and so on."""
    sources: dict[str, None] = {}
    unseen = [name]
    while unseen:
        for _, source in recipe.arms[unseen.pop()].follows:
            sources[source] = None
            unseen.append(source)
    return list(sources)


def _origin(plans: Plans) -> dict[str, Any]:
    """Describe the origin of this run's tickets, as far as they share it."""
    recipe, task = plans.recipe, plans.task
    model = {
        "name": recipe.model.name,
        "options": recipe.model.options,
        "head": task.head,
        "init": recipe.model.init,
    }
    if recipe.model.mask is not None:
        model["mask"] = recipe.model.mask
    origin = {
        "model": model,
        "data": _data_origin(recipe, task),
        "training": plain(recipe.training),
        "prunable": recipe.prunable,
        "shared": shared_names(state_of(task.model)),
    }
    # What only some runs have to say is left out by the others.
    optional: dict[str, Any] = {
        "inputs": task.origin.get("inputs"),
        "task": None if recipe.task.name == catalogue.CLASSIFICATION else recipe.task.name,
        "task_options": recipe.task.options,
        "versions": noted_versions(task.model),
        "read_elsewhere": _read_elsewhere(plans),
        "unmasked": plans.unmasked,
    }
    for name, value in optional.items():
        if value:
            origin[name] = value
    return origin


def _read_elsewhere(plans: Plans) -> list[str]:
    """Name the weights that the model reads past their layers, see `read_elsewhere`."""
    task = plans.task
    # A training step of two examples: only the task knows how its model is run, and batch norm
    # takes no single one.
    few = Partition(examples=tuple(range(min(2, task.size(WHOLE, "train")))))
    batch = next(iter(task.batches(few, 2, 0).epoch(0)))
    model = task.build(task.initial_state(), WHOLE, 0)
    return read_elsewhere(model, plans.mask, lambda copy: task.loss(copy, batch))


def _data_origin(recipe: Recipe, task: Task) -> dict[str, Any]:
    """Describe the data that tickets are found on."""
    data: dict[str, Any] = {
        "name": recipe.data.name,
        "options": recipe.data.options,
        "valid": recipe.data.valid,
        "subset": recipe.data.subset,
        "augment": asdict(recipe.data.augment),
        "fingerprint": task.fingerprint,
        **task.origin.get("data", {}),
    }
    if recipe.data.classes is not None:
        data = {"class_numbers": None, **data, "classes": recipe.data.classes}
    if recipe.data.skew is not None:
        data["skew"] = asdict(recipe.data.skew)
    return data


def facts(plans: Plans) -> Mapping[str, str]:
    """Say in a few words what a run was, for the head of its page."""
    recipe, task = plans.recipe, plans.task
    train, valid, test = (task.size(WHOLE, split) for split in ("train", "valid", "test"))
    examples = f"{train:,} training, {valid:,} validation, {test:,} test examples"
    weights = f"{plans.total:,} weights, {size(plans.mask):,} of them prunable"
    facts = {
        "data": f"{recipe.data.name}: {examples}",
        "model": f"{recipe.model.name}: {weights} ({recipe.prunable})",
        "training": in_words(recipe.training),
        "rewind": f"step {recipe.rewind}",
        "replicates": replicates_in_words(recipe),
    }
    if plans.zeros:
        facts["weights"] = plans.zeros
    return facts | _left_out(recipe, task) | plans.left_out


def _left_out(recipe: Recipe, task: Task) -> dict[str, str]:
    """Say what of the data set no training sees."""
    facts = dict(task.facts)
    skew = recipe.data.skew
    if skew is not None:
        where = "" if skew.of == "all" else " of the search"
        facts["skew"] = (
            f"up to {percent(skew.most)} % of each class's training examples are missing{where}, "
            "drawn anew each replicate"
        )
    return facts
