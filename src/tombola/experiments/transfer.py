"""Transfer: train found tickets on data sets and test them; the same one is evaluation, another one
transfer.

    ticket files x data sets -> task -> rewind, new head -> train -> test once -> record -> matrix

Everything that is not said is taken from the ticket: model, training, what is held back for
validation, augmentation. A head for other data is drawn from the replicate's seed and the number of
classes, so it is equal for all tickets of a replicate and their accuracies pair. The unpruned
network that they are measured by starts where they start.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tombola import methods
from tombola.data.loading import check_repeats
from tombola.data.partitions import WHOLE, skewed
from tombola.evidence.comparisons import DENSE
from tombola.executors import Pool
from tombola.experiments.progress import Display
from tombola.folder.environments import source_digest
from tombola.folder.runs import lock
from tombola.ground import catalogue, devices, extras
from tombola.ground.errors import ConfigError, InputError, TicketError, shown
from tombola.ground.settings import Training, in_words, training_with
from tombola.masks.digests import digest_json
from tombola.masks.masks import count, density, from_zeros, head_weight, size, unmasked
from tombola.masks.states import state_of
from tombola.masks.weights import copied
from tombola.models.building import replace_head_
from tombola.records import seals
from tombola.records.best import check_untrained
from tombola.records.records import Record, Records
from tombola.records.seals import Seals
from tombola.records.storage import Store
from tombola.reports import matrix
from tombola.schema.arms import check_name
from tombola.schema.recipe import FORMAT, Data, Model, Origin, section
from tombola.tasks._classification import Classification, classification, options_of
from tombola.ticket_format import RewindPoint
from tombola.tickets import Ticket
from tombola.training.jobs import Job, Measured, Trained
from tombola.training.loop import settle


@dataclass(frozen=True)
class Outcome:
    """What a transfer left: its folder, its records, why some tickets could not be trained, and
    its pages.
    """

    folder: Path
    records: list[Record]
    failures: list[str]
    files: list[Path]


@dataclass(frozen=True, eq=False)
class _Source:
    """A ticket to be trained, and what it says of itself; a dense one stands for the network
    that it is part of.
    """

    path: Path
    ticket: Ticket
    origin: Origin
    model: Model
    data: Data
    training: Training
    label: str
    home: str
    dense: bool = False

    @property
    def seed(self) -> int:
        """The seed of its replicate."""
        return self.origin.seeds.replicate


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
    """Train each ticket on each data set, test it once, and write what came out; what is there is
    not done again.

    Args:
        tickets: Ticket files.
        data: Names of data sets. That which a ticket was found on is taken as it was there.
        changes: What is other than the ticket says: ``training.*`` and ``data.*`` by their dotted
            names.
        model: ``package.module:function``, where the ticket names a function of the user's own: a
            ticket's name of code is never run. Also another architecture with the same weights.
        dense: Train the unpruned network too, once from each start and head that tickets have.
        name: Begins the name of the folder.
        runs: Parent of the folder.
        data_root: Root of the data sets.
        workers: Worker processes; one a core if not given.
        device: As in a recipe.
        display: What is told meanwhile.

    Raises:
        InputError: A ticket, a data set or a setting is wrong; nothing was trained.
    """
    extras.require("report")  # now, and not when all is trained
    display = display or Display(quiet=True)
    changes = dict(changes or {})
    if workers is not None:
        devices.check_workers(workers)
    check_name(name, "name", "the folder")
    for target in data:
        catalogue.entry("tombola.data", target)
    points: dict[Path, RewindPoint] = {}  # the tickets of a run share theirs
    sources = [_source(path, changes, model, points) for path in tickets]
    points.clear()
    homes = {source.home for source in sources}
    sources = [replace(source, label=_from(source.label, source.home, homes)) for source in sources]
    sources = _told_apart(sources + (_unpruned(sources, homes) if dense else []))
    said = {
        "format": FORMAT,
        "tickets": [source.ticket.digest for source in sources],
        "data": list(data),
        "changes": changes,
        "model": model,
        "dense": dense,
        "device": devices.kind_of(device),
        "own_code": source_digest(model) if model is not None and catalogue.is_own(model) else None,
    }
    folder = runs / f"{name}-{digest_json(said)[:8]}"
    failures: list[str] = []
    with lock(folder):
        order = [f"{source.label} on {target}" for target in data for source in sources]
        records = _records(folder, said, tickets, order, display)
        for target in data:
            _onto(
                target,
                sources,
                records,
                folder,
                changes,
                failures,
                data_root,
                workers,
                device,
                display,
            )
        Store(folder / "trainings").keep_only(())
        found = records.all()
        notes = [*failures, *dict.fromkeys(note for record in found for note in record["notes"])]
        files = matrix.write(folder, name, found, notes, _facts(found, changes))
    return Outcome(folder, found, failures, files)


def _records(
    folder: Path,
    said: Mapping[str, Any],
    tickets: Sequence[Path],
    order: Sequence[str],
    display: Display,
) -> Records:
    """Say in the folder what the transfer is, and return its records, in the order of what was
    asked for.
    """
    path, sealed = folder / "transfer.json", True
    if path.exists():
        known = Seals(folder, required=False).read_json(path)
        sealed = isinstance(known, dict) and "seals" in known
        if sealed:
            Seals(folder).read_json(path)
        if not isinstance(known, dict) or {key: known.get(key) for key in said} != json.loads(
            json.dumps(said)
        ):
            raise ConfigError(f"'{path}' is that of another transfer; take another --name")
    now = Seals(folder, digest_json(said))
    records = Records(folder / "records.jsonl", order=order, seals=replace(now, required=sealed))
    if records.repaired:
        display.say("the last record was half written; its ticket is trained again")
    if not sealed:
        display.say(
            f"'{folder}' was made before files carried digests of their contents; from now on they "
            "do"
        )
        records.seal(now)
    paths = [str(path) for path in tickets]
    Seals(folder).write_json(path, {**said, "paths": paths, "seals": seals.VERSION})
    return records


def _from(label: str, home: str, homes: Collection[str]) -> str:
    """Say of a ticket where it was found, if not all were found there."""
    return f"{label} from {home}" if len(homes) > 1 else label


def _unpruned(sources: Sequence[_Source], homes: Collection[str]) -> list[_Source]:
    """Return the unpruned network of each start that tickets have."""
    starts: dict[str, _Source] = {}
    for one in sources:
        begun = _began_with_zeros(one)
        of = [
            one.ticket.rewind_digest,
            one.seed,
            one.home,
            asdict(one.model),
            asdict(one.training),
            begun,
        ]
        starts.setdefault(
            digest_json(of), replace(one, dense=True, label=_from(DENSE, one.home, homes))
        )
    return list(starts.values())


def _began_with_zeros(source: _Source) -> bool:
    """Whether a ticket's search began with the zeros of a checkpoint, which stay pruned."""
    return source.ticket.origin["model"].get("mask") is not None


def _told_apart(sources: Sequence[_Source]) -> list[_Source]:
    """Add to a label that two tickets of a replicate share what they are known by."""
    found: list[_Source] = []
    known: set[tuple[str, int]] = set()
    for one in sources:
        if (one.label, _replicate(one)) in known:
            digest = one.ticket.rewind_digest if one.dense else one.ticket.digest
            one = replace(one, label=f"{one.label}-{(digest or '')[:8]}")
        known.add((one.label, _replicate(one)))
        found.append(one)
    return found


def _facts(records: Sequence[Record], changes: Mapping[str, Any]) -> dict[str, str]:
    """Say in a few words what was trained and how, for the head of the page."""
    if not records:
        return {}
    tickets = {record["ticket"] for record in records if record["ticket"] is not None}
    trainings = [in_words(section(Training, record["training"], "training")) for record in records]
    replicates = len({record["seed"] for record in records})
    return {
        "tickets": f"{len(tickets)}, of "
        f"{', '.join(dict.fromkeys(r['of'] for r in records if r['of'] != DENSE))}",
        "found on": ", ".join(dict.fromkeys(record["found_on"] for record in records)),
        "trained on": ", ".join(dict.fromkeys(record["data"] for record in records)),
        "model": ", ".join(dict.fromkeys(record["model"] for record in records)),
        "training": "; ".join(dict.fromkeys(trainings)),
        "other than the tickets say": ", ".join(f"{key} {value}" for key, value in changes.items())
        or "nothing",
        "replicates": str(replicates),
    }


def _source(
    path: Path,
    changes: Mapping[str, Any],
    model: str | None,
    points: MutableMapping[Path, RewindPoint],
) -> _Source:
    """Read a ticket and what it says of its model, data and training."""
    ticket = Ticket.load(path, points)
    check_untrained(ticket, path)
    if (task := ticket.origin.get("task")) is not None:
        raise ConfigError(
            f"{path} was found on the task {shown(task)}; transfer trains tickets of classification"
        )
    origin = Origin.read(ticket.origin, str(path))
    if model is None and catalogue.is_own(origin.model.name):
        raise ConfigError(
            f"{path} names the model {shown(origin.model.name)}, which is code of somebody's own "
            "and is never run from a ticket; name it with --model"
        )
    found = origin.model if model is None else replace(origin.model, name=model)
    own = {
        key.removeprefix("training."): value
        for key, value in changes.items()
        if key.startswith("training.")
    }
    try:
        training = training_with(origin.training, own)
    except InputError as error:
        raise error if own else ConfigError(f"{path}: {error}") from error
    label = f"{origin.arm or path.stem}-{origin.round}"
    home = (
        origin.data.name
        if origin.class_numbers is None
        else f"{origin.data.name} ({origin.data.classes} classes)"
    )
    return _Source(path, ticket, origin, found, origin.data, training, label, home)


def _onto(
    target: str,
    sources: Sequence[_Source],
    records: Records,
    folder: Path,
    changes: Mapping[str, Any],
    failures: list[str],
    data_root: Path | None,
    workers: int | None,
    device: str,
    display: Display,
) -> None:
    """Train all tickets on one data set, those of one model and one treatment of the data on
    one pool.
    """
    groups: dict[str, list[_Source]] = {}
    for source in sources:
        treated = replace(source, data=_data(source, target, changes))
        alike = [asdict(treated.model), asdict(treated.data), _recipe_seed(treated)]
        groups.setdefault(digest_json(alike), []).append(treated)
    for group in groups.values():
        first = group[0]
        make = functools.partial(
            classification,
            first.data,
            first.model,
            seed=_recipe_seed(first),
            device=device,
            root=data_root,
        )
        try:
            task = make()
            check_repeats(
                first.data.name, task.fingerprint, root=data_root, options=options_of(first.data)
            )
        except InputError as error:
            if not records.all():
                raise
            failures.append(f"{target}: {error}")  # what was trained before is worth its table
            continue
        _check_data(records, target, task, folder)
        group = [source for source in group if _known(records, source, target) is None]
        if not group:
            continue
        number = workers or devices.workers(device, first.training.threads)
        # All heads before anything trains: they are drawn from torch's global generator, which is
        # not for threads.
        jobs = []
        for source in group:
            try:
                jobs.append((source, *_job(source, task)))
            except InputError as error:
                failures.append(f"{_which(source)} on {target}: {error}")
        with Pool(task, folder / "trainings", workers=number, make_task=make, progress=display.progress,
                  tell=display.say) as pool:  # fmt: skip
            under_way = []
            for source, job, notes in jobs:
                display.label(pool.digest(job), f"{source.label} on {target}")
                pool.needs((source.label, source.path), [pool.digest(job)])
                under_way.append((source, job, notes, pool.evaluate(job)))
            for source, job, notes, future in under_way:
                try:
                    result = future.result()
                except (InputError, RuntimeError) as error:
                    failures.append(f"{_which(source)} on {target}: {error}")
                    continue
                record = _record(source, target, job, notes, result, task)
                if records.add(record):
                    display.result(record)
                pool.needs((source.label, source.path), [])


def _which(source: _Source) -> str:
    return f"{source.label} of {source.path}" if source.dense else str(source.path)


def _known(records: Records, source: _Source, target: str) -> Record | None:
    return records.get(f"{source.label} on {target}", _replicate(source), _round(source))


def _check_data(records: Records, target: str, task: Classification, folder: Path) -> None:
    """Refuse to go on with results of a data set that has changed since."""
    for record in records.all():
        if record["data"] == target and record["data_fingerprint"] != task.splits.fingerprint:
            raise ConfigError(
                f"the data '{target}' differs from what '{folder}' began with; take another --name"
            )


def _data(source: _Source, target: str, changes: Mapping[str, Any]) -> Data:
    """Return how a target is treated: as the ticket's own data, but for what says which data
    these are.
    """
    given = asdict(source.data)
    if target != source.data.name:
        given |= {"name": target, "options": {}, "classes": None, "skew": None}
    for dotted, value in changes.items():
        if dotted.startswith("data."):
            key, _, inner = dotted.removeprefix("data.").partition(".")
            if inner and key in given and isinstance(given[key], dict | None):
                given[key] = (given[key] or {}) | {inner: value}
            elif key in given:
                given[key] = value
            else:
                given["options"] = given["options"] | {key: value}
    return section(Data, given, "data")


def _job(source: _Source, task: Classification) -> tuple[Job, list[str]]:
    """Return the training of a ticket on a task: its rewind point, with a drawn head where the
    data is not its own.
    """
    origin = source.origin
    own = (
        task.splits.classes == origin.class_numbers
        and task.splits.fingerprint == origin.fingerprint
    )
    point = dict(source.ticket.rewind_point)
    kept = source.ticket.mask
    mask = {name: torch.ones_like(keep) if source.dense else keep for name, keep in kept.items()}
    if source.dense and _began_with_zeros(source):
        mask = from_zeros(point, mask)
    notes: list[str] = []
    assert task.head is not None
    weight = head_weight(task.model, task.head)
    at_head = [name for name in point if name.rpartition(".")[0] == weight.rpartition(".")[0]]
    model = copied(task.model)
    if not own:
        replace_head_(
            model, task.head, task.splits.num_classes, source.seed, init=source.model.init
        )
        point |= {name: value for name, value in state_of(model).items() if name in at_head}
        if mask.pop(weight, None) is not None and not source.dense:
            notes.append(
                "the head is drawn for the new data, so what the ticket pruned of its own head is "
                "not pruned"
            )
    try:
        # refuses what does not fit, with the first name and shape
        Ticket(mask, point, {}).apply(model)
    except TicketError as error:
        raise ConfigError(
            "; ".join(filter(None, [str(error), _remedy(point, model, task)]))
        ) from error
    training = settle(source.training, task.model, task.device.type)
    first, skew = origin.rewind_step if own else 0, source.data.skew
    part = WHOLE
    if skew is not None and skew.of == "all":
        part = skewed(task.splits.train.labels, skew, source.seed)
    return Job(point, mask, training, source.seed, part, first), notes


def _remedy(point: Mapping[str, Tensor], model: torch.nn.Module, task: Classification) -> str:
    """Say what of the images a ticket cannot take, and what could; nothing where it is not the
    images.
    """
    shapes = (
        (point[name].shape, value.shape) for name, value in state_of(model).items() if name in point
    )
    none: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    was, now = next(((tuple(one), tuple(two)) for one, two in shapes if one != two), none)
    seen = " x ".join(map(str, task.splits.image_shape))
    if len(was) == 4 and (was[0], *was[2:]) == (now[0], *now[2:]):
        return (
            f"it takes images of {was[1]} channel{'s' * (was[1] != 1)}, and these are {seen}; "
            "train it on images of as many channels, or find one on images like these"
        )
    if len(was) == 2 and was[0] == now[0]:
        return (
            f"a model that flattens its images takes one size, and these are {seen}; a ticket of a "
            "model with global average pooling, such as conv3 or resnet20, takes any"
        )
    return ""


def _record(
    source: _Source,
    target: str,
    job: Job,
    notes: list[str],
    result: tuple[Trained, Measured],
    task: Classification,
) -> dict[str, Any]:
    trained, measured = result
    return {
        "arm": f"{source.label} on {target}",
        "of": _arm(source),
        "control": not source.dense and _is_control(source),
        "ticket": None if source.dense else source.ticket.digest,
        "ticket_path": str(source.path),
        "found_on": source.home,
        "model": source.model.name,
        "seed": source.seed,
        "data": target,
        "data_fingerprint": task.splits.fingerprint,
        **({"classes": task.splits.num_classes} if task.splits.classes else {}),
        **(
            {"unmasked": left}
            if (left := [name for name in unmasked(task.model) if name not in job.mask])
            else {}
        ),
        "replicate": _replicate(source),
        "round": _round(source),
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
        "training": json.loads(json.dumps(asdict(job.training))),
        "samples_seen": trained.samples,
        "seconds": trained.seconds,
        "round_seconds": trained.seconds,
        "invariant_seconds": 0.0,
        "notes": notes,
    }


def _replicate(source: _Source) -> int:
    return source.origin.replicate


def _round(source: _Source) -> int:
    return 0 if source.dense else source.origin.round


def _arm(source: _Source) -> str:
    return DENSE if source.dense else source.origin.arm or source.path.stem


def _is_control(source: _Source) -> bool:
    """Whether a ticket says of itself that it is a control's; its word for the method runs no
    code.
    """
    method = methods.shipped(source.origin.method or "")
    return method is not None and method.control


def _recipe_seed(source: _Source) -> int:
    return source.origin.seeds.recipe
