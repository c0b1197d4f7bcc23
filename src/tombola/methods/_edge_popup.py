"""Edge-popup: scores are trained instead of weights, and the weights with the highest are kept."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tombola.ground.endings import End
from tombola.ground.errors import ConfigError, shown
from tombola.masks.scope_choices import ScopeName
from tombola.methods.cards import Card
from tombola.methods.latent import LatentMask
from tombola.methods.searching import Scoring

if TYPE_CHECKING:
    from tombola.methods.setting import Setting
    from tombola.search.rounds import Round
    from tombola.tickets import Ticket

_SCOPES = ("per_layer", "erdos_renyi", "erk")


@dataclass(frozen=True, kw_only=True)
class EdgePopup(LatentMask, Scoring):
    """Train scores of fixed weights by edge-popup; each density has its own training.

    Attributes:
        scope: How a density is divided among the layers: the same ``per_layer``, or as
            ``erdos_renyi`` and ``erk`` divide it.
        rank: What is ranked: the ``absolute`` value of the scores, as in the authors' code, or the
            ``signed`` scores, as in their paper.
        scaled: With constants, whose size is sqrt(2 / inputs): count only the inputs that are kept,
            the layer's density x inputs.
    """

    scope: ScopeName = "per_layer"
    rank: Literal["absolute", "signed"] = "absolute"
    scaled: bool = False

    at_once: ClassVar[bool] = True
    usual_training: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            "optimizer": "sgd",
            "lr": 0.1,
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "schedule": "cosine",
            "milestones": (),
            "milestone_steps": (),
            "clip": None,
        }
    )
    cards: ClassVar[tuple[Card, ...]] = (
        Card(
            "edge-popup",
            "search",
            "scores are trained, the weights are not; the highest scores are kept",
            "{method: edge_popup, densities: [0.5], constants: signed, evaluate: untrained}",
            what="no weight is trained: each has a score, every step keeps the weights with the "
            "highest scores of their layer, and the gradients of the kept weights move the scores. "
            "By default the scores have SGD 0.1 with momentum 0.9, decay 1e-4 and a cosine. The "
            "search costs one training a density; a step costs a dense step and a pass over the "
            "scores. With `evaluate: untrained` the ticket is tested as it is found",
            question="is there a good network among the untrained weights?",
            source="Ramanujan et al. 2020, arXiv:1911.13299, section 3",
        ),
    )

    def rounds(self, setting: Setting, done: Sequence[Ticket]) -> Generator[Round, None, End]:
        from tombola.masks.controls import signed_constants
        from tombola.search.rounds import find_gradually
        from tombola.training.latent import EdgePopup as Popup
        from tombola.training.latent import layer_densities

        point = replace(setting.point, training=self.searching(setting.training))
        for index, density in enumerate(self.densities[len(done) :], len(done) + 1):
            job, popup = point, Popup(density, self.scope, self.rank)
            if self.constants == "signed":
                task = setting.task
                shares = layer_densities(popup, task.model, task.head, setting.mask)
                constants = signed_constants(
                    point.start, setting.mask, "kaiming", shares if self.scaled else 1.0
                )
                job = replace(point, start=setting.shared(constants))
            end = yield from find_gradually(
                job,
                [popup],
                run_all=setting.run_all,
                part=setting.searched,
                first=index,
                allow_collapse=self.allow_collapse,
            )
            if end:
                return end
        return End()

    def check(self, where: str) -> None:
        if self.scope not in _SCOPES:
            raise ConfigError(
                f"{where}.scope is {shown(self.scope)}; {self.method} keeps as many weights in "
                f"each layer in every step, so it is one of {', '.join(_SCOPES)}"
            )
        if self.scaled and self.constants == "none":
            raise ConfigError(f"{where}.scaled has no meaning without constants: signed")
        super().check(where)
