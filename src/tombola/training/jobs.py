"""Jobs: one training as plain data, its digest, and doing it once."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from tombola.data.batches import Epochs
from tombola.data.partitions import WHOLE, Partition
from tombola.ground import catalogue, devices, seeds
from tombola.ground.checking import own_numbers
from tombola.ground.contracts import CONTRACTS
from tombola.ground.errors import ConfigError, InvariantError, TrainingError, shown
from tombola.ground.metrics import metric_named
from tombola.ground.notebooks import one_line
from tombola.ground.plain import plain
from tombola.ground.settings import Schedule, Training
from tombola.ground.types import Mask, State
from tombola.kernels import finding
from tombola.kernels.protocol import Kernel
from tombola.masks import names
from tombola.masks.digests import digest_json, digest_mask, digest_state
from tombola.masks.masks import MaskHandle, cloned, kept_in_words
from tombola.masks.states import state_of
from tombola.scores.context import Context
from tombola.tasks.protocol import Metrics, Task
from tombola.training import during, invariants
from tombola.training.during import During
from tombola.training.loop import Step, arrange_, resolve_defaults, train


@dataclass(frozen=True, eq=False)
class Job:
    """One training as plain data, without arm, round, rate or score: equal trainings run once.

    Attributes:
        start: The rewind point: weights, buffers and the full-class head.
        mask: Weights to keep.
        training: Its settings.
        seed: The replicate's seed; it determines the order of the data, augmentation, dropout and
            drawn heads.
        part: Which part of the training data.
        first: Steps (of the full split) that were taken before the start state.
        last: Stop after this step of the full split; at the end if ``None``.
        during: What changes the mask while it runs, such as gradual pruning, from ``mask`` on.

    >>> dense = {"w": torch.tensor([True, True])}
    >>> job = Job({"w": torch.ones(2)}, dense, Training(epochs=1), seed=0)
    >>> sparse = {"w": torch.tensor([True, False])}
    >>> job.on(WHOLE, sparse).digest("task") == job.digest("task")
    False
    """

    start: State
    mask: Mask
    training: Training
    seed: int
    part: Partition = WHOLE
    first: int = 0
    last: int | None = None
    during: During | None = None

    def __post_init__(self) -> None:
        # The state of a wrapped model has names that its mask lacks.
        mask, start = names.agreed(self.mask, self.start)
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "start", start)
        for name in ("seed", "first", "last"):
            object.__setattr__(self, name, own_numbers(getattr(self, name)))

    def __repr__(self) -> str:
        part = "all training data" if self.part == WHOLE else "a partition of the training data"
        settings = f"{self.training.optimizer}, {self.training.epochs} epochs"
        return one_line("Job", kept_in_words(self.mask), settings, part, f"seed {self.seed}")

    def on(self, part: Partition, mask: Mask) -> Job:
        """Return the same training on another part of the data, with another mask."""
        job = replace(self, part=part, mask=mask)
        # Digests that are known already need not be computed again.
        if "start_digest" in vars(self):
            vars(job)["start_digest"] = self.start_digest
        if mask is self.mask and "mask_digest" in vars(self):
            vars(job)["mask_digest"] = self.mask_digest
        return job

    @functools.cached_property
    def start_digest(self) -> str:
        """Digest of the rewind point."""
        return digest_state(self.start)

    @functools.cached_property
    def mask_digest(self) -> str:
        """Digest of the mask."""
        return digest_mask(self.mask)

    def digest(self, task: str) -> str:
        """Digest of all that the result depends on, on the task of that digest."""
        # Kept, as pool and driver ask for it often.
        digests: dict[str, str] = vars(self).setdefault("digests", {})
        if task not in digests:
            entries = {
                "task": task,
                "start": self.start_digest,
                "mask": self.mask_digest,
                "part": self.part.digest,
                "training": plain(self.training),
                "seed": self.seed,
                "steps": [self.first, self.last],
            }
            digests[task] = digest_json(entries | during.entries_of_digest(self.during))
        return digests[task]


@dataclass(frozen=True, eq=False)
class Trained:
    """The result of a training.

    Attributes:
        final: The state after the last step.
        early: The state at the early-stop step, the lowest validation loss (or, by the training's
            ``select_by``, the best value of that metric); ``None`` without validation data.
        early_step: That step, counted in the partition's own steps from the training's beginning.
        select: "last" or "best": which of the two is pruned and counts as the result.
        history: One entry per evaluation: step, valid_loss, and each declared metric with the
            prefix ``valid_``.
        samples: Training examples seen.
        seconds: Wall time of the training, validation included.
        steps: Optimiser steps taken.
        process_seconds: Processor time of the process during the training, over all threads.
        peak_bytes: Peak memory: on CUDA that of this training, else that of its process so far.
        mask: The mask at its end; ``None`` for a training that did not change it.
        cuts: What each of its cuts left of each layer: [steps done, kept weights by layer].
        gathered: What was gathered while it ran, for scores: tensors by the weights' names.
    """

    final: dict[str, Tensor]
    early: dict[str, Tensor] | None
    early_step: int | None
    select: Literal["last", "best"]
    history: list[dict[str, float]]
    samples: int
    seconds: float
    steps: int = 0
    process_seconds: float = 0.0
    peak_bytes: int = 0
    mask: dict[str, Tensor] | None = None
    cuts: list[tuple[int, dict[str, int]]] = field(default_factory=list)
    gathered: dict[str, Tensor] = field(default_factory=dict)

    def __repr__(self) -> str:
        examples = f"{self.samples:,} examples seen"
        return one_line("Trained", f"{self.steps:,} steps", examples, f"{self.seconds:.1f} s")

    @property
    def state(self) -> dict[str, Tensor]:
        """The selected state: the one that is pruned and tested."""
        return self.early if self.select == "best" and self.early is not None else self.final


@dataclass(frozen=True, eq=False)
class Measured:
    """A trained ticket's metrics by split; ``early`` is the test split at the early-stop step."""

    train: Metrics
    valid: Metrics | None
    test: Metrics
    early: Metrics | None


@contextlib.contextmanager
def alone(training: Training, task: Task) -> Iterator[None]:
    """Run a block with a training's threads and arithmetic, then restore those of the caller.

    The caller's random state is restored, too.
    """
    threads = torch.get_num_threads()
    if task.device.type == "cuda":
        # The state of its generators can only be restored once CUDA is initialised.
        torch.cuda.init()  # type: ignore[no-untyped-call]
    with seeds.kept(), devices.numbers(task.device.type, training.precision):
        torch.set_num_threads(training.threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def run_job(
    job: Job,
    task: Task,
    progress: Callable[[int, int], None] | None = None,
    *,
    loop: Callable[..., Iterator[Step]] = train,
) -> Trained:
    """Do a training: rewind, then `train` to the end.

    Args:
        job: What to train.
        task: The model and the data.
        progress: Called with (steps done, total steps) at every evaluation.
        loop: The training loop; your own takes what `train` takes and yields what it yields.

    Raises:
        TrainingError: The loss or a weight is NaN or infinite; the step is named.
        InvariantError: The model is not at the rewind point before training, or a pruned weight is
            not zero afterwards.

    >>> from tombola.data import synthetic
    >>> from tombola.masks.masks import ones
    >>> from tombola.data.splits import split
    >>> from torch.nn import Flatten, Linear, Sequential
    >>> model = Sequential(Flatten(), Linear(64, 20), Linear(20, 10))
    >>> from tombola import Classification
    >>> task = Classification(model, split(synthetic()), head="2")
    >>> job = Job(task.initial_state(), ones(model, head="2"), Training(lr=0.01, epochs=3), seed=0)
    >>> trained = run_job(job, task)
    >>> trained.samples
    2700
    >>> len(measure(job, trained, task).test.predictions)
    200
    """
    with alone(job.training, task):
        return _run(job, task, progress or (lambda _done, _all: None), loop)


def _run(
    job: Job, task: Task, progress: Callable[[int, int], None], loop: Callable[..., Iterator[Step]]
) -> Trained:
    wall_start, cpu_start = time.perf_counter(), time.process_time()
    devices.reset_peak_memory(task.device)
    running = _RunningJob(job, task, progress)
    # Our own loop hands out its steps to nobody else, so a kernel need not expect changes at every
    # step. What a user's own loop does is not known.
    options: dict[str, Any] = {"visited": running.visits} if loop is train else {}
    if running.listens:
        _check_loop(loop)
        options["listener"] = running
    for step in loop(
        running.model,
        running.batches,
        job.training,
        job.mask,
        loss=task.loss,
        seed=job.seed,
        schedule=running.schedule,
        first=running.first,
        last=running.last,
        **options,
    ):
        if running.do_due(step):
            break
    # Gradients and momentum are freed before the result is copied: models are large.
    del step
    final, early = running.states()
    return Trained(
        final=final,
        early=early,
        early_step=running.watch.early_step,
        select=job.training.select,
        history=running.watch.history,
        samples=running.batches.examples(running.first, running.first + running.seen),
        seconds=time.perf_counter() - wall_start,
        steps=running.seen,
        process_seconds=time.process_time() - cpu_start,
        peak_bytes=devices.peak_memory(task.device),
        mask=dict(running.mask) if running.changes_mask else None,
        cuts=[] if running.driver is None else running.driver.kept,
        gathered={} if running.driver is None else running.driver.gathered,
    )


def _check_loop(loop: Callable[..., Iterator[Step]]) -> None:
    """Refuse a user's own loop that hands its gradients to nobody."""
    parameters = inspect.signature(loop).parameters.values()
    taken = any(p.name == "listener" or p.kind is p.VAR_KEYWORD for p in parameters)
    if not taken:
        raise ConfigError(
            f"the loop {shown(getattr(loop, '__name__', loop))} has no argument 'listener', and "
            "what happens during this training needs its gradients; take tombola.train, or give "
            "the argument on to it"
        )


class _RunningJob:
    """What is evaluated, cut and counted between the steps of a training.

    Attributes:
        model: The model that is trained.
        batches: Those of its part of the data.
        schedule: In its own steps.
        first: Steps taken before it.
        last: The step after which it ends.
        driver: Acts on the model while it trains, if anything does.
        watch: Evaluates on the validation data.
        mask: The weights kept so far.
        seen: Steps done, as far as their losses are known to be finite.
    """

    def __init__(self, job: Job, task: Task, progress: Callable[[int, int], None]) -> None:
        self._job, self._training, self._progress = job, job.training, progress
        self._task = task
        self.model = task.build(job.start, job.part, job.seed)
        self.batches = task.batches(job.part, job.training.batch_size, job.seed)
        self.schedule, self.first, self.last = course(job, task, len(self.batches))
        if job.training.select == "best" and not task.size(job.part, "valid"):
            raise ConfigError(
                "training.select is best; without validation data (valid: 0) it must be last"
            )
        self.driver = None
        if job.during is not None:
            self.driver = during.driver_of(
                job.during,
                self.model,
                task.head,
                job.mask,
                steps=self.schedule.steps,
                first=self.first,
                context=Context(job.start, job.seed),
            )
        self.watch = _Watch(task, job, self.model)
        self.mask = job.mask
        self.seen = 0
        self._losses: list[Tensor] = []
        # Errors name a user's own kernel, as it may be what is wrong.
        own_kernel = catalogue.is_own(job.training.step or "")
        self._kernel = f" of the kernel {shown(job.training.step)}" if own_kernel else ""

    def visits(self, number: int) -> bool:
        """Whether anything is done with the model after this many steps."""
        # What takes gradients may have changed the weights by them.
        changed = self.changes_mask and number > self.first and self.takes(number - 1)
        return changed or self._cuts(number) or self._evaluates(number)

    @property
    def changes_mask(self) -> bool:
        """Whether the training ends with a mask of its own."""
        return self.driver is not None and self.driver.changes_mask

    @property
    def listens(self) -> bool:
        """Whether the driver may take gradients."""
        return self.driver is not None and self.driver.listens

    def takes(self, number: int) -> bool:
        """Whether the driver takes the gradients of the step that follows after this many."""
        return self.driver is not None and self.driver.takes_gradients(number)

    def take(self, number: int, optimizer: torch.optim.Optimizer) -> bool:
        """Hand the driver a step's gradients; returns whether the weights are updated by them."""
        assert self.driver is not None
        return self.driver.on_gradients(number, self.model, optimizer)

    def _replace_mask(
        self, mask: Mask, handle: MaskHandle, optimizer: torch.optim.Optimizer
    ) -> None:
        if self.driver is not None and self.driver.constant_counts:
            invariants.check_constant(self.mask, mask)
        during.forget_grown_(optimizer, self.model, self.mask, mask)
        handle.replace(mask)
        self.mask = mask

    def _settle(self) -> None:
        """Take up the mask that the model has now, where a driver changes it in every step."""
        mask = None if self.driver is None else self.driver.settled()
        if mask is not None:
            self.mask = mask

    def _cuts(self, number: int) -> bool:
        return self.driver is not None and self.driver.due(number)

    def _evaluates(self, number: int) -> bool:
        return number % self.schedule.evaluate_every == 0 or number == self.last

    def do_due(self, step: Step) -> bool:
        """Do what is due between two steps; returns whether the training ends here."""
        number, driver = step.number, self.driver
        if step.loss is None:
            redrawn = self._task.head if self._job.part.own_head else None
            invariants.check_rewound(self.model, self._job.start, self._job.mask, redrawn=redrawn)
            if driver is not None:
                first = functools.partial(first_batches, self._job, self._task)
                driver.begin(self.model, first, self._task.loss)
        else:
            self._losses.append(step.loss)

        evaluating = step.loss is not None and self._evaluates(number)
        if evaluating:
            self._count_losses(number)
            # Before the last cut no state is the result: it has more weights than were asked for.
            due = self._cuts(number)
            counts = driver is None or number > driver.last or (number == driver.last and not due)
            self._settle()
            self.watch.look(number, self.mask, counts=counts, last=self.last)
            if driver is not None:
                driver.resume()

        if driver is not None and driver.due(number):
            state = _state_of(self.model, self.mask) if driver.reads_state else {}
            mask = driver.cut(number, state)
            self._replace_mask(mask, step.handle, step.optimizer)
            if evaluating:
                self.watch.look(number, self.mask, counts=number == driver.last, last=self.last)

        if not evaluating:
            return False
        self._progress(number - self.first, self.last - self.first)
        if not self._may_stop(number):
            return False
        self._progress(self.last - self.first, self.last - self.first)
        return True

    def _may_stop(self, number: int) -> bool:
        """Whether the training stops early, as the validation loss has not improved for long."""
        patience = self._training.patience
        # A training up to a rewind point ends at that step, whatever the validation loss does.
        if patience is None or self._job.last is not None:
            return False
        if self.driver is not None and number <= self.driver.last:
            return False
        return self.watch.waited() >= patience

    def _count_losses(self, number: int) -> None:
        """Count the losses since the last evaluation, and refuse them if one is not finite."""
        bad = torch.nonzero(~torch.isfinite(torch.stack(self._losses))).flatten()
        if len(bad):
            step = number - len(self._losses) + int(bad[0]) + 1
            loss = self._losses[int(bad[0])].item()
            raise TrainingError(
                f"the loss is {loss} at step {step}{self._kernel}; a lower learning rate may help"
            )
        self.seen += len(self._losses)
        self._losses.clear()

    def states(self) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
        """Return the final and the best state, checked: all finite, pruned weights at zero.

        They may share the model's memory: it is not to be used any more.
        """
        self._settle()
        # Gradients are freed first, and the model's memory is reused where possible.
        self.model.zero_grad(set_to_none=True)
        final = _state_of(self.model, self.mask, give=True)
        early = final if self.watch.ends_best else self.watch.early
        where = f"after step {self.first + self.seen}{self._kernel}"
        for name, value in final.items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise TrainingError(
                    f"'{name}' is not finite {where}; a lower learning rate may help"
                )
        for state in (final, early):
            if state:
                invariants.check_zeros(state, self.mask, where)
        return final, early


def try_kernel(job: Job, task: Task) -> None:
    """Take one step with a user's own kernel, so that its faults show before hours of training.

    Args:
        job: The training; where its kernel is tombola's own, nothing is tried.
        task: The model and the data.

    Raises:
        ConfigError: The kernel breaks its protocol.
    """
    name = job.training.step
    if name is None or not catalogue.is_own(name):
        return
    # With a pruned weight in each layer, which has to stay at zero.
    mask = cloned(job.mask)
    for keep in mask.values():
        keep.view(-1)[0] = False
    try:
        run_job(replace(job, mask=mask, last=job.first + 1), task)
    except (TrainingError, InvariantError) as error:
        contract = CONTRACTS["kernels"].in_words()
        raise ConfigError(
            f"{shown(name)} fails: {error}; {contract} (tombola list kernels)"
        ) from error


def schedule_of(training: Training, task: Task, part: Partition = WHOLE) -> Schedule:
    """Return the schedule of a training on a part of the data, in its own steps.

    Args:
        training: Its settings, whose numbers of steps refer to the full training split.
        task: For the length of that split.
        part: The part that is trained on.
    """
    batches = task.steps_per_epoch(training.batch_size, part)
    return Schedule.of(training, batches, batches / task.steps_per_epoch(training.batch_size))


def course(job: Job, task: Task, batches: int) -> tuple[Schedule, int, int]:
    """Work out which steps a training takes.

    Args:
        job: The training.
        task: For the length of the full training split.
        batches: In an epoch of its part of the data.

    Returns:
        Its schedule, the steps taken before it, and the step after which it ends, all in its own
        steps.
    """
    share = batches / task.steps_per_epoch(job.training.batch_size)
    schedule = Schedule.of(job.training, batches, share)
    last = schedule.steps if job.last is None else round(job.last * share)
    return schedule, round(job.first * share), last


def first_batches(job: Job, task: Task, examples: int) -> Iterator[Any]:
    """Return a training's first batches that hold so many examples, augmented as in training.

    One epoch at most. The last batch is whole; fewer examples than a batch are one smaller batch.
    """
    size = min(job.training.batch_size, max(examples, 1))
    batches = task.batches(job.part, size, job.seed)
    return itertools.islice(batches.epoch(0), number_of_batches(batches, examples, size))


def number_of_batches(batches: Epochs, examples: int, size: int) -> int:
    """Count the batches of an epoch that hold so many examples.

    Args:
        batches: The epochs.
        examples: How many are asked for.
        size: Examples in a batch.
    """
    return min(math.ceil(examples / size), len(batches))


class _Watch:
    """Evaluates a model on the validation data while it trains, and keeps its best state."""

    def __init__(self, task: Task, job: Job, model: torch.nn.Module) -> None:
        self._task, self._job, self._model = task, job, model
        self._has_data = task.size(job.part, "valid") > 0
        training = resolve_defaults(job.training, model, task.device.type)
        self._kernel = finding.named(training.kernel)
        self.history: list[dict[str, float]] = []
        self.early: dict[str, Tensor] | None = None
        self.early_step: int | None = None
        # Whether the best state is the one after the last step: then it needs no copy.
        self.ends_best = False
        self._lowest = float("inf")

    def look(self, step: int, mask: Mask, *, counts: bool, last: int) -> None:
        """Evaluate the model after a step; its state may be the best one if it counts."""
        if not self._has_data:
            return
        task, training = self._task, self._job.training
        with devices.autocast(task.device.type, training.precision)():
            metrics = examine(task, self._model, self._job, "valid", step, kernel=self._kernel)
        entry = {"step": step, "valid_loss": metrics.loss}
        for name, value in metrics.values.items():
            entry[f"valid_{name}"] = value
        self.history.append(entry)

        # Lower is better: the loss, or a metric with the sign that makes it so.
        metric = metric_named(training.select_by, task.metrics, "training.select_by")
        value = metrics.loss if metric is None else -metric.sign * metrics.values[metric.name]
        if counts and value < self._lowest:
            self._lowest, self.early_step, self.ends_best = value, step, step == last
            self.early = None if self.ends_best else _state_of(self._model, mask, into=self.early)

    def waited(self) -> int:
        """Count the evaluations since the best state."""
        best = -1 if self.early_step is None else self.early_step
        return sum(entry["step"] > best for entry in self.history)


def _state_of(
    model: torch.nn.Module, mask: Mask, *, into: dict[str, Tensor] | None = None, give: bool = False
) -> dict[str, Tensor]:
    """Return a model's state, contiguous and on the CPU, as scores and files expect it.

    Args:
        model: The model.
        mask: Its pruned weights are zero in the state.
        into: An earlier state of the model that nobody needs any more; its memory is reused.
        give: The model is no longer needed: what is contiguous already need not be copied.
    """
    state: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, value in state_of(model).items():
        value = value.detach()
        if into is not None:
            state[name] = into[name].copy_(value)
            continue
        # Two names of one tensor become two tensors, and a view of another tensor its own.
        owns_memory = value.untyped_storage().nbytes() == value.numel() * value.element_size()
        copy = not (give and owns_memory and value.data_ptr() not in taken)
        taken.add(value.data_ptr())
        state[name] = value.to("cpu", memory_format=torch.contiguous_format, copy=copy)
    # A pruned weight may be minus zero; adding zero changes no other value.
    for name in mask:
        state[name].add_(0.0)
    return state


def examine(
    task: Task,
    model: torch.nn.Module,
    job: Job,
    split: str,
    *address: object,
    kernel: Kernel,
) -> Metrics:
    """Measure a model of a job on a split, run by a kernel.

    Anything it draws is addressed by the job's seed.
    """
    # So an evaluation gives the same numbers wherever it runs, and moves no training's generators.
    seeds.reseed(job.seed, "measure", split, *address)
    seeds.reseed_python(job.seed, "measure", split, *address)
    metrics = task.measure(kernel.inference(model), job.part, split)
    for metric in task.metrics:
        if metric.name not in metrics.values:
            raise TrainingError(
                f"the task measures no '{metric.name}' on the {split} split, which its metrics "
                "declare"
            )
    return metrics


def measure(job: Job, trained: Trained, task: Task) -> Measured:
    """Test a trained ticket: the one time that its test split is touched.

    Args:
        job: The training on the full data whose result is tested.
        trained: Its result.
        task: The model and the data.

    Raises:
        TrainingError: A loss or a metric is NaN or infinite, or one that the task declares is not
            measured.
    """
    training = resolve_defaults(job.training, task.model, task.device.type)
    kernel = finding.named(training.kernel)

    def build(state: State) -> torch.nn.Module:
        model = task.build(state, job.part, job.seed)
        arrange_(model, training)
        return model

    # The test split is measured once where the selected state is the early-stop state, too.
    valid = early = None
    with alone(training, task), devices.autocast(task.device.type, training.precision)():
        model = build(trained.state)
        train_metrics = examine(task, model, job, "train", kernel=kernel)
        test = examine(task, model, job, "test", kernel=kernel)
        if task.size(job.part, "valid"):
            valid = examine(task, model, job, "valid", kernel=kernel)
        if trained.state is trained.early:
            early = test
        elif trained.early is not None:
            early = examine(task, build(trained.early), job, "test", kernel=kernel)

    # A result consists of these two; the others may be missing, and no search rests on them.
    for split, metrics in (("train", train_metrics), ("test", test)):
        for name in ("loss", *(metric.name for metric in task.metrics)):
            value = metrics.of(name)
            if not math.isfinite(value):
                raise TrainingError(
                    f"the {split} {name} is {value} after training; a lower learning rate may help"
                )
    return Measured(train_metrics, valid, test, early)
