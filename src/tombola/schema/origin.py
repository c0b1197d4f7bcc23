"""Origin: what a ticket says of where it comes from, read by the rules of a recipe.

    ticket file -> [ Origin.read ] -> model, data and training to train it again by

A ticket may be a stranger's, so everything in it is checked as what a user types is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tombola.ground.checking import check_most, check_plain, filled
from tombola.ground.errors import ConfigError, InputError, shown
from tombola.ground.settings import Training
from tombola.methods.method import MOST_ROUNDS
from tombola.schema import arms
from tombola.schema.recipe import MOST_REPLICATES, check_options
from tombola.tasks.settings import Data, Model


@dataclass(frozen=True)
class Seeds:
    """The seeds of a ticket: its replicate's, which everything is drawn from, and the recipe's."""

    replicate: int
    recipe: int = 0


@dataclass(frozen=True)
class Origin:
    """Where a ticket says that it comes from, as far as it is trained again by it. It may be a
    stranger's.

    Attributes:
        model: The model; weights are the ticket's own.
        data: The data set, and how it was treated.
        training: How it was trained.
        seeds: What was drawn from.
        arm: The arm that found it; ``None`` where it does not say.
        method: That arm's own "method", where it says so.
        round: After how many cuts.
        replicate: Of which replicate.
        rewind_step: Steps behind the rewind point.
        fingerprint: Of the data.
        class_numbers: The published numbers of the classes that were taken, if not all.
    """

    model: Model
    data: Data
    training: Training
    seeds: Seeds
    arm: str | None = None
    method: str | None = None
    round: int = 0
    replicate: int = 0
    rewind_step: int = 0
    fingerprint: str | None = None
    class_numbers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.arm is not None:
            arms.check_name(self.arm, "arm", "a folder")
        most = {
            "round": MOST_ROUNDS,
            "replicate": MOST_REPLICATES,
            "rewind_step": 1e9,
            "class_numbers": 1e9,
        }
        check_most(self, most)
        numbers = {
            "round": self.round,
            "replicate": self.replicate,
            "rewind_step": self.rewind_step,
            "seeds.replicate": self.seeds.replicate,
            "seeds.recipe": self.seeds.recipe,
        }
        for name, number in numbers.items():
            if not 0 <= number < 2**64:
                raise ConfigError(
                    f"{name} is {shown(number)}; it must be 0 or more, and below 2 ** 64"
                )

    @classmethod
    def read(cls, given: Mapping[str, Any], where: str) -> Origin:
        """Read what a ticket says of its origin by the same rules as a recipe; what is not needed
        is not looked at.

        Args:
            given: The ticket's ``origin``.
            where: The ticket, for the message.

        Raises:
            ConfigError: Something is missing, of the wrong kind or out of its bounds.

        >>> said = {"model": {"name": "mlp"}, "data": {"name": "digits"}, "training": {"epochs": 1}}
        >>> Origin.read(said | {"seeds": {"replicate": 3}, "round": 2}, "mine.safetensors").round
        2
        >>> Origin.read(said | {"seeds": {"replicate": 3}, "round": "../x"}, "mine.safetensors")
        Traceback (most recent call last):
        tombola.ground.errors.ConfigError: mine.safetensors: round is '../x'; \
it should be a whole number.
        """
        for section in ("model", "data", "training", "seeds"):
            if not isinstance(given.get(section), Mapping):
                raise ConfigError(
                    f"{where} does not say what it was found with ({section}); transfer needs a "
                    "ticket of a run"
                )
        method = given.get("method")
        data_entries = [field.name for field in dataclasses.fields(Data)]
        entries = {
            **_only(given, ["arm", "round", "replicate", "rewind_step"]),
            **_only(given["data"], ["fingerprint", "class_numbers"]),
            "model": _only(given["model"], ["name", "options", "head", "init"]),
            "data": _only(given["data"], data_entries),
            "training": given["training"],
            "seeds": _only(given["seeds"], ["replicate", "recipe"]),
            "method": method.get("method") if isinstance(method, Mapping) else method,
        }
        try:
            check_plain(entries, "it")
            for section in ("model", "data"):
                options = entries[section].get("options", {})
                check_options(options if isinstance(options, Mapping) else {}, section)
            origin: Origin = filled(cls, entries, "")
        except InputError as error:
            raise ConfigError(f"{where}: {error}") from error
        return origin


def _only(given: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the entries that are looked at, as far as they are there."""
    return {name: given[name] for name in names if name in given}
