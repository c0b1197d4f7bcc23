"""Statistics: those of batch norm, taken anew for weights that were not trained with them.

    weights as they are -> [ training batches -> means and variances ] -> evaluation

A fresh network's statistics are means of 0 and variances of 1, and a mixed network's are a mix of
its ends': neither is what the network has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from tombola.ground.types import Mask
from tombola.scores.context import Context
from tombola.training.during import Driver

if TYPE_CHECKING:
    from tombola.training.jobs import Job

EXAMPLES = 10_000  # of the first epoch; with more, statistics hardly change

Loss = Callable[[nn.Module, Any], Tensor]


def statistics_layers(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Return the batch norm layers that keep statistics, which are not frozen.

    >>> len(statistics_layers(nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2).eval())))
    1
    """
    layers: list[nn.modules.batchnorm._BatchNorm] = []
    for module in model.modules():
        if not isinstance(module, nn.modules.batchnorm._BatchNorm):
            continue
        if module.training and module.track_running_stats:
            layers.append(module)
    return layers


def learn_statistics_(model: nn.Module, loss: Loss, batches: Iterator[Any]) -> None:
    """Replace batch norm statistics by those of some batches, all with equal weight.

    Frozen layers (in evaluation mode in a model that trains) keep theirs. Without layers that keep
    statistics no batch is read.

    Args:
        model: Is left in training mode.
        loss: From the model and a batch to a scalar; it is not used.
        batches: Training batches.

    Source:
        Izmailov et al. 2018, arXiv:1803.05407, section 3.2.
    """
    if not model.training:
        model.train()
    layers = statistics_layers(model)
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # torch then averages over all batches
    with torch.no_grad():
        for batch in batches:
            loss(model, batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


@dataclass(frozen=True)
class NewStatistics:
    """Take batch norm statistics anew before the first step, as plain data of a job.

    Attributes:
        examples: Training examples to take them from, one epoch at most; whole batches.
    """

    examples: int = EXAMPLES

    name: ClassVar[str] = "new_statistics"
    driver: ClassVar[str] = "tombola.training.statistics:StatisticsTaker"


def untrained(job: Job, model: nn.Module) -> Job:
    """Return the training of no step that a ticket is tested by as it is.

    With batch norm its statistics are taken anew.

    Args:
        job: The ticket.
        model: Has the ticket's layers.
    """
    if not statistics_layers(model):
        return replace(job, last=job.first)
    return replace(job, last=job.first, during=NewStatistics())


class StatisticsTaker(Driver):
    """Takes batch norm statistics anew, for a network that is judged without training."""

    changes_mask: ClassVar[bool] = False

    def __init__(
        self,
        during: NewStatistics,
        model: nn.Module,  # noqa: ARG002
        head: str | None,  # noqa: ARG002
        mask: Mask,  # noqa: ARG002
        *,
        steps: int,  # noqa: ARG002
        first: int,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> None:
        self._examples = during.examples
        self.kept: list[tuple[int, dict[str, int]]] = []

    def begin(
        self, model: nn.Module, batches: Callable[[int], Iterator[Any]], loss: Loss, /
    ) -> None:
        """Take the statistics; the model keeps its mode."""
        learn_statistics_(model, loss, batches(self._examples))
