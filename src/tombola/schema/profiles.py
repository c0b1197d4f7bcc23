"""Profiles: the settings of the COLT paper, and those of its authors' published code.

A profile sets the entries of a recipe on which the two disagree; they cannot be changed silently.
The paper is arXiv:2212.12770, section IV-A; the code is what its authors published with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tombola import methods
from tombola.ground.errors import ConfigError, near

# Entry by entry: the paper, the code. Entries of arms apply only to class partitions (`scored`: to
# every search).
PROFILES: dict[str, dict[str, Any]] = {
    "paper": {
        "training.batch_size": 64,
        "training.milestones": [25, 35, 45],
        "training.select": "best",
        "training.select_by": "loss",
        "model.init": "xavier",
        "arms.split_by": "classes",
        "arms.remainder": "kept",
        "arms.scored": "selected",
    },
    "repo": {
        "training.batch_size": 256,
        # The code says 20, 30, 45 and starts counting after epoch 1.
        "training.milestones": [21, 31, 46],
        "training.select": "best",
        "training.select_by": "accuracy",
        "data.valid": "test",
        "model.init": "default",
        "arms.split_by": "classes_in_order",
        "arms.remainder": "dropped",
        # With three or more partitions; for two, the latest version of the code scores the
        # selected weights in every round.
        "arms.scored": "selected_then_last",
    },
}

# Rules that every other run must follow, and that an entry of a profile lifts.
LIFTED = {
    "repo": {
        "data.valid": "no test leakage: weights are selected on the test split",
        "arms.remainder": (
            "all classes covered: classes left over by an uneven division are in no partition"
        ),
        "arms.scored": (
            "one rule for which weights are scored: COLT with three or more partitions scores the "
            "last ones from round 2 on"
        ),
    }
}


@dataclass(frozen=True)
class Profile:
    """A named set of entries.

    Attributes:
        name: ``paper`` or ``repo``.
        but: Dotted names of the entries that the recipe sets differently, such as
            ``training.milestones``.
    """

    name: Literal["paper", "repo"] = field(metadata={"short": True})
    but: tuple[str, ...] = field(default=(), metadata={"alias": "except"})

    @property
    def lifted(self) -> tuple[str, ...]:
        """The rules that it lifts, in words."""
        rules = dict(LIFTED.get(self.name, {}))
        for entry in self.but:
            rules.pop(entry, None)
        return tuple(rules.values())


def put_in(content: Mapping[str, Any], profile: Profile) -> dict[str, Any]:
    """Put a profile's entries into a recipe as plain data.

    Raises:
        ConfigError: The recipe sets one of them differently without an exception, or an exception
            names no such entry.

    >>> put_in({"training": {"epochs": 50}, "arms": {}}, Profile("repo"))["training"]["batch_size"]
    256
    """
    entries = PROFILES[profile.name]
    for dotted in profile.but:
        if dotted not in entries:
            raise ConfigError(
                f"profile.except names '{dotted}'; profile {profile.name} sets: "
                f"{', '.join(entries)}.{near(dotted, entries)}"
            )
    result = dict(content)
    for dotted, value in entries.items():
        if dotted in profile.but:
            continue
        section = dotted.partition(".")[0]
        given = result.get(section, {})
        given = {"name": given} if isinstance(given, str) else given
        if not isinstance(given, Mapping):
            continue  # the reader of the recipe refuses it
        if section == "arms":
            result["arms"] = {}
            for name, arm in given.items():
                result["arms"][name] = _with_entry(name, arm, dotted, value, profile)
        else:
            result[section] = _set(given, dotted, value, dotted, profile)
        # A search may have a training of its own, which would undo the profile's.
        if section == "training":
            _check_searches(result.get("arms"), dotted, value, profile)
    # The profile's milestones have no meaning without the schedule that reads them.
    training = result.get("training")
    if "training.milestones" not in profile.but and isinstance(training, Mapping):
        result["training"] = {"schedule": "multistep", **training}
    return result


def _check_searches(arms: Any, entry: str, value: Any, profile: Profile) -> None:
    """Refuse an arm whose own training settings contradict an entry."""
    if not isinstance(arms, Mapping):
        return
    for name, arm in arms.items():
        training = arm.get("training") if isinstance(arm, Mapping) else None
        if isinstance(training, Mapping):
            _set(training, entry, value, f"arms.{name}.{entry}", profile)


def _with_entry(name: str, arm: Any, entry: str, value: Any, profile: Profile) -> Any:
    """Return an arm with a profile's entry, if its method has that entry."""
    method = arm.get("method") if isinstance(arm, Mapping) else None
    kind = methods.shipped(method) if isinstance(method, str) else None
    key = entry.removeprefix("arms.")
    value = None if kind is None else kind.of_profile(key, value, arm)
    return arm if value is None else _set(arm, entry, value, f"arms.{name}.{key}", profile)


def _set(
    given: Mapping[str, Any], entry: str, value: Any, where: str, profile: Profile
) -> dict[str, Any]:
    """Set a profile's entry in its section; refuse a recipe that sets it differently."""
    key = entry.partition(".")[2]
    seen = given.get(key, value)
    # From YAML it is a list, in plain data of a recipe a tuple.
    if (list(seen) if isinstance(seen, list | tuple) else seen) != value:
        raise ConfigError(
            f"{where} is {seen}, but profile {profile.name} sets {value}; remove it, or allow it "
            f"with profile: {{name: {profile.name}, except: [{entry}]}}"
        )
    return {**given, key: value}
