"""Connectivity: what lies on the straight line between two trainings of one network.

    ticket -+-> train -------------------> first end --+
            +-> train, in another order -> second end -+-> [ connect ] -> error on it -> barrier

Two trainings that end in one basin can be mixed: every network between them is as good as they are.
Where the error rises in between, chance alone (the order of the data) has decided where they ended.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tombola.ground import devices, seeds
from tombola.ground.errors import TrainingError
from tombola.ground.metrics import ACCURACY, Metric
from tombola.ground.types import State
from tombola.kernels import finding
from tombola.tasks.protocol import Task
from tombola.training.jobs import Job, Trained, alone, examine, first_batches
from tombola.training.loop import arrange_, resolve_defaults
from tombola.training.statistics import EXAMPLES, learn_statistics_

POINTS = 11  # networks along a line, both ends included


@dataclass(frozen=True)
class Line:
    """Test results of the networks between two trained ones.

    Attributes:
        at: The place of each: 0 is the first of the two, 1 the second.
        headline: The task's first metric of each.
        loss: The loss of each.
        metric: That first metric.

    >>> round(Line([0.0, 0.5, 1.0], [0.90, 0.60, 0.94], [0.3, 1.2, 0.3]).barrier, 6)
    0.32
    """

    at: list[float]
    headline: list[float]
    loss: list[float]
    metric: Metric = ACCURACY

    @property
    def barrier(self) -> float:
        """How much worse the worst place on the line, ends included, is than the mean of its ends.

        It is in the unit of the metric: for an accuracy, the increase in error as a fraction.

        It is 0 where both ends are equal and nothing rises between them. Two ends that differ have
        a barrier of at least half their difference, for the worse of them is a place on the line.

        Source:
            Frankle et al. 2020, arXiv:1912.05671, section 2, who call it instability.
        """
        ends = (self.headline[0] + self.headline[-1]) / 2
        return ends - min(self.headline) if self.metric.higher else max(self.headline) - ends

    def to_dict(self) -> dict[str, list[float]]:
        """Return the columns as they stand in a record, the metric under its name.

        >>> Line([0.0, 1.0], [0.9, 0.8], [0.3, 0.4]).to_dict()
        {'at': [0.0, 1.0], 'accuracy': [0.9, 0.8], 'loss': [0.3, 0.4]}
        """
        return {"at": self.at, self.metric.name: self.headline, "loss": self.loss}


def between(first: State, second: State, place: float) -> dict[str, Tensor]:
    """Return the state at a place of the straight line from one state to another.

    At 0 and 1 it has the bits of the ends, and what is equal in both (a pruned weight's zero) stays
    as it is. Integers, such as a number of batches, are those of the first.

    >>> first, second = {"w": torch.tensor([0.0, 4.0])}, {"w": torch.tensor([0.0, 8.0])}
    >>> between(first, second, 0.25)["w"].tolist()
    [0.0, 5.0]
    """
    mixed = dict(first)
    for name, value in first.items():
        if value.is_floating_point():
            mixed[name] = torch.lerp(value, second[name], place)
    return mixed


def connect(job: Job, one: Trained, other: Trained, task: Task, *, points: int = POINTS) -> Line:
    """Test the networks along the straight line between two trainings of one ticket.

    The ends are the trained networks as they are. In between, batch norm gets new statistics, from
    training batches of the job (one epoch, 10,000 examples at most): a mix of the ends' statistics
    is not what a mixed network has, and would show a barrier where there is none.

    Args:
        job: One of the two trainings, on the full data.
        one: The result of one training; the first end.
        other: The result of the other; the second end.
        task: The model and the data.
        points: Networks to test, both ends included; at least 2.

    Raises:
        TrainingError: A loss is NaN or infinite.

    Source:
        Frankle et al. 2020, arXiv:1912.05671, section 2. New statistics: Izmailov et al. 2018,
        arXiv:1803.05407, section 3.2; the effect of mixed ones: Jordan et al. 2022,
        arXiv:2211.08403.

    >>> from dataclasses import replace
    >>> from tombola import Classification, run_job, split
    >>> from tombola.data import synthetic
    >>> from tombola.masks.masks import ones
    >>> from tombola.ground.settings import Training
    >>> from torch.nn import Flatten, Linear, Sequential
    >>> model = Sequential(Flatten(), Linear(64, 20), Linear(20, 10))
    >>> task = Classification(model, split(synthetic()), head="2")
    >>> job = Job(task.initial_state(), ones(model, head="2"), Training(lr=0.01, epochs=2), seed=0)
    >>> trained = [run_job(replace(job, seed=seed), task) for seed in (0, 1)]
    >>> connect(job, *trained, task, points=5).at
    [0.0, 0.25, 0.5, 0.75, 1.0]
    >>> connect(job, trained[0], trained[0], task).barrier
    0.0
    """
    training = resolve_defaults(job.training, task.model, task.device.type)
    kernel = finding.named(training.kernel)
    headline = task.metrics[0]
    line = Line([], [], [], headline)
    with alone(training, task), devices.autocast(task.device.type, training.precision)():
        for index in range(int(points)):
            place = index / (points - 1)
            model = task.build(between(one.state, other.state, place), job.part, job.seed)
            arrange_(model, training)
            if 0 < place < 1:
                # Dropout is drawn as in a training.
                seeds.reseed(job.seed, "line")
                seeds.reseed_python(job.seed, "line")
                learn_statistics_(model, task.loss, first_batches(job, task, EXAMPLES))
            metrics = examine(task, model, job, "test", kernel=kernel)
            if not math.isfinite(metrics.loss):
                raise TrainingError(
                    f"the test loss is {metrics.loss} at {place:g} of the line between two "
                    "trainings"
                )
            line.at.append(place)
            line.headline.append(metrics.values[headline.name])
            line.loss.append(metrics.loss)
    return line
