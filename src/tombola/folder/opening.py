"""Opening: what a run folder says of itself, and its recipe, held to that.

run.json -> [ read_about ] -> format, digest, facts
recipe.yaml -> [ read_recipe ] -> the recipe that the run was made with, or what is wrong
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tombola.folder.contents import check_entries
from tombola.folder.identity import definition_of, differing, run_digest, shared
from tombola.ground.checking import check_in_file
from tombola.ground.errors import ConfigError, DamagedError
from tombola.records import seals
from tombola.records.layout import Layout
from tombola.records.seals import Seals
from tombola.schema.recipe import FORMAT, Recipe, parse

if TYPE_CHECKING:
    from tombola.folder.runs import Run

WRITTEN_ANEW = "take it away, and running the recipe writes it anew"
_BACK = "put it back as it was"
_ABOUT = {
    "format": int,
    "digest": str,
    "facts": dict[str, str],
    "shared": dict[str, Any],
    "seals": int,
    "metrics": list[dict[str, Any]],
    "methods": dict[str, dict[str, Any]],
}


def read_about(layout: Layout) -> dict[str, Any] | None:
    """Return what the folder says of itself, ``None`` where it does not; refuse another
    version's.
    """
    path = layout.about
    if not path.exists():
        return None
    with advising(WRITTEN_ANEW):
        about: dict[str, Any] = Seals(layout.top, required=False).read_json(path)
        check_in_file(path, "it", about, dict[str, Any])
        if "seals" in about:
            Seals(layout.top).read_json(path)  # then it must have one itself
        check_entries(path, about, _ABOUT)
    if about.get("format") != FORMAT:
        raise ConfigError(
            f"'{layout.top}' is a run of format {about.get('format')}, and this tombola makes "
            f"and reads format {FORMAT}; run the recipe again under another --runs folder"
        )
    if about.get("seals", seals.VERSION) != seals.VERSION:
        raise ConfigError(
            f"'{layout.top}' has digests of version {about['seals']}, and this tombola reads "
            f"version {seals.VERSION}: a newer one is needed"
        )
    if "digest" not in about:
        raise DamagedError(f"'{path}' is damaged: it has no digest of the recipe; {WRITTEN_ANEW}")
    return about


def read_recipe(run: Run, about: Mapping[str, Any]) -> Recipe:
    """Read the recipe, and hold it to what the folder knows of it."""
    path = run.layout.recipe
    try:
        plain, wrong = run.seals.read_yaml(path)
        recipe = parse(dict(plain), about.get("methods", {}))
    except DamagedError as error:
        raise DamagedError(f"{error}; {_BACK}") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ConfigError(f"'{path}' cannot be read: {why}; {_BACK}") from error
    different = _other_shared(run, recipe, about) or _other_arms(run, recipe)
    if different:
        raise ConfigError(
            f"'{path}' is not the recipe that its run was made with: {', '.join(different)}; "
            f"{_BACK}"
        )
    # The digest last: of a recipe that was edited, the entries that differ say more.
    if wrong is not None:
        raise DamagedError(f"{wrong}; {_BACK}")
    return recipe


def _other_shared(run: Run, recipe: Recipe, about: Mapping[str, Any]) -> list[str]:
    """Say in what a recipe differs from the one whose digest names the run."""
    known = about.get("shared")
    if known is None:  # of before it was kept
        if run_digest(recipe) == run.digest:
            return []
        if recipe.model.weights is not None:
            run.notes.append(
                "the recipe cannot be compared with the digest that names the run: the "
                f"checkpoint '{recipe.model.weights}' is not here, or is another one now"
            )
            return []
        return [f"its digest is {run_digest(recipe)[:12]}, run.json has {run.digest[:12]}"]
    # A checkpoint counts by its content, and need not be here; what the run began with is not
    # changed by that.
    bare = replace(recipe, model=replace(recipe.model, weights=None))
    now = json.loads(json.dumps(shared(bare)))
    return without_weights(differing(now, known))


def _other_arms(run: Run, recipe: Recipe) -> list[str]:
    """Say in what the arms of a recipe differ from those that ran."""
    known = run.definitions()
    if not run.layout.arms.exists():
        run.notes.append("there is no arms.json: whether the arms are those that ran is not known")
        return []
    different: list[str] = []
    for name in recipe.arms:
        if name not in known:
            different.append(f"arms.json has no arm '{name}'")
            continue
        for entry in differing(definition_of(recipe, name), known[name]):
            different.append(f"arm '{name}': {entry}")
    return different


def without_weights(differences: Sequence[str]) -> list[str]:
    """Leave out where the weights of a checkpoint lie."""
    return [entry for entry in differences if not entry.startswith("model.weights ")]


@contextlib.contextmanager
def advising(advice: str) -> Iterator[None]:
    """Add to what is wrong with a file what can be done about it."""
    try:
        yield
    except DamagedError as error:
        raise DamagedError(f"{error}; {advice}") from error
