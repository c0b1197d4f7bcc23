"""Sources: the tickets that a transfer trains, and what they say of themselves.

    ticket files, changes -> [ read_sources ] -> model, data, training of each -> transfer

Everything that is not given is taken from the ticket: model, training, what is held back for
validation, augmentation.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tombola import methods
from tombola.evidence.comparisons import DENSE
from tombola.ground import catalogue
from tombola.ground.errors import ConfigError, InputError, shown
from tombola.ground.settings import Training, training_with
from tombola.masks.digests import digest_json
from tombola.records.best import check_untrained
from tombola.schema.origin import Origin
from tombola.schema.recipe import Data, Model, section
from tombola.ticket_format import RewindPoint
from tombola.tickets import Ticket


@dataclass(frozen=True, eq=False)
class Source:
    """A ticket to be trained, or the dense network that it is part of.

    Attributes:
        path: The ticket's file.
        ticket: What the file holds.
        origin: What the ticket says of how it was found.
        model: What is trained.
        data: How the data is treated.
        training: How it is trained.
        label: What it is called in records and tables.
        found_on: The data that it was found on, in words.
        dense: Whether the dense network is trained instead of the ticket.
    """

    path: Path
    ticket: Ticket
    origin: Origin
    model: Model
    data: Data
    training: Training
    label: str
    found_on: str
    dense: bool = False

    @property
    def seed(self) -> int:
        """The seed of its replicate."""
        return self.origin.seeds.replicate

    @property
    def recipe_seed(self) -> int:
        """The seed of its recipe."""
        return self.origin.seeds.recipe

    @property
    def replicate(self) -> int:
        """The replicate that it was found in."""
        return self.origin.replicate

    @property
    def round(self) -> int:
        """The round that it was found in; 0 for the dense network."""
        return 0 if self.dense else self.origin.round

    @property
    def arm(self) -> str:
        """The arm that found it."""
        return DENSE if self.dense else self.origin.arm or self.path.stem

    @property
    def is_control(self) -> bool:
        """Whether a ticket says that it is a control's; its word for the method runs no code."""
        method = methods.shipped(self.origin.method or "")
        return not self.dense and method is not None and method.control

    @property
    def has_checkpoint_zeros(self) -> bool:
        """Whether its search began with the zeros of a checkpoint, which stay pruned."""
        return self.ticket.origin["model"].get("mask") is not None

    @property
    def name(self) -> str:
        """What a message calls it."""
        return f"{self.label} of {self.path}" if self.dense else str(self.path)

    def on(self, target: str, changes: Mapping[str, Any]) -> Source:
        """Return it with the treatment of a target data set."""
        return replace(self, data=_data_of(self, target, changes))


def read_sources(
    tickets: Sequence[Path], changes: Mapping[str, Any], model: str | None, *, dense: bool
) -> list[Source]:
    """Read tickets; each gets a label of its own within its replicate.

    Args:
        tickets: Files.
        changes: What is other than the ticket says, by dotted names.
        model: The model, where the ticket names code.
        dense: Add the dense network of each start that the tickets have.

    Raises:
        InputError: A ticket cannot be read or trained, or a change is wrong.
    """
    rewind_points: dict[Path, RewindPoint] = {}  # the tickets of a run share theirs
    sources = [_read(path, changes, model, rewind_points) for path in tickets]
    found_on = {source.found_on for source in sources}
    networks = _dense_networks(sources) if dense else []
    labelled = []
    for source in [*sources, *networks]:
        labelled.append(replace(source, label=_with_data(source, found_on)))
    return _with_distinct_labels(labelled)


def _with_data(source: Source, found_on: Collection[str]) -> str:
    """Add to a label where the ticket was found, if not all were found there."""
    return f"{source.label} from {source.found_on}" if len(found_on) > 1 else source.label


def _dense_networks(sources: Sequence[Source]) -> list[Source]:
    """Return the dense network of each start that tickets have, each once."""
    networks: dict[str, Source] = {}
    for source in sources:
        start = [
            source.ticket.rewind_digest,
            source.seed,
            source.found_on,
            asdict(source.model),
            asdict(source.training),
            source.has_checkpoint_zeros,
        ]
        networks.setdefault(digest_json(start), replace(source, label=DENSE, dense=True))
    return list(networks.values())


def _with_distinct_labels(sources: Sequence[Source]) -> list[Source]:
    """Add a digest to a label that two tickets of a replicate share."""
    distinct: list[Source] = []
    taken: set[tuple[str, int]] = set()
    for source in sources:
        if (source.label, source.replicate) in taken:
            digest = source.ticket.rewind_digest if source.dense else source.ticket.digest
            source = replace(source, label=f"{source.label}-{(digest or '')[:8]}")
        taken.add((source.label, source.replicate))
        distinct.append(source)
    return distinct


def _read(
    path: Path,
    changes: Mapping[str, Any],
    model: str | None,
    rewind_points: MutableMapping[Path, RewindPoint],
) -> Source:
    """Read a ticket and what it says of its model, data and training."""
    ticket = Ticket.load(path, rewind_points)
    check_untrained(ticket, path)
    task = ticket.origin.get("task")
    if task is not None:
        raise ConfigError(
            f"{path} was found on the task {shown(task)}; transfer trains tickets of classification"
        )
    origin = Origin.read(ticket.origin, str(path))
    if model is None and catalogue.is_own(origin.model.name):
        raise ConfigError(
            f"{path} names the model {shown(origin.model.name)}, which is code of somebody's own "
            "and is never run from a ticket; name it with --model"
        )
    found_on = origin.data.name
    if origin.class_numbers is not None:
        found_on += f" ({origin.data.classes} classes)"
    return Source(
        path,
        ticket,
        origin,
        origin.model if model is None else replace(origin.model, name=model),
        origin.data,
        _training(origin.training, changes, path),
        f"{origin.arm or path.stem}-{origin.round}",
        found_on,
    )


def _training(training: Training, changes: Mapping[str, Any], path: Path) -> Training:
    changed = {}
    for dotted, value in changes.items():
        if dotted.startswith("training."):
            changed[dotted.removeprefix("training.")] = value
    try:
        return training_with(training, changed)
    except InputError as error:
        # Without changes it is the ticket that is wrong.
        raise error if changed else ConfigError(f"{path}: {error}") from error


def _data_of(source: Source, target: str, changes: Mapping[str, Any]) -> Data:
    """Return how a target is treated: like the ticket's own data, with what was changed."""
    entries = asdict(source.data)
    # These are of one data set; augmentation and validation go with any.
    if target != source.data.name:
        entries |= {"name": target, "options": {}, "classes": None, "skew": None}
    for dotted, value in changes.items():
        if not dotted.startswith("data."):
            continue
        # Of "data.augment.flip" the entry of an entry is changed; what is no entry is an option.
        key, _, inner = dotted.removeprefix("data.").partition(".")
        if inner and key in entries and isinstance(entries[key], dict | None):
            entries[key] = (entries[key] or {}) | {inner: value}
        elif key in entries:
            entries[key] = value
        else:
            entries["options"] = entries["options"] | {key: value}
    return section(Data, entries, "data")
