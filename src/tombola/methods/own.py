"""Own: user-defined methods, checked against what a method promises, and methods as a run folder
recorded them.

A method that is named ``package.module:Name`` is code. It is imported for a recipe that the user
gives, never for a ticket or a run folder that is only read: the folder records what the method
answered when it ran.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from tombola.ground import catalogue
from tombola.ground.checking import checked
from tombola.ground.contracts import CONTRACTS
from tombola.ground.endings import End
from tombola.ground.errors import ConfigError, shown
from tombola.methods.method import MOST_ROUNDS, Method

if TYPE_CHECKING:
    from tombola.ground.types import Mask
    from tombola.methods.setting import Setting
    from tombola.search.rounds import Round
    from tombola.tickets import Ticket
    from tombola.training.jobs import Job

# What a run folder records of a method, and the types.
_FACTS: dict[str, Any] = {
    "searches": bool,
    "has_tickets": bool,
    "control": bool,
    "independent_tickets": bool,
    "network": bool,
    "leaves_networks": bool,
    "compared": bool,
    "independent_partitions": bool,
    "followed": tuple[str, str] | None,
    "paced_by": tuple[str, str] | None,
    "goals": dict[str, tuple[float, ...]],
    "old_names": dict[str, str],
}
# What some of these answers were called once. Run folders of that time are still read; a class
# that still sets an old name is refused, because the setting would have no effect.
_FORMER_NAMES = {"independent_tickets": "by_itself", "independent_partitions": "apart"}


def load(name: str, where: str) -> type[Method]:
    """Import a user-defined method.

    Args:
        name: ``package.module:Name``.
        where: The entry that names it, for messages.

    Raises:
        ConfigError: It cannot be imported, is not a method, or sets an attribute that has been
            renamed.
    """
    kind = catalogue.own(name)
    if not (isinstance(kind, type) and issubclass(kind, Method)):
        raise ConfigError(
            f"{where} is {shown(name)}, which does not derive from tombola.methods.Method; "
            f"{CONTRACTS['arms'].in_words()} (tombola list arms)"
        )
    for fact, former in _FORMER_NAMES.items():
        if hasattr(kind, former) and former not in kind.options():
            raise ConfigError(f"{where} is {shown(name)}, which sets {former}; it is now {fact}")
    return kind


def held(method: Method) -> Method:
    """Return a method whose answers are checked; a shipped method is returned unchanged.

    Whatever a user-defined method raises, and any invalid value that it returns, becomes one line
    that names the method.
    """
    return cast(Method, _Held(method)) if catalogue.is_own(method.method) else method


class _Held:
    """A user-defined method whose answers are checked."""

    def __init__(self, method: Method) -> None:
        self._method = method
        self._name = method.method

    def __getattr__(self, name: str) -> Any:
        with self._guard():
            answer = getattr(self._method, name)
        if not callable(answer):
            return answer

        @functools.wraps(answer)
        def ask(*args: Any, **options: Any) -> Any:
            with self._guard():
                return answer(*args, **options)

        return ask

    def rounds(self, setting: Setting, done: Sequence[Ticket]) -> Generator[Round, None, End]:
        """Yield the method's rounds, each checked before anything else sees it."""
        with self._guard():
            rounds = iter(self._method.rounds(setting, done))
        index = len(done)
        while True:
            with self._guard():
                round_, end = _next(rounds)
            if round_ is None:
                break
            index += 1
            self._check_round(round_, index, setting)
            yield round_
        # A method that follows another arm has as many rounds as that arm, which may have none.
        if index == 0 and not end and self._method.source is None:
            raise self._wrong("yields no rounds")
        return end

    def evaluation(self, setting: Setting, index: int, job: Job) -> Job:
        """Return the training that evaluates a ticket."""
        from tombola.training.jobs import Job

        with self._guard():
            evaluation = self._method.evaluation(setting, index, job)
        if not isinstance(evaluation, Job):
            raise self._wrong(
                f"returns {shown(type(evaluation).__name__)} as the evaluation of round {index}; "
                "it must be a tombola.Job"
            )
        return evaluation

    def _check_round(self, round_: Round, index: int, setting: Setting) -> None:
        from tombola.search.rounds import Round

        if not isinstance(round_, Round):
            raise self._wrong(
                f"yields {shown(type(round_).__name__)}; a round must be a tombola.Round"
            )
        if self._method.has_tickets and round_.index != index:
            raise self._wrong(f"yields round {shown(round_.index)} where round {index} is expected")
        if index > MOST_ROUNDS:
            raise self._wrong(f"has not ended after {MOST_ROUNDS:,} rounds")
        for mask in (round_.mask, round_.job.mask, *round_.candidates):
            if misfit := _misfit(mask, setting.mask):
                raise self._wrong(f"yields a mask in round {index} {misfit}")

    def _guard(self) -> Any:
        return catalogue.own_code(self._name, "arms")

    def _wrong(self, what: str) -> ConfigError:
        return ConfigError(
            f"{shown(self._name)} {what}; {CONTRACTS['arms'].in_words()} (tombola list arms)"
        )


def _next(rounds: Iterator[Round]) -> tuple[Round | None, End]:
    """Return the next round, or ``None`` and why the rounds ended."""
    try:
        return next(rounds), End()
    except StopIteration as end:
        return None, End.of(end.value)


def _misfit(mask: Mask, prunable: Mask) -> str:
    """Say how a mask does not fit the mask of all prunable weights; empty where it fits."""
    import torch

    if unexpected := sorted(set(mask) ^ set(prunable)):
        return f"that names other parameters: {', '.join(map(str, unexpected[:3]))}"
    for name, keep in mask.items():
        weight = prunable[name]
        if not isinstance(keep, torch.Tensor) or keep.dtype != torch.bool:
            return f"whose {shown(name)} is not a boolean tensor"
        if keep.shape != weight.shape:
            shapes = f"{tuple(keep.shape)}, while the weight has {tuple(weight.shape)}"
            return f"whose {shown(name)} has the shape {shapes}"
        if (keep & ~weight).any():
            return f"which keeps weights of {shown(name)} that were pruned before the run"
    return ""


def facts_of(method: Method) -> dict[str, Any]:
    """Return the answers of a method that a run folder must record, as plain data."""
    facts: dict[str, Any] = {name: getattr(method, name) for name in _FACTS}
    facts["goals"] = {entry: list(densities) for entry, densities in method.goals.items()}
    facts["followed"] = list(method.followed) if method.followed else None
    facts["paced_by"] = list(method.paced_by) if method.paced_by else None
    facts["old_names"] = dict(method.old_names)
    return facts


@dataclass(frozen=True, kw_only=True)
class Recorded(Method):
    """A user-defined method as a run folder recorded it; it cannot run.

    Attributes:
        name: Its name, ``package.module:Name``.
        entries: Its options.
        facts: What it answered when it ran, see `facts_of`.
    """

    name: str = ""
    entries: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, name: str, entries: Mapping[str, Any], facts: object, where: str) -> Recorded:
        """Return a method as a run folder recorded it.

        Raises:
            ConfigError: The folder's entry is not a valid description of a method.
        """
        recorded = checked(dict[str, Any], facts, f"{where}: what run.json says of it")
        known = {}
        for fact, hint in _FACTS.items():
            key = fact if fact in recorded else _FORMER_NAMES.get(fact, fact)
            if key in recorded:
                known[fact] = checked(hint, recorded[key], f"{where}.{key}")
        options = dict(entries)
        evaluate_at = checked(
            tuple[float, ...] | None, options.pop("evaluate_at", None), f"{where}.evaluate_at"
        )
        evaluate = checked(
            Literal["trained", "untrained"], options.pop("evaluate", "trained"), f"{where}.evaluate"
        )
        return cls(
            name=name, entries=options, facts=known, evaluate_at=evaluate_at, evaluate=evaluate
        )

    def __getattribute__(self, name: str) -> Any:
        if name in _FACTS:
            facts = super().__getattribute__("facts")
            if name in facts:
                return facts[name]
        return super().__getattribute__(name)

    @property
    def method(self) -> str:
        return self.name

    def to_dict(self) -> dict[str, Any]:
        plain = {"method": self.name, **self.entries, "evaluate_at": self.evaluate_at}
        return plain if self.evaluate == "trained" else plain | {"evaluate": self.evaluate}

    def check(self, where: str) -> None:
        """Refuse nothing: these options have already run."""
