"""As trained: the network that a search in one training leaves, tested as that training ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tombola.ground.errors import ConfigError
from tombola.methods.cards import Card
from tombola.methods.following import Following
from tombola.methods.in_training import InTraining
from tombola.methods.method import Method

if TYPE_CHECKING:
    from tombola.methods.setting import Setting
    from tombola.training.jobs import Job


@dataclass(frozen=True, kw_only=True)
class AsTrained(Following):
    """Test the networks that an arm pruned while it trained them; they are not tickets."""

    independent_tickets: ClassVar[bool] = True
    not_nested: ClassVar[str] = InTraining.not_nested
    network: ClassVar[bool] = True
    starts: ClassVar[Literal["shared", "source", "own"]] = "shared"
    written_out: ClassVar[bool] = True
    cards: ClassVar[tuple[Card, ...]] = (
        Card(
            "as-trained",
            "baseline",
            "the network that was pruned while it trained, not rewound",
            "{method: as_trained, source: gradual}",
            what="not a ticket: the network that a `gradual`, `set` or `rigl` arm pruned while "
            "training it, tested as its training ended; for `set` and `rigl` it is their own result",
            question="is rewinding better than pruning as it is done in practice?",
            source="Havinga & Sawhney, figures 6 and 7",
        ),
    )

    def check_source(self, where: str, source: Method) -> None:
        if not source.leaves_networks:
            raise ConfigError(
                f"{where} is '{self.source}', which does not prune while it trains; "
                f"{self.method} needs an arm with method: gradual, set or rigl"
            )

    def ticket(self, setting: Setting, job: Job) -> Job:
        return setting.ticket(job.mask)

    def evaluation(self, setting: Setting, index: int, job: Job) -> Job:
        # Nothing is trained again: the network that its source pruned is the result.
        source: Any = setting.source
        training: Job = source.trainings(setting)[index - 1]
        return training
