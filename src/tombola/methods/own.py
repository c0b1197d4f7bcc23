"""Own: methods of the user's own, held to what a method promises, and what a run folder knows of
them.

A method that is named ``package.module:Name`` is code. It is imported for a recipe that the user
gives, never for a ticket, and for a run folder that is only read neither: there stands what the
method answered when it ran.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

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

_FACTS = {
    **dict.fromkeys(
        ("searches", "has_tickets", "control", "by_itself", "network", "compared", "apart"), bool
    ),
    "followed": tuple[str, str] | None,
    "goals": dict[str, tuple[float, ...]],
    "old_names": dict[str, str],
}


def load(name: str, where: str) -> type[Method]:
    """Import a method of the user's own.

    Args:
        name: ``package.module:Name``.
        where: What names it, for messages.

    Raises:
        ConfigError: It cannot be had, or is no method.
    """
    kind = catalogue.own(name)
    if not (isinstance(kind, type) and issubclass(kind, Method)):
        raise ConfigError(
            f"{where} is {shown(name)}, which derives from no tombola.methods.Method; "
            f"{CONTRACTS['arms'].in_words()} (tombola list arms)"
        )
    return kind


def held(method: Method) -> Method:
    """Return a method whose answers are held to what it promises: a shipped one is returned as it
    is.

    Whatever a method of the user's own raises, or gives that is not what was asked for, becomes one
    line that names it.
    """
    return cast(Method, _Held(method)) if catalogue.is_own(method.method) else method


class _Held:
    """A method of the user's own, asked on guard."""

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
        """Give the method's rounds, each looked at before anybody else sees it."""
        with self._guard():
            rounds = iter(self._method.rounds(setting, done))
        index = len(done)
        while True:
            with self._guard():
                found, end = _next(rounds)
            if found is None:
                break
            index += 1
            self._check_round(found, index, setting)
            yield found
        # One that follows another arm has as many as that one, which may have none.
        if index == 0 and not end and self._method.source is None:
            raise self._wrong("yields no round")
        return end

    def evaluation(self, setting: Setting, index: int, job: Job) -> Job:
        """Return the training that evaluates a ticket."""
        from tombola.training.jobs import Job

        with self._guard():
            evaluation = self._method.evaluation(setting, index, job)
        if not isinstance(evaluation, Job):
            raise self._wrong(
                f"gives {shown(type(evaluation).__name__)} as the evaluation of round {index}, "
                "which is a tombola.Job"
            )
        return evaluation

    def _check_round(self, found: Round, index: int, setting: Setting) -> None:
        from tombola.search.rounds import Round

        if not isinstance(found, Round):
            raise self._wrong(
                f"yields {shown(type(found).__name__)}, and a round is a tombola.Round"
            )
        if self._method.has_tickets and found.index != index:
            raise self._wrong(f"yields round {shown(found.index)} where round {index} comes next")
        if index > MOST_ROUNDS:
            raise self._wrong(f"does not end after {MOST_ROUNDS:,} rounds")
        for mask in (found.mask, found.job.mask, *found.candidates):
            if odd := _unlike(mask, setting.mask):
                raise self._wrong(f"yields a mask in round {index} {odd}")

    def _guard(self) -> Any:
        return catalogue.own_code(self._name, "arms")

    def _wrong(self, what: str) -> ConfigError:
        return ConfigError(
            f"{shown(self._name)} {what}; {CONTRACTS['arms'].in_words()} (tombola list arms)"
        )


def _next(rounds: Iterator[Round]) -> tuple[Round | None, End]:
    """Return the next round; ``None`` and why they ended where there is none."""
    try:
        return next(rounds), End()
    except StopIteration as end:
        return None, End.of(end.value)


def _unlike(mask: Mask, whole: Mask) -> str:
    """Say what is wrong with a mask beside that of all weights which may be pruned; nothing
    where it fits.
    """
    import torch

    if odd := sorted(set(mask) ^ set(whole)):
        return f"that names other parameters: {', '.join(map(str, odd[:3]))}"
    for name, keep in mask.items():
        if not isinstance(keep, torch.Tensor) or keep.dtype != torch.bool:
            return f"whose {shown(name)} is no tensor of booleans"
        if keep.shape != whole[name].shape:
            return f"whose {shown(name)} has the shape {tuple(keep.shape)}, and the weight {tuple(whole[name].shape)}"
        if (keep & ~whole[name]).any():
            return f"which keeps weights of {shown(name)} that the run began without"
    return ""


def facts_of(method: Method) -> dict[str, Any]:
    """Return what a method answers that a run folder must know without it, as plain data."""
    facts: dict[str, Any] = {name: getattr(method, name) for name in _FACTS}
    facts["goals"] = {entry: list(densities) for entry, densities in method.goals.items()}
    facts["followed"] = list(method.followed) if method.followed else None
    facts["old_names"] = dict(method.old_names)
    return facts


@dataclass(frozen=True, kw_only=True)
class Recorded(Method):
    """A method of the user's own as a run folder knows it: nothing runs, and everything that was
    written is there.

    Attributes:
        name: What it is called, ``package.module:Name``.
        entries: Its options.
        facts: What it answered when it ran, see `facts_of`.
    """

    name: str = ""
    entries: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, name: str, entries: Mapping[str, Any], facts: object, where: str) -> Recorded:
        """Return what a run folder knows of a method.

        Raises:
            ConfigError: It is not what such a folder says of a method.
        """
        given = checked(dict[str, Any], facts, f"{where}: what run.json says of it")
        known = {
            key: checked(hint, given[key], f"{where}.{key}")
            for key, hint in _FACTS.items()
            if key in given
        }
        options = {key: value for key, value in entries.items() if key != "evaluate_at"}
        at = checked(tuple[float, ...] | None, entries.get("evaluate_at"), f"{where}.evaluate_at")
        return cls(name=name, entries=options, facts=known, evaluate_at=at)

    def __getattribute__(self, name: str) -> Any:
        if name in _FACTS:
            facts = super().__getattribute__("facts")
            if name in facts:
                return facts[name]
        return super().__getattribute__(name)

    @property
    def method(self) -> str:
        return self.name

    def plain(self) -> dict[str, Any]:
        return {"method": self.name, **self.entries, "evaluate_at": self.evaluate_at}

    def check(self, where: str) -> None:
        """Refuse nothing: it ran."""
