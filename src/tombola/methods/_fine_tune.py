"""Fine-tuning: prune and continue training, without rewinding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from tombola.ground.errors import ConfigError
from tombola.methods._lr_rewind import LrRewind
from tombola.methods.cards import Card

if TYPE_CHECKING:
    from tombola.ground.settings import Training
    from tombola.methods.setting import Ground


@dataclass(frozen=True, kw_only=True)
class FineTune(LrRewind):
    """Prune and continue training from the trained weights, at a low learning rate.

    Attributes:
        lr: The learning rate at which the training ended (``last``), a decay from it to zero
            (``decayed``), or a number.
    """

    lr: Literal["last", "decayed"] | float = "last"

    written_out: ClassVar[bool] = True
    cards: ClassVar[tuple[Card, ...]] = (
        Card(
            "fine-tune",
            "baseline",
            "pruned and trained further without rewinding, at the last learning rate",
            "{method: fine_tune, lr: last, match: lth}",
            what="pruned and trained further without rewinding, for as long as the recipe's "
            "training and without warmup. The learning rate is the one that training ended with "
            "(`last`), decays from it to zero (`decayed`), or is a number",
            question="is rewinding better than fine-tuning?",
            source="Han et al. 2015, arXiv:1506.02626; Renda et al. 2020, arXiv:2003.02389, "
            "section 2",
        ),
    )

    def check(self, where: str) -> None:
        if isinstance(self.lr, float | int) and not self.lr > 0:
            raise ConfigError(f"{where}.lr is {self.lr}; it must be above 0")
        super().check(where)

    def onward(self, ground: Ground) -> Training:
        from tombola.ground.settings import Schedule, fine_tuning

        training = ground.training
        # A milestone that the training never reaches has not lowered the rate that it ends with.
        batches = ground.task.steps_per_epoch(training.batch_size)
        steps = Schedule.of(training, batches).steps
        epochs = tuple(epoch for epoch in training.milestones if epoch * batches < steps)
        milestone_steps = tuple(step for step in training.milestone_steps if step < steps)
        schedule = training.schedule
        if schedule == "multistep" and not (epochs or milestone_steps):
            schedule = "constant"
        shortened = replace(
            training, milestones=epochs, milestone_steps=milestone_steps, schedule=schedule
        )
        return fine_tuning(shortened, self.lr)

    def check_ground(self, ground: Ground) -> None:
        self.onward(ground)
        super().check_ground(ground)
