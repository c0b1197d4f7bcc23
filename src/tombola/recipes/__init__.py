"""Recipes: the experiments that ship, one YAML file each, run by name.

    name or path -> [ path_of ] -> the file -> `tombola.schema.recipe.read`

They lie inside the package, so that a wheel and a clone hold the same files and this is the one
place that looks for them; the folder ``recipes`` at the top of a clone is a link to it. Each file
begins with a comment: its first sentence says what the recipe is, one that begins with "Cost:" what
it takes. Nothing here needs torch.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from tombola.ground.errors import ConfigError, near

_FOLDER = Path(__file__).parent
_SENTENCE_ENDS = re.compile(r"(?<=[.?!])\s+(?=[A-Z`])|$")


def names() -> list[str]:
    """List the recipes that ship, sorted.

    >>> "digits" in names()
    True
    """
    return sorted(file.stem for file in _FOLDER.glob("*.yaml"))


def path_of(given: str | Path) -> Path:
    """Return the file that a path or the name of a recipe means; a file of that name comes first.

    Raises:
        ConfigError: It names no file, and no recipe that ships.

    >>> path_of("digits").name
    'digits.yaml'
    >>> path_of("digit")
    Traceback (most recent call last):
    tombola.ground.errors.ConfigError: there is no recipe 'digit' (tombola list recipes). \
Did you mean 'digits'?
    """
    path, name = Path(given), str(given)
    # Unlike those of Path, these two functions raise no error, whatever the name.
    if os.path.isfile(path):  # noqa: PTH113
        return path
    if name in names():
        return _FOLDER / f"{name}.yaml"
    if os.path.exists(path):  # noqa: PTH110 - a pipe, or what reading it will refuse
        return path
    if path.stem in names() and path.suffix in (".yaml", ".yml", ""):
        raise ConfigError(
            f"there is no recipe '{given}'; the one that ships with tombola is named '{path.stem}'"
        )
    if path.name == name and not path.suffix:
        raise ConfigError(
            f"there is no recipe '{given}' (tombola list recipes).{near(name, names())}"
        )
    return path  # reading it says what is wrong with it


def described(name: str) -> tuple[str, str]:
    """Return what a recipe that ships is, and what it costs ("" where it does not say): sentences
    of its comment.

    >>> described("causes")[0].startswith("What COLT's effect comes from")
    True
    >>> described("causes")[1].startswith("725 trainings' worth")
    True
    """
    lines = []
    for line in (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    summary = _first_sentence(" ".join(lines))
    cost = ""
    for number, line in enumerate(lines):
        if line.startswith("Cost: "):
            cost = _first_sentence(" ".join(lines[number:]).removeprefix("Cost: "))
    return summary, cost


def _first_sentence(text: str) -> str:
    ends = _SENTENCE_ENDS.search(text)
    return text[: ends.start()] if ends else text
