"""Dense: the network itself, not pruned."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from tombola.ground.errors import ConfigError
from tombola.methods.cards import Card
from tombola.methods.method import Method

if TYPE_CHECKING:
    from tombola.methods.setting import Setting
    from tombola.search.rounds import Round
    from tombola.tickets import Ticket


@dataclass(frozen=True, kw_only=True)
class Dense(Method):
    """The network itself; it is every arm's round 0.

    Attributes:
        as_long_as: Train for as long as that arm's whole search and the evaluation of its last
            ticket.
    """

    as_long_as: str | None = None

    searches: ClassVar[bool] = False
    has_tickets: ClassVar[bool] = False
    compared: ClassVar[bool] = False
    written_out: ClassVar[bool] = True
    cards: ClassVar[tuple[Card, ...]] = (
        Card(
            "dense",
            "search",
            "the network itself, not pruned",
            "{method: dense}",
            what="the network itself. It is every arm's round 0, trained once for all of them; a "
            "separate arm is needed only with `as_long_as`",
            question="how accurate is the network without pruning?",
        ),
        Card(
            "dense-long",
            "control",
            "dense, trained for as long as a whole search",
            "{method: dense, as_long_as: lth}",
            what="the dense network trained for as long as the other arm's whole search and the "
            "evaluation of its last ticket, with its schedule stretched",
            question="what would the same effort achieve without pruning?",
            source="in the spirit of Liu et al. 2019, arXiv:1810.05270, section 3 (Scratch-B)",
        ),
    )

    @property
    def followed(self) -> tuple[str, str] | None:
        return None if self.as_long_as is None else ("as_long_as", self.as_long_as)

    def rounds(self, setting: Setting, done: Sequence[Ticket]) -> Iterator[Round]:
        from tombola.ground.settings import stretched
        from tombola.search.rounds import Round
        from tombola.training.jobs import schedule_of

        # Only the last round is kept: each has a mask of the whole model.
        rounds = deque(enumerate(setting.followed, 1), maxlen=1)
        if not rounds:
            return  # it follows no arm, or one without rounds
        number, last = rounds[0]
        assert setting.source is not None
        training, task = setting.training, setting.task
        full = schedule_of(training, task).steps
        # The last ticket is evaluated from its rewind point on.
        evaluation = 1 - (setting.rewind / full if setting.source.rewinds else 0)
        batches = task.steps_per_epoch(training.batch_size, setting.whole)
        steps = schedule_of(training, task, setting.whole).steps
        samples = steps * task.size(setting.whole, "train") / batches
        long = stretched(training, evaluation + last.samples / samples)
        yield Round.of(number, replace(setting.point, training=long))

    def followers(self) -> str:
        return "which only trains; name an arm that has tickets"

    def with_common(self, densities: tuple[float, ...], evaluate_at: tuple[float, ...]) -> Method:
        return self if self.evaluate_at is not None else replace(self, evaluate_at=())

    def check(self, where: str) -> None:
        entry = "evaluate_at" if self.evaluate_at else "evaluate"
        if self.evaluate_at or self.evaluate == "untrained":
            raise ConfigError(
                f"{where}.{entry} has no meaning with method: {self.method}, which takes "
                f"{', '.join(self.options())}"
            )

    def check_source(self, where: str, source: Method) -> None:
        if not source.searches:
            raise ConfigError(
                f"{where} is '{self.as_long_as}', which does not search; name the arm whose "
                f"tickets it takes, '{source.source}'"
            )
