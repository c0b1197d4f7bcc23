"""Protocol: the interface between a task and all that searches, trains, records and reports.

Only a task opens a batch, knows what an example is, or what a model's output means. So ``find``,
jobs, pool, records and reports work with any object that has these members;
`tombola.tasks.base.Base` has most of them.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
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
from tombola.models.running import in_evaluation_mode
from tombola.tasks.settings import Data, Model

_MOST_TRIED = 32  # training examples that a task is tried on
_NO_CLASSES = (10**6, 10**6 + 1)  # no task has so many classes


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

    def measures(self, part: Partition, which: str, /) -> int:
        """Count those of these examples that `measure` looks at."""

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

    tried = _Tried(task, wrong)
    with seeds.kept():
        _check_members(tried, wrong)
        _try(tried, wrong)


@dataclass(frozen=True)
class _Tried:
    """A task whose members are asked one by one, so that the one at fault is known.

    Attributes:
        task: What a user's function returned.
        wrong: Refuses a member, with what is wrong about it.
    """

    task: Any
    wrong: Callable[[str, str], NoReturn]

    def value(self, member: str) -> Any:
        """Return a member that is no method."""
        return self._of(member, lambda: getattr(self.task, member))

    def call(self, member: str, *args: Any, **options: Any) -> Any:
        """Call a member."""
        return self._of(member, lambda: getattr(self.task, member)(*args, **options))

    def _of(self, member: str, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except InputError:  # its message says what is wrong
            raise
        except Exception as error:  # whatever the user's own code meets
            self.wrong(member, f"raises {_in_words(error)}")


def _in_words(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}".rstrip(": ")


# Members that are no methods, and of what type they are.
_KINDS: Mapping[str, Any] = {
    "model": nn.Module,
    "device": torch.device,
    "digest": str,
    "fingerprint": str,
    "leaks": bool,
    "head": str | None,
    "classes": int | None,
    "metrics": tuple,
    "others": tuple,
    "uncounted": list | tuple,
    "notices": list | tuple,
    "facts": Mapping,
    "origin": Mapping,
    "bytes": int,
}


def _check_members(tried: _Tried, wrong: Any) -> None:
    """Refuse members that are missing or of another type, and sizes and classes that are none."""
    task = tried.task
    for member in MEMBERS:
        if _is_missing(task, member):
            wrong(member, "is missing")
    # Members that are wrong would fail in the middle of a run, far from their cause.
    for member in MEMBERS:
        value = tried.value(member)
        if member in _KINDS and not isinstance(value, _KINDS[member]):
            wrong(member, f"is {shown(value)}")
        if member not in _KINDS and not callable(value):
            wrong(member, f"is {shown(value)}; it is a method")
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
        number = tried.call("size", WHOLE, split)
        least = 0 if split == "valid" else 1
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            wrong("size", f"is {shown(number)} of the {split} split")
    for split in ("train", "valid", "test"):
        number, looked_at = task.size(WHOLE, split), tried.call("measures", WHOLE, split)
        if isinstance(looked_at, bool) or not isinstance(looked_at, int) or looked_at > number:
            wrong("measures", f"is {shown(looked_at)} of the {number} {split} examples")
    examples = task.size(WHOLE, "train")
    labels = tried.call("labels", "train")
    if labels is not None:
        is_one_each = isinstance(labels, Tensor) and list(labels.shape) == [examples]
        if not is_one_each or labels.dtype != torch.int64:
            wrong("labels", f"gives {_kind(labels)}; it is int64 [{examples}], or None")
    membership = tried.call("membership", "train")
    if membership is not None:
        _check_membership(membership, examples, task.classes, wrong)
    for member, given in {"shares": [WHOLE], "examples_shown": []}.items():
        found = tried.call(member, *given)
        if found is not None and not isinstance(found, Mapping):
            wrong(member, f"gives {_kind(found)}; it is a mapping, or None")
    outputs = tried.call("outputs", WHOLE)
    if isinstance(outputs, bool) or not isinstance(outputs, int):
        wrong("outputs", f"gives {_kind(outputs)}; it is a whole number")
    tried.call("check", [WHOLE])
    try:
        tried.call("check", [Partition(classes=_NO_CLASSES)])
    except InputError:
        return
    wrong("check", f"accepts a partition of the classes {_NO_CLASSES}, which there are not")


def _is_missing(task: Any, member: str) -> bool:
    # hasattr alone would take an AttributeError within a property for a missing member.
    if inspect.getattr_static(task, member, None) is not None:
        return False
    try:
        return not hasattr(task, member)
    except Exception:  # of the user's own __getattr__, told where the member is asked for
        return False


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)}".removeprefix("torch.")
    return f"a {type(value).__name__}"


def _check_membership(membership: Any, examples: int, classes: int | None, wrong: Any) -> None:
    if not isinstance(membership, Tensor) or membership.dtype != torch.bool:
        wrong("membership", "is no tensor of booleans")
    if list(membership.shape) != [examples, classes]:
        wrong(
            "membership",
            f"has the shape {list(membership.shape)}; the training split has {examples} examples "
            f"of {classes} classes",
        )


def _try(tried: _Tried, wrong: Any) -> None:
    """Build a model, train it for two steps, and measure it."""
    task = tried.task
    start = tried.call("initial_state")
    if not isinstance(start, Mapping) or not all(isinstance(v, Tensor) for v in start.values()):
        wrong("initial_state", f"gives {_kind(start)}; it is a mapping of names to tensors")
    model = tried.call("build", start, WHOLE, 0)
    _check_model("build", model, task, start, wrong)
    for anew in (False, True):
        drawn = tried.call("model_of", 0, anew=anew)
        _check_model("model_of", drawn, task, start, wrong)
    _try_probe(tried, model, wrong)

    few = Partition(examples=tuple(range(min(_MOST_TRIED, task.size(WHOLE, "train")))))
    batch_size = max(1, task.size(few, "train") // 2)
    batches = tried.call("batches", few, batch_size, 0)
    if not isinstance(batches, Epochs):
        wrong("batches", f"gives {_kind(batches)}; it has len, epoch and examples (data.batches)")
    if tried.call("steps_per_epoch", batch_size, few) != len(batches):
        wrong("steps_per_epoch", "is not the number of batches of an epoch")

    # The step itself is tiny: it is only to be seen whether there are gradients.
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for batch in _first_two(batches, wrong):
        loss: Any = tried.call("loss", model, batch)
        if not isinstance(loss, Tensor):
            wrong("loss", f"gives a {type(loss).__name__}; it is a scalar tensor")
        if loss.ndim:
            wrong("loss", f"gives a tensor of shape {list(loss.shape)}; it is a scalar tensor")
        if not math.isfinite(loss.item()):
            wrong("loss", f"is {loss.item()} on the initial state")
        try:
            gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        except RuntimeError as error:
            wrong("loss", f"has no gradients: {_in_words(error)}")
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                if gradient is not None:
                    weight.sub_(1e-6 * gradient)
    check_metrics(tried.call("measure", model, few, "train"), task.metrics, wrong)


def _try_probe(tried: _Tried, model: nn.Module, wrong: Any) -> None:
    """Refuse inputs that the model does not take, and FLOPs that are none."""
    probe = tried.call("probe", 2, 0)
    try:
        with in_evaluation_mode(model), torch.no_grad():
            model(probe)
    except Exception as error:  # of the user's model
        wrong("probe", f"gives {_kind(probe)}, which the model does not take: {_in_words(error)}")
    flops = tried.call("flops", WHOLE)
    if not isinstance(flops, Mapping) or not all(isinstance(v, Flops) for v in flops.values()):
        wrong("flops", f"gives {_kind(flops)}; it is a mapping of layers to Flops")


def _first_two(batches: Epochs, wrong: Any) -> list[Any]:
    """Return the first two batches of an epoch."""
    try:
        return list(itertools.islice(batches.epoch(0), 2))
    except InputError:
        raise
    except Exception as error:  # whatever the user's own code meets
        wrong("batches", f"raises {_in_words(error)}")
        raise


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
