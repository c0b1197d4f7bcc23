"""Latent masks: what methods share that train a mask and leave the weights as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tombola.ground.errors import ConfigError
from tombola.methods.searching import OwnTraining

if TYPE_CHECKING:
    from tombola.ground.settings import Training
    from tombola.methods.setting import Ground, Setting
    from tombola.training.jobs import Job


@dataclass(frozen=True, kw_only=True)
class LatentMask(OwnTraining):
    """A method that trains scores of the weights; a ticket's weights are as they were drawn.

    The optimiser of the scores has settings of its own, see ``training``.

    Attributes:
        constants: Whether the weights are ``none`` of them changed, or ``signed``: each has its
            sign, and one size for its layer. Signed ones are made of the initial weights.
    """

    independent_tickets: ClassVar[bool] = True
    not_nested: ClassVar[str] = "each training finds its own mask"
    constants: Literal["none", "signed"] = "none"

    # How scores are trained, unless the arm's `training` says otherwise.
    usual_training: ClassVar[Mapping[str, Any]]

    @property
    def rewinds(self) -> bool:
        return self.constants == "none"

    def weights_scored(self, training: Training) -> tuple[str, ...]:
        del training
        return ()

    def searching(self, training: Training) -> Training:
        from tombola.ground.settings import training_with

        return training_with(training, {**self.usual_training, **self.training})

    def evaluation(self, setting: Setting, index: int, job: Job) -> Job:
        return replace(job, training=setting.training)

    def check(self, where: str) -> None:
        if self.training.get("clip") is not None:
            raise ConfigError(
                f"{where}.training.clip limits the gradients of weights, and method: "
                f"{self.method} trains scores"
            )
        super().check(where)

    def check_ground(self, ground: Ground) -> None:
        from tombola.masks.masks import count, size
        from tombola.training.loop import resolve_defaults

        if count(ground.mask) < size(ground.mask):
            raise ConfigError(
                "it chooses among all weights, so it cannot be combined with model.mask"
            )
        resolve_defaults(self.searching(ground.training), ground.task.model, ground.device)
        super().check_ground(ground)
