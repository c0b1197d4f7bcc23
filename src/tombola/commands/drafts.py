"""Drafts: a recipe for a data set and a model, with suitable arms and its cost on this machine.

    data, model -> [ look at both ] -> text -> recipe -> plan -> estimate -> the text with its cost

The text is parsed and planned before it is returned, so a draft always runs.
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
from tombola.ground.errors import ConfigError, shown
from tombola.masks.masks import ones, size
from tombola.models.building import find_head
from tombola.schema.recipe import Recipe, parse
from tombola.tasks._classification import Classification

_STEPS = 2000  # about, per training: enough for a small network to learn something
_MOST_EPOCHS = 100
_FEW_EXAMPLES = 5000  # below this, batches are small
_LEAST_CLASSES = 4  # so that each of two partitions has two classes to distinguish
_COST = "THE COST"  # a placeholder in the text until the cost is known


@dataclass(frozen=True)
class Draft:
    """A recipe to start from.

    Attributes:
        name: The recipe's name; its file is named after it.
        text: YAML with comments.
        cost: What it takes on this machine, in words.
    """

    name: str
    text: str
    cost: str


def draft(
    data: str | Mapping[str, Any],
    model: str | Mapping[str, Any],
    *,
    data_root: Path | None = None,
    workers: int | None = None,
) -> Draft:
    """Write a recipe for a data set and a model: LTH and COLT-2, each with its controls.

    Args:
        data: An entry of ``tombola.data`` or a function of the user's own,
            ``package.module:function``; or a mapping with its ``name`` and options, as in a recipe.
        model: The same for ``tombola.models``; the output layer of a function's model is detected.
        data_root: Root of the data sets.
        workers: Worker processes to estimate the cost for; one per core if not given.

    Raises:
        InputError: There is no such data set or model, or they do not fit together.

    >>> recipe = draft("digits", {"name": "mlp", "hidden": [20]}, workers=1)
    >>> recipe.name, yaml.safe_load(recipe.text)["arms"]["lth"]
    ('digits-mlp', {'method': 'lth', 'rate': 0.2})
    """
    given = {"data": _mapping(data, "data"), "model": _mapping(model, "model")}
    recipe, task = _load(given, data_root)
    if recipe.model.head is not None:
        given["model"]["head"] = recipe.model.head
    name = _name(recipe)
    # The cost is known once the text has been planned, so it is put in last.
    text = _text(name, given, task)
    # Read as a user would run it. Scales are taken out when a recipe is read from a file.
    content = yaml.safe_load(text)
    del content["scales"]
    plans = Plans.of(resolve_defaults(parse(content), task), task)
    ahead = experiment.foresee(plans, runs=Path("runs"), workers=workers)
    number = workers or devices.workers(plans.recipe.device, plans.recipe.training.threads)
    cost = (
        f"{ahead.counted}, about {duration(ahead.seconds)} with {number} "
        f"worker{'s' * (number != 1)} on this machine"
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


def _load(given: Mapping[str, Any], data_root: Path | None) -> tuple[Recipe, Classification]:
    """Load the data and build the model; detect its output layer if it is not named.

    Raises:
        ConfigError: One of them is for a task other than classification, or cannot be had.
    """
    recipe = parse(
        {
            "training": {"epochs": 1},
            "arms": {"dense": {"method": "dense"}},
            "name": "draft",
            **given,
        }
    )
    for kind, name in (("data", recipe.data.name), ("models", recipe.model.name)):
        task = catalogue.task_of(f"tombola.{kind}", name)
        if task not in (None, catalogue.CLASSIFICATION):
            raise ConfigError(
                f"{kind.removesuffix('s')} {shown(name)} is for the task {task}, and recipes are "
                f"drafted for classification alone; tombola list tasks shows what task: {task} "
                "needs, and tombola list recipes has included ones"
            )
    try:
        return recipe, _task(recipe, data_root)
    except ConfigError:
        if not catalogue.is_own(recipe.model.name) or recipe.model.head is not None:
            raise
        head = _head_of(recipe, data_root)
        if head is None:
            raise
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, head=head))
    return recipe, _task(recipe, data_root)


def _task(recipe: Recipe, data_root: Path | None) -> Classification:
    task = make_task(recipe, data_root)
    assert isinstance(task, Classification)  # a draft names no task
    return task


def _head_of(recipe: Recipe, data_root: Path | None) -> str | None:
    """Find the output layer of a user-defined model; ``None`` if its problem is another one."""
    # The number of classes shows which layer is the output layer.
    examples = load(recipe.data.name, root=data_root, options=recipe.data.options)
    classes = examples.num_classes
    shape = tuple(examples.train_images.shape[1:])
    function = catalogue.own(recipe.model.name)
    options = recipe.model.options
    try:
        model = catalogue.call(function, "", classes, options=options, image_shape=shape)
        return find_head(model, classes)
    except Exception:  # the first error says what is wrong with the model
        return None


def _name(recipe: Recipe) -> str:
    """Name a recipe after its data set and model, in letters, digits and dashes."""
    words = []
    for name in (recipe.data.name, recipe.model.name):
        function = name.rpartition(":")[2]
        words.append(re.sub(r"[^A-Za-z0-9]+", "-", function).strip("-"))
    return "-".join(filter(None, words)) or "recipe"


_TEXT = """\
# LTH and COLT-2 on {data_name} with {model_name}, each with its controls.
# Written by tombola init; every line may be changed here, or on the command line: \
--training.epochs 10
# Cost: {cost}.
name: {name}
data: {data}  # {examples}
model: {model}  # {weights:,} prunable weights
training: {{optimizer: adam, lr: 1.0e-3, batch_size: {batch}, epochs: {epochs}}}  \
# {steps:,} steps; papers train longer
{prunable}arms:
  # Iterative magnitude pruning: every round removes the smallest fifth of the weights.
  lth: {{method: lth, rate: 0.2}}
  # Its control: as many weights in each layer, drawn at random.
  random-lth: {{method: random_ticket, source: lth}}
  # Two models, each trained on {half}; a round keeps the weights that both keep.
  colt-2: {{method: colt, partitions: 2, rate: 0.15{split_by}}}
  # Its controls: a random ticket, and pruning as fast without partitions.
  random-colt-2: {{method: random_ticket, source: colt-2}}
  matched: {{match: colt-2}}
until: {{density: 0.05}}  # the searches end below 5 % of the weights
verdict: {{margin: 0.01, at: [0.2, 0.1, 0.05]}}  \
# a ticket within one point of dense counts as equally accurate
replicates: 3  # the minimum for a verdict; five decide more
seed: 0
scales:  # tombola run FILE --scale small: a first look, without verdicts
  small: {{replicates: 1, until.density: 0.4, verdict.at: [0.5]}}
"""


def _text(name: str, given: Mapping[str, Any], task: Classification) -> str:
    splits = task.splits
    batch = 32 if len(splits.train) < _FEW_EXAMPLES else 64
    # As many epochs as make enough steps: of few examples there are few steps in each.
    batches = math.ceil(len(splits.train) / batch)
    epochs = min(_MOST_EPOCHS, math.ceil(_STEPS / batches))
    prunable = ""
    try:
        mask = ones(task.model, head=task.head)
    except ConfigError:  # the model is only an output layer
        mask = ones(task.model, "all", head=task.head)
        prunable = "prunable: all  # the model has no weights but those of its output layer\n"
    # Class partitions need an unpruned head and enough classes.
    by_classes = splits.num_classes >= _LEAST_CLASSES and not prunable
    examples = (
        f"{len(splits.train):,} training, {len(splits.valid):,} validation, "
        f"{len(splits.test):,} test examples of {splits.num_classes} classes"
    )
    return _TEXT.format(
        data_name=given["data"]["name"],
        model_name=given["model"]["name"],
        cost=_COST,
        name=name,
        data=_flow(given["data"]),
        examples=examples,
        model=_flow(given["model"]),
        weights=size(mask),
        batch=batch,
        epochs=epochs,
        steps=epochs * batches,
        prunable=prunable,
        half="half of the classes" if by_classes else "half of the examples",
        split_by="" if by_classes else ", split_by: examples",
    )


def _flow(entries: Mapping[str, Any]) -> str:
    """Write a mapping as YAML on one line."""
    text = yaml.safe_dump(dict(entries), default_flow_style=True, sort_keys=False, width=math.inf)
    return text.strip()
