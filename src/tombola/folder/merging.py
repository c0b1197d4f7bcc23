"""Merging: runs of one experiment that were done separately, on several machines, merged into one
folder.

    runs -> [ check each pair, verify files ] -> [ copy, write ] -> the first folder

All checks come before the first write: a merge that is refused has changed nothing.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tombola import ticket_format
from tombola.folder import kept, similarity
from tombola.folder.environments import check_same_inputs
from tombola.folder.identity import differing, shared
from tombola.folder.locking import lock, reading
from tombola.folder.packing import labelled
from tombola.folder.predictions import Classes
from tombola.folder.runs import Run, is_of_round
from tombola.folder.sealing import seal, write_about
from tombola.ground.errors import ConfigError
from tombola.ground.files import write_whole
from tombola.methods import Method
from tombola.records import layout
from tombola.records.records import Record, Records, timeless
from tombola.schema.recipe import Recipe
from tombola.tickets import Ticket

_Key = TypeVar("_Key")

# What is copied beside the tickets, and how its files are called below their folder.
_BESIDE_TICKETS = {
    "rewind_points": r"[0-9a-f]{64}\.safetensors",
    "candidates": rf"{layout.IN_ROUND}\.safetensors",
    "trainings": r"[0-9a-f]{64}\.(training|measured|line)",
}
_MOST_REWIND_POINTS = 8  # held at a time


def merge(into: Path, others: Sequence[Path]) -> Run:
    """Merge runs: the first folder takes in what the others have, which stay as they are.

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
    _check_paths(into, others)
    # before the locks: these would make a folder that is not there
    runs = [Run(path) for path in (into, *others)]
    with contextlib.ExitStack() as locks:
        locks.enter_context(lock(into))
        for path in others:
            locks.enter_context(reading(path))
        # All of it is read and checked before anything is written.
        for number, run in enumerate(runs):
            for earlier in runs[:number]:
                _check(earlier, run)
        predictions = [run.predictions() for run in runs]
        labels = _first_labels(runs)
        pictures = [run.pictures() for run in runs]
        for run in runs:
            run.latency()
            files = run.kept_files
            for name in files.names():
                files.named(name)
            if not runs[0].packed:
                _verify(run)
        if not runs[0].sealed:
            seal(runs[0])
        if runs[0].packed:
            # The first run's stand where several have one.
            arrays = _united(reversed(predictions)) | labelled(labels)
            runs[0].seals.write_arrays(runs[0].layout.packed_predictions, arrays)
            kept.write_packed(runs[0].layout, runs[0].seals, [run.kept_files for run in runs])
        else:
            for run in runs[1:]:
                _copy(run, runs[0])
            _write_predictions(runs[0], predictions, labels)
            _write_kept(runs[0], runs[1:])
        if any(pictures) and not pictures[0]:
            shown = next(filter(None, pictures))
            runs[0].seals.write_tensors(runs[0].layout.pictures, shown)
        _write(runs)
    merged = Run(into)
    merged.notes += runs[0].notes
    return merged


def _check_paths(into: Path, others: Sequence[Path]) -> None:
    if not others:
        raise ConfigError(
            "runs merge needs two run folders or more; the first one takes the others in"
        )
    seen: set[Path] = set()
    for path in (into, *others):
        if path.resolve() in seen:
            raise ConfigError(f"'{path}' is named twice")
        seen.add(path.resolve())


def _first_labels(runs: Sequence[Run]) -> Classes | None:
    """Return the classes of the test examples from the first run that has them."""
    for run in runs:
        labels = run.labels()
        if labels is not None:
            return labels
    return None


def _write_predictions(
    into: Run, predictions: Sequence[Mapping[str, Classes]], labels: Classes | None
) -> None:
    """Write the predictions that the first run lacks."""
    for of_run in predictions[1:]:
        for name in of_run.keys() - predictions[0].keys():
            into.seals.write_array(into.layout.predictions / f"{name}.npy", of_run[name])
    if labels is not None:
        into.seals.write_array(into.prediction_files.labels_path, labels)


def _write_kept(into: Run, others: Sequence[Run]) -> None:
    """Write what else the task keeps of tests, where the first run lacks it."""
    for run in others:
        files = run.kept_files
        for name in set(files.names()) - set(into.kept_files.names()):
            into.kept_files.write(
                into.layout.predictions / f"{name}.safetensors", files.named(name)
            )


def _check(first: Run, second: Run) -> None:
    """Refuse two runs that do not belong together."""
    if first.digest != second.digest:
        different = differing(shared(second.recipe), shared(first.recipe))
        raise ConfigError(
            f"'{second.path}' cannot be merged with '{first.path}': "
            f"{', '.join(different) or 'their digests differ'}"
        )
    definitions = first.definitions()
    for name, definition in second.definitions().items():
        if name in definitions and definitions[name] != definition:
            raise ConfigError(
                f"'{second.path}' cannot be merged with '{first.path}': arm '{name}' is another "
                f"one: {', '.join(differing(definition, definitions[name]))}"
            )
    for now in second.environments():
        for before in first.environments():
            check_same_inputs(now, before, first.path)
    in_both = False
    for record in second.records.all():
        known = first.record(record["arm"], record["replicate"], record["round"])
        if known is not None:
            in_both = True
            _check_results(first, known, second, record)
    _check_tickets(first, second)
    _check_tickets(second, first)
    if in_both:
        _check_predictions(first, second)
    _check_similarities(first, second)


def _check_results(first: Run, known: Record, second: Run, record: Record) -> None:
    """Refuse two results of one round that differ."""
    both_evaluated = known["evaluated"] and record["evaluated"]
    different = differing(_comparable(record, both_evaluated), _comparable(known, both_evaluated))
    if different:
        raise ConfigError(
            f"'{second.path}' and '{first.path}' have different results for arm {record['arm']}, "
            f"replicate {record['replicate']}, round {record['round']}: {different[0]}"
        )


def _comparable(record: Record, both_evaluated: bool) -> dict[str, Any]:
    """Return what two machines must agree on; where only one has evaluated, the ticket alone.

    Not clocks, and not what depends on which other rounds were evaluated or on where the search
    was to stop.
    """
    if not both_evaluated:
        return {key: record[key] for key in ("mask_digest", "rewind_digest", "kept")}
    entries = timeless(record)
    for key in ("samples_seen", "passes"):
        entries.pop(key, None)
    return entries


def _check_predictions(first: Run, second: Run) -> None:
    known = first.predictions()
    for key, values in second.predictions().items():
        if key in known and not np.array_equal(values, known[key]):
            raise ConfigError(
                f"'{second.path}' and '{first.path}' have different predictions for {key}"
            )
    for name in kept.differing(first.kept_files, second.kept_files):
        raise ConfigError(
            f"'{second.path}' and '{first.path}' keep different tensors of the test of {name}"
        )


def _check_tickets(first: Run, second: Run) -> None:
    """Refuse tickets of one run that differ from those that another has, or has records of."""
    # Digests of tickets whose copies in the other run have other bytes, with the copies' digests.
    rewritten: dict[str, str] = {}
    for path, key in first.layout.ticket_files():
        copy = second.ticket_path(*key)
        if not copy.exists() or copy.read_bytes() == path.read_bytes():
            continue
        ours, theirs = ticket_format.read(path), ticket_format.read(copy)
        if not _are_the_same(ours, theirs, rewritten):
            raise ConfigError(f"'{copy}' and '{path}' are not the same file")
        rewritten[ours.digest] = theirs.digest
    for record in second.records.all():
        key = record["arm"], record["replicate"], record["round"]
        path = first.ticket_path(*key)
        if first.record(*key) is not None or not path.exists():
            continue
        if Ticket.load(path).mask_digest != record["mask_digest"]:
            raise ConfigError(f"'{path}' is not the ticket that '{second.path}' tells of")


def _are_the_same(
    ours: ticket_format.TicketFile, theirs: ticket_format.TicketFile, rewritten: Mapping[str, str]
) -> bool:
    """Whether two files with different bytes are the same ticket: its mask, or that of its parent,
    may be written in two ways.
    """
    origin = dict(ours.origin)
    parent = rewritten.get(str(origin.get("parent")))
    if parent is not None:
        origin["parent"] = parent
    elif ours.gaps.keys() == theirs.gaps.keys():
        # Written in one way, and yet with other bytes: something that they say differs.
        return False
    same_origin = origin == dict(theirs.origin)
    fields = ("mask_digest", "rewind_digest", "total")
    return same_origin and all(getattr(ours, field) == getattr(theirs, field) for field in fields)


def _check_similarities(first: Run, second: Run) -> None:
    """Refuse counts of the same tickets that differ."""
    counted = similarity.by_pair(first.similarities())
    for pair, line in similarity.by_pair(second.similarities()).items():
        if counted.get(pair, line) != line:
            raise ConfigError(
                f"'{second.path}' and '{first.path}' have different similarities of "
                f"{pair.first_arm} and {pair.second_arm}, replicate {pair.replicate}, rounds "
                f"{pair.first_round} and {pair.second_round}"
            )


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
    """Return the tickets that a run has, each with its arm, replicate and round."""
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
    """Check every file that may be copied, bit by bit.

    Raises:
        ConfigError: One is not what was written there.
    """
    points: dict[Path, ticket_format.RewindPoint] = {}
    for path, key in _ticket_files(run):
        if len(points) > _MOST_REWIND_POINTS:
            points.clear()
        ticket = ticket_format.verify(path, points)
        record = run.record(*key)
        differs = record is not None and record["mask_digest"] != ticket.mask_digest
        if differs or not is_of_round(ticket.origin, *key):
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


def _united(mappings: Iterable[Mapping[_Key, Any]]) -> dict[_Key, Any]:
    """Return one mapping with the entries of all; those of later ones stand."""
    united: dict[_Key, Any] = {}
    for mapping in mappings:
        united |= mapping
    return united


def _write(runs: Sequence[Run]) -> None:
    """Write what all runs know together into the folder of the first."""
    into = runs[0]
    environments: list[dict[str, Any]] = []
    for run in runs:
        for environment in run.environments():
            if environment not in environments:
                environments.append(environment)
    into.seals.write_json(into.layout.environments, environments)
    definitions = _united(run.definitions() for run in reversed(runs))
    into.seals.write_json(into.layout.arms, definitions)
    into.recipe = _recipe(runs)
    write_about(into)
    records = Records(into.layout.records, seals=into.seals, metrics=into.metrics)
    for run in runs[1:]:
        for record in run.records.all():
            records.add(record)
    similarities = _united(similarity.by_pair(run.similarities()) for run in runs)
    if similarities:
        lines = similarity.ordered(similarities.values(), into.recipe.arms)
        into.seals.write_lines(into.layout.similarities, lines)
    # Clocks of one machine, not of several: the first that measured any.
    for run in runs:
        if run.latency():
            into.seals.write_json(into.layout.latency, run.latency())
            break
    into.seals.write_json(into.layout.states, _states(runs))


def _recipe(runs: Sequence[Run]) -> Recipe:
    """Return the first recipe with the arms and replicates of all."""
    # Arms in the order of the first recipe that has them; of an arm, the first definition.
    arms: dict[str, Method] = {}
    for run in runs:
        for name, arm in run.recipe.arms.items():
            arms.setdefault(name, arm)
    replicates = max(run.recipe.replicates for run in runs)
    return replace(runs[0].recipe, arms=arms, replicates=replicates)


def _states(runs: Sequence[Run]) -> dict[str, Mapping[str, Any]]:
    """Return how each arm of each replicate ended, from the run in which it got furthest."""
    furthest: dict[str, dict[str, Any]] = {}
    for run in runs:
        for key, ending in run.states().items():
            # Tickets that a packed run does not have must not count as lost in the merged one.
            state = {**ending, "packed": True} if run.packed else dict(ending)
            if key not in furthest or _progress(state) > _progress(furthest[key]):
                furthest[key] = state
    return dict(furthest)


def _progress(state: Mapping[str, Any]) -> tuple[bool, int]:
    return state["state"] == "finished", state["rounds"]
