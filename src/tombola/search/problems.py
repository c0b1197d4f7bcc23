"""Problems: what a partition trained, for scores that need data.

job, trained state -> [ model, training batches, loss ] -> score
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from tombola.ground.types import Mask, State
from tombola.masks import states
from tombola.masks.masks import apply_
from tombola.tasks.protocol import Task
from tombola.training.jobs import Job, first_batches, number_of_batches


@dataclass(frozen=True, eq=False)
class JobProblem:
    """What a job trained: a `scores.context.Problem`.

    Training data only: the validation split is for choices, the test split is used once.

    Attributes:
        job: The training.
        state: The state to score, as the partition trained it: with its own head.
        mask: The weights that are kept.
        task: The model and the data.
    """

    job: Job
    state: State
    mask: Mask
    task: Task

    def model(self) -> nn.Module:
        """Make the model as the partition trained it, in the state to score, masked."""
        # Not built from the state: its head already has the partition's own size.
        model = self.task.build(self.job.start, self.job.part, self.job.seed)
        states.load_(model, self.state)
        apply_(model, self.mask)
        return model

    def batches(self, examples: int) -> Iterator[Any]:
        """Return the first batches of the training's first epoch, augmented as in training."""
        return first_batches(self.job, self.task, examples)

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the task's loss of a batch."""
        return self.task.loss(model, batch)

    def probe(self, examples: int) -> Any:
        """Draw random inputs for the model; not from the data."""
        return self.task.probe(examples, self.job.seed)

    def examples(self, asked: int) -> int:
        """Count the examples of `batches`: the last batch is not cut."""
        size = min(self.job.training.batch_size, max(asked, 1))
        batches = self.task.batches(self.job.part, size, self.job.seed)
        return batches.examples(0, number_of_batches(batches, asked, size))
