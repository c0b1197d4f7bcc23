"""Studies: several runs reported together, such as the variants of one recipe.

run folders -> in what their recipes differ -> one page beside those that each has
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tombola.experiments.experiment import asked
from tombola.folder.runs import Run
from tombola.ground.errors import ConfigError
from tombola.reports import together
from tombola.reports.sheets import Format

# says nothing of what is compared
_MADE_OTHERWISE = ("name", "keep", "device", "replicates", "profile")


def report(
    runs: Sequence[Run], folder: Path | None = None, formats: Sequence[Format] = ("svg", "png")
) -> list[Path]:
    """Write what several runs say beside each other.

    Args:
        runs: In the order in which they are shown; the first is what the others are compared with.
        folder: Where it goes; beside the first run, under what their names have in common, if not
            given.
        formats: Of the figures' own files.

    Returns:
        The files, ``report.html`` last.

    Raises:
        ConfigError: There are fewer than two, one has no results, or two are of one recipe, which
            are to be merged.
    """
    if len(runs) < 2:
        raise ConfigError("a report of several runs needs two or more")
    for index, run in enumerate(runs):
        if not len(run.records):
            raise ConfigError(f"'{run.path}' has no results yet")
        for other in runs[:index]:
            if run.digest == other.digest and run.recipe.arms == other.recipe.arms:
                raise ConfigError(
                    f"'{other.path}' and '{run.path}' are runs of one recipe; tombola runs merge "
                    "joins them"
                )
    names, title = labels([run.recipe.name for run in runs])
    settings = differing([run.recipe.plain() for run in runs])
    parts = [
        together.Part(
            label,
            run.records.all(),
            replace(asked(run.recipe), metric=run.metrics[0]),
            {key: one[index] for key, one in settings.items()},
        )
        for index, (label, run) in enumerate(zip(names, runs, strict=True))
    ]
    open_ = [
        f"{label}: arm {arm}, replicate {k} is not finished"
        for label, run in zip(names, runs, strict=True)
        for arm in run.recipe.arms
        for k in range(run.recipe.replicates)
        if not run.finished(arm, k)
    ]
    open_ += [
        f"{label}: {text}" for label, run in zip(names, runs, strict=True) for text in run.told
    ]
    return together.write(
        folder or runs[0].path.parent / f"{title}-together", title, parts, open_, formats
    )


def labels(names: Sequence[str]) -> tuple[list[str], str]:
    """Return what runs are called beside each other, and what they have in common: their names'
    common beginning.

    >>> labels(["width-small-4", "width-small-16"])
    (['4', '16'], 'width-small')
    >>> labels(["mnist", "mnist"])
    (['mnist (1)', 'mnist (2)'], 'mnist')
    >>> labels(["lenet", "conv3"])
    (['lenet', 'conv3'], 'runs')
    """
    if len(set(names)) < len(names):
        names = [f"{name} ({index})" for index, name in enumerate(names, 1)]
        return list(names), re.sub(r" \(1\)$", "", names[0])
    words = [name.split("-") for name in names]
    same = len(
        list(itertools.takewhile(lambda column: len(set(column)) == 1, zip(*words, strict=False)))
    )
    short = ["-".join(own[same:]) for own in words]
    title = "-".join(words[0][:same])
    return (short, title) if title and all(short) else (list(names), title or "runs")


def differing(recipes: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the entries in which recipes differ, by their dotted names, with what each has;
    ``None`` where none.

    >>> differing([{"training": {"lr": 0.1, "epochs": 2}}, {"training": {"lr": 0.01, "epochs": 2}}])
    {'training.lr': [0.1, 0.01]}
    """
    flat = [_flat(recipe) for recipe in recipes]
    names = list(dict.fromkeys(name for one in flat for name in one))
    found = {name: [one.get(name) for one in flat] for name in names}
    return {
        name: values
        for name, values in found.items()
        if any(value != values[0] for value in values)
    }


def _flat(value: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, inner in value.items():
        if not above and key in _MADE_OTHERWISE:
            continue
        dotted = f"{above}.{key}" if above else key
        found |= _flat(inner, dotted) if isinstance(inner, Mapping) else {dotted: inner}
    return found
