"""Multi-run: several runs reported together, such as the variants of one recipe.

run folders -> [ how their recipes differ ] -> one page that compares them
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tombola.experiments.reporting import asked
from tombola.folder.runs import Run
from tombola.ground.errors import ConfigError
from tombola.reports import together
from tombola.reports.sheets import Format

# Entries of a recipe that do not matter for the comparison.
_NOT_COMPARED = ("name", "keep", "device", "replicates", "profile")


def report(
    runs: Sequence[Run], folder: Path | None = None, formats: Sequence[Format] = ("svg", "png")
) -> list[Path]:
    """Write the page that compares several runs.

    Args:
        runs: In the order in which they are shown; the others are compared with the first.
        folder: Where the page goes; if not given, a folder beside the first run, named after the
            common part of their names.
        formats: File formats of the figures.

    Returns:
        The files, ``report.html`` last.

    Raises:
        ConfigError: There are fewer than two, one has no results, they are measured by different
            metrics, or two are runs of one recipe, which should be merged.
    """
    _check_comparable(runs)
    names, title = labels([run.recipe.name for run in runs])
    settings = differing([run.recipe.to_dict() for run in runs])
    parts, notes = [], []
    for index, (name, run) in enumerate(zip(names, runs, strict=True)):
        own_settings = {entry: values[index] for entry, values in settings.items()}
        decision = replace(asked(run.recipe), metric=run.metrics[0])
        parts.append(together.Part(name, run.records.all(), decision, own_settings))
        notes += [f"{name}: {note}" for note in (*_unfinished(run), *run.notes)]
    folder = folder or runs[0].path.parent / f"{title}-together"
    return together.write(folder, title, parts, notes, formats)


def _check_comparable(runs: Sequence[Run]) -> None:
    if len(runs) < 2:
        raise ConfigError("a report of several runs needs at least two")
    for index, run in enumerate(runs):
        if not len(run.records):
            raise ConfigError(f"'{run.path}' has no results yet")
        headline, first = run.metrics[0], runs[0].metrics[0]
        if headline.name != first.name:
            raise ConfigError(
                f"'{runs[0].path}' is measured by {first.title} and '{run.path}' by "
                f"{headline.title}; runs are compared by one metric, so report them one by one"
            )
        # One digest with other arms is the same experiment in parts, which may be compared.
        for earlier in runs[:index]:
            if run.digest == earlier.digest and run.recipe.arms == earlier.recipe.arms:
                raise ConfigError(
                    f"'{earlier.path}' and '{run.path}' are runs of one recipe; use tombola "
                    "runs merge to join them"
                )


def _unfinished(run: Run) -> list[str]:
    notes = []
    for arm in run.recipe.arms:
        for replicate in range(run.recipe.replicates):
            if not run.finished(arm, replicate):
                notes.append(f"arm {arm}, replicate {replicate} is not finished")
    return notes


def labels(names: Sequence[str]) -> tuple[list[str], str]:
    """Return short labels for runs that are compared, and the common beginning of their names.

    >>> labels(["width-small-4", "width-small-16"])
    (['4', '16'], 'width-small')
    >>> labels(["mnist", "mnist"])
    (['mnist (1)', 'mnist (2)'], 'mnist')
    >>> labels(["lenet", "conv3"])
    (['lenet', 'conv3'], 'runs')
    """
    if len(set(names)) < len(names):
        numbered = [f"{name} ({index})" for index, name in enumerate(names, 1)]
        return numbered, names[0]
    # By words: "width-4" and "width-40" have no 4 in common.
    words = [name.split("-") for name in names]
    common = 0
    for column in zip(*words, strict=False):
        if len(set(column)) > 1:
            break
        common += 1
    title = "-".join(words[0][:common])
    rests = ["-".join(name[common:]) for name in words]
    # Where one name is the beginning of another, nothing is left of it to be called by.
    if title and all(rests):
        return rests, title
    return list(names), title or "runs"


def differing(recipes: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the entries in which recipes differ, by their dotted names, with the value in each
    recipe; ``None`` where it has no such entry.

    >>> differing([{"training": {"lr": 0.1, "epochs": 2}}, {"training": {"lr": 0.01, "epochs": 2}}])
    {'training.lr': [0.1, 0.01]}
    """
    flat = [_flat(recipe) for recipe in recipes]
    names: dict[str, None] = {}  # an ordered set over all recipes
    for entries in flat:
        names |= dict.fromkeys(entries)
    different = {}
    for name in names:
        values = [entries.get(name) for entries in flat]
        if any(value != values[0] for value in values):
            different[name] = values
    return different


def _flat(value: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return the entries of a recipe by their dotted names."""
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        if not above and key in _NOT_COMPARED:
            continue
        dotted = f"{above}.{key}" if above else key
        if isinstance(inner, Mapping):
            flat |= _flat(inner, dotted)
        else:
            flat[dotted] = inner
    return flat
