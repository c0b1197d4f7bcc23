"""Drafts: a commented recipe for a data set and a model, with arms that fit and what it costs here.

    data, model -> [ look at both ] -> text -> recipe -> plan -> estimate -> the text with its cost

The text is read and planned before it is given away, so a draft always runs.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tombola.data.loading import load
from tombola.experiments import experiment
from tombola.experiments.plans import Plans, make_task, resolve_defaults
from tombola.experiments.progress import duration
from tombola.ground import catalogue, devices
from tombola.ground.errors import ConfigError
from tombola.masks.masks import ones, size
from tombola.models.building import find_head
from tombola.schema.recipe import Recipe, parse
from tombola.tasks._classification import Classification

_STEPS = 2000  # of a training, about: enough for a small network to have learnt something
_MOST_EPOCHS = 100
_FEW = 5000  # training examples below which batches are small
_LEAST_CLASSES = 4  # so that each of two partitions has two to tell apart


@dataclass(frozen=True)
class Draft:
    """A recipe to begin with.

    Attributes:
        name: Of the recipe; its file is named after it.
        text: YAML with comments.
        cost: What it takes on this machine.
    """

    name: str
    text: str
    cost: str


def draft(
    data: str | Mapping[str, Any], model: str | Mapping[str, Any], *, data_root: Path | None = None,
    workers: int | None = None,
) -> Draft:  # fmt: skip
    """Write a recipe for a data set and a model: LTH and COLT-2, each beside what it has to beat.

    Args:
        data: An entry of ``tombola.data`` or a function of the user's own,
            ``package.module:function``; or a mapping with its ``name`` and options, as in a recipe.
        model: The same of ``tombola.models``; of a function's model the output layer is found.
        data_root: Root of the data sets.
        workers: Worker processes that the cost is told for; one a core if not given.

    Raises:
        InputError: There is no such data set or model, or they do not go together.

    >>> made = draft("digits", {"name": "mlp", "hidden": [20]}, workers=1)
    >>> made.name, yaml.safe_load(made.text)["arms"]["lth"]
    ('digits-mlp', {'method': 'lth', 'rate': 0.2})
    """
    given = {"data": _mapping(data, "data"), "model": _mapping(model, "model")}
    recipe, task = _looked_at(given, data_root)
    if recipe.model.head is not None:
        given["model"]["head"] = recipe.model.head
    name = _named(recipe)
    text = _text(name, given, task)
    whole = yaml.safe_load(text)
    del whole["scales"]
    plans = Plans.of(resolve_defaults(parse(whole), task), task)
    ahead = experiment.foresee(plans, runs=Path("runs"), workers=workers)
    crew = workers or devices.workers(plans.recipe.device, plans.recipe.training.threads)
    cost = (
        f"{ahead.counted}, about {duration(ahead.seconds)} with {crew} "
        f"worker{'s' if crew > 1 else ''} on this machine"
    )
    return Draft(name, text.replace(_COST, cost), cost)


def _mapping(given: str | Mapping[str, Any], what: str) -> dict[str, Any]:
    if isinstance(given, str):
        return {"name": given}
    if isinstance(given, Mapping):
        return dict(given)
    raise ConfigError(
        f"{what} is {given!r}; it should be a name, or a mapping with name and options"
    )


def _looked_at(given: Mapping[str, Any], data_root: Path | None) -> tuple[Recipe, Classification]:
    """Load the data and build the model, whose output layer is looked for where it is not named."""
    whole = {
        "training": {"epochs": 1},
        "arms": {"dense": {"method": "dense"}},
        "name": "draft",
        **given,
    }
    recipe = parse(whole)
    name = recipe.model.name
    try:
        return recipe, _made(recipe, data_root)
    except ConfigError:
        if not catalogue.is_own(name) or recipe.model.head is not None:
            raise
        head = _head_of(recipe, data_root)
        if head is None:
            raise
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, head=head))
    return recipe, _made(recipe, data_root)


def _made(recipe: Recipe, data_root: Path | None) -> Classification:
    task = make_task(recipe, data_root)
    assert isinstance(task, Classification)  # a draft names no task
    return task


def _head_of(recipe: Recipe, data_root: Path | None) -> str | None:
    """Find the output layer of the user's own model; ``None`` where that is not what is wrong
    with it.
    """
    examples = load(recipe.data.name, root=data_root, options=recipe.data.options)
    function, options = catalogue.own(recipe.model.name), recipe.model.options
    shape, classes = tuple(examples.train_images.shape[1:]), examples.num_classes
    try:
        return find_head(
            catalogue.call(function, "", classes, options=options, image_shape=shape), classes
        )
    except Exception:  # the first error says what the model is wrong with
        return None


def _named(recipe: Recipe) -> str:
    """Name a recipe after its data set and model, in letters, digits and dashes."""
    words = [name.rpartition(":")[2] for name in (recipe.data.name, recipe.model.name)]
    return (
        "-".join(filter(None, (re.sub(r"[^A-Za-z0-9]+", "-", word).strip("-") for word in words)))
        or "recipe"
    )


_COST = "THE COST"


def _text(name: str, given: Mapping[str, Any], task: Classification) -> str:
    splits = task.splits
    batch = 32 if len(splits.train) < _FEW else 64
    batches = math.ceil(len(splits.train) / batch)
    epochs = min(_MOST_EPOCHS, math.ceil(_STEPS / batches))
    try:
        mask, prunable = ones(task.model, head=task.head), "no_head"
    except ConfigError:  # nothing but an output layer
        mask, prunable = ones(task.model, "all", head=task.head), "all"
    by_classes = splits.num_classes >= _LEAST_CLASSES and prunable == "no_head"
    halves = "" if by_classes else ", split_by: examples"
    each = "half of the classes" if by_classes else "half of the examples"
    lines = [
        f"# LTH and COLT-2 on {given['data']['name']} with {given['model']['name']}, each beside "
        "what it has to beat.",
        "# Written by tombola init; every line may be changed here, or on the command line: "
        "--training.epochs 10",
        f"# Cost: {_COST}.",
        f"name: {name}",
        _entry("data", given["data"], f"{len(splits.train):,} training, {len(splits.valid):,} validation, "
               f"{len(splits.test):,} test examples of {splits.num_classes} classes"),
        _entry("model", given["model"], f"{size(mask):,} weights that may be pruned"),
        f"training: {{optimizer: adam, lr: 1.0e-3, batch_size: {batch}, epochs: {epochs}}}"
        f"  # {epochs * batches:,} steps; papers train longer",
        *(["prunable: all  # the model has no weights but those of its output layer"] if prunable == "all" else []),
        "arms:",
        "  # Iterative magnitude pruning: the smallest fifth of the weights goes in every round.",
        "  lth: {method: lth, rate: 0.2}",
        "  # What its tickets have to beat: as many weights in each layer, drawn at random.",
        "  random-lth: {method: random_ticket, source: lth}",
        f"  # Two models, each trained on {each}; a round keeps the weights that both keep.",
        f"  colt-2: {{method: colt, partitions: 2, rate: 0.15{halves}}}",
        "  # What its tickets have to beat, and what pruning as fast without partitions gives.",
        "  random-colt-2: {method: random_ticket, source: colt-2}",
        "  matched: {match: colt-2}",
        "until: {density: 0.05}  # the searches end below 5 % of the weights",
        "verdict: {margin: 0.01, at: [0.2, 0.1, 0.05]}  # a ticket may lose one point and is as "
        "accurate as dense",
        "replicates: 3  # the fewest that a verdict takes; five decide more",
        "seed: 0",
        "scales:  # tombola run FILE --scale small: a first look, without verdicts",
        "  small: {replicates: 1, until.density: 0.4, verdict.at: [0.5]}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _entry(key: str, given: Mapping[str, Any], comment: str) -> str:
    flow = yaml.safe_dump(
        dict(given), default_flow_style=True, sort_keys=False, width=math.inf
    ).strip()
    return f"{key}: {flow}  # {comment}"
