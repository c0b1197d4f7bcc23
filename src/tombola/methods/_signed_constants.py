"""Signed constants: another arm's tickets, whose weights are constants of the same signs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from tombola.methods.cards import Card
from tombola.methods.following import Following

if TYPE_CHECKING:
    from tombola.methods.setting import Setting
    from tombola.training.jobs import Job


@dataclass(frozen=True, kw_only=True)
class SignedConstants(Following):
    """Start each ticket from the sign of its weights, times the standard deviation of the layer."""

    control: ClassVar[bool] = True
    old_names: ClassVar[Mapping[str, str]] = MappingProxyType({})
    cards: ClassVar[tuple[Card, ...]] = (
        Card(
            "signed-constants",
            "control",
            "the same mask and signs, one size for all weights of a layer",
            "{method: signed_constants, source: lth}",
            what="the same mask; each weight keeps the sign that it starts with, and all of a layer "
            "have one size, the standard deviation of the layer's initial weights",
            question="do the sizes of the initial weights matter, or only their signs?",
            source="Zhou et al. 2019, arXiv:1905.01067, section 4",
        ),
    )

    def ticket(self, setting: Setting, job: Job) -> Job:
        from tombola.masks.controls import signed_constants

        return setting.ticket(job.mask, signed_constants(job.start, setting.mask), job.first)
