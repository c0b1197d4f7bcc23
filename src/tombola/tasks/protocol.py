"""Protocol: what a task is to all that searches, trains, records and reports.

Nobody but a task opens a batch, knows what an example is, or what a model's output means. So
``find``, jobs, pool, records and reports work with any object that has these members;
`tombola.tasks.base.Base` brings most of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from tombola.data.batches import Epochs
from tombola.data.partitions import WHOLE, Partition
from tombola.ground import seeds
from tombola.ground.contracts import CONTRACTS
from tombola.ground.errors import ConfigError, InputError, shown
from tombola.ground.metrics import Metric
from tombola.ground.types import State
from tombola.masks import names
from tombola.masks.states import state_of
from tombola.models.flops import Flops
from tombola.tasks.settings import Data, Model

_TRIED = 32  # training examples that a task is tried on, at most


@dataclass(frozen=True, eq=False)
class Metrics:
    """What a model does on a split.

    Attributes:
        loss: What early stops go by, unless a recipe says otherwise; lower is better.
        values: Every declared metric by its name, in the order in which they are declared.
        predictions: int64 [examples], the class that the model takes each example for; ``None`` for
            a task without classes. Those of the test split are kept beside the record.
    """

    loss: float
    values: Mapping[str, float]
    predictions: Tensor | None = None

    def of(self, name: str) -> float:
        """Return the loss, or the metric of that name.

        >>> Metrics(0.5, {"accuracy": 0.9}).of("loss")
        0.5
        """
        return self.loss if name == "loss" else self.values[name]


@runtime_checkable
class Task(Protocol):
    """What is learnt and how well: data, model, loss and metrics.

    Attributes:
        metrics: What is measured; the first is the headline, by which tickets are compared.
        model: Gives the architecture, and the initial state where no other is given; never trained
            itself.
        head: Dotted name of the output layer, which `no_head` leaves unpruned; ``None`` where there
            is none.
        device: Where models are trained and tested.
        classes: How many classes there are to divide among partitions; ``None`` where there are
            none.
        digest: Of all that decides what a training on this task does.
        fingerprint: Of the data alone.
        leaks: Whether what is validated on is the test split.
        uncounted: Operations of the model whose FLOPs are not counted.
        notices: What somebody who runs the task must know, a line each; told before anything is
            trained.
        facts: What the page says of the data beside its sizes, by name.
        origin: What tickets say of the data beside what the recipe says: of ``data``, and of
            ``inputs``.
        bytes: What the data takes in the memory of each process; 0 where it is read while it is
            used.
    """

    @property
    def metrics(self) -> tuple[Metric, ...]: ...  # noqa: D102
    @property
    def model(self) -> nn.Module: ...  # noqa: D102
    @property
    def head(self) -> str | None: ...  # noqa: D102
    @property
    def device(self) -> torch.device: ...  # noqa: D102
    @property
    def classes(self) -> int | None: ...  # noqa: D102
    @property
    def digest(self) -> str: ...  # noqa: D102
    @property
    def fingerprint(self) -> str: ...  # noqa: D102
    @property
    def leaks(self) -> bool: ...  # noqa: D102
    @property
    def uncounted(self) -> list[str]: ...  # noqa: D102
    @property
    def notices(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def facts(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def origin(self) -> Mapping[str, Mapping[str, Any]]: ...  # noqa: D102

    @property
    def bytes(self) -> int: ...  # noqa: D102

    def initial_state(self) -> State:
        """Copy the model's own state."""

    def model_of(self, seed: int, /, *, anew: bool = False) -> nn.Module:
        """Build the model in the initial state of a replicate's seed; ``anew``: drawn, whatever
        weights it is given.
        """

    def build(self, start: State, part: Partition, seed: int, /) -> nn.Module:
        """Make a fresh model in a start state, on the device; for class partitions with a drawn
        head of their size.
        """

    def size(self, part: Partition, which: str, /) -> int:
        """Count the "train", "valid" or "test" examples of a partition."""

    def labels(self, which: str, /) -> Tensor | None:
        """Return the class of each example of a split, int64 [examples]; ``None`` where examples
        have no one class.
        """

    def steps_per_epoch(self, batch_size: int, part: Partition = WHOLE, /) -> int:
        """Count the batches of one epoch of a partition."""

    def batches(self, part: Partition, batch_size: int, seed: int, /) -> Epochs:
        """Give the training batches of a partition; order and augmentation hang on the seed and the
        epoch alone.
        """

    def check(
        self, parts: Sequence[Partition], /, *, covering: bool = True, whole: Partition = WHOLE
    ) -> None:
        """Refuse partitions that do not divide the data."""

    def loss(self, model: nn.Module, batch: Any, /) -> Tensor:
        """Return the loss of a batch, a scalar."""

    def measure(self, model: nn.Module, part: Partition, which: str, /) -> Metrics:
        """Measure a model, in evaluation mode, on a split of a partition; the model stays as it
        is.
        """

    def outputs(self, part: Partition, /) -> int:
        """Return a number by which models of partitions differ in size, such as that of their
        outputs.
        """

    def flops(self, part: Partition, /) -> dict[str, Flops]:
        """Count what an example costs a model of a partition, layer by layer."""

    def probe(self, examples: int, seed: int, /) -> Any:
        """Draw what a model is called with for so many examples, on the device; not of the data."""


@runtime_checkable
class MakeTask(Protocol):
    """What an entry of ``tombola.tasks`` is, and a function of the user's own that gives a task."""

    def __call__(  # noqa: D102
        self, data: Data, model: Model, /, *, seed: int, device: str, root: Path | None
    ) -> Task: ...


MEMBERS = sorted(
    {name for name in (*vars(Task), *Task.__annotations__) if not name.startswith("_")}
)  # what every task has


def check_task(task: Any, name: str) -> None:
    """Refuse what is no task, naming the first member that is missing or wrong.

    It is built, takes two steps on a few training examples, and is measured on them.

    Args:
        task: What somebody's function gave.
        name: As the recipe names it, for the message.

    Raises:
        ConfigError: A member is missing, is of another type, raises, or gives what it must not.
    """

    def wrong(member: str, what: str) -> NoReturn:
        raise ConfigError(
            f"{shown(name)}: {member} {what}; {CONTRACTS['tasks'].in_words()} (tombola list tasks)"
        )

    _check_members(task, wrong)
    try:
        with seeds.kept():
            _try(task, wrong)
    except InputError:
        raise
    except Exception as error:  # whatever the user's own code meets
        text = " ".join(str(error).split())
        raise ConfigError(f"{shown(name)} failed: {type(error).__name__}: {text}; "
                          f"{CONTRACTS['tasks'].in_words()} (tombola list tasks)") from error  # fmt: skip


def _check_members(task: Any, wrong: Any) -> None:
    for member in MEMBERS:
        if not hasattr(task, member):
            wrong(member, "is missing")
    kinds = {"model": nn.Module, "device": torch.device, "digest": str, "fingerprint": str, "leaks": bool,
             "head": str | None, "classes": int | None, "metrics": tuple}  # fmt: skip
    for member, kind in kinds.items():
        value = getattr(task, member)
        if not isinstance(value, kind):
            wrong(member, f"is {shown(value)}")
    if not task.metrics or not all(isinstance(metric, Metric) for metric in task.metrics):
        wrong("metrics", "declares none: it is a tuple of tombola.Metric, the headline first")
    declared = [metric.name for metric in task.metrics]
    if len(set(declared)) < len(declared):
        wrong("metrics", f"declares {shown(max(declared, key=declared.count))} twice")
    if task.head is not None and task.head not in names.modules(task.model):
        wrong("head", f"is {shown(task.head)}, and the model has no such layer")
    for which in ("train", "valid", "test"):
        number = task.size(WHOLE, which)
        if isinstance(number, bool) or not isinstance(number, int) or number < (which != "valid"):
            wrong("size", f"is {shown(number)} of the {which} split")


def _try(task: Task, wrong: Any) -> None:
    """Build a model, train it for two steps, and measure it."""
    start = task.initial_state()
    model = task.build(start, WHOLE, 0)
    made: list[tuple[str, Any]] = [
        ("build", model),
        ("model_of", task.model_of(0)),
        ("model_of", task.model_of(0, anew=True)),
    ]
    for member, other in made:
        if not isinstance(other, nn.Module):
            wrong(member, f"gives a {type(other).__name__}, no torch.nn.Module")
        if other is task.model:
            wrong(
                member,
                "gives the task's own model, which is never trained; it is to give a new one",
            )
        if state_of(other).keys() != start.keys():
            wrong(member, "gives a model with other weights than the initial state")
    few = Partition(examples=tuple(range(min(_TRIED, task.size(WHOLE, "train")))))
    batches = task.batches(few, max(1, task.size(few, "train") // 2), 0)
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if task.steps_per_epoch(max(1, task.size(few, "train") // 2), few) != len(batches):
        wrong("steps_per_epoch", "is not the number of batches of an epoch")
    for batch, _ in zip(batches.epoch(0), range(2), strict=False):
        loss = task.loss(model, batch)
        if not isinstance(loss, Tensor) or loss.ndim:
            seen = (
                f"a tensor of shape {list(loss.shape)}"
                if isinstance(loss, Tensor)
                else f"a {type(loss).__name__}"
            )
            wrong("loss", f"gives {seen}; it is a scalar tensor")
        if not math.isfinite(loss.item()):
            wrong("loss", f"is {loss.item()} on the initial state")
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                if gradient is not None:
                    weight.sub_(1e-6 * gradient)
    check_metrics(task.measure(model, few, "train"), task.metrics, wrong)


def check_metrics(metrics: Any, declared: Sequence[Metric], wrong: Any) -> None:
    """Refuse a measurement that lacks a declared metric, or has one that is no number or no
    fraction.
    """
    if not isinstance(metrics, Metrics):
        wrong("measure", f"gives a {type(metrics).__name__}; it is to give tombola.Metrics")
    for metric in declared:
        if metric.name not in metrics.values:
            wrong("measure", f"has no '{metric.name}', which metrics declares")
        value = metrics.values[metric.name]
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            wrong("measure", f"gives {shown(value)} as {metric.name}; it is a finite number")
        if metric.fraction and not 0 <= value <= 1:
            wrong(
                "measure",
                f"gives {value:g} as {metric.name}, which is declared a fraction from 0 to 1",
            )
    if isinstance(metrics.loss, bool) or not isinstance(metrics.loss, int | float):
        wrong("measure", f"gives {shown(metrics.loss)} as loss; it is a number")
