"""Following: methods that take the tickets of another arm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from tombola.ground.errors import ConfigError
from tombola.methods.method import Method

if TYPE_CHECKING:
    from tombola.data.partitions import Partition
    from tombola.methods.setting import Ground, Setting
    from tombola.search.rounds import Round
    from tombola.tickets import Ticket
    from tombola.training.jobs import Job


@dataclass(frozen=True, kw_only=True)
class Following(Method):
    """A method that takes the tickets of another arm, one after the other as they come, and makes
    others of them.

    Attributes:
        of: The arm whose tickets it takes.
    """

    of: str | None = None

    searches: ClassVar[bool] = False
    starts: ClassVar[Literal["shared", "source", "own"]] = "source"

    @property
    def followed(self) -> tuple[str, str] | None:
        return None if self.of is None else ("of", self.of)

    def ticket(self, setting: Setting, job: Job) -> Job:
        """Turn another arm's ticket into this arm's.

        Args:
            setting: What it works with.
            job: The other arm's ticket: its mask, where it starts, and the steps that it has behind
                it there.
        """
        raise NotImplementedError(f"{self.method} makes no tickets")

    def rounds(self, setting: Setting, done: Sequence[Ticket]) -> Iterator[Round]:
        from tombola.search.rounds import Round

        for index, found in enumerate(setting.followed, 1):
            if index > len(done):
                yield Round.of(index, self.ticket(setting, found.job))

    def trained_on(self, ground: Ground) -> list[Partition]:  # noqa: ARG002
        return []

    def check(self, where: str) -> None:
        if self.of is None:
            raise ConfigError(f"{where} needs of: ARM, the arm whose tickets it takes")
        super().check(where)
