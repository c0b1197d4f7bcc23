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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from tombola.data.partitions import WHOLE
from tombola.evidence.answers import Evidence
from tombola.evidence.comparisons import DENSE
from tombola.executors import Pool
from tombola.experiments import latency
from tombola.experiments.driver import ArmRun, Shared
from tombola.experiments.estimate import Estimate
from tombola.experiments.feeds import feeds_of
from tombola.experiments.plans import Plans, check_seeded, make_model, make_task, resolve_defaults
from tombola.experiments.progress import Display, duration, in_bytes
from tombola.experiments.rehearsal import estimate, rehearse
from tombola.exports.reading import read_elsewhere
from tombola.folder import similarity, weight_histograms
from tombola.folder.identity import folder_of
from tombola.folder.run_folder import RunFolder
from tombola.folder.runs import Run
from tombola.ground import catalogue, devices, extras, waiting
from tombola.ground.errors import ConfigError, DiskError, InputError
from tombola.ground.notebooks import card, one_line
from tombola.ground.settings import in_words
from tombola.ground.types import State
from tombola.masks.states import noted_versions, shared_names, state_of
from tombola.records import choosing
from tombola.records.layout import is_run
from tombola.records.results import Record, Selected
from tombola.reports import page
from tombola.reports.decisions import Asked, sentences, verdicts
from tombola.reports.grids import percent
from tombola.reports.paper import printed
from tombola.schema.arms import order
from tombola.schema.recipe import CLASSIFICATION, Recipe, without_arms
from tombola.tasks._classification import UNVERIFIED
from tombola.tasks.protocol import Task, check_task

# Seconds between two reports of a run that is under way, at least, and before the first one:
# reports take 2 % of the time at most.
_REFRESH, _FIRST_REPORT = 60.0, 180.0
_ARMS_AT_A_TIME = 32  # that are driven, and two more for each worker
_MOST_DRAWN = 3  # arms of which the report draws what they prune


@dataclass(frozen=True)
class Outcome:
    """What a run left.

    Attributes:
        folder: The run folder.
        records: All results of the recipe's arms and replicates.
        notes: How arms ended that did not simply reach their goal, and what a reader must know.
        complete: Whether every arm of every replicate finished.
        files: Tables, figures and the page.
        asked: What the report decides.
    """

    folder: Path
    records: list[Record]
    notes: list[str]
    complete: bool
    files: list[Path]
    asked: Asked

    def __repr__(self) -> str:
        return one_line("Outcome", str(self.folder), f"{len(self.records)} results", self._state)

    def _repr_html_(self) -> str:
        said = sentences(self.records, self.asked)
        facts = {"results": str(len(self.records)), "state": self._state}
        page_of = str(self.files[-1] if self.files else self.folder)
        return card(said[0] if said else self.folder.name, facts, page_of)

    @property
    def _state(self) -> str:
        return "complete" if self.complete else "not complete"


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
    extras.require("report")  # now, and not when all is trained
    display = display or Display()
    data_root = None if data_root is None else Path(data_root)
    with waiting.told(loading(recipe), display.say):
        plans = plan(recipe, data_root)
        fingerprint = plans.task.fingerprint  # all of the data is gone through
    room = _workers(plans.recipe, workers, executor)
    chosen = _chosen(recipe, replicates)
    for text in (*plans.task.notices, plans.zeros):
        if text:
            display.say(text)
    for word, text in plans.left_out.items():
        display.say(f"{word}: {text}")
    metrics = plans.task.metrics
    display.metric = metrics[0]
    folder = RunFolder(plans.recipe, Path(runs), fingerprint, facts(plans), display.say, metrics)
    try:
        labels = plans.task.labels("test")
        if labels is not None:
            folder.keep_labels(labels.cpu().numpy())
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
    if catalogue.is_own(recipe.task):
        check_task(task, recipe.task)
    check_seeded(recipe, task, data_root)
    return Plans.of(resolve_defaults(recipe, task), task)


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
    keys = _keys(plans.recipe, _chosen(plans.recipe, replicates))
    path = folder_of(plans.recipe, runs)
    known = Run(path).going_on(plans.recipe) if is_run(path) else None
    todo = keys if known is None else _todo(known, keys)
    return estimate(plans, todo, _states(plans), known, _workers(plans.recipe, workers))


def _keys(recipe: Recipe, replicates: Iterable[int]) -> list[tuple[str, int]]:
    """Return every arm of the replicates, replicate by replicate."""
    keys = []
    for replicate in replicates:
        keys += [(name, replicate) for name in recipe.arms]
    return keys


def outlook(plans: Plans, ahead: Estimate, runs: Path) -> dict[str, Any]:
    """Describe what a run would do, as plain data: what it is, its arms, its costs, and the cap of
    what can be pruned.
    """
    recipe = plans.recipe
    prunable = sum(mask.numel() for mask in plans.mask.values()) / plans.total
    time_needed = f"about {duration(ahead.seconds)}"
    if not ahead.bounded:
        time_needed += "; an accuracy stop may end it earlier"
    reached = ahead.rounds
    if reached.keys() != recipe.arms.keys():  # of arms that are finished, too
        reached = rehearse(plans, [(name, 0) for name in recipe.arms], _states(plans)).rounds
    arms = []
    for name, arm in recipe.arms.items():
        rounds, density = reached[name]
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
    if executor is None or workers < 1:  # on other machines there may be more of them
        devices.check_workers(workers)
    return workers


def _own_code(recipe: Recipe, run: Run) -> dict[str, str]:
    """Return the user's own functions that trainings call, with their files' digests; data sets
    are sent along.
    """
    own = run.environments()[-1]["own_code"]
    return {name: digest for name, digest in own.items() if name != recipe.data.name}


def _chosen(recipe: Recipe, replicates: Sequence[int] | None) -> list[int]:
    if replicates is None:
        return list(range(recipe.replicates))
    outside = [k for k in replicates if not 0 <= k < recipe.replicates]
    if outside or not replicates:
        asked_for = f"is {outside[0]}" if outside else "are none"
        raise ConfigError(
            f"replicates are numbered from 0 to {recipe.replicates - 1}; asked for {asked_for}"
        )
    return sorted(set(replicates))


def _search(
    plans: Plans,
    folder: RunFolder,
    make_pool: Callable[[], Pool],
    chosen: Sequence[int],
    display: Display,
) -> None:
    """Drive every arm of the chosen replicates that is not finished, all on one pool."""
    keys = _keys(plans.recipe, chosen)
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
    todo = {key for key in keys if not run.finished(*key)}
    # An arm that follows another one needs its rounds: one that is finished gives those of its
    # tickets.
    for name, replicate in list(todo):
        todo |= {(source, replicate) for source in _sources(run.recipe, name)}
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
    pool.needs("the folder", folder.trainings_to_keep())  # of arms that are finished, too
    display.start(plans.recipe.name, estimate(plans, todo, lambda _: initial, folder, pool.slots))
    # An arm's thread waits: for the pool, or for the arm that it follows. That one has begun before
    # it, so some of the arms at a time are enough, as long as they keep the workers busy.
    first = {name: place for place, name in enumerate(order(plans.recipe.arms))}
    in_turn = sorted(todo, key=lambda key: (key[1], first[key[0]]))
    most = min(len(todo), _ARMS_AT_A_TIME + 2 * pool.slots)
    threads = ThreadPoolExecutor(max_workers=most, thread_name_prefix="tombola-arm")
    try:
        running = {threads.submit(ArmRun(shared, *key).run) for key in in_turn}
        refreshed = _RefreshedReport(folder, chosen, display)
        while running:
            ended, running = wait(running, timeout=_REFRESH, return_when=FIRST_COMPLETED)
            for arm in ended:
                arm.result()
            if running:
                refreshed.refresh()
    except BaseException:
        shared.stopped.set()
        pool.close(now=True)  # before the arms hear of it: they must not begin anything more
        for feed in shared.feeds.values():
            feed.end("the run was stopped")
        raise
    finally:
        display.stop()
        threads.shutdown(wait=False, cancel_futures=True)


class _RefreshedReport:
    """The report of a run that is under way, written again when there are new results, in 2 %
    of the time at most.
    """

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
        except Exception as error:  # what is being found is worth more than its picture
            self.folder.log_error(f"report while running\n{traceback.format_exc()}")
            text = " ".join(str(error).split())
            self.display.say(
                f"no report while running: {type(error).__name__}: {text} (more in errors.log)"
            )
            self._due = math.inf
            return
        self._due = time.monotonic() + max(_REFRESH, 50 * (time.monotonic() - began))


def _initial_states(plans: Plans, replicates: Iterable[int]) -> dict[tuple[int, bool], State]:
    """Draw the initial states of the replicates, and those of re-initialised tickets where an arm
    needs them.

    All of them before the arms begin: torch's global generator, which initialisers draw from, is
    not for threads.
    """
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
    """Return the arm that an arm follows, the one that this one follows, and so on."""
    source = recipe.arms[name].source
    return [source, *_sources(recipe, source)] if source else []


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
        model |= {"mask": recipe.model.mask}
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
        data |= {"skew": asdict(recipe.data.skew)}
    # What only some runs have to say is left out by the others.
    optional: dict[str, Any] = {
        "task": None if recipe.task == CLASSIFICATION else recipe.task,
        "versions": noted_versions(task.model),
        "read_elsewhere": read_elsewhere(task.model, plans.mask, task.probe(2, 0)),
        "unmasked": plans.unmasked,
    }
    inputs = task.origin.get("inputs")
    return {
        "model": model,
        "data": data,
        **({"inputs": inputs} if inputs else {}),
        "training": asdict(recipe.training),
        "prunable": recipe.prunable,
        "shared": shared_names(state_of(task.model)),
        **{name: value for name, value in optional.items() if value},
    }


def report(
    run: Run,
    replicates: Sequence[int] | None = None,
    formats: Sequence[page.Format] = ("svg", "png"),
    *,
    under_way: bool = False,
    sections: Sequence[str] = (),
) -> Outcome:
    """Write the tables, figures and page of a run folder from what it holds.

    Args:
        run: The folder.
        replicates: The report says whether these are complete; all of the recipe's if not given.
        formats: Of the figures' own files: "svg", "png", "pdf".
        under_way: The run goes on meanwhile: one line says how far it is.
        sections: Of the user's own, each as ``package.module:Name``; the page has them in a fold of
            their own.
    """
    recipe = run.recipe
    chosen = _chosen(recipe, replicates)
    keys = [(name, replicate) for name in recipe.arms for replicate in range(recipe.replicates)]
    records: list[Record] = []
    for key in keys:
        records += run.records.of(*key)
    endings = {key: run.ending(*key) for key in keys}
    notes = [_under_way(run, chosen)] if under_way else _endings_in_words(run, chosen)
    notes += _caveats(recipe, records, chosen) + run.notes
    complete = all(run.finished(name, replicate) for name, replicate in keys if replicate in chosen)
    # A merged run has more replicates than the one that its facts were written for.
    facts_of_all = dict(run.facts)
    if facts_of_all:
        facts_of_all["replicates"] = _replicates(recipe)
    making = page.Making(
        _command(recipe, run.path),
        yaml.safe_dump(run.own_recipe.to_dict(), sort_keys=False),
        run.environments(),
    )
    decided = replace(asked(recipe, _right(run)), metric=run.metrics[0])
    drawn = [name for name in recipe.arms if name in decided.drawn][:_MOST_DRAWN]
    pruned: list[dict[str, Any]] = []
    if not under_way:  # else trainings come and go meanwhile
        pruned = weight_histograms.histogram(run, drawn, notes.append)
    collapsed = {}
    for key, ending in endings.items():
        if ending.collapsed is not None:
            collapsed[key] = ending.collapsed
    decided = replace(
        decided,
        pruned=pruned,
        similar=tuple(similarity.ordered(run.similarities(), recipe.arms)),
        latency=run.latency(),
        collapsed=collapsed,
    )
    files: list[Path] = []
    if records:
        files = page.write(
            run.path,
            recipe.name,
            records,
            notes,
            facts_of_all,
            decided,
            making,
            formats,
            _best_ticket(run, decided),
            sections,
        )
    return Outcome(run.path, records, notes, complete, files, decided)


def _best_ticket(run: Run, asked: Asked) -> page.BestTicket | None:
    """Return the ticket to take away: the best on validation data, of the arm and at the density of
    the sparsest winning ticket if one wins; ``None`` where its file is not there.
    """
    records = run.records.all()
    winning = [one for one in verdicts(Evidence.of(records), asked) if one.word == "winning"]
    at = min((one.density for one in winning), default=None)
    arms = [one.arm for one in winning if one.density == at] or list(asked.drawn)
    try:
        record = choosing.best(records, arms=arms, at=at, metric=asked.metric)
    except InputError:  # no such ticket was evaluated on validation data
        return None
    path = run.ticket_path(record["arm"], record["replicate"], record["round"])
    if not path.is_file():
        return None
    value = record[asked.metric.test]
    return page.BestTicket(path.relative_to(run.path).as_posix(), record["density"], value)


def _endings_in_words(run: Run, chosen: Sequence[int]) -> list[str]:
    """Say which arms did not simply reach their goal."""
    notes = []
    for name, arm in run.recipe.arms.items():
        for replicate in range(run.recipe.replicates):
            title = f"arm {name}, replicate {replicate}"
            ending = run.ending(name, replicate)
            records = run.records.of(name, replicate)
            finished = ending.state == "finished"
            if (not finished or ending.why) and (replicate in chosen or records):
                notes.append(f"{title}: {ending.state}{': ' if ending.why else ''}{ending.why}")
            if finished and not run.finished(name, replicate):
                notes.append(
                    f"{title}: not complete: it ended by another until or evaluate_at, or a ticket "
                    "is missing; running the recipe again completes it"
                )
            last = records[-1]["round"] if records else 0
            if finished and arm.has_tickets and last > ending.rounds:
                notes.append(
                    f"{title}: the recipe now ends with round {ending.rounds}; rounds up to {last} "
                    "are here from before"
                )
    return notes


def _caveats(recipe: Recipe, records: Sequence[Record], chosen: Sequence[int]) -> list[str]:
    """Say what a reader of the results must know."""
    notes = []
    present = {record["replicate"] for record in records}
    elsewhere = [str(k) for k in range(recipe.replicates) if k not in chosen and k not in present]
    if elsewhere:
        notes.append(f"replicates that are not here: {', '.join(elsewhere)}")
    selections = [Selected.of(record["selected"]) for record in records]
    if any(selected and selected.on == "nothing" for selected in selections):
        notes.append("selected without validation data (data.valid: 0)")
    if recipe.profile is not None:
        for rule in recipe.profile.lifted:
            notes.append(f"profile {recipe.profile.name} gives up: {rule}")
    if recipe.data.options.get("verify") is False:
        notes.append(UNVERIFIED)
    return notes


def _under_way(run: Run, chosen: Sequence[int]) -> str:
    """Say how far a run is."""
    keys = _keys(run.recipe, chosen)
    ended = sum(run.ending(*key).state != "open" for key in keys)
    return (
        f"the run is under way: {ended} of {len(keys)} arms x replicates are finished, "
        f"{len(run.records)} results"
    )


def _right(run: Run) -> dict[tuple[str, int, int], NDArray[np.bool_]]:
    """Return whether each test example was predicted right, by arm, replicate and round; round
    0 is dense's too.
    """
    labels, predicted = run.tested()
    if labels is None:
        return {}
    right: dict[tuple[str, int, int], NDArray[np.bool_]] = {}
    for key, predictions in predicted.items():
        arm, replicate_name, round_name = key.split("/")
        replicate = int(replicate_name.removeprefix("replicate-"))
        index = int(round_name.removeprefix("round-"))
        right[arm, replicate, index] = predictions == labels
        if index == 0:
            right.setdefault((DENSE, replicate, 0), right[arm, replicate, 0])
    return right


def asked(
    recipe: Recipe, right: Mapping[tuple[str, int, int], NDArray[np.bool_]] | None = None
) -> Asked:
    """Return what the report of a recipe is to decide: each arm against the dense network and what
    follows it.

    Args:
        recipe: The recipe.
        right: By arm, replicate and round, whether each test example was predicted right.
    """
    arms = recipe.arms
    searching = [name for name, arm in arms.items() if arm.searches and arm.source is None]
    # Every arm, also a control or a network that was trained longer, is compared with the dense
    # network; then each with the arm that it follows, and all searches with the first.
    pairs = [(name, DENSE) for name in arms if name != DENSE]
    controls: dict[str, list[str]] = {name: [] for name, arm in arms.items() if arm.searches}
    made_of: dict[str, str] = {}
    for name, arm in arms.items():
        if arm.source and arm.compared:
            pairs.append((arm.source, name))
            if arm.control and arm.source in controls:
                controls[arm.source].append(name)
        if arm.followed and arm.followed[0] in ("source", "of"):
            made_of[name] = arm.followed[1]
    pairs += [(name, searching[0]) for name in searching[1:]]
    matched = {}
    for name in arms:
        matched[name] = tuple(other for other in arms if arms[other].followed == ("match", name))
    return Asked(
        pairs=tuple(dict.fromkeys(pairs)),
        controls={name: tuple(followers) for name, followers in controls.items()},
        matched=matched,
        made_of=made_of,
        networks=frozenset(name for name, arm in arms.items() if arm.network),
        independent_partitions=frozenset(
            name for name, arm in arms.items() if arm.independent_partitions
        ),
        drawn=frozenset(searching),
        at=recipe.compared_at,
        margin=recipe.verdict.margin,
        steps=recipe.verdict.steps,
        alpha=recipe.verdict.alpha,
        right=right or {},
        printed=printed(recipe.name, recipe.data.name, recipe.model.name),
    )


def _command(recipe: Recipe, folder: Path) -> str:
    """Return the command that reproduces a run from its own folder, where the recipe has every
    default.
    """
    command = f"tombola run {folder.name}/recipe.yaml --runs again"
    return f"{command}  # {recipe.replicates} replicates, seed {recipe.seed}"


def _replicates(recipe: Recipe) -> str:
    return f"{recipe.replicates}, from seed {recipe.seed}"


def facts(plans: Plans) -> Mapping[str, str]:
    """Say in a few words what a run was, for the head of its page."""
    recipe, task = plans.recipe, plans.task
    train, valid, test = (f"{task.size(WHOLE, split):,}" for split in ("train", "valid", "test"))
    prunable = sum(mask.numel() for mask in plans.mask.values())
    facts = {
        "data": f"{recipe.data.name}: {train} training, {valid} validation, {test} test examples",
        "model": f"{recipe.model.name}: {plans.total:,} weights, {prunable:,} of them prunable "
        f"({recipe.prunable})",
        "training": in_words(recipe.training),
        "rewind": f"step {recipe.rewind}",
        "replicates": _replicates(recipe),
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
