"""Merging: runs of one experiment that were done apart, on several machines, joined into one folder.

All checks come before the first write: a merge that is refused has changed nothing.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml

from tombola.errors import ConfigError
from tombola.files import cannot_write, write_array, write_arrays, write_json, write_whole
from tombola.packing import labelled
from tombola.recipe import Recipe
from tombola.records import Record, Records, timeless
from tombola.runs import (
    LATENCY,
    PACKED,
    SIMILARITY,
    Run,
    check_same_inputs,
    differing,
    lock,
    reading,
    shared,
    similarity_key,
)
from tombola.tickets import Ticket

_Key = TypeVar("_Key")

_KEPT = ("rewind_points", "candidates", "predictions", "trainings", "tickets")  # tickets last: they name the others


def merge(into: Path, others: Sequence[Path]) -> Run:
    """Join runs: the first folder takes in what the others have, which stay as they are.

    A packed run may be one of them (see `tombola.packing`): it brings no tickets along, and where it is the first it
    takes none in.

    Args:
        into: A run folder.
        others: Run folders of the same data, model, training and seed, as their digests say.

    Returns:
        The first folder, with all in it.

    Raises:
        ConfigError: They are not runs of one experiment, an arm is another one under the same name, or a result that
            both have is not the same.
        DiskError: The first folder cannot be written to.
    """
    if not others:
        raise ConfigError("runs merge needs two run folders or more; the first one takes the others in")
    paths = [into, *others]
    for index, path in enumerate(paths):
        if path.resolve() in [other.resolve() for other in paths[:index]]:
            raise ConfigError(f"'{path}' is named twice")
    runs = [Run(path) for path in paths]  # before the locks: these would make a folder that is not there
    with contextlib.ExitStack() as locks:
        locks.enter_context(lock(into))
        for path in others:
            locks.enter_context(reading(path))
        for number, run in enumerate(runs):
            for before in runs[:number]:
                _check(before, run)
        held = [run.predictions() if run.packed or runs[0].packed else {} for run in runs]  # read before any write
        labels = next((known for run in runs if (known := run.labels()) is not None), None)
        if runs[0].packed:
            write_arrays(into / PACKED, _joined(reversed(held)) | labelled(labels))
        else:
            for run, predictions in zip(runs[1:], held[1:], strict=True):
                _copy(run, into)
                for key, values in predictions.items():
                    write_array(into / "predictions" / f"{key}.npy", values)
            if labels is not None:
                write_array(runs[0].labels_path, labels)
        _write(runs)
    return Run(into)


def _check(one: Run, other: Run) -> None:
    """Refuse two runs that do not belong together."""
    if one.digest != other.digest:
        odd = differing(shared(other.recipe), shared(one.recipe))
        raise ConfigError(
            f"'{other.path}' cannot be merged with '{one.path}': {', '.join(odd) or 'their digests differ'}"
        )
    known = one.definitions()
    for name, definition in other.definitions().items():
        if name in known and known[name] != definition:
            raise ConfigError(f"'{other.path}' cannot be merged with '{one.path}': arm '{name}' is another one: "
                              f"{', '.join(differing(definition, known[name]))}")  # fmt: skip
    for now in other.environments():
        for before in one.environments():
            check_same_inputs(now, before, one.path)
    doubles = [r for r in other.records.all() if one.record(r["arm"], r["replicate"], r["round"]) is not None]
    for record in doubles:
        _check_double(one, other, record)
    _check_tickets(one, other)
    _check_tickets(other, one)
    if doubles:
        known = one.predictions()
        for key, values in other.predictions().items():
            if key in known and not np.array_equal(values, known[key]):
                raise ConfigError(f"'{other.path}' and '{one.path}' have different predictions for {key}")
    _check_similarities(one, other)


def _check_tickets(one: Run, other: Run) -> None:
    """Refuse tickets of one run that are other ones than the other run has or tells of, with or without a record."""
    for path in sorted((one.path / "tickets").rglob("*.safetensors")):
        same = other.path / path.relative_to(one.path)
        if same.exists() and same.read_bytes() != path.read_bytes():
            raise ConfigError(f"'{same}' and '{path}' are not the same file")
    for record in other.records.all():
        key = record["arm"], record["replicate"], record["round"]
        path = one.ticket_path(*key)
        if one.record(*key) is None and path.exists() and Ticket.load(path).mask_digest != record["mask_digest"]:
            raise ConfigError(f"'{path}' is not the ticket that '{other.path}' tells of")


def _check_similarities(one: Run, other: Run) -> None:
    """Refuse counts of the same tickets that differ."""
    counted = {similarity_key(line): line for line in one.similarities()}
    for line in other.similarities():
        key = similarity_key(line)
        if counted.get(key, line) != line:
            raise ConfigError(f"'{other.path}' and '{one.path}' have different similarities of {key[0]} and {key[1]}, "
                              f"replicate {key[2]}, rounds {key[3]} and {key[4]}")  # fmt: skip


def _check_double(one: Run, other: Run, record: Record) -> None:
    key = record["arm"], record["replicate"], record["round"]
    same = one.record(*key)
    assert same is not None
    which = f"arm {key[0]}, replicate {key[1]}, round {key[2]}"
    both = same["evaluated"] and record["evaluated"]
    odd = differing(_timeless(record, both), _timeless(same, both))
    if odd:
        raise ConfigError(f"'{other.path}' and '{one.path}' have different results for {which}: {odd[0]}")


def _timeless(record: Record, whole: bool) -> dict[str, Any]:
    """Return what two machines must agree on, or of unlike evaluations the ticket alone.

    Not clocks, and not what hangs on which other rounds were evaluated or on where the search was to stop.
    """
    if not whole:
        return {key: record[key] for key in ("mask_digest", "rewind_digest", "kept")}
    return {key: value for key, value in timeless(record).items() if key not in ("samples_seen", "passes")}


def _copy(run: Run, to: Path) -> None:
    """Copy the files that a run has and another one lacks."""
    for path in (path for kind in _KEPT for path in sorted((run.path / kind).rglob("*")) if path.is_file()):
        target = to / path.relative_to(run.path)
        if target.exists():
            continue
        part = target.with_name(f".{target.name}.merged00")  # what a killed merge leaves is cleared as any other part
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, part)
            part.replace(target)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise cannot_write(target, error) from error


def _joined(parts: Iterable[Mapping[_Key, Any]]) -> dict[_Key, Any]:
    """Return one mapping of all; a later one's entries stand."""
    return {key: value for part in parts for key, value in part.items()}


def _write(runs: Sequence[Run]) -> None:
    """Write what all runs know together into the folder of the first."""
    into = runs[0]
    environments: list[dict[str, Any]] = []
    for run in runs:
        environments += [one for one in run.environments() if one not in environments]
    definitions = _joined(run.definitions() for run in reversed(runs))
    write_json(into.path / "environment.json", environments)
    write_json(into.path / "arms.json", definitions)
    write_whole(into.path / "recipe.yaml", yaml.safe_dump(_recipe(runs).plain(), sort_keys=False))
    records = Records(into.path / "records.jsonl")
    for run in runs[1:]:
        for record in run.records.all():
            records.add(record)
    if counted := _joined({similarity_key(line): line for line in run.similarities()} for run in runs):
        write_whole(into.path / SIMILARITY, "".join(json.dumps(line) + "\n" for line in counted.values()))
    if measured := next(filter(None, (run.latency() for run in runs)), {}):  # clocks of one machine, not of several
        write_json(into.path / LATENCY, measured)
    write_json(into.path / "state.json", dict(_states(runs)))


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
        found = [run.states()[key] | ({"packed": True} if run.packed else {}) for run in runs if key in run.states()]
        yield key, max(found, key=lambda state: (state["state"] == "finished", state["rounds"]))
