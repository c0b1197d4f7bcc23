"""Transfer: train tickets on data sets and test them, on the data that they were found on or on
other data.

    ticket files x data sets -> task -> rewind, new head -> train -> test once -> record -> matrix

A head for other data is drawn from the replicate's seed and the number of classes, so it is equal
for all tickets of a replicate and their accuracies pair. The dense network that they are compared
with starts where they start.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tombola.data.loading import check_repeats
from tombola.data.partitions import WHOLE, skewed
from tombola.evidence.comparisons import DENSE
from tombola.executors import Pool
from tombola.experiments.progress import Display
from tombola.experiments.sources import Source, read_sources
from tombola.folder.environments import source_digest
from tombola.folder.locking import lock
from tombola.ground import catalogue, devices, extras, waiting
from tombola.ground.errors import ConfigError, InputError, TicketError
from tombola.ground.plain import plain
from tombola.ground.settings import Training, in_words
from tombola.masks.digests import digest_json
from tombola.masks.masks import count, density, from_zeros, head_weights, size, unmasked
from tombola.masks.states import state_of
from tombola.masks.weights import copied
from tombola.models.building import replace_head_
from tombola.records import seals
from tombola.records.layout import Layout
from tombola.records.records import Record, Records
from tombola.records.seals import Seals
from tombola.records.storage import Store
from tombola.reports import matrix
from tombola.schema.arms import check_name
from tombola.schema.recipe import FORMAT, section
from tombola.tasks._classification import Classification, classification
from tombola.tickets import Ticket
from tombola.training.jobs import Job, Measured, Trained
from tombola.training.loop import resolve_defaults


@dataclass(frozen=True)
class Outcome:
    """What a transfer left: its folder, its records, why some tickets could not be trained, and
    its pages.
    """

    folder: Path
    records: list[Record]
    failures: list[str]
    files: list[Path]


@dataclass(frozen=True)
class _Work:
    """What the trainings of one transfer share; what failed is added to ``failures``."""

    folder: Path
    records: Records
    changes: Mapping[str, Any]
    data_root: Path | None
    workers: int | None
    device: str
    display: Display
    failures: list[str]


def transfer(
    tickets: Sequence[Path],
    data: Sequence[str],
    changes: Mapping[str, Any] | None = None,
    *,
    model: str | None = None,
    dense: bool = False,
    name: str = "transfer",
    runs: Path = Path("runs"),
    data_root: Path | None = None,
    workers: int | None = None,
    device: str = "auto",
    display: Display | None = None,
) -> Outcome:
    """Train each ticket on each data set, test it once, and write the results; those that are there
    already are not computed again.

    Args:
        tickets: Ticket files.
        data: Names of data sets. The one that a ticket was found on is used as it was there.
        changes: What is other than the ticket says: ``training.*`` and ``data.*`` by their dotted
            names.
        model: ``package.module:function``, where the ticket names a function of the user's own: a
            ticket's name of code is never run. Also another architecture with the same weights.
        dense: Train the dense network too, once from each start and head that tickets have.
        name: Folder name prefix.
        runs: Parent of the folder.
        data_root: Root of the data sets.
        workers: Worker processes; one per core if not given.
        device: As in a recipe.
        display: Shows progress.

    Raises:
        InputError: A ticket, a data set or a setting is wrong; nothing was trained.
    """
    # Now, and not when all is trained.
    extras.require("report")
    display = display or Display(quiet=True)
    changes = dict(changes or {})
    if workers is not None:
        devices.check_workers(workers)
    check_name(name, "name", "the folder")
    for target in data:
        catalogue.entry("tombola.data", target)
    sources = read_sources(tickets, changes, model, dense=dense)
    has_own_code = model is not None and catalogue.is_own(model)
    # What makes it this transfer and no other: the folder is named after it. Of the user's own code
    # the source counts, as it may change under the same name.
    request = {
        "format": FORMAT,
        "tickets": [source.ticket.digest for source in sources],
        "data": list(data),
        "changes": changes,
        "model": model,
        "dense": dense,
        "device": devices.kind_of(device),
        "own_code": source_digest(model) if model is not None and has_own_code else None,
    }
    folder = runs / f"{name}-{digest_json(request)[:8]}"
    order: list[str] = []
    for target in data:
        order += [_record_name(source, target) for source in sources]
    with lock(folder):
        records = _records(folder, request, tickets, order, display)
        work = _Work(folder, records, changes, data_root, workers, device, display, [])
        for target in data:
            _train_on(target, sources, work)
        # Results are in the records; what was trained is needed no more.
        Store(Layout.of(folder).trainings).keep_only(())
        results = records.all()
        notes = [*work.failures]
        for record in results:
            notes += record["notes"]
        each_once = list(dict.fromkeys(notes))
        files = matrix.write(folder, name, results, each_once, _facts(results, changes))
    return Outcome(folder, results, work.failures, files)


def _record_name(source: Source, target: str) -> str:
    return f"{source.label} on {target}"


def _records(
    folder: Path,
    request: Mapping[str, Any],
    tickets: Sequence[Path],
    order: Sequence[str],
    display: Display,
) -> Records:
    """Say in the folder what the transfer is, and return its records, in the order of what was
    asked for.
    """
    layout = Layout.of(folder)
    path = layout.machine / "transfer.json"
    sealed = True
    if path.exists():
        known = Seals(folder, required=False).read_json(path)
        # Folders of earlier versions have no seals.
        sealed = isinstance(known, dict) and "seals" in known
        if sealed:
            Seals(folder).read_json(path)
        if not isinstance(known, dict) or not _is_same_request(known, request):
            raise ConfigError(f"'{path}' is that of another transfer; take another --name")
    new_seals = Seals(folder, digest_json(request))
    records = Records(layout.records, order=order, seals=replace(new_seals, required=sealed))
    if records.repaired:
        display.say("the last record was half written; its ticket is trained again")
    if not sealed:
        display.say(
            f"'{folder}' was made before files carried digests of their contents; from now on they "
            "do"
        )
        records.seal(new_seals)
    paths = [str(path) for path in tickets]
    Seals(folder).write_json(path, {**request, "paths": paths, "seals": seals.VERSION})
    return records


def _is_same_request(known: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    """Whether a folder was made for this request; it may say more."""
    # As JSON has it, which knows no tuples.
    as_written = json.loads(json.dumps(request))
    return all(known.get(key) == value for key, value in as_written.items())


def _facts(records: Sequence[Record], changes: Mapping[str, Any]) -> dict[str, str]:
    """Say in a few words what was trained and how, for the head of the page."""
    if not records:
        return {}
    tickets = {record["ticket"] for record in records} - {None}
    seeds = {record["seed"] for record in records}
    arms, trainings = [], []
    for record in records:
        if record["of"] != DENSE:
            arms.append(record["of"])
        trainings.append(in_words(section(Training, record["training"], "training")))
    changed = [f"{dotted} {value}" for dotted, value in changes.items()]
    return {
        "tickets": f"{len(tickets)}, of {_listed(arms)}",
        "found on": _listed(map(itemgetter("found_on"), records)),
        "trained on": _listed(map(itemgetter("data"), records)),
        "model": _listed(map(itemgetter("model"), records)),
        "training": _listed(trainings, "; "),
        "other than the tickets say": ", ".join(changed) or "nothing",
        "replicates": str(len(seeds)),
    }


def _listed(words: Iterable[str], separator: str = ", ") -> str:
    """Join words, each once."""
    return separator.join(dict.fromkeys(words))


def _train_on(target: str, sources: Sequence[Source], work: _Work) -> None:
    """Train all tickets on one data set, those of one model and one treatment of the data on
    one pool.
    """
    groups: dict[str, list[Source]] = {}
    # The seed of the recipe decides which examples are held back for validation.
    for source in sources:
        treated = source.on(target, work.changes)
        same_task = [asdict(treated.model), asdict(treated.data), treated.recipe_seed]
        groups.setdefault(digest_json(same_task), []).append(treated)
    for group in groups.values():
        first = group[0]
        make_task = functools.partial(
            classification,
            first.data,
            first.model,
            seed=first.recipe_seed,
            device=work.device,
            root=work.data_root,
        )
        try:
            with waiting.told(f"loading the data {target}", work.display.say):
                task = make_task()
                if catalogue.is_own(first.data.name):
                    check_repeats(first.data.name, task.fingerprint, make_task().fingerprint)
        except InputError as error:
            # Only if there is nothing to show: what was trained before has its table.
            if not work.records.all():
                raise
            work.failures.append(f"{target}: {error}")
            continue
        _check_data(work.records, target, task, work.folder)
        _train_group(target, group, task, make_task, work)


def _train_group(
    target: str,
    group: Sequence[Source],
    task: Classification,
    make_task: Callable[[], Classification],
    work: _Work,
) -> None:
    """Train the tickets that have no record yet, and write the record of each."""
    # All heads before anything trains: they are drawn from torch's global generator, which is
    # not for threads.
    jobs = []
    for source in group:
        name = _record_name(source, target)
        if work.records.get(name, source.replicate, source.round) is not None:
            continue
        try:
            jobs.append((source, *_job(source, task)))
        except InputError as error:
            work.failures.append(f"{source.name} on {target}: {error}")
    if not jobs:
        return
    with Pool(
        task,
        Layout.of(work.folder).trainings,
        workers=work.workers or devices.workers(work.device, group[0].training.threads),
        make_task=make_task,
        progress=work.display.progress,
        tell=work.display.say,
    ) as pool:
        under_way = []
        for source, job, notes in jobs:
            digest = pool.digest(job)
            work.display.label(digest, _record_name(source, target))
            # For all of them before any result is read: equal trainings of two tickets are one,
            # and the ticket that is recorded first must not drop it.
            pool.needs((source.label, source.path), [digest])
            under_way.append((source, job, notes, pool.evaluate(job)))
        for source, job, notes, promise in under_way:
            try:
                result = promise.result()
            except (InputError, RuntimeError) as error:
                work.failures.append(f"{source.name} on {target}: {error}")
                continue
            record = _record(source, target, job, notes, result, task)
            if work.records.add(record):
                work.display.result(record)
            pool.needs((source.label, source.path), [])


def _check_data(records: Records, target: str, task: Classification, folder: Path) -> None:
    """Refuse to go on with results of a data set that has changed since."""
    for record in records.all():
        if record["data"] == target and record["data_fingerprint"] != task.splits.fingerprint:
            raise ConfigError(
                f"the data '{target}' differs from what '{folder}' began with; take another --name"
            )


def _job(source: Source, task: Classification) -> tuple[Job, list[str]]:
    """Return the training of a ticket on a task, and what is to be noted of it.

    It starts from the ticket's rewind point, with a drawn head where the data is not its own.
    """
    origin = source.origin
    on_own_data = (
        task.splits.classes == origin.class_numbers
        and task.splits.fingerprint == origin.fingerprint
    )
    point = dict(source.ticket.rewind_point)
    mask = dict(source.ticket.mask)
    if source.dense:
        mask = {name: torch.ones_like(keep) for name, keep in mask.items()}
        if source.has_checkpoint_zeros:
            mask = from_zeros(point, mask)

    notes: list[str] = []
    model = copied(task.model)
    if not on_own_data:
        head_mask = _draw_head_(model, point, mask, source, task)
        if head_mask is not None and not source.dense:
            notes.append(
                "the head is drawn for the new data, so what the ticket pruned of its own head is "
                "not pruned"
            )
    # Refuses what does not fit, with the first name and shape.
    try:
        Ticket(mask, point, {}).apply(model)
    except TicketError as error:
        remedy = _remedy(point, model, task)
        raise ConfigError(f"{error}; {remedy}" if remedy else str(error)) from error

    part = WHOLE
    skew = source.data.skew
    if skew is not None and skew.of == "all":
        part = skewed(task.splits.train.labels, skew, source.seed)
    training = resolve_defaults(source.training, task.model, task.device.type)
    first_step = origin.rewind_step if on_own_data else 0
    return Job(point, mask, training, source.seed, part, first_step), notes


def _draw_head_(
    model: torch.nn.Module,
    point: dict[str, Tensor],
    mask: dict[str, Tensor],
    source: Source,
    task: Classification,
) -> Tensor | None:
    """Give model and rewind point a head for the task's classes, which no mask prunes.

    Returns:
        The mask that the ticket's own head had, if it had one.
    """
    assert task.head is not None
    (weight,) = head_weights(task.model, task.head)
    layer = weight.rpartition(".")[0]
    replace_head_(model, task.head, task.splits.num_classes, source.seed, init=source.model.init)
    for name, value in state_of(model).items():
        if name in point and name.rpartition(".")[0] == layer:
            point[name] = value
    return mask.pop(weight, None)


def _remedy(point: Mapping[str, Tensor], model: torch.nn.Module, task: Classification) -> str:
    """Say which images a ticket needs, where it is the images that it cannot take; else nothing."""
    # The first weight that does not fit: a convolution tells channels, a linear layer sizes.
    was: tuple[int, ...] = ()
    now: tuple[int, ...] = ()
    for name, value in state_of(model).items():
        if name in point and point[name].shape != value.shape:
            was, now = tuple(point[name].shape), tuple(value.shape)
            break
    images = " x ".join(map(str, task.splits.image_shape))
    if len(was) == 4 and (was[0], *was[2:]) == (now[0], *now[2:]):
        return (
            f"it takes images of {was[1]} channel{'s' * (was[1] != 1)}, and these are {images}; "
            "train it on images of as many channels, or find one on images like these"
        )
    if len(was) == 2 and was[0] == now[0]:
        return (
            f"a model that flattens its images takes one size, and these are {images}; a ticket of "
            "a model with global average pooling, such as conv3 or resnet20, takes any"
        )
    return ""


def _record(
    source: Source,
    target: str,
    job: Job,
    notes: list[str],
    result: tuple[Trained, Measured],
    task: Classification,
) -> dict[str, Any]:
    trained, measured = result
    # Entries that only some records have.
    optional: dict[str, Any] = {}
    if task.splits.classes:
        optional["classes"] = task.splits.num_classes
    without_mask = [name for name in unmasked(task.model) if name not in job.mask]
    if without_mask:
        optional["unmasked"] = without_mask
    return {
        "arm": _record_name(source, target),
        "of": source.arm,
        "control": source.is_control,
        "ticket": None if source.dense else source.ticket.digest,
        "ticket_path": str(source.path),
        "found_on": source.found_on,
        "model": source.model.name,
        "seed": source.seed,
        "data": target,
        "data_fingerprint": task.splits.fingerprint,
        **optional,
        "replicate": source.replicate,
        "round": source.round,
        "kept": count(job.mask),
        "prunable": size(job.mask),
        "density": density(job.mask),
        "mask_digest": job.mask_digest,
        "rewind_digest": job.start_digest,
        "evaluated": True,
        "test_accuracy": measured.test.values["accuracy"],
        "test_loss": measured.test.loss,
        "valid_accuracy": measured.valid and measured.valid.values["accuracy"],
        "valid_loss": measured.valid and measured.valid.loss,
        "train_accuracy": measured.train.values["accuracy"],
        "early_stop_step": trained.early_step,
        "selected": trained.select,
        "training": json.loads(json.dumps(plain(job.training))),
        "samples_seen": trained.samples,
        "seconds": trained.seconds,
        "round_seconds": trained.seconds,
        "invariant_seconds": 0.0,
        "notes": notes,
    }
