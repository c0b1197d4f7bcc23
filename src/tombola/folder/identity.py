"""Identity: what makes a run the same run and an arm the same arm, so that a folder can be
continued.

    recipe -> [ run_digest ] -> the folder's name
           -> [ definition_of ] -> arms.json
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tombola.ground.files import users_path
from tombola.schema.recipe import FORMAT, Recipe
from tombola.ticket_format import digest_json

# What all arms of a run share; a run whose recipe differs in one of these is another run.
SHARED = ("data", "model", "training", "prunable", "rewind", "seed", "device")
# Options that say where a user's own images are and how they are read; which they are, the data's
# fingerprint tells.
READING = {
    "image_folder": ("path", "workers"),
    "arrays": ("path",),
    "coco_folder": (
        "annotations",
        "images",
        "test_annotations",
        "test_images",
        "valid_annotations",
        "valid_images",
    ),
}


def shared(recipe: Recipe) -> dict[str, Any]:
    """Return what all arms of a run share, as plain data: of a GPU its kind, of a checkpoint its
    content.

    Where a user's own images lie and how many processes read them is left out: images that were
    moved are still the same. Other images in their place are refused by `check_same_inputs`.
    """
    plain = recipe.to_dict()
    entries = {key: plain[key] for key in SHARED}
    if "task" in plain:
        entries["task"] = plain["task"]
    reading = READING.get(recipe.data.name, ())
    entries["data"] = {key: value for key, value in entries["data"].items() if key not in reading}
    entries["device"] = entries["device"].partition(":")[0]
    if recipe.model.weights is not None:
        path = users_path(recipe.model.weights, "model.weights")
        # Of a run that was made elsewhere, or long ago, the file need not be here.
        content = f"{path}, which is not here"
        if path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        entries["model"] = entries["model"] | {"weights": content}
    return entries


def run_digest(recipe: Recipe) -> str:
    """Digest of what all arms share: data, model, training, seed, kind of device; arms and
    rounds may be added.
    """
    return digest_json({"format": FORMAT, **shared(recipe)})


def folder_of(recipe: Recipe, parent: Path) -> Path:
    """Return where the run of a recipe is."""
    return parent / f"{recipe.name}-{run_digest(recipe)[:8]}"


def differing(now: Mapping[str, Any], was: Mapping[str, Any], where: str = "") -> list[str]:
    """Say in which fields two mappings differ, those within mappings by their dotted names.

    >>> differing({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "c": 2}})
    ['a.b was 3, is 1']

    Where the methods of two arms differ, their options do not compare:

    >>> differing({"method": "lth", "rate": 0.2}, {"method": "one_shot", "densities": [0.5]})
    ['method was one_shot, is lth']
    """
    if now.get("method") != was.get("method"):
        return [f"{where}method was {was.get('method')}, is {now.get('method')}"]
    differences = []
    for key in dict.fromkeys((*now, *was)):  # each once, in order
        value, value_before = now.get(key), was.get(key)
        if isinstance(value, Mapping) and isinstance(value_before, Mapping):
            differences += differing(value, value_before, f"{where}{key}.")
        elif value != value_before:
            differences.append(f"{where}{key} was {value_before}, is {value}")
    return differences


def definition_of(recipe: Recipe, name: str) -> dict[str, Any]:
    """Return what an arm of a recipe is, as plain data; of one that follows another, that
    other's too.
    """
    arm = recipe.arms[name]
    definition: dict[str, Any] = json.loads(json.dumps(arm.definition()))
    if arm.source:
        definition["source"] = definition_of(recipe, arm.source)
    if arm.paced_by:
        entry, name = arm.paced_by
        definition[entry] = definition_of(recipe, name)
    return definition
