"""Supermask: the probability of each weight to be kept is trained instead of the weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from tombola.ground.errors import ConfigError, shown
from tombola.methods.cards import Card
from tombola.methods.latent import LatentMask
from tombola.methods.method import MOST_ROUNDS

if TYPE_CHECKING:
    from tombola.masks.scopes import Scope
    from tombola.methods.setting import Setting
    from tombola.search.rounds import Round
    from tombola.tasks.protocol import Task
    from tombola.tickets import Ticket
    from tombola.training.jobs import Job


@dataclass(frozen=True, kw_only=True)
class Supermask(LatentMask):
    """Train masks of fixed weights; how many weights a layer keeps is found, not asked for.

    The size of signed constants is the standard deviation of their layer's weights.

    Attributes:
        bias: What the scores start at: 0 keeps every second weight at first, more keeps more.
        rescaled: Multiply the kept weights of each layer by all / kept, in training and in the
            ticket.
        draws: How many further tickets there are, each with a mask that is drawn by the trained
            probabilities, as the authors test them.
        allow_collapse: Continue when a layer has no weights left.
    """

    bias: float = 0.0
    rescaled: bool = False
    draws: int = 0
    allow_collapse: bool = False

    usual_training: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            "optimizer": "sgd",
            "lr": 100.0,
            "momentum": 0.9,
            "weight_decay": 0.0,
            "clip": None,
        }
    )
    cards: ClassVar[tuple[Card, ...]] = (
        Card(
            "supermask",
            "search",
            "the probability of each weight to be kept is trained, the weights are not",
            "{method: supermask, constants: signed, evaluate: untrained}",
            what="no weight is trained: every step draws a mask by probabilities, and the gradients "
            "of the weights move these. The ticket keeps what is more likely kept than not; how "
            "much that is nobody chooses, so let other arms `match` it. By default SGD 100 with "
            "momentum 0.9, as in the authors' code, which tests masks that are drawn: `draws: 5` "
            "gives five such tickets, too. The search costs one training",
            question="is there a good network among the untrained weights, and how large is it?",
            source="Zhou et al. 2019, arXiv:1905.01067, section 5",
        ),
    )

    def own_scope(self, task: Task) -> Scope:
        from tombola.masks.scopes import per_layer

        del task
        return per_layer

    def rounds(self, setting: Setting, done: Sequence[Ticket]) -> Iterator[Round]:
        if len(done) > self.draws:
            return
        yield from itertools.islice(self._all_rounds(setting), len(done), None)

    def _all_rounds(self, setting: Setting) -> Iterator[Round]:
        """Yield the mask of the more likely weights, then those that are drawn."""
        from tombola.masks.controls import signed_constants
        from tombola.search.rounds import Round, find_gradually
        from tombola.training.latent import Supermask as Masking
        from tombola.training.latent import drawn

        job = replace(setting.point, training=self.searching(setting.training))
        if self.constants == "signed":
            constants = signed_constants(job.start, setting.mask)
            job = replace(job, start=setting.shared(constants))
        for found in find_gradually(
            job,
            [Masking(self.bias, self.rescaled)],
            run_all=setting.run_all,
            part=setting.searched,
            first=1,
            allow_collapse=self.allow_collapse,
        ):
            ticket, [training] = found.job, found.jobs
            yield replace(found, job=self._scaled(setting, ticket))
            for number in range(1, self.draws + 1):
                # Each ticket is charged the training that its probabilities come from.
                [trained] = setting.run_all([training])
                mask = drawn(trained.gathered, setting.mask, setting.seed, number)
                yield Round.of(number + 1, self._scaled(setting, ticket.on(ticket.part, mask)))

    def _scaled(self, setting: Setting, ticket: Job) -> Job:
        """Return a ticket with the weights that its mask was trained for."""
        from tombola.training.latent import rescaled

        if not self.rescaled:
            return ticket
        return replace(ticket, start=setting.shared(rescaled(ticket.start, ticket.mask)))

    def check(self, where: str) -> None:
        if not 0 <= self.draws < MOST_ROUNDS:
            raise ConfigError(
                f"{where}.draws is {shown(self.draws)}; it is a number of masks, from 0 to below "
                f"{MOST_ROUNDS:,}"
            )
        super().check(where)
