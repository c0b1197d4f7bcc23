"""Contexts: what a score may use besides the weights and the mask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias, runtime_checkable

from torch import Tensor, nn

from tombola.ground.errors import InputError
from tombola.ground.types import Mask, Scores, State


@runtime_checkable
class Problem(Protocol):
    """A partition's model and its training data, for scores that need them."""

    def model(self) -> nn.Module:
        """Make the model as the partition trained it, in the state to score, masked."""

    def batches(self, examples: int) -> Iterator[Any]:
        """Return the first training batches with that many examples, at most one epoch."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the loss of a batch, a scalar."""

    def probe(self, examples: int) -> Any:
        """Draw random inputs of the model's shape, on its device; not from the data."""


@dataclass(frozen=True)
class Context:
    """The context of one score; a score uses what it needs.

    Attributes:
        rewind_point: The state that the round's training started from.
        seed: The replicate's seed, for random scores.
        partition: Index of the partition whose model is scored, from 0.
        problems: The problem of this partition and of those after it, if a score needs data.
        histories: What the trainings of this partition and of those after it have gathered, if a
            score needs it: tensors by the weights' names.
    """

    rewind_point: State
    seed: int
    partition: int = 0
    problems: Sequence[Problem] = ()
    histories: Sequence[Mapping[str, Tensor]] = ()

    @property
    def problem(self) -> Problem:
        """The partition's model and data; only for a score whose ``needs`` is "data".

        Raises:
            InputError: There is none.
        """
        if not self.problems:
            raise InputError(
                "a score that needs data must declare it with the attribute needs = 'data', and is "
                "computed where the data is: pass find(cut_jobs=...)"
            )
        return self.problems[0]

    @property
    def history(self) -> Mapping[str, Tensor]:
        """What the training of this partition has gathered: for each weight the sum over all steps
        of - gradient x weight. Only for a score whose ``needs`` is "history".

        Raises:
            InputError: There is none.
        """
        if not self.histories or not self.histories[0]:
            raise InputError(
                "a score that needs the history of a training must declare it with the attribute "
                "needs = 'history', and is computed where the training has gathered one: pass "
                "find(during=Gather(), cut_jobs=...)"
            )
        return self.histories[0]

    def of(self, index: int) -> Context:
        """Return the context of the partition ``index`` positions after this one."""
        return replace(
            self,
            partition=self.partition + index,
            problems=self.problems[index : index + 1],
            histories=self.histories[index : index + 1],
        )


Score: TypeAlias = Callable[[State, Mask, Context], Scores]
