"""Identity: what makes a run the same run and an arm the same arm, so that a folder may go on.

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
READING = {"image_folder": ("path", "workers"), "arrays": ("path",)}


def shared(recipe: Recipe) -> dict[str, Any]:
    """Return what all arms of a run share, as plain data: of a GPU its kind, of a checkpoint its
    content.

    Of a user's own images neither their place nor the number of processes that read them: images
    that were moved are still the same. That others are refused in their place is the business of
    `check_same_inputs`.
    """
    whole = recipe.plain()
    found = {key: whole[key] for key in SHARED}
    if "task" in whole:
        found["task"] = whole["task"]
    reading = READING.get(recipe.data.name, ())
    found["data"] = {key: value for key, value in found["data"].items() if key not in reading}
    found["device"] = found["device"].partition(":")[0]
    if recipe.model.weights is not None:
        path = users_path(recipe.model.weights, "model.weights")
        # Of a run that was made elsewhere, or long ago, the file need not be here.
        content = (
            hashlib.sha256(path.read_bytes()).hexdigest()
            if path.is_file()
            else f"{path}, which is not here"
        )
        found["model"] = found["model"] | {"weights": content}
    return found


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
    """
    found = []
    for key in [*now, *(key for key in was if key not in now)]:
        one, other = now.get(key), was.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += differing(one, other, f"{where}{key}.")
        elif one != other:
            found.append(f"{where}{key} was {other}, is {one}")
    return found


def definition_of(recipe: Recipe, name: str) -> dict[str, Any]:
    """Return what an arm of a recipe is, as plain data; of one that follows another, that
    other's too.
    """
    arm = recipe.arms[name]
    plain: dict[str, Any] = json.loads(json.dumps(arm.definition()))
    return plain | {"source": definition_of(recipe, arm.source)} if arm.source else plain
