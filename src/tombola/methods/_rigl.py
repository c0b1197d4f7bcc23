"""RigL: sparse training whose weights are exchanged for those with the largest gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tombola.methods.cards import Card
from tombola.methods.regrowing import Regrowing

if TYPE_CHECKING:
    from tombola.training.during import During


@dataclass(frozen=True, kw_only=True)
class Rigl(Regrowing):
    """Train a sparse network, dropping small weights and growing those with large gradients.

    Every ``pace.every`` steps each layer drops the smallest of its weights and grows as many others,
    those of largest |gradient| among all that it does not keep then; what was dropped may return,
    and then keeps its value. Grown weights are 0, and so is their momentum. That step updates no
    weight; it counts as a step, and its dense gradients are charged. The authors' code adds noise of
    1e-5 to what is dropped by, and counts the falling fraction from step 0 where exchanges begin
    later; here equal weights are dropped in their order, and the fraction falls from the first step
    of the training.
    """

    cards: ClassVar[tuple[Card, ...]] = (
        Card(
            "rigl",
            "search",
            "sparse from the start; the smallest weights make room for those with large gradients",
            "{method: rigl, densities: [0.2, 0.1], scope: erk}",
            what="as `set`, but each layer grows the weights with the largest gradients, which are "
            "those of all weights, in a step that updates none. The mask that it ends with is the "
            "ticket; the network itself is tested by `as_trained`",
            question="do gradients say which weights a sparse network should have?",
            source="Evci et al. 2020, arXiv:1911.11134, section 3 and algorithm 1",
        ),
    )

    def during(self) -> During:
        from tombola.masks.schedules import RegrowByGradient

        return RegrowByGradient(self.paced)
