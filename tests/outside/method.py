"""A method of its own: a search that prunes one layer a round, each to a share of its weights."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from tombola import Round, magnitude, per_layer, prune
from tombola.methods import Method
from tombola.methods.cards import Card


@dataclass(frozen=True, kw_only=True)
class LayerByLayer(Method):
    """Train, prune one layer, rewind, and go on with the next one.

    Attributes:
        share: What is kept of each layer.
    """

    share: float = 0.5

    cards: ClassVar[tuple[Card, ...]] = (
        Card(
            "layer-by-layer",
            "search",
            "one layer a round, each to a share of its weights",
            "{method: layer_by_layer, share: 0.5}",
            what="train, prune one layer to a share of its weights, rewind, go on with the next layer",
            question="does it matter that all layers are pruned at once?",
            source="an example",
        ),
    )

    def rounds(self, setting, done) -> Iterator[Round]:
        mask = done[-1].mask if done else setting.mask
        for index, name in list(enumerate(setting.mask, 1))[len(done) :]:
            job = setting.ticket(mask)
            [trained] = setting.run_all([job])
            kept = {layer: int(keep.sum()) for layer, keep in mask.items()}
            kept[name] = round(self.share * kept[name])
            mask = prune(magnitude(trained.state, mask), mask, scope=per_layer, count=kept)
            yield Round.of(index, setting.ticket(mask))
        return "every layer is pruned"
