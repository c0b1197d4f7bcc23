"""Stretched: another arm's tickets, trained as long as an arm with a dearer search has cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from tombola.ground.errors import ConfigError, shown
from tombola.methods.cards import Card
from tombola.methods.following import Following
from tombola.methods.method import Method

if TYPE_CHECKING:
    from tombola.ground.settings import Training
    from tombola.methods.setting import Ground, Setting
    from tombola.search.rounds import Round
    from tombola.tickets import Ticket
    from tombola.training.jobs import Job

_LONGEST = 1000.0


@dataclass(frozen=True, kw_only=True)
class Stretched(Following):
    """Train another arm's tickets for longer, so that they cost as much as a third arm's.

    A ticket is charged its search, with what its scores went through, and its evaluation. The
    schedule is stretched with its end. The third arm's cost is that of its first ticket that is as
    sparse, or of its last one if none is.

    Attributes:
        as_long_as: The arm whose tickets cost what these are to cost.
        most: At most this many times the recipe's training. Records say where that was too few.
    """

    as_long_as: str | None = None
    most: float = 20.0

    old_names: ClassVar[Mapping[str, str]] = MappingProxyType({})
    cards: ClassVar[tuple[Card, ...]] = (
        Card(
            "stretched",
            "control",
            "another arm's tickets, trained as long as a dearer search has cost",
            "{method: stretched, source: gradual, as_long_as: lth}",
            what="the other arm's tickets, trained until each has cost as much, search and "
            "evaluation together, as the first ticket of `as_long_as` that is as sparse; at most "
            "`most` times the recipe's training, and never less than it",
            question="is a dear search better than a cheap one and longer training?",
            source="in the spirit of Liu et al. 2019, arXiv:1810.05270, section 3 (Scratch-B)",
        ),
    )

    @property
    def paced_by(self) -> tuple[str, str] | None:
        return None if self.as_long_as is None else ("as_long_as", self.as_long_as)

    def rounds(self, setting: Setting, done: Sequence[Ticket]) -> Iterator[Round]:
        from tombola.masks.masks import count
        from tombola.search.rounds import Round

        dearer = iter(setting.pace)
        dear = next(dearer, None)
        for index, followed in enumerate(setting.followed, 1):
            # As sparse as whole weights allow: to a weight in each layer.
            enough = count(followed.job.mask) + len(followed.job.mask)
            while dear is not None and count(dear.job.mask) > enough:
                sparser = next(dearer, None)
                if sparser is None:
                    break
                dear = sparser
            if index <= len(done):
                continue
            more = 0 if dear is None else dear.samples - followed.samples
            equal = 1 + more / _full_training(setting)
            length = min(max(equal, 1.0), self.most)
            job = setting.ticket(followed.job.mask, followed.job.start, followed.job.first)
            job = replace(job, training=self._of_length(setting, length))
            yield replace(Round.of(index, job), length=(length, equal))

    def _of_length(self, ground: Ground, length: float) -> Training:
        from tombola.ground.settings import stretched

        return stretched(self.onward(ground), length)

    def resumed(self, setting: Setting, ticket: Ticket) -> Job:
        length, _ = ticket.origin["length"]
        return setting.after(ticket, self._of_length(setting, length))

    def onward(self, ground: Ground) -> Training:
        return ground.training if ground.source is None else ground.source.onward(ground)

    def followers(self) -> str:
        return (
            f"which trains another arm's tickets; name the arm whose tickets it takes, "
            f"'{self.source}'"
        )

    def check(self, where: str) -> None:
        if self.as_long_as is None:
            raise ConfigError(
                f"{where} needs as_long_as: ARM, the arm whose tickets cost what its are to cost"
            )
        if not 1 <= self.most <= _LONGEST:
            raise ConfigError(
                f"{where}.most is {shown(self.most)}; it is how many times the recipe's training "
                f"a ticket trains at most, from 1 to {_LONGEST:,.0f}"
            )
        if self.evaluate == "untrained":
            raise ConfigError(
                f"{where}.evaluate has no meaning with method: {self.method}, which trains longer"
            )
        super().check(where)

    def check_source(self, where: str, source: Method) -> None:
        if source.network:
            raise ConfigError(
                f"{where} is '{self.source}', whose networks were trained already; name its "
                f"source, '{source.source}'"
            )


def _full_training(setting: Setting) -> float:
    """Return the training examples that the recipe's training sees."""
    from tombola.training.jobs import schedule_of

    training, task = setting.training, setting.task
    batches = task.steps_per_epoch(training.batch_size, setting.whole)
    steps = schedule_of(training, task, setting.whole).steps
    return steps * task.size(setting.whole, "train") / batches
