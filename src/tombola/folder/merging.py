"""Merging: runs of one experiment that were done apart, on several machines, joined into one
folder.

All checks come before the first write: a merge that is refused has changed nothing.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tombola import ticket_format
from tombola.folder import similarity
from tombola.folder.environments import check_same_inputs
from tombola.folder.identity import differing, shared
from tombola.folder.packing import labelled
from tombola.folder.runs import Run, is_of_round, lock, reading, similarity_key
from tombola.ground.errors import ConfigError
from tombola.ground.files import write_whole
from tombola.records import layout
from tombola.records.records import Record, Records, timeless
from tombola.schema.recipe import Recipe
from tombola.tickets import Ticket

_Key = TypeVar("_Key")

_OF_ROUND = r"[A-Za-z0-9][A-Za-z0-9._-]*/replicate-\d+/round-\d{3,}"
# What is copied beside the tickets, and how its files are called below their folder.
_BESIDE_TICKETS = {
    "rewind_points": r"[0-9a-f]{64}\.safetensors",
    "candidates": rf"{_OF_ROUND}\.safetensors",
    "trainings": r"[0-9a-f]{64}\.(training|measured|line)",
}
_POINTS = 8  # rewind points that are held at a time


def merge(into: Path, others: Sequence[Path]) -> Run:
    """Join runs: the first folder takes in what the others have, which stay as they are.

    A packed run may be one of them (see `tombola.folder.packing`): it brings no tickets along, and
    where it is the first it takes none in.

    Args:
        into: A run folder.
        others: Run folders of the same data, model, training and seed, as their digests say.

    Returns:
        The first folder, with all in it.

    Raises:
        ConfigError: They are not runs of one experiment, an arm is another one under the same name,
            a result that both have is not the same, or a file of one of them is damaged. The first
            folder is as it was.
        DiskError: The first folder cannot be written to.
    """
    if not others:
        raise ConfigError(
            "runs merge needs two run folders or more; the first one takes the others in"
        )
    paths = [into, *others]
    for index, path in enumerate(paths):
        if path.resolve() in [other.resolve() for other in paths[:index]]:
            raise ConfigError(f"'{path}' is named twice")
    # before the locks: these would make a folder that is not there
    runs = [Run(path) for path in paths]
    with contextlib.ExitStack() as locks:
        locks.enter_context(lock(into))
        for path in others:
            locks.enter_context(reading(path))
        for number, run in enumerate(runs):
            for before in runs[:number]:
                _check(before, run)
        # All of it is read and checked before anything is written.
        held = [run.predictions() for run in runs]
        for run in runs:
            run.latency()
        labels = next((known for run in runs if (known := run.labels()) is not None), None)
        for run in runs if not runs[0].packed else ():
            _verify(run)
        if not runs[0].sealed:
            runs[0].seal()
        seals = runs[0].seals
        if runs[0].packed:
            predicted = _joined(reversed(held)) | labelled(labels)
            seals.write_arrays(runs[0].layout.packed_predictions, predicted)
        else:
            for run, predictions in zip(runs[1:], held[1:], strict=True):
                _copy(run, runs[0])
                for key in predictions.keys() - held[0].keys():
                    path = runs[0].layout.predictions / f"{key}.npy"
                    seals.write_array(path, predictions[key])
            if labels is not None:
                seals.write_array(runs[0].labels_path, labels)
        _write(runs)
    merged = Run(into)
    merged.told += runs[0].told
    return merged


def _check(one: Run, other: Run) -> None:
    """Refuse two runs that do not belong together."""
    if one.digest != other.digest:
        odd = differing(shared(other.recipe), shared(one.recipe))
        raise ConfigError(
            f"'{other.path}' cannot be merged with '{one.path}': "
            f"{', '.join(odd) or 'their digests differ'}"
        )
    known = one.definitions()
    for name, definition in other.definitions().items():
        if name in known and known[name] != definition:
            raise ConfigError(
                f"'{other.path}' cannot be merged with '{one.path}': arm '{name}' is another one: "
                f"{', '.join(differing(definition, known[name]))}"
            )
    for now in other.environments():
        for before in one.environments():
            check_same_inputs(now, before, one.path)
    doubles = [
        r
        for r in other.records.all()
        if one.record(r["arm"], r["replicate"], r["round"]) is not None
    ]
    for record in doubles:
        _check_double(one, other, record)
    _check_tickets(one, other)
    _check_tickets(other, one)
    if doubles:
        known = one.predictions()
        for key, values in other.predictions().items():
            if key in known and not np.array_equal(values, known[key]):
                raise ConfigError(
                    f"'{other.path}' and '{one.path}' have different predictions for {key}"
                )
    _check_similarities(one, other)


def _check_tickets(one: Run, other: Run) -> None:
    """Refuse tickets of one run that are other ones than the other run has or tells of, with or
    without a record.
    """
    # digests of tickets whose copies in the other run have other bytes, and of these
    rewritten: dict[str, str] = {}
    for path, key in one.layout.ticket_files():
        copy = other.ticket_path(*key)
        if not copy.exists() or copy.read_bytes() == path.read_bytes():
            continue
        ours, theirs = ticket_format.read(path), ticket_format.read(copy)
        if not _are_the_same(ours, theirs, rewritten):
            raise ConfigError(f"'{copy}' and '{path}' are not the same file")
        rewritten[ours.digest] = theirs.digest
    for record in other.records.all():
        key = record["arm"], record["replicate"], record["round"]
        path = one.ticket_path(*key)
        if (
            one.record(*key) is None
            and path.exists()
            and Ticket.load(path).mask_digest != record["mask_digest"]
        ):
            raise ConfigError(f"'{path}' is not the ticket that '{other.path}' tells of")


def _are_the_same(
    ours: ticket_format.TicketFile, theirs: ticket_format.TicketFile, rewritten: Mapping[str, str]
) -> bool:
    """Whether two files of other bytes are one ticket, whose masks are written in two ways or
    whose parent's are.
    """
    origin = dict(ours.origin)
    parent = rewritten.get(str(origin.get("parent")))
    if parent is not None:
        origin["parent"] = parent
    elif ours.gaps.keys() == theirs.gaps.keys():
        return False
    same_origin = origin == dict(theirs.origin)
    fields = ("mask_digest", "rewind_digest", "total")
    return same_origin and all(getattr(ours, field) == getattr(theirs, field) for field in fields)


def _check_similarities(one: Run, other: Run) -> None:
    """Refuse counts of the same tickets that differ."""
    counted = {similarity_key(line): line for line in one.similarities()}
    for line in other.similarities():
        key = similarity_key(line)
        if counted.get(key, line) != line:
            raise ConfigError(
                f"'{other.path}' and '{one.path}' have different similarities of {key[0]} and "
                f"{key[1]}, replicate {key[2]}, rounds {key[3]} and {key[4]}"
            )


def _check_double(one: Run, other: Run, record: Record) -> None:
    key = record["arm"], record["replicate"], record["round"]
    same = one.record(*key)
    assert same is not None
    which = f"arm {key[0]}, replicate {key[1]}, round {key[2]}"
    both = same["evaluated"] and record["evaluated"]
    odd = differing(_timeless(record, both), _timeless(same, both))
    if odd:
        raise ConfigError(
            f"'{other.path}' and '{one.path}' have different results for {which}: {odd[0]}"
        )


def _timeless(record: Record, whole: bool) -> dict[str, Any]:
    """Return what two machines must agree on, or of unlike evaluations the ticket alone.

    Not clocks, and not what hangs on which other rounds were evaluated or on where the search was
    to stop.
    """
    if not whole:
        return {key: record[key] for key in ("mask_digest", "rewind_digest", "kept")}
    return {
        key: value
        for key, value in timeless(record).items()
        if key not in ("samples_seen", "passes")
    }


def _files(run: Run, kind: str) -> list[Path]:
    """Return the files of a kind that a run has beside its tickets."""
    folder: Path = getattr(run.layout, kind)
    # The folder of the rewind points is among those of the arms, one of which may be called so.
    files = _whole_files(folder.glob("*") if kind == "rewind_points" else folder.rglob("*"))
    for path in files:
        if not re.fullmatch(_BESIDE_TICKETS[kind], path.relative_to(folder).as_posix()):
            raise ConfigError(f"'{path}' is no file of a run; take it away")
    return files


def _ticket_files(run: Run) -> list[tuple[Path, layout.Round]]:
    """Return the tickets that a run has, each with what it is of."""
    files: list[tuple[Path, layout.Round]] = []
    for path in _whole_files(run.layout.tickets.rglob("*")):
        if path.parent == run.layout.rewind_points:
            continue
        key = run.layout.round_of(path)
        if key is None:
            raise ConfigError(f"'{path}' is no file of a run; take it away")
        files.append((path, key))
    return files


def _whole_files(paths: Iterable[Path]) -> list[Path]:
    """Return the files among paths, by name, without what a killed write has left."""
    return [path for path in sorted(paths) if path.is_file() and not path.name.startswith(".")]


def _verify(run: Run) -> None:
    """Check every file that may be copied, to its last bit.

    Raises:
        ConfigError: One is not what was written there.
    """
    points: dict[Path, ticket_format.RewindPoint] = {}
    for path, key in _ticket_files(run):
        if len(points) > _POINTS:
            points.clear()
        ticket = ticket_format.verify(path, points)
        record = run.record(*key)
        other = record is not None and record["mask_digest"] != ticket.mask_digest
        if other or not is_of_round(ticket.origin, *key):
            raise ConfigError(f"'{path}' is not the ticket of its round; take it away")
    for path in _files(run, "rewind_points"):
        ticket_format.verify_rewind_point(path)
    for path in _files(run, "candidates"):
        run.seals.read_tensors(path)
    store = run.store(lambda _: None)
    for path in _files(run, "trainings"):
        store.verify(path)


def _copy(run: Run, to: Run) -> None:
    """Copy the files that a run has and another one lacks, predictions left out."""
    for kind in _BESIDE_TICKETS:
        folder: Path = getattr(run.layout, kind)
        for path in _files(run, kind):
            target = getattr(to.layout, kind) / path.relative_to(folder)
            if target.exists():
                continue
            if kind == "trainings":
                run.store(to.say).copy(path, to.store(to.say))
            elif kind == "candidates":
                to.seals.write_tensors(target, run.seals.read_tensors(path))
            else:
                write_whole(target, path.read_bytes())
    # Tickets last, since they name the rewind points.
    for path, key in _ticket_files(run):
        target = to.layout.ticket(*key, ticket_format.read(path).density)
        if not target.exists():
            write_whole(target, path.read_bytes())


def _joined(parts: Iterable[Mapping[_Key, Any]]) -> dict[_Key, Any]:
    """Return one mapping of all; a later one's entries stand."""
    return {key: value for part in parts for key, value in part.items()}


def _write(runs: Sequence[Run]) -> None:
    """Write what all runs know together into the folder of the first."""
    into = runs[0]
    environments: list[dict[str, Any]] = []
    for run in runs:
        environments += [one for one in run.environments() if one not in environments]
    into.seals.write_json(into.layout.environments, environments)
    definitions = _joined(run.definitions() for run in reversed(runs))
    into.seals.write_json(into.layout.arms, definitions)
    into.recipe = _recipe(runs)
    into.write_about()
    records = Records(into.layout.records, seals=into.seals)
    for run in runs[1:]:
        for record in run.records.all():
            records.add(record)
    if counted := _joined(
        {similarity_key(line): line for line in run.similarities()} for run in runs
    ):
        lines = similarity.ordered(counted.values(), into.recipe.arms)
        into.seals.write_lines(into.layout.similarities, lines)
    # clocks of one machine, not of several
    if measured := next(filter(None, (run.latency() for run in runs)), {}):
        into.seals.write_json(into.layout.latency, measured)
    into.seals.write_json(into.layout.states, dict(_states(runs)))


def _recipe(runs: Sequence[Run]) -> Recipe:
    """Return the first recipe with the arms and replicates of all."""
    arms = _joined(run.recipe.arms for run in reversed(runs))
    names = dict.fromkeys(name for run in runs for name in run.recipe.arms)
    return replace(
        runs[0].recipe,
        arms={name: arms[name] for name in names},
        replicates=max(run.recipe.replicates for run in runs),
    )


def _states(runs: Sequence[Run]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Give how each arm of each replicate ended: the one that got furthest."""
    for key in dict.fromkeys(key for run in runs for key in run.states()):
        found = [
            run.states()[key] | ({"packed": True} if run.packed else {})
            for run in runs
            if key in run.states()
        ]
        yield key, max(found, key=lambda state: (state["state"] == "finished", state["rounds"]))
