"""Jobs: one training as plain data, its digest, and doing it once."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from tombola.data.partitions import WHOLE, Partition
from tombola.ground import catalogue, devices, seeds
from tombola.ground.checking import own_numbers
from tombola.ground.contracts import CONTRACTS
from tombola.ground.errors import ConfigError, InvariantError, TrainingError, shown
from tombola.ground.metrics import metric_named
from tombola.ground.settings import Schedule, Training
from tombola.ground.types import Mask, State
from tombola.kernels import finding
from tombola.kernels.protocol import Kernel
from tombola.masks import names
from tombola.masks.digests import digest_json, digest_mask, digest_state
from tombola.masks.states import state_of
from tombola.scores.context import Context
from tombola.tasks.protocol import Metrics, Task
from tombola.training import during, invariants
from tombola.training.during import During
from tombola.training.loop import Step, arrange_, settle, train


@dataclass(frozen=True, eq=False)
class Job:
    """One training, as plain data: neither arm, round, rate nor score is in it, so equal trainings
    are done once.

    Attributes:
        start: The rewind point: weights, buffers and the full-class head.
        mask: Weights to keep.
        training: Its settings.
        seed: The replicate's seed; order of the data, augmentation, dropout and drawn heads follow
            from it.
        part: Which part of the training data.
        first: Steps (of the full split) that the start state has behind it.
        last: Stop after this step of the full split; at the end if ``None``.
        during: What happens while it runs, such as gradual pruning; the mask is what it begins
            from.

    >>> job = Job({"w": torch.ones(2)}, {"w": torch.tensor([True, True])}, Training(epochs=1), seed=0)
    >>> job.on(WHOLE, {"w": torch.tensor([True, False])}).digest("task") == job.digest("task")
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
        # The state of a model in a wrapper has names that its mask has not.
        mask, start = names.agreed(self.mask, self.start)
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "start", start)
        for name in ("seed", "first", "last"):
            object.__setattr__(self, name, own_numbers(getattr(self, name)))

    def on(self, part: Partition, mask: Mask) -> Job:
        """Return the same training on another part of the data, with another mask."""
        other = replace(self, part=part, mask=mask)
        if "start_digest" in vars(self):  # the start is the same: it is not read again
            vars(other)["start_digest"] = self.start_digest
        if mask is self.mask and "mask_digest" in vars(self):
            vars(other)["mask_digest"] = self.mask_digest
        return other

    @functools.cached_property
    def start_digest(self) -> str:
        """Digest of the rewind point."""
        return digest_state(self.start)

    @functools.cached_property
    def mask_digest(self) -> str:
        """Digest of the mask."""
        return digest_mask(self.mask)

    def digest(self, task: str) -> str:
        """Digest of all that decides what this training gives, on the task of that digest."""
        # it is asked for at every turn
        known: dict[str, str] = vars(self).setdefault("digests", {})
        if task not in known:
            known[task] = self._digest(task)
        return known[task]

    def _digest(self, task: str) -> str:
        return digest_json(
            {
                "task": task,
                "start": self.start_digest,
                "mask": self.mask_digest,
                "part": self.part.digest,
                "training": asdict(self.training),
                "seed": self.seed,
                "steps": [self.first, self.last],
            }
            | during.plain(self.during)
        )


@dataclass(frozen=True, eq=False)
class Trained:
    """What a training gave.

    Attributes:
        final: The state after the last step.
        early: The state at the early-stop step, the lowest validation loss (or, by the training's
            ``select_by``, the best value of that metric); ``None`` without validation data.
        early_step: That step, counted on the partition's own steps from the training's beginning.
        select: "last" or "best": which of the two is pruned and counts as the result.
        history: One entry an evaluation: step, valid_loss, and each declared metric behind
            ``valid_``.
        samples: Training examples seen.
        seconds: Wall time of the training, validation included.
        steps: Optimiser steps done.
        process_seconds: Processor time of the process meanwhile, all its threads together.
        peak_bytes: The most memory: on CUDA what this training took there, else what its process
            ever had.
        mask: What is kept at its end; ``None`` for a training whose mask stayed as it was.
        cuts: What each of its cuts left of each layer: [steps done, kept weights by layer].
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

    @property
    def state(self) -> dict[str, Tensor]:
        """The selected state: the one that is pruned and tested."""
        return self.early if self.select == "best" and self.early is not None else self.final


@dataclass(frozen=True, eq=False)
class Measured:
    """What a trained ticket does on the splits; ``early`` is the test split at the early-stop
    step.
    """

    train: Metrics
    valid: Metrics | None
    test: Metrics
    early: Metrics | None


@contextlib.contextmanager
def alone(training: Training, task: Task) -> Iterator[None]:
    """Run a block with a training's threads and arithmetic; the caller's own, and its random
    state, come back.
    """
    before = torch.get_num_threads()
    if task.device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]  # before that its generators cannot be put back
    with seeds.kept(), devices.numbers(task.device.type, training.precision):
        torch.set_num_threads(training.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


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
        progress: Told (steps done, steps in all) at every evaluation.
        loop: The training loop; your own takes what `train` takes and yields what it yields.

    Raises:
        TrainingError: The loss or a weight is NaN or infinite; the step is named.
        InvariantError: The model did not take the rewind point as it is, or a pruned weight is not
            zero afterwards.

    >>> from tombola.data import synthetic
    >>> from tombola.masks.masks import ones
    >>> from tombola.data.splits import split
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 20), torch.nn.Linear(20, 10))
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
    began, busy = time.perf_counter(), time.process_time()
    devices.reset_peak_memory(task.device)
    going = _Going(job, task, progress)
    # Nobody but `going` has a step of ours in hands; what a loop of the user's own does is not
    # known.
    ours = {"visited": going.visits} if loop is train else {}
    for step in loop(
        going.model,
        going.batches,
        job.training,
        job.mask,
        loss=task.loss,
        seed=job.seed,
        schedule=going.schedule,
        first=going.first,
        last=going.last,
        **ours,
    ):
        if going.take(step):
            break
    # What only the steps needed, gradients and momentum, is let go before the result is looked at:
    # models are large.
    del step
    final, early = going.states()
    return Trained(
        final=final,
        early=early,
        early_step=going.watch.early_step,
        select=job.training.select,
        history=going.watch.history,
        samples=going.batches.examples(going.first, going.first + going.seen),
        seconds=time.perf_counter() - began,
        steps=going.seen,
        process_seconds=time.process_time() - busy,
        peak_bytes=devices.peak_memory(task.device),
        mask=None if going.driver is None else dict(going.mask),
        cuts=[] if going.driver is None else going.driver.kept,
    )


class _Going:
    """A training under way: what is looked at, cut and counted between its steps.

    Attributes:
        model: What is trained.
        batches: Of its part of the data.
        schedule: In its own steps.
        first: Steps that it has behind it.
        last: The step after which it ends.
        driver: What changes its mask while it runs, if anything does.
        watch: Looks at the validation data.
        mask: What is kept now.
        seen: Steps done, as far as their losses are known to be finite.
    """

    def __init__(self, job: Job, task: Task, progress: Callable[[int, int], None]) -> None:
        self._job, self._training, self._progress = job, job.training, progress
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
        own = catalogue.is_own(job.training.step or "")
        self._by = f" of the kernel {shown(job.training.step)}" if own else ""

    def visits(self, number: int) -> bool:
        """Whether anything is done with the model after so many steps."""
        return self._cuts(number) or self._looks(number)

    def _cuts(self, number: int) -> bool:
        return self.driver is not None and self.driver.due(number)

    def _looks(self, number: int) -> bool:
        return number % self.schedule.evaluate_every == 0 or number == self.last

    def take(self, step: Step) -> bool:
        """Do what there is to do between two steps; returns whether the training ends here."""
        number, driver = step.number, self.driver
        if step.loss is None:
            redrawn = self._job.part.own_head
            invariants.check_rewound(self.model, self._job.start, self._job.mask, redrawn=redrawn)
        else:
            self._losses.append(step.loss)
        looking = step.loss is not None and self._looks(number)
        if looking:
            self._count_losses(number)
            # Before the last cut no state is the result: it has more weights than were asked for.
            self.watch.look(
                number, self.mask, counts=driver is None or number > driver.last, last=self.last
            )
        if driver is not None and driver.due(number):
            self.mask = driver.cut(number, _state_of(self.model, self.mask))
            step.handle.replace(self.mask)
            if looking:
                self.watch.look(number, self.mask, counts=number == driver.last, last=self.last)
        if not looking:
            return False
        self._progress(number - self.first, self.last - self.first)
        # Not on the way to a rewind point, which is a step of its own whatever the validation loss
        # does.
        open_ = self._job.last is not None or (driver is not None and number <= driver.last)
        patience = self._training.patience
        if patience is None or open_ or self.watch.waited() < patience:
            return False
        self._progress(self.last - self.first, self.last - self.first)
        return True

    def _count_losses(self, number: int) -> None:
        """Count the losses since the last look, and refuse them if one is not a number."""
        bad = torch.nonzero(~torch.isfinite(torch.stack(self._losses))).flatten()
        if len(bad):
            step = number - len(self._losses) + int(bad[0]) + 1
            loss = self._losses[int(bad[0])].item()
            raise TrainingError(
                f"the loss is {loss} at step {step}{self._by}; a lower learning rate may help"
            )
        self.seen += len(self._losses)
        self._losses.clear()

    def states(self) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
        """Return the final and the best state, checked: all finite, pruned weights at zero; the
        model is theirs now.
        """
        self.model.zero_grad(set_to_none=True)
        final, after = (
            _state_of(self.model, self.mask, give=True),
            f"after step {self.first + self.seen}{self._by}",
        )
        early = final if self.watch.ends_best else self.watch.early
        for name, value in final.items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise TrainingError(
                    f"'{name}' is not finite {after}; a lower learning rate may help"
                )
        for state in filter(None, (final, early)):
            invariants.check_zeros(state, self.mask, after)
        return final, early


def try_kernel(job: Job, task: Task) -> None:
    """Take one step with a kernel of the user's own, so that what is wrong with it is told before
    hours.

    Args:
        job: What is to be trained; where its kernel is an entry of tombola's, nothing is tried.
        task: The model and the data.

    Raises:
        ConfigError: What the kernel does against its protocol.
    """
    name = job.training.step
    if name is None or not catalogue.is_own(name):
        return
    mask = {key: keep.clone() for key, keep in job.mask.items()}
    for keep in mask.values():
        keep.view(-1)[0] = False  # a pruned weight, so that it is seen whether it stays at zero
    try:
        run_job(replace(job, mask=mask, last=job.first + 1), task)
    except (TrainingError, InvariantError) as error:
        raise ConfigError(f"{shown(name)} fails: {error}; {CONTRACTS['kernels'].in_words()} "
                          "(tombola list kernels)") from error  # fmt: skip


def schedule_of(training: Training, task: Task, part: Partition = WHOLE) -> Schedule:
    """Return the numbers of a training on a part of the data, in its own steps.

    Args:
        training: Its settings, whose numbers of steps refer to the full training split.
        task: For the length of that split.
        part: What is trained on.
    """
    batches = task.steps_per_epoch(training.batch_size, part)
    return Schedule.of(training, batches, batches / task.steps_per_epoch(training.batch_size))


def course(job: Job, task: Task, batches: int) -> tuple[Schedule, int, int]:
    """Work out which steps a training takes.

    Args:
        job: What is trained.
        task: For the length of the full training split.
        batches: Of an epoch of its part of the data.

    Returns:
        Its schedule, the steps it has behind it, and the step after which it ends, in its own
        steps.
    """
    share = batches / task.steps_per_epoch(job.training.batch_size)
    schedule = Schedule.of(job.training, batches, share)
    last = schedule.steps if job.last is None else round(job.last * share)
    return schedule, round(job.first * share), last


def first_batches(job: Job, task: Task, examples: int) -> Iterator[Any]:
    """Give the first batches of a training, as many as hold so many examples, varied as they are in
    training.

    One epoch at most.
    """
    batches = task.batches(job.part, job.training.batch_size, job.seed)
    number = math.ceil(examples / job.training.batch_size)
    return itertools.islice(batches.epoch(0), min(number, len(batches)))


class _Watch:
    """Looks at the validation data while a model trains, and keeps the best state that counts."""

    def __init__(self, task: Task, job: Job, model: torch.nn.Module) -> None:
        self._task, self._job, self._model = task, job, model
        self._there = task.size(job.part, "valid") > 0
        settled = settle(job.training, model, task.device.type)
        self._kernel = finding.named(settled.kernel)
        self.history: list[dict[str, float]] = []
        self.early: dict[str, Tensor] | None = None
        self.early_step: int | None = None
        # the best state is the one after the last step, of which there is no need of a copy
        self.ends_best = False
        self._best = float("inf")

    def look(self, step: int, mask: Mask, *, counts: bool, last: int) -> None:
        """Measure the model after a step; its state may be the best one if it counts."""
        if not self._there:
            return
        training = self._job.training
        with devices.autocast(self._task.device.type, training.precision)():
            metrics = examine(
                self._task, self._model, self._job, "valid", step, kernel=self._kernel
            )
        values = {f"valid_{name}": value for name, value in metrics.values.items()}
        self.history.append({"step": step, "valid_loss": metrics.loss, **values})
        by = metric_named(training.select_by, self._task.metrics, "training.select_by")
        worth = metrics.loss if by is None else -by.sign * metrics.values[by.name]
        if counts and worth < self._best:
            self._best, self.early_step, self.ends_best = worth, step, step == last
            self.early = None if self.ends_best else _state_of(self._model, mask, into=self.early)

    def waited(self) -> int:
        """Count the looks since the best state."""
        return sum(
            1
            for entry in self.history
            if self.early_step is None or entry["step"] > self.early_step
        )


def _state_of(
    model: torch.nn.Module, mask: Mask, *, into: dict[str, Tensor] | None = None, give: bool = False
) -> dict[str, Tensor]:
    """Return a model's state, plain in memory and on the CPU: scores, files and tests know of no
    other layout.

    Args:
        model: The model.
        mask: Whose pruned weights are zeros.
        into: An earlier state of the model that nobody needs any more; its memory is used again.
        give: The model is needed no more: what is plain already need not be copied.
    """
    state: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, value in state_of(model).items():
        value = value.detach()
        if into is not None:
            state[name] = into[name].copy_(value)
            continue
        # Two names of one tensor become two tensors, and a tensor that is part of another one its
        # own.
        alone = value.untyped_storage().nbytes() == value.numel() * value.element_size()
        copy = not (give and alone and value.data_ptr() not in taken)
        taken.add(value.data_ptr())
        state[name] = value.to("cpu", memory_format=torch.contiguous_format, copy=copy)
    for name in mask:
        # a pruned weight may stand at minus zero; all other values stay as they are
        state[name].add_(0.0)
    return state


def examine(
    task: Task,
    model: torch.nn.Module,
    job: Job,
    which: str,
    *address: object,
    kernel: Kernel,
) -> Metrics:
    """Measure a model of a job on a split, run by a kernel.

    What it draws meanwhile, if it does, is addressed by the job's seed.
    """
    seeds.reseed(job.seed, "measure", which, *address)
    seeds.reseed_python(job.seed, "measure", which, *address)
    found = task.measure(kernel.inference(model), job.part, which)
    for metric in task.metrics:
        if metric.name not in found.values:
            raise TrainingError(
                f"the task measures no '{metric.name}' on the {which} split, which its metrics "
                "declare"
            )
    return found


def measure(job: Job, trained: Trained, task: Task) -> Measured:
    """Test a trained ticket: the one time that its test split is touched.

    Args:
        job: The training on the full data that gave the trained states.
        trained: Its result.
        task: The model and the data.

    Raises:
        TrainingError: A loss or a metric is NaN or infinite, or one that the task declares is not
            measured.
    """
    training = settle(job.training, task.model, task.device.type)
    kernel = finding.named(training.kernel)

    def built(state: State) -> torch.nn.Module:
        model = task.build(state, job.part, job.seed)
        arrange_(model, training)
        return model

    with alone(training, task), devices.autocast(task.device.type, training.precision)():
        model = built(trained.state)
        result = {
            which: examine(task, model, job, which, kernel=kernel) for which in ("train", "test")
        }
        valid = (
            examine(task, model, job, "valid", kernel=kernel)
            if task.size(job.part, "valid")
            else None
        )
        early = result["test"] if trained.state is trained.early else None
        if trained.early is not None and early is None:
            early = examine(task, built(trained.early), job, "test", kernel=kernel)
    measured_by = ["loss", *(metric.name for metric in task.metrics)]
    for which, metrics in result.items():
        for name in measured_by:
            if not math.isfinite(value := metrics.of(name)):
                raise TrainingError(
                    f"the {which} {name} is {value} after training; a lower learning rate may help"
                )
    return Measured(result["train"], valid, result["test"], early)
