"""Base: what tasks share whatever they learn, so that a task says only what is its own."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tombola.data.batches import batches_per_epoch
from tombola.data.partitions import WHOLE, Partition
from tombola.ground.errors import ConfigError
from tombola.ground.seeds import derive
from tombola.ground.types import State
from tombola.masks import names, states
from tombola.masks.weights import copied
from tombola.models.flops import Flops, per_example, uncounted


class Base:
    """A task without classes; what a subclass has to bring is what `protocol.Task` asks for and
    is not here.
    """

    model: nn.Module
    head: str | None
    device: torch.device

    @property
    def classes(self) -> int | None:
        """How many classes there are to divide; ``None`` where there are none."""
        return None

    @property
    def leaks(self) -> bool:
        """Whether what is validated on is the test split."""
        return False

    @property
    def notices(self) -> Sequence[str]:
        """What somebody who runs the task must know."""
        return ()

    @property
    def facts(self) -> Mapping[str, str]:
        """What the page says of the data beside its sizes."""
        return {}

    @property
    def origin(self) -> Mapping[str, Mapping[str, Any]]:
        """What tickets say of the data beside what the recipe says."""
        return {}

    @property
    def bytes(self) -> int:
        """What the data takes in the memory of each process."""
        return 0

    def size(self, part: Partition, which: str) -> int:
        """Count the examples of a split of a partition."""
        raise NotImplementedError

    def labels(self, which: str) -> Tensor | None:  # noqa: ARG002 - a subclass knows its splits
        """Return the class of each example of a split; ``None`` where examples have no one
        class.
        """
        return None

    def initial_state(self) -> dict[str, Tensor]:
        """Copy the model's own state: the rewind point of a search that rewinds to the very
        start.
        """
        return states.copied(states.state_of(self.model))

    def build(self, start: State, part: Partition, seed: int) -> nn.Module:  # noqa: ARG002 - a subclass may draw
        """Make a fresh model in the start state."""
        model = copied(self.model)
        states.load_(model, start)
        return model.to(self.device)

    def steps_per_epoch(self, batch_size: int, part: Partition = WHOLE) -> int:
        """Count the batches of one epoch of a partition; of the full training split if none is
        given.
        """
        return batches_per_epoch(self.size(part, "train"), batch_size)

    def outputs(self, part: Partition) -> int:  # noqa: ARG002 - here no partition has a model of its own
        """Return a number by which models of partitions differ in size."""
        return 0

    def probe(self, examples: int, seed: int) -> Any:
        """Draw what a model is called with for so many examples."""
        raise NotImplementedError

    def flops(self, part: Partition) -> dict[str, Flops]:
        """Count what an example costs a model of a partition, layer by layer."""
        return per_example(self.build(self.initial_state(), part, 0), self.probe(2, 0))

    @functools.cached_property
    def uncounted(self) -> list[str]:
        """Name the operations of the model that `flops` cannot count; once, and before anything
        is trained.
        """
        return uncounted(self.build(self.initial_state(), WHOLE, 0), self.probe(2, 0))

    def check(
        self, partitions: Sequence[Partition], *, covering: bool = True, whole: Partition = WHOLE
    ) -> None:
        """Refuse partitions that do not divide the data: each class, or each training example,
        belongs to exactly one.

        Partitions that hold all data (``whole``, ``by_seeds``) are good in any number.

        Args:
            partitions: What is to divide the training split.
            covering: ``False``: classes or examples may be missing; none may be held twice.
            whole: What there is of the training split, see `partitions.skewed`.

        Raises:
            ConfigError: There is no partition; one is empty, has a single class, or holds what the
                data has not; some divide otherwise than others; classes or examples are missing or
                held twice.
        """
        if not partitions:
            raise ConfigError("there are no partitions; WHOLE is the one that holds all data")
        for number, part in enumerate(partitions, 1):
            self._check_part(part, f"partition {number}")
        kinds = {(p.classes is not None, p.examples != whole.examples) for p in partitions}
        if len(kinds) > 1:
            raise ConfigError(
                "some partitions hold classes, examples or all data and others do not; all divide "
                "alike"
            )
        ((has_classes, has_examples),) = kinds
        held = sorted(c for p in partitions for c in p.classes or ())
        if has_classes and not _divides(held, range(self.classes or 0), covering):
            raise ConfigError(
                f"the partitions hold the classes {held}; each of the {self.classes} "
                "classes belongs to exactly one"
            )
        positions = sorted(e for p in partitions for e in p.examples or ())
        there = range(self.size(WHOLE, "train")) if whole.examples is None else whole.examples
        if has_examples and not _divides(positions, there, covering):
            raise ConfigError(
                "each training example belongs to exactly one partition; some are missing or "
                "doubled"
            )

    def _check_part(self, part: Partition, name: str) -> None:
        if part.classes is not None and self.classes is None:
            raise ConfigError(
                f"{name} holds classes, and the task has none; take split_by: examples or split_by: seeds"
            )
        there = (
            ("class", part.classes, self.classes or 0),
            ("example", part.examples, self.size(WHOLE, "train")),
        )
        for what, held, number in there:
            if held is None:
                continue
            if not held:
                raise ConfigError(f"{name} holds no {what}")
            outside = [one for one in held if not 0 <= one < number]
            if outside:
                raise ConfigError(
                    f"{name} holds {what} {outside[0]}; the training split has {what} 0 to "
                    f"{number - 1}"
                )
        if part.classes is not None and len(part.classes) == 1:
            raise ConfigError(
                f"{name} holds the single class {part.classes[0]}, and a head of one output cannot "
                "learn"
            )


def architecture(model: nn.Module) -> dict[str, Any]:
    """Say what a model is and how it trains, as plain data for a digest."""
    shapes = {name: list(value.shape) for name, value in states.state_of(model).items()}
    return {"model": repr(model), "shapes": shapes} | _not_seen(model)


def _not_seen(model: nn.Module) -> dict[str, Any]:
    """Say what decides how a model trains and is not seen when it is printed; nothing of most
    models.
    """
    frozen = [
        name for name, parameter in names.parameters(model).items() if not parameter.requires_grad
    ]
    still = [
        name
        for name, module in names.modules(model).items()
        if model.training and not module.training
    ]
    first: dict[int, str] = {}
    named = names.parameters(model, shared=True)
    ties = [
        [first[id(p)], name] for name, p in named.items() if first.setdefault(id(p), name) != name
    ]
    found = {"frozen": frozen, "in evaluation mode": still, "shared": ties}
    return {what: there for what, there in found.items() if there}


def _divides(held: Sequence[int], there: Sequence[int], covering: bool) -> bool:
    return list(held) == list(there) if covering else len(set(held)) == len(held)


def order_seed(seed: int, part: Partition) -> int:
    """Return the seed of the order in which a partition's examples come: the replicate's, or
    one of its own.
    """
    return seed if part.order is None else derive(seed, "own order", part.order)
