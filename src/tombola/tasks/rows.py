"""Rows: a task whose examples are rows of tensors, such as windows of a text or measurements.

    >>> def squared(model, batch):
    ...     return (model(batch[0]) - batch[0]).square().mean()
    >>> x = torch.linspace(0, 1, 100)[:, None]
    >>> rows = {"train": (x[:80],), "valid": (x[80:90],), "test": (x[90:],)}
    >>> rmse = Metric("rmse", fraction=False, higher=False)
    >>> def values(loss):
    ...     return {"rmse": loss**0.5}
    >>> task = Rows(lambda: nn.Linear(1, 1), rows, 0, squared, (rmse,), values)
    >>> task.size(Partition(), "train"), len(task.batches(Partition(), 32, 0))
    (80, 3)

Override ``measure`` where the metrics do not follow from the mean loss, and ``make`` to augment
rows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tombola.data.batches import Order
from tombola.data.partitions import Partition
from tombola.ground import seeds
from tombola.ground.metrics import Metric
from tombola.masks.digests import digest_json, digest_state
from tombola.models.running import in_evaluation_mode
from tombola.tasks.base import Base, architecture, order_seed
from tombola.tasks.protocol import Metrics

CPU = torch.device("cpu")
_ROWS = 256  # measured together


@dataclass(frozen=True, eq=False)
class Rows(Base):
    """Learn from rows.

    Attributes:
        draw: Makes the model, with weights drawn from torch's global generator.
        splits: "train", "valid" and "test": tensors of as many rows each; "valid" may have none.
        seed: The recipe's.
        loss: From a model and a batch, the tensors' rows on the device, to the mean loss of the
            batch, a scalar.
        metrics: What is measured; the first is the headline.
        values: From the mean loss over a split to every metric by its name.
        head: Dotted name of the output layer, which ``prunable: no_head`` leaves out.
        device: Where models are trained and tested; a batch is moved there when it is made.
    """

    draw: Callable[[], nn.Module]
    splits: Mapping[str, tuple[Tensor, ...]]
    seed: int
    loss: Callable[[nn.Module, Any], Tensor]
    metrics: tuple[Metric, ...]
    values: Callable[[float], Mapping[str, float]]
    head: str | None = None
    device: torch.device = CPU

    def measure(self, model: nn.Module, part: Partition, which: str) -> Metrics:
        """Measure a model on a split of a partition."""
        loss = self.mean_loss(model, part, which)
        return Metrics(loss, self.values(loss))

    def make(self, which: str, rows: Tensor, seed: int, epoch: int) -> Any:  # noqa: ARG002
        """Return the batch of some rows of a split, here the rows as they are.

        Args:
            which: The split.
            rows: int64, positions in it.
            seed: The replicate's; augmentation is addressed by it and the epoch.
            epoch: From 0.
        """
        return tuple(values[rows].to(self.device) for values in self.splits[which])

    @functools.cached_property
    def model(self) -> nn.Module:  # type: ignore[override]
        """The architecture, in the initial state of replicate 0."""
        return self.model_of(seeds.derive(self.seed, "replicate", 0))

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of the rows of all splits."""
        named = {}
        for split, tensors in self.splits.items():
            for index, values in enumerate(tensors):
                named[f"{split}.{index}"] = values
        return digest_state(named)

    @functools.cached_property
    def digest(self) -> str:
        """Digest of model, rows and the name of the loss.

        That the code of a loss has changed is seen by the run, which compares the user's files.
        """
        entries = {
            "loss": f"{self.loss.__module__}:{self.loss.__qualname__}",
            "head": self.head,
            "data": self.fingerprint,
            "device": self.device.type,
        }
        return digest_json(entries | architecture(self.model))

    def model_of(self, seed: int, *, anew: bool = False) -> nn.Module:  # noqa: ARG002
        """Build the model in the initial state of a seed: here all weights are always drawn."""
        with seeds.seeded(seed, "init"):
            return self.draw()

    def rows(self, part: Partition, which: str) -> Tensor:
        """Return the positions of a partition's rows, int64.

        Examples are divided in the training split only.
        """
        if part.examples is not None and which == "train":
            return torch.tensor(part.examples)
        return torch.arange(len(self.splits[which][0]))

    def size(self, part: Partition, which: str) -> int:
        """Count the rows of a split of a partition."""
        return len(self.rows(part, which))

    def batches(self, part: Partition, batch_size: int, seed: int) -> RowBatches:
        """Return the training batches of a partition, epoch by epoch."""
        rows = self.rows(part, "train")

        def make(epoch: int, positions: Tensor) -> Any:
            return self.make("train", rows[positions], seed, epoch)

        order = Order(len(rows), batch_size=batch_size, seed=order_seed(seed, part))
        return RowBatches(order, make)

    def mean_loss(self, model: nn.Module, part: Partition, which: str) -> float:
        """Return the mean of the loss over the rows of a split, in evaluation mode."""
        losses = []
        rows = self.rows(part, which)
        with in_evaluation_mode(model), torch.no_grad():
            for chunk in torch.split(rows, _ROWS):
                loss = self.loss(model, self.make(which, chunk, 0, 0))
                losses.append(loss.double() * len(chunk))
        return float(torch.stack(losses).sum()) / len(rows)

    def probe(self, examples: int, seed: int) -> Tensor:
        """Draw random inputs like the first tensor of a batch, in its shape."""
        first = self.make("train", torch.arange(1), 0, 0)[0]
        shape = (examples, *first.shape[1:])
        generator = torch.Generator().manual_seed(seed)
        if first.is_floating_point():
            return torch.randn(shape, generator=generator).to(first)
        highest = int(self.splits["train"][0].max())
        return torch.randint(highest + 1, shape, generator=generator).to(first)


@dataclass(frozen=True)
class RowBatches:
    """The batches of rows, one epoch after another.

    Attributes:
        order: Which rows make each batch.
        make: Gives the batch of an epoch's rows.
    """

    order: Order
    make: Callable[[int, Tensor], Any]

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        return len(self.order)

    def examples(self, first: int, last: int) -> int:
        """Count the examples of the steps from ``first`` up to, not including, ``last``."""
        return self.order.examples(first, last)

    def epoch(self, epoch: int) -> Iterator[Any]:
        """Yield the batches of an epoch."""
        for rows in self.order.epoch(epoch):
            yield self.make(epoch, rows)
