"""Overrides: entries that are put over a recipe by their dotted names.

    command line, scales, variants -> [ put over plain data ] -> `tombola.schema.recipe.parse`

A recipe's own named sets of overrides are its scales and variants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tombola.ground.errors import ConfigError, near, shown
from tombola.schema.plain_yaml import from_yaml

SetKind = Literal["scales", "variants"]


def pairs(overrides: Sequence[str]) -> list[tuple[str, Any]]:
    """Read overrides as they stand on a command line: dotted names and their values.

    >>> pairs(["--training.lr", "0.01", "--data=mnist"])
    [('training.lr', 0.01), ('data', 'mnist')]
    """
    named: list[tuple[str, Any]] = []
    rest = list(overrides)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--"):
            raise ConfigError(f"{shown(flag)} stands alone; an override is --dotted.name VALUE")
        name, equals, value = flag[2:].partition("=")
        if not equals:
            if not rest:
                raise ConfigError(f"{flag} has no value; an override is --dotted.name VALUE")
            value = rest.pop(0)
        named.append((name, from_yaml(value, flag)))
    return named


def override(content: dict[str, Any], dotted: str, value: Any) -> None:
    """Put a value over an entry of a recipe, in place.

    Raises:
        ConfigError: There is no such arm, or an entry on the way is no mapping.

    >>> recipe = {"data": "digits"}
    >>> override(recipe, "data.valid", 100)
    >>> recipe
    {'data': {'name': 'digits', 'valid': 100}}
    """
    *parents, last = dotted.split(".")
    # Else a misspelt name would make a new arm of this entry alone.
    known = content.get("arms")
    if (
        parents[:1] == ["arms"]
        and len(parents) > 1
        and isinstance(known, dict)
        and parents[1] not in known
    ):
        raise ConfigError(
            f"--{dotted}: there is no arm {shown(parents[1])}; the arms are: {', '.join(known)}."
            f"{near(parents[1], known)} A new one is given whole: "
            f"--arms.{parents[1]} '{{method: lth, rate: 0.2}}'"
        )
    place = content
    for parent in parents:
        inner = place.get(parent, {})
        if isinstance(inner, str) and dotted.startswith(
            ("task.", "data.", "model.")
        ):  # data: digits
            inner = {"name": inner}
        if not isinstance(inner, dict):
            raise ConfigError(f"--{dotted}: {shown(parent)} is {shown(inner)}, not a mapping")
        # a copy: by an anchor of YAML other arms may hold the same mapping
        place[parent] = dict(inner)
        place = place[parent]
    place[last] = value


def named_sets(content: Mapping[str, Any], kind: SetKind) -> dict[str, dict[str, Any]]:
    """Return a recipe's own named sets of overrides.

    Raises:
        ConfigError: They are no mappings.

    >>> named_sets({"scales": {"small": {"training.epochs": 1}}}, "scales")
    {'small': {'training.epochs': 1}}
    """
    sets = content.get(kind)
    if sets is None:
        return {}
    for overrides in sets.values() if isinstance(sets, dict) else [sets]:
        if not isinstance(overrides, dict):
            raise ConfigError(
                f"{kind} has {shown(overrides)}; it names sets of overrides, such as "
                f"{kind}: {{small: {{training.epochs: 1}}}}"
            )
    return dict(sets)


def take_set(content: dict[str, Any], kind: SetKind, name: str | None) -> None:
    """Put one of a recipe's own named sets of overrides over it, in place.

    The recipe loses its sets of that kind; such a run has a name of its own.

    Args:
        content: The recipe as plain data.
        kind: Which sets.
        name: The set; ``None`` takes none of them.

    Raises:
        ConfigError: There is no such set.
    """
    sets = named_sets(content, kind)
    content.pop(kind, None)
    if name is None:
        return
    if name not in sets:
        raise ConfigError(
            f"the recipe has no {kind[:-1]} {shown(name)}; it has: {', '.join(sets) or 'none'}."
            f"{near(name, sets)}"
        )
    # By its name the run's folder says which set was taken.
    content["name"] = f"{content['name']}-{name}"
    for dotted, value in sets[name].items():
        override(content, str(dotted), value)
