"""Transfer: train found tickets on data sets and test them; the same one is evaluation, another one transfer.

    ticket files x data sets -> task -> rewind, new head -> train -> test once -> record

Everything that is not said is taken from the ticket: model, training, what is held back for validation, augmentation. A
head for other data is drawn from the replicate's seed and the number of classes, so it is equal for all tickets of a
replicate and their accuracies pair.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from tombola import catalogue, devices
from tombola.digests import digest_json
from tombola.errors import ConfigError, InputError
from tombola.executors import Pool
from tombola.files import write_json, write_whole
from tombola.jobs import Job, Measured, Trained
from tombola.masks import count, density, head_weight, size
from tombola.models.building import TORCHVISION, replace_head_
from tombola.partitions import WHOLE, skewed
from tombola.plans import load_task
from tombola.progress import Display
from tombola.recipe import FORMAT, Data, Model, section, training_with
from tombola.records import Record, Records
from tombola.runs import lock, source_digest
from tombola.storage import Store
from tombola.task import Classification
from tombola.tickets import Ticket
from tombola.training import Training, settle


@dataclass(frozen=True)
class Outcome:
    """What a transfer left: its folder, its records, and why some tickets could not be trained."""

    folder: Path
    records: list[Record]
    failures: list[str]


@dataclass(frozen=True, eq=False)
class _Source:
    """A ticket to be trained, and what it says of itself."""

    path: Path
    ticket: Ticket
    model: Model
    data: Data
    training: Training
    seed: int
    label: str


def transfer(
    tickets: Sequence[Path],
    data: Sequence[str],
    changes: Mapping[str, Any] | None = None,
    *,
    model: str | None = None,
    name: str = "transfer",
    runs: Path = Path("runs"),
    data_root: Path | None = None,
    workers: int | None = None,
    device: str = "auto",
    display: Display | None = None,
) -> Outcome:
    """Train each ticket on each data set, test it once, and write what came out; what is there is not done again.

    Args:
        tickets: Ticket files.
        data: Names of data sets. That which a ticket was found on is taken as it was there.
        changes: What is other than the ticket says: ``training.*`` and ``data.*`` by their dotted names.
        model: ``package.module:function``, where the ticket names a function of the user's own: a ticket's name of
            code is never run. Also another architecture with the same weights.
        name: Begins the name of the folder.
        runs: Parent of the folder.
        data_root: Root of the data sets.
        workers: Worker processes; one a core if not given.
        device: As in a recipe.
        display: What is told meanwhile.

    Raises:
        InputError: A ticket, a data set or a setting is wrong; nothing was trained.
    """
    display = display or Display(quiet=True)
    changes = dict(changes or {})
    if workers is not None and workers < 1:
        raise ConfigError(f"workers is {workers}; it must be 1 or more")
    for target in data:
        catalogue.entry("tombola.data", target)
    sources = [_source(path, changes, model) for path in tickets]
    for index, one in enumerate(sources):
        if (one.label, _replicate(one)) in [(other.label, _replicate(other)) for other in sources[:index]]:
            sources[index] = replace(one, label=f"{one.label}-{(one.ticket.digest or '')[:8]}")
    said = {
        "format": FORMAT,
        "tickets": [source.ticket.digest for source in sources],
        "data": list(data),
        "changes": changes,
        "model": model,
        "device": devices.kind_of(device),
        "own_code": source_digest(model) if model is not None else None,
    }
    folder = runs / f"{name}-{digest_json(said)[:8]}"
    failures: list[str] = []
    with lock(folder):
        write_json(folder / "transfer.json", said | {"paths": [str(path) for path in tickets]})
        records = Records(folder / "records.jsonl")
        for target in data:
            _onto(target, sources, records, folder, changes, failures, data_root, workers, device, display)
        Store(folder / "trainings").keep_only(())
        write_whole(folder / "summary.md", markdown(records.all(), failures))
    return Outcome(folder, records.all(), failures)


def _source(path: Path, changes: Mapping[str, Any], model: str | None) -> _Source:
    """Read a ticket and what it says of its model, data and training."""
    ticket = Ticket.load(path)
    origin = ticket.origin
    try:
        said = {key: dict(origin[key]) for key in ("model", "data", "training")}
        seed = int(origin["seeds"]["replicate"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path} does not say what it was found with ({error}); transfer needs a ticket of a run"
        ) from error
    if model is None and ":" in said["model"]["name"] and not said["model"]["name"].startswith(TORCHVISION):
        raise ConfigError(f"{path} names the model '{said['model']['name']}', which is code of somebody's own and is "
                          "never run from a ticket; name it with --model")  # fmt: skip
    found = section(Model, {key: said["model"].get(key) for key in ("name", "options", "head", "init")}, "model")
    if model is not None:
        found = replace(found, name=model)
    own = {key.removeprefix("training."): value for key, value in changes.items() if key.startswith("training.")}
    training = training_with(section(Training, said["training"], "training"), own)
    keys = ("name", "options", "valid", "subset", "classes", "augment", "skew")
    of = section(Data, {key: said["data"][key] for key in keys if key in said["data"]}, "data")
    label = f"{origin.get('arm', path.stem)}-{origin.get('round', 0)}"
    return _Source(path, ticket, found, of, training, seed, label)


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
    """Train all tickets on one data set, those of one model and one treatment of the data on one pool."""
    groups: dict[str, list[_Source]] = {}
    for source in sources:
        treated = replace(source, data=_data(source, target, changes))
        alike = [asdict(treated.model), asdict(treated.data), _recipe_seed(treated)]
        groups.setdefault(digest_json(alike), []).append(treated)
    for group in groups.values():
        first = group[0]
        make = functools.partial(load_task, first.data, first.model, _recipe_seed(first), device, data_root)
        try:
            task = make()
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
        pool = Pool(task, folder / "trainings", workers=number, make_task=make, progress=display.progress)
        try:
            under_way = []
            for source in group:
                try:
                    job, notes = _job(source, task)
                except InputError as error:
                    failures.append(f"{source.path} on {target}: {error}")
                    continue
                display.label(pool.digest(job), f"{source.label} on {target}")
                under_way.append((source, job, notes, pool.evaluate(job)))
            for source, job, notes, future in under_way:
                try:
                    result = future.result()
                except (InputError, RuntimeError) as error:
                    failures.append(f"{source.path} on {target}: {error}")
                    continue
                record = _record(source, target, job, notes, result, task)
                if records.add(record):
                    display.result(record)
                pool.release([pool.digest(job)])
            pool.close()
        except BaseException:
            pool.close(now=True)
            raise


def _known(records: Records, source: _Source, target: str) -> Record | None:
    return records.get(f"{source.label} on {target}", _replicate(source), _round(source))


def _check_data(records: Records, target: str, task: Classification, folder: Path) -> None:
    """Refuse to go on with results of a data set that has changed since."""
    for record in records.all():
        if record["data"] == target and record["data_fingerprint"] != task.splits.fingerprint:
            raise ConfigError(f"the data '{target}' differs from what '{folder}' began with; take another --name")


def _data(source: _Source, target: str, changes: Mapping[str, Any]) -> Data:
    """Return how a target is treated: as the ticket's own data, but for what says which data these are."""
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
    """Return the training of a ticket on a task: its rewind point, with a drawn head where the data is not its own."""
    origin = source.ticket.origin
    numbers = origin["data"].get("class_numbers")
    alike = task.splits.classes == (None if numbers is None else tuple(numbers))
    own = alike and task.splits.fingerprint == origin["data"].get("fingerprint")
    point = dict(source.ticket.rewind_point)
    mask: dict[str, Tensor] = dict(source.ticket.mask)
    notes: list[str] = []
    assert task.head is not None
    weight = head_weight(task.model, task.head)
    at_head = [name for name in point if name.rpartition(".")[0] == weight.rpartition(".")[0]]
    model = copy.deepcopy(task.model)
    if not own:
        replace_head_(model, task.head, task.splits.num_classes, source.seed, init=source.model.init)
        point |= {name: value for name, value in model.state_dict().items() if name in at_head}
        if mask.pop(weight, None) is not None:
            notes.append("the head is drawn for the new data, so what the ticket pruned of its own head is not pruned")
    Ticket(mask, point, {}).apply(model)  # refuses what does not fit, with the first name and shape
    training = settle(source.training, task.model, task.device.type)
    first, skew = int(origin.get("rewind_step", 0)) if own else 0, source.data.skew
    skews = skew is not None and skew.of == "all"
    part = skewed(task.splits.train.labels, skew, source.seed) if skews else WHOLE
    return Job(point, mask, training, source.seed, part, first), notes


def _record(
    source: _Source, target: str, job: Job, notes: list[str], result: tuple[Trained, Measured], task: Classification
) -> dict[str, Any]:
    trained, measured = result
    return {
        "arm": f"{source.label} on {target}",
        "ticket": source.ticket.digest,
        "ticket_path": str(source.path),
        "found_on": source.ticket.origin["data"]["name"],
        "data": target,
        "data_fingerprint": task.splits.fingerprint,
        **({"classes": task.splits.num_classes} if task.splits.classes else {}),
        "replicate": _replicate(source),
        "round": _round(source),
        "kept": count(job.mask),
        "prunable": size(job.mask),
        "density": density(job.mask),
        "mask_digest": job.mask_digest,
        "rewind_digest": job.start_digest,
        "evaluated": True,
        "test_accuracy": measured.test.accuracy,
        "test_loss": measured.test.loss,
        "valid_accuracy": measured.valid and measured.valid.accuracy,
        "valid_loss": measured.valid and measured.valid.loss,
        "train_accuracy": measured.train.accuracy,
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
    return int(source.ticket.origin.get("replicate", 0))


def _round(source: _Source) -> int:
    return int(source.ticket.origin.get("round", 0))


def _recipe_seed(source: _Source) -> int:
    return int(source.ticket.origin["seeds"].get("recipe", 0))


def rows(records: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    """Return the transfer matrix as text: a row for each ticket, a column for each data set."""
    targets = list(dict.fromkeys(record["data"] for record in records))
    tickets = dict.fromkeys(
        (r["arm"].rpartition(" on ")[0], r["replicate"], r["density"], r["found_on"]) for r in records
    )
    cells = {(r["arm"], r["replicate"], r["density"]): f"{100 * r['test_accuracy']:.2f}" for r in records}
    found = [
        [label, str(replicate), f"{100 * kept:.2f}", home]
        + [cells.get((f"{label} on {target}", replicate, kept), "") for target in targets]
        for label, replicate, kept, home in tickets
    ]
    return ["ticket", "replicate", "density %", "found on", *targets], found


def markdown(records: Sequence[Record], failures: Sequence[str]) -> str:
    """Return the transfer matrix as Markdown: test accuracy in percent."""
    head, body = rows(records)
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---:" if i else ":---" for i in range(len(head))], *body)]
    text = "# Transfer: test accuracy in percent\n\n" + "\n".join(lines) + "\n"
    return text + ("\n" + "\n".join(f"- {failure}" for failure in failures) + "\n" if failures else "")
