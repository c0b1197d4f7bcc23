"""Base: what all tasks share, so that a task contains only what is its own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tombola.data.batches import batches_per_epoch
from tombola.data.boxes import BoxSplits
from tombola.data.partitions import WHOLE, Partition
from tombola.data.splits import Splits
from tombola.ground.errors import ConfigError
from tombola.ground.seeds import derive
from tombola.ground.types import State
from tombola.masks import names, states
from tombola.masks.weights import copied
from tombola.models.flops import Flops, per_example, uncounted


class Base:
    """A task without classes; a subclass adds the rest of what `protocol.Task` asks for."""

    model: nn.Module
    head: str | None
    device: torch.device
    # What a class partition may do about objects of other classes in its examples, its default
    # first. Most tasks have one class an example, so there are none.
    others: tuple[str, ...] = ()

    @property
    def classes(self) -> int | None:
        """How many classes there are to divide; ``None`` where there are none."""
        return None

    @property
    def leaks(self) -> bool:
        """Whether the validation split is the test split."""
        return False

    @property
    def notices(self) -> Sequence[str]:
        """What users of the task must know."""
        return ()

    @property
    def facts(self) -> Mapping[str, str]:
        """What the report says about the data besides its sizes."""
        return {}

    @property
    def origin(self) -> Mapping[str, Mapping[str, Any]]:
        """What tickets say about the data besides the recipe."""
        return {}

    @property
    def bytes(self) -> int:
        """What the data takes in the memory of each process."""
        return 0

    def size(self, part: Partition, which: str) -> int:
        """Count the examples of a split of a partition."""
        raise NotImplementedError

    def measures(self, part: Partition, which: str) -> int:
        """Count those of these examples that ``measure`` looks at: all of them."""
        return self.size(part, which)

    def labels(self, which: str) -> Tensor | None:  # noqa: ARG002
        """Return the class of each example of a split; ``None`` for examples without classes."""
        return None

    def membership(self, which: str) -> Tensor | None:
        """Return which classes each example of a split has, bool [examples, classes].

        Here it is the one of `labels`; ``None`` for examples without classes.
        """
        labels = self.labels(which)
        if labels is None or self.classes is None:
            return None
        return labels[:, None] == torch.arange(self.classes, device=labels.device)

    def shares(self, part: Partition) -> Mapping[str, float] | None:  # noqa: ARG002
        """Return how much of the data a class partition has; ``None``: nothing worth recording."""
        return None

    def examples_shown(self) -> Mapping[str, Tensor] | None:
        """Return test examples that the report shows; none."""
        return None

    def initial_state(self) -> dict[str, Tensor]:
        """Copy the model's own state: the rewind point of a search that rewinds to step 0."""
        return states.copied(states.state_of(self.model))

    def build(self, start: State, part: Partition, seed: int) -> nn.Module:  # noqa: ARG002
        """Make a fresh model in the start state."""
        model = copied(self.model)
        states.load_(model, start)
        return model.to(self.device)

    def steps_per_epoch(self, batch_size: int, part: Partition = WHOLE) -> int:
        """Count the batches of one epoch of a partition, by default of the full training split."""
        return batches_per_epoch(self.size(part, "train"), batch_size)

    def outputs(self, part: Partition) -> int:  # noqa: ARG002
        """Return a number by which models of partitions differ in size; here they do not."""
        return 0

    def probe(self, examples: int, seed: int) -> Any:
        """Draw random inputs for a model."""
        raise NotImplementedError

    def flops(self, part: Partition) -> dict[str, Flops]:
        """Count the FLOPs of a partition's model for one example, layer by layer."""
        return per_example(self.build(self.initial_state(), part, 0), self.probe(2, 0))

    @functools.cached_property
    def uncounted(self) -> list[str]:
        """The operations of the model that `flops` cannot count."""
        return uncounted(self.build(self.initial_state(), WHOLE, 0), self.probe(2, 0))

    def check(
        self, partitions: Sequence[Partition], *, covering: bool = True, whole: Partition = WHOLE
    ) -> None:
        """Refuse partitions that do not divide the data.

        Each class, or each training example, belongs to exactly one. Partitions that hold all data
        (``whole``, ``by_seeds``) are allowed in any number.

        Args:
            partitions: The division of the training split.
            covering: ``False``: classes or examples may be missing; none may be held twice.
            whole: The available part of the training split, see `partitions.skewed`.

        Raises:
            ConfigError: There is no partition; one is empty, has a single class, or holds what the
                data lacks; they divide in different ways; classes or examples are missing or held
                twice.
        """
        if not partitions:
            raise ConfigError("there are no partitions; WHOLE is the one that holds all data")
        for number, part in enumerate(partitions, 1):
            self._check_part(part, f"partition {number}")
        # All partitions divide in the same way: by classes, by examples, or not at all.
        classes: list[int] = []
        examples: list[int] = []
        kinds = set()
        for part in partitions:
            classes += part.classes or ()
            examples += part.examples or ()
            kinds.add((part.classes is not None, part.examples != whole.examples))
        if len(kinds) > 1:
            raise ConfigError(
                "some partitions hold classes, examples or all data and others do not; all divide "
                "alike"
            )
        ((divides_classes, divides_examples),) = kinds
        if divides_classes and not _divides(classes, range(self.classes or 0), covering):
            raise ConfigError(
                f"the partitions hold the classes {sorted(classes)}; each of the {self.classes} "
                "classes belongs to exactly one"
            )
        # Where classes are skewed, only the examples that are left have to be divided.
        available: Sequence[int] = range(self.size(WHOLE, "train"))
        if whole.examples is not None:
            available = whole.examples
        if divides_examples and not _divides(examples, available, covering):
            raise ConfigError(
                "each training example belongs to exactly one partition; some are missing or "
                "doubled"
            )

    def _check_part(self, part: Partition, name: str) -> None:
        if part.classes is not None and self.classes is None:
            raise ConfigError(
                f"{name} holds classes, and the task has none; take split_by: examples or "
                "split_by: seeds"
            )
        # torch would take negative positions from the end, and fail on large ones without a name.
        _check_range(part.classes, self.classes or 0, name, "class")
        _check_range(part.examples, self.size(WHOLE, "train"), name, "example")
        if part.classes is not None and len(part.classes) == 1:
            raise ConfigError(
                f"{name} holds the single class {part.classes[0]}, and a head of one output cannot "
                "learn"
            )


class FromSplits(Base):
    """A task whose data are splits, and whose models a function draws."""

    splits: Splits | BoxSplits
    draw: Callable[..., nn.Module] | None

    @property
    def fingerprint(self) -> str:
        """Of the data set."""
        return self.splits.fingerprint

    @property
    def leaks(self) -> bool:
        """Whether the validation split is the test split."""
        return self.splits.leaks

    def model_of(self, seed: int, *, anew: bool = False) -> nn.Module:
        """Build the model in the initial state of a replicate's seed.

        With ``anew`` it is drawn even where the model starts from a checkpoint.
        """
        if self.draw is None:
            raise ValueError(
                "this task was made of one model and cannot draw another: give it draw"
            )
        return self.draw(seed, anew=anew)


def _check_range(numbers: Sequence[int] | None, count: int, name: str, what: str) -> None:
    """Refuse a partition's classes or examples where there are none, or not so many."""
    if numbers is None:
        return
    if not numbers:
        raise ConfigError(f"{name} holds no {what}")
    for number in numbers:
        if not 0 <= number < count:
            raise ConfigError(
                f"{name} holds {what} {number}; the training split has {what} 0 to {count - 1}"
            )


def _divides(numbers: Sequence[int], available: Sequence[int], covering: bool) -> bool:
    if covering:
        return sorted(numbers) == list(available)
    return len(set(numbers)) == len(numbers)


def architecture(model: nn.Module) -> dict[str, Any]:
    """Describe a model and how it trains as plain data for a digest."""
    shapes = {name: list(value.shape) for name, value in states.state_of(model).items()}
    return {"model": repr(model), "shapes": shapes} | _invisible(model)


def _invisible(model: nn.Module) -> dict[str, list[Any]]:
    """Describe what a model's printed form does not show: frozen, evaluation mode, shared.

    There is nothing of it in most models.
    """
    # Only entries that apply, so that digests of other models are as they always were.
    described: dict[str, list[Any]] = {}
    for name, parameter in names.parameters(model).items():
        if not parameter.requires_grad:
            described.setdefault("frozen", []).append(name)
    for name, module in names.modules(model).items():
        if model.training and not module.training:
            described.setdefault("in evaluation mode", []).append(name)
    first_names: dict[int, str] = {}
    for name, parameter in names.parameters(model, shared=True).items():
        first = first_names.setdefault(id(parameter), name)
        if first != name:
            described.setdefault("shared", []).append([first, name])
    return described


def order_seed(seed: int, part: Partition) -> int:
    """Return the seed of a partition's data order: the replicate's, or its own."""
    return seed if part.order is None else derive(seed, "own order", part.order)
