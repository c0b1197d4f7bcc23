"""Profiles: what the COLT paper does, and what its authors' published code does instead.

A profile sets a recipe's entries that the two disagree on; what it sets cannot be changed silently. The paper is
arXiv:2212.12770, section IV-A; the code is what its authors published with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tombola.errors import ConfigError, near

# Point for point: the paper, the code. An arm's entries concern class partitions alone (`scored`: every search).
PROFILES: dict[str, dict[str, Any]] = {
    "paper": {
        "training.batch_size": 64,
        "training.milestones": [25, 35, 45],
        "training.select": "best",
        "training.select_by": "loss",
        "model.init": "xavier",
        "arms.by": "classes",
        "arms.remainder": "kept",
        "arms.scored": "selected",
    },
    "repo": {
        "training.batch_size": 256,
        # The code says 20, 30, 45 and begins to count after epoch 1.
        "training.milestones": [21, 31, 46],
        "training.select": "best",
        "training.select_by": "accuracy",
        "data.valid": "test",
        "model.init": "default",
        "arms.by": "classes_in_order",
        "arms.remainder": "dropped",
        # With three or more partitions; the last version for two prunes the selected weights in every round.
        "arms.scored": "selected_then_last",
    },
}

# What a run must hold otherwise, and a profile gives up, by name.
LIFTED = {
    "repo": (
        "no test leakage: weights are selected on the test split",
        "all classes covered: those left over by a division that does not come out even are in no partition",
        "one rule of which weights are scored: COLT with three or more partitions scores the last from round 2 on",
    )
}


@dataclass(frozen=True)
class Profile:
    """A named set of entries.

    Attributes:
        name: "paper" or "repo".
        but: Dotted names of those entries that the recipe sets otherwise; ``except`` in YAML.
    """

    name: Literal["paper", "repo"]
    but: tuple[str, ...] = ()

    @property
    def lifted(self) -> tuple[str, ...]:
        """The rules that it gives up, in words."""
        return LIFTED.get(self.name, ())


def put_in(whole: Mapping[str, Any], profile: Profile) -> dict[str, Any]:
    """Put a profile's entries into a recipe as plain data.

    Raises:
        ConfigError: The recipe sets one of them otherwise and does not say so, or it excepts what is no such entry.

    >>> put_in({"training": {"epochs": 50}, "arms": {}}, Profile("repo"))["training"]["batch_size"]
    256
    """
    entries = PROFILES[profile.name]
    for dotted in profile.but:
        if dotted not in entries:
            raise ConfigError(f"profile.except names '{dotted}'; profile {profile.name} sets: {', '.join(entries)}."
                              f"{near(dotted, entries)}")  # fmt: skip
    result = dict(whole)
    for dotted, value in entries.items():
        if dotted in profile.but:
            continue
        section, key = dotted.split(".")
        given = result.get(section, {})
        given = {"name": given} if isinstance(given, str) else given
        if not isinstance(given, Mapping):
            continue  # refused when it is read
        if section == "arms":
            result[section] = {name: _arm(name, arm, key, value, profile) for name, arm in given.items()}
        else:
            result[section] = _set(given, key, value, dotted, profile)
    training = result.get("training")
    if "training.milestones" not in profile.but and isinstance(training, Mapping):
        result["training"] = {"schedule": "multistep", **training}
    return result


def _arm(name: str, arm: Any, key: str, value: Any, profile: Profile) -> Any:
    if not isinstance(arm, Mapping) or arm.get("method") != "colt":
        return arm
    by_classes = str(arm.get("by", "classes")).startswith("classes")
    if key == "scored":
        number = len(arm["on"]) if arm.get("on") else arm.get("partitions") or 2
        if not isinstance(number, int) or number < 3:
            value = "selected"
    elif not by_classes:
        return arm
    return _set(arm, key, value, f"arms.{name}.{key}", profile)


def _set(given: Mapping[str, Any], key: str, value: Any, dotted: str, profile: Profile) -> dict[str, Any]:
    seen = given.get(key, value)
    if (list(seen) if isinstance(seen, list | tuple) else seen) != value:
        general = "arms." + key if dotted.startswith("arms.") else dotted
        raise ConfigError(f"{dotted} is {seen}, and profile {profile.name} has {value}; take it out, or say so with "
                          f"profile: {{name: {profile.name}, except: [{general}]}}")  # fmt: skip
    return {**given, key: value}
