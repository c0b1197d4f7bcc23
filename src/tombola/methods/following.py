"""Following: methods that take the tickets of another arm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

from tombola.ground.errors import ConfigError
from tombola.methods.method import OLD_NAMES, Method

if TYPE_CHECKING:
    from tombola.data.partitions import Partition
    from tombola.methods.setting import Ground, Setting
    from tombola.search.rounds import Round
    from tombola.tickets import Ticket
    from tombola.training.jobs import Job


@dataclass(frozen=True, kw_only=True)
class Following(Method):
    """A method that takes another arm's tickets as they come, and derives its own from them.

    Attributes:
        source: The arm whose tickets it takes.
    """

    source: str | None = None

    searches: ClassVar[bool] = False
    starts: ClassVar[Literal["shared", "source", "own"]] = "source"
    old_names: ClassVar[Mapping[str, str]] = MappingProxyType({"source": OLD_NAMES["source"]})

    @property
    def of(self) -> str | None:
        """The former name of ``source``, for methods that still use it."""
        return self.source

    @property
    def followed(self) -> tuple[str, str] | None:
        return None if self.source is None else ("source", self.source)

    def ticket(self, setting: Setting, job: Job) -> Job:
        """Turn another arm's ticket into this arm's.

        Args:
            setting: What it works with.
            job: The other arm's ticket: its mask, its start, and the number of steps trained before
                that.
        """
        raise NotImplementedError(f"{self.method} makes no tickets")

    def rounds(self, setting: Setting, done: Sequence[Ticket]) -> Iterator[Round]:
        from tombola.search.rounds import Round

        for index, followed in enumerate(setting.followed, 1):
            if index > len(done):
                yield Round.of(index, self.ticket(setting, followed.job))

    def trained_on(self, ground: Ground) -> list[Partition]:
        return []

    def check(self, where: str) -> None:
        if self.source is None:
            raise ConfigError(f"{where} needs source: ARM, the arm whose tickets it takes")
        super().check(where)
