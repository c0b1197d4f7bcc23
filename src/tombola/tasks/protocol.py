"""Protocol: the interface between a task and all that searches, trains, records and reports.

Only a task opens a batch, knows what an example is, or what a model's output means. So ``find``,
jobs, pool, records and reports work with any object that has these members;
`tombola.tasks.base.Base` has most of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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

_MOST_TRIED = 32  # training examples that a task is tried on


@dataclass(frozen=True, eq=False)
class Metrics:
    """A model's loss and metrics on a split.

    Attributes:
        loss: Decides early stopping, unless a recipe names a metric; lower is better.
        values: Every declared metric by its name, in the order of declaration; then what else was
            measured, such as the AP of a class, which a record has as ``test_more``.
        predictions: int64 [examples], the predicted class of each example; ``None`` for a task
            without classes. Those of the test split are kept beside the record.
        kept: Tensors that are kept beside the record, such as detections; of the test split alone.
    """

    loss: float
    values: Mapping[str, float]
    predictions: Tensor | None = None
    kept: Mapping[str, Tensor] = field(default_factory=dict)

    def of(self, name: str) -> float:
        """Return the loss, or the metric of that name.

        >>> Metrics(0.5, {"accuracy": 0.9}).of("loss")
        0.5
        """
        return self.loss if name == "loss" else self.values[name]


@runtime_checkable
class Task(Protocol):
    """Data, model, loss and metrics.

    Attributes:
        metrics: What is measured; the first is the headline, by which tickets are compared.
        model: Gives the architecture, and the initial state where no other is given; never trained
            itself.
        head: Dotted name of the output layer, which `no_head` leaves unpruned; ``None`` where there
            is none.
        device: Where models are trained and tested.
        classes: How many classes there are to divide among partitions; ``None`` where there are
            none.
        others: What a class partition may do about objects of other classes in its examples, the
            default first; empty where an example has one class.
        digest: Of all that a training on this task depends on.
        fingerprint: Of the data alone.
        leaks: Whether the validation split is the test split.
        uncounted: Operations of the model whose FLOPs are not counted.
        notices: What users of the task must know, a line each; printed before anything is trained.
        facts: What the report says about the data besides its sizes, by name.
        origin: What tickets say about the data besides the recipe: on ``data``, and on ``inputs``.
        bytes: What the data takes in the memory of each process; 0 where it is streamed.
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
    def others(self) -> tuple[str, ...]: ...  # noqa: D102
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
        """Build the model in the initial state of a replicate's seed.

        With ``anew`` it is drawn even where the model starts from a checkpoint.
        """

    def build(self, start: State, part: Partition, seed: int, /) -> nn.Module:
        """Make a fresh model in a start state, on the device.

        For class partitions it has a drawn head of their size.
        """

    def size(self, part: Partition, which: str, /) -> int:
        """Count the "train", "valid" or "test" examples of a partition."""

    def labels(self, which: str, /) -> Tensor | None:
        """Return the class of each example of a split, int64 [examples].

        ``None`` for examples without classes.
        """

    def membership(self, which: str, /) -> Tensor | None:
        """Return which classes each example of a split has, bool [examples, classes].

        ``None`` for examples without classes.
        """

    def shares(self, part: Partition, /) -> Mapping[str, float] | None:
        """Return how much of the training data a class partition has, such as its pictures.

        It is recorded with every search on class partitions; ``None`` where there is nothing to
        say.
        """

    def examples_shown(self) -> Mapping[str, Tensor] | None:
        """Return a few test pictures that the report shows, and what they show.

        Of each one, K from 0 up, ``image_K`` uint8 [3, height, width], ``boxes_K`` float32
        [boxes, 4] (x1 y1 x2 y2 in pixels), ``labels_K`` int64 [boxes] and ``difficult_K`` bool
        [boxes]; and ``names`` uint8, the class names as UTF-8, a line each. What a network finds on
        them is in the ``kept`` of its metrics. ``None`` where there is nothing to draw.
        """

    def steps_per_epoch(self, batch_size: int, part: Partition = WHOLE, /) -> int:
        """Count the batches of one epoch of a partition."""

    def batches(self, part: Partition, batch_size: int, seed: int, /) -> Epochs:
        """Return the training batches of a partition.

        Order and augmentation depend on the seed and the epoch alone.
        """

    def check(
        self, parts: Sequence[Partition], /, *, covering: bool = True, whole: Partition = WHOLE
    ) -> None:
        """Refuse partitions that do not divide the data."""

    def loss(self, model: nn.Module, batch: Any, /) -> Tensor:
        """Return the loss of a batch, a scalar."""

    def measure(self, model: nn.Module, part: Partition, which: str, /) -> Metrics:
        """Measure a model in evaluation mode on a split of a partition, without changing it."""

    def outputs(self, part: Partition, /) -> int:
        """Return a number by which models of partitions differ in size, such as their outputs."""

    def flops(self, part: Partition, /) -> dict[str, Flops]:
        """Count the FLOPs of a partition's model for one example, layer by layer."""

    def probe(self, examples: int, seed: int, /) -> Any:
        """Draw random inputs for a model, on the device; not from the data."""


@runtime_checkable
class MakeTask(Protocol):
    """An entry of ``tombola.tasks``, or a user's own function that returns a task."""

    def __call__(  # noqa: D102
        self, data: Data, model: Model, /, *, seed: int, device: str, root: Path | None
    ) -> Task: ...


# What every task has.
MEMBERS = sorted(name for name in {*vars(Task), *Task.__annotations__} if not name.startswith("_"))


def check_task(task: Any, name: str) -> None:
    """Refuse what is no task, naming the first member that is missing or wrong.

    A model is built, trained for two steps on a few examples, and measured on them.

    Args:
        task: What a user's function returned.
        name: Its name in the recipe, for the message.

    Raises:
        ConfigError: A member is missing, is of another type, raises, or returns something invalid.
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
        contract = CONTRACTS["tasks"].in_words()
        raise ConfigError(
            f"{shown(name)} failed: {type(error).__name__}: {text}; {contract} (tombola list tasks)"
        ) from error


def _check_members(task: Any, wrong: Any) -> None:
    for member in MEMBERS:
        if not hasattr(task, member):
            wrong(member, "is missing")
    # Members that are wrong would fail in the middle of a run, far from their cause.
    kinds = {
        "model": nn.Module,
        "device": torch.device,
        "digest": str,
        "fingerprint": str,
        "leaks": bool,
        "head": str | None,
        "classes": int | None,
        "metrics": tuple,
        "others": tuple,
    }
    for member, kind in kinds.items():
        value = getattr(task, member)
        if not isinstance(value, kind):
            wrong(member, f"is {shown(value)}")
    if not task.metrics or not all(isinstance(metric, Metric) for metric in task.metrics):
        wrong("metrics", "declares none: it is a tuple of tombola.Metric, the headline first")
    # Records have one entry for a name.
    declared = [metric.name for metric in task.metrics]
    if len(set(declared)) < len(declared):
        wrong("metrics", f"declares {shown(max(declared, key=declared.count))} twice")
    if task.head is not None and task.head not in names.modules(task.model):
        wrong("head", f"is {shown(task.head)}, and the model has no such layer")
    # A validation split may be empty.
    for split in ("train", "valid", "test"):
        number = task.size(WHOLE, split)
        least = 0 if split == "valid" else 1
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            wrong("size", f"is {shown(number)} of the {split} split")
    membership = task.membership("train")
    if membership is not None:
        _check_membership(membership, task.size(WHOLE, "train"), task.classes, wrong)


def _check_membership(membership: Any, examples: int, classes: int | None, wrong: Any) -> None:
    if not isinstance(membership, Tensor) or membership.dtype != torch.bool:
        wrong("membership", "is no tensor of booleans")
    if list(membership.shape) != [examples, classes]:
        wrong(
            "membership",
            f"has the shape {list(membership.shape)}; the training split has {examples} examples "
            f"of {classes} classes",
        )


def _try(task: Task, wrong: Any) -> None:
    """Build a model, train it for two steps, and measure it."""
    start = task.initial_state()
    model = task.build(start, WHOLE, 0)
    _check_model("build", model, task, start, wrong)
    _check_model("model_of", task.model_of(0), task, start, wrong)
    _check_model("model_of", task.model_of(0, anew=True), task, start, wrong)

    few = Partition(examples=tuple(range(min(_MOST_TRIED, task.size(WHOLE, "train")))))
    batch_size = max(1, task.size(few, "train") // 2)
    batches = task.batches(few, batch_size, 0)
    if task.steps_per_epoch(batch_size, few) != len(batches):
        wrong("steps_per_epoch", "is not the number of batches of an epoch")

    # The step itself is tiny: it is only to be seen whether there are gradients.
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for batch in itertools.islice(batches.epoch(0), 2):
        loss: Any = task.loss(model, batch)
        if not isinstance(loss, Tensor):
            wrong("loss", f"gives a {type(loss).__name__}; it is a scalar tensor")
        if loss.ndim:
            wrong("loss", f"gives a tensor of shape {list(loss.shape)}; it is a scalar tensor")
        if not math.isfinite(loss.item()):
            wrong("loss", f"is {loss.item()} on the initial state")
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                if gradient is not None:
                    weight.sub_(1e-6 * gradient)
    check_metrics(task.measure(model, few, "train"), task.metrics, wrong)


def _check_model(member: str, model: Any, task: Task, start: State, wrong: Any) -> None:
    if not isinstance(model, nn.Module):
        wrong(member, f"gives a {type(model).__name__}, no torch.nn.Module")
    if model is task.model:
        wrong(member, "gives the task's own model, which is never trained; it is to give a new one")
    if state_of(model).keys() != start.keys():
        wrong(member, "gives a model with other weights than the initial state")


def check_metrics(metrics: Any, declared: Sequence[Metric], wrong: Any) -> None:
    """Refuse a measurement without a declared metric, or with one that is not as declared."""
    if not isinstance(metrics, Metrics):
        wrong("measure", f"gives a {type(metrics).__name__}; it is to give tombola.Metrics")
    # Reports and verdicts rest on these numbers, and would show a wrong one without a word.
    for metric in declared:
        if metric.name not in metrics.values:
            wrong("measure", f"has no '{metric.name}', which metrics declares")
        value = metrics.values[metric.name]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value):
            wrong("measure", f"gives {shown(value)} as {metric.name}; it is a finite number")
        if metric.fraction and not 0 <= value <= 1:
            wrong(
                "measure",
                f"gives {value:g} as {metric.name}, which is declared a fraction from 0 to 1",
            )
    for name, value in metrics.values.items():
        if not isinstance(value, int | float) or not math.isfinite(value):
            wrong("measure", f"gives {shown(value)} as {name}; it is a finite number or left out")
    for name, tensor in metrics.kept.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            wrong("measure", f"keeps {shown(name)}, which is no tensor by a name")
    if isinstance(metrics.loss, bool) or not isinstance(metrics.loss, int | float):
        wrong("measure", f"gives {shown(metrics.loss)} as loss; it is a number")
