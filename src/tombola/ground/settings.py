"""Settings: how every training of an experiment runs, and the schedule of one training.

Numbers given in epochs or steps refer to the full training split; a partition, which is smaller,
takes its share of the steps, as it does of an epoch. Nothing here needs torch: defaults that depend
on model and device are resolved by `tombola.training.loop.resolve_defaults`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from tombola.ground import catalogue
from tombola.ground.checking import check_most, filled, hints_of, own_numbers, take_own_numbers_
from tombola.ground.errors import ConfigError, near, shown
from tombola.ground.plain import LATER

# Bounds that no training reaches; the largest float32 is 3.4e38.
_MOST = {
    "lr": 1e38, "lr_end": 1e38, "momentum": 1, "weight_decay": 1e38, "epochs": 1e6, "steps": 1e9, "batch_size": 1e9,
    "milestones": 1e6, "milestone_steps": 1e9, "gamma": 1e38, "warmup": 1e6, "warmup_steps": 1e9,
    "clip": 1e38, "evaluate_every": 1e9, "patience": 1e9, "threads": 1024,
}  # fmt: skip
_ABOVE_ZERO = (
    "lr", "lr_end", "epochs", "steps", "batch_size", "gamma", "clip", "evaluate_every", "patience",
    "threads",
)  # fmt: skip
_ZERO_OR_MORE = ("momentum", "weight_decay", "warmup", "warmup_steps")


@dataclass(frozen=True)
class Training:
    """How every training of an experiment runs; the same for all arms.

    `tombola.training.loop.resolve_defaults` fills in what is left open. The five from ``threads``
    to ``step`` may change the last bits of a result, so they count in the digest.

    Attributes:
        optimizer: ``sgd`` (with ``momentum`` and ``nesterov``), ``adam`` or ``adamw`` (with
            ``betas``).
        lr: Base learning rate.
        momentum: Of ``sgd``.
        nesterov: Of ``sgd``; needs momentum.
        betas: Of ``adam`` and ``adamw``.
        weight_decay: As the optimiser has it: L2 for ``sgd`` and ``adam``, decoupled for ``adamw``.
        epochs: Length in epochs. Give this or ``steps``.
        steps: Length in optimiser steps on the full training split.
        batch_size: Examples per step.
        schedule: ``constant``, ``multistep`` (needs milestones) or ``cosine`` (down to zero at the
            end, or to ``lr_end``).
        milestones: Epochs after which ``multistep`` multiplies the learning rate by ``gamma``. Or
            give ``milestone_steps``.
        milestone_steps: The same in steps.
        gamma: Factor at each milestone.
        warmup: Epochs of linear warmup from zero. Or give ``warmup_steps``.
        warmup_steps: The same in steps.
        clip: Largest norm of all gradients together, those of pruned weights excluded. No clipping
            if not given.
        evaluate_every: Steps between two evaluations on the validation split; one epoch if not
            given. The early-stop step is the one with the lowest validation loss.
        patience: Stop after this many evaluations without a better one, by ``select_by``. Never if
            not given.
        select: Which weights are pruned and tested: the ``last``, or the ``best`` on validation
            data. One rule for all arms.
        select_by: What ``best`` and the early-stop step go by: the lowest validation ``loss``, or
            the best value of a metric that the task declares, such as ``accuracy``.
        threads: CPU threads per training.
        precision: Of the forward and backward pass. ``bf16``: bfloat16 where autocast considers it
            safe, weights in float32. ``tf32``: rounded products, on CUDA alone. ``float32`` is
            exact on CUDA too, where torch by default rounds convolutions.
        channels_last: Lay images and convolutions out with the channels innermost. If not given,
            true where the model has 2d convolutions.
        compile: ``true`` is the same as ``step: compiled``.
        step: The kernel that runs the model. ``traced``: a recording of one step instead of modules
            and autograd, with the same bits. ``eager``: the model as it is written. ``compiled``:
            through ``torch.compile``. Or one of your own, ``package.module:Name``. If not given,
            ``traced`` on the CPU in float32 for models made of torch's own layers without batch
            norm, hooks and code of your own; else ``eager``.
        lr_end: Learning rate at the end of ``cosine``, above zero and at most ``lr``; zero if not
            given.

    Raises:
        ConfigError: A setting is out of its range, or two of them do not go together.

    >>> Training(lr=0.05, momentum=0.9, epochs=3).optimizer
    'sgd'
    """

    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.0
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    epochs: float | None = None
    steps: int | None = None
    batch_size: int = 64
    schedule: Literal["constant", "multistep", "cosine"] = "constant"
    milestones: tuple[float, ...] = ()
    milestone_steps: tuple[int, ...] = ()
    gamma: float = 0.1
    warmup: float = 0.0
    warmup_steps: int = 0
    clip: float | None = None
    evaluate_every: int | None = None
    patience: int | None = None
    select: Literal["last", "best"] = "last"
    select_by: str = "loss"
    threads: int = 1
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    channels_last: bool | None = None
    compile: bool = False
    step: str | None = None
    lr_end: float | None = field(default=None, metadata=LATER)

    def __post_init__(self) -> None:
        take_own_numbers_(self)
        self._check_choices()
        self._check_kernel()
        if (self.epochs is None) == (self.steps is None):
            raise ConfigError("training needs epochs or steps, exactly one of the two")
        self._check_ranges()
        self._check_optimizer()
        self._check_schedule()

    def _check_choices(self) -> None:
        hints = hints_of(Training)
        for name in ("optimizer", "schedule", "select", "precision"):
            value, known = getattr(self, name), get_args(hints[name])
            if value not in known:
                raise ConfigError(
                    f"training.{name} is {shown(value)}; it is one of {', '.join(known)}."
                    f"{near(str(value), known)}"
                )

    def _check_ranges(self) -> None:
        # Written so that NaN, which compares as false, is refused, too.
        for name in _ABOVE_ZERO:
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ConfigError(f"training.{name} is {shown(value)}; it must be above 0")
        for name in _ZERO_OR_MORE:
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise ConfigError(f"training.{name} is {shown(value)}; it must be 0 or more")
        check_most(self, _MOST, "training")

    def _check_optimizer(self) -> None:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(
                f"training.betas is {shown(list(self.betas))}; both are from 0 to below 1"
            )
        # Adam would ignore momentum silently.
        if self.optimizer != "sgd" and (self.momentum or self.nesterov):
            raise ConfigError(
                f"training.momentum and nesterov belong to sgd; the optimizer is {self.optimizer}"
            )
        if self.nesterov and not self.momentum:
            raise ConfigError("training.nesterov needs momentum above 0, such as 0.9")

    def _check_schedule(self) -> None:
        if self.warmup and self.warmup_steps:
            raise ConfigError("training has warmup and warmup_steps; give one of the two")
        milestones = self.milestones or self.milestone_steps
        for milestone in (*self.milestones, *self.milestone_steps):
            if not milestone > 0:
                raise ConfigError(
                    f"training has a milestone that is not above 0: {shown(milestones)}"
                )
        # A factor above 1 at many milestones overflows only during the training.
        number = len(milestones)
        if self.gamma > 1 and math.log10(self.lr) + number * math.log10(self.gamma) > 38:
            raise ConfigError(
                f"training.gamma is {self.gamma:g}, and there are {number} milestones; the "
                f"learning rate {self.lr:g} would become infinite"
            )
        if self.milestones and self.milestone_steps:
            raise ConfigError("training has milestones and milestone_steps; give one of the two")
        if (self.schedule == "multistep") != bool(milestones):
            raise ConfigError(
                f"training.schedule is {self.schedule}; milestones and the schedule multistep need "
                "each other"
            )

        if self.lr_end is None:
            return
        if self.schedule != "cosine":
            raise ConfigError(
                f"training.lr_end is {self.lr_end:g}, where the schedule cosine ends; the schedule "
                f"is {self.schedule}"
            )
        if self.lr_end > self.lr:
            raise ConfigError(
                f"training.lr_end is {self.lr_end:g}, which is above training.lr {self.lr:g}; "
                "cosine falls from lr to lr_end"
            )

    def _check_kernel(self) -> None:
        known = catalogue.entries("tombola.kernels")
        if self.step is not None and not catalogue.is_own(self.step) and self.step not in known:
            raise ConfigError(
                f"training.step is {shown(self.step)}; it is one of {', '.join(known)}, or a "
                f"kernel of your own, package.module:Name.{near(str(self.step), known)}"
            )
        # Kept as it was before there were kernels, as it stands in digests.
        if self.step == "compiled":
            object.__setattr__(self, "step", "eager")
            object.__setattr__(self, "compile", True)
        if self.compile and self.step is not None and catalogue.is_own(self.step):
            raise ConfigError(
                f"training.compile is true and training.step is {shown(self.step)}; a model is run "
                "in one way"
            )

    @property
    def kernel(self) -> str:
        """The name of the kernel that runs the model, once all defaults are resolved."""
        assert self.step is not None
        return "compiled" if self.compile else self.step


def in_words(training: Training) -> str:
    """Describe a training in a few words.

    >>> in_words(Training(lr=0.05, epochs=3))
    'sgd, learning rate 0.05, batch size 64, 3 epochs, evaluated weights: final'
    """
    if training.epochs is not None:
        length = f"{training.epochs:g} epochs"
    else:
        length = f"{training.steps:,} steps"
    weights = "final" if training.select == "last" else "best on validation data"
    return (
        f"{training.optimizer}, learning rate {training.lr:g}, batch size {training.batch_size}, "
        f"{length}, evaluated weights: {weights}"
    )


def stretched(training: Training, factor: float) -> Training:
    """Return the same training at another length: its warmup and milestones move with its end.

    >>> stretched(Training(epochs=10, schedule="multistep", milestones=(5, 8)), 1.5).milestones
    (7.5, 12.0)
    """
    # Numbers of steps are rounded, as there is no half step; epochs may be fractions.
    factor = own_numbers(factor)
    return replace(
        training,
        epochs=training.epochs and training.epochs * factor,
        steps=training.steps and round(training.steps * factor),
        milestones=tuple(epoch * factor for epoch in training.milestones),
        milestone_steps=tuple(round(step * factor) for step in training.milestone_steps),
        warmup=training.warmup * factor,
        warmup_steps=round(training.warmup_steps * factor),
    )


def training_with(training: Training, changes: Mapping[str, Any]) -> Training:
    """Return a training with some of its settings changed, each checked against its type.

    Raises:
        ConfigError: There is no such setting, or its value is of another type or out of its range.

    >>> training_with(Training(epochs=6), {"epochs": 12}).epochs
    12.0
    """
    values = {field.name: getattr(training, field.name) for field in fields(training)}
    # A length in steps replaces one in epochs, and the other way round.
    if "steps" in changes or "epochs" in changes:
        values |= {"steps": None, "epochs": None}
    changed: Training = filled(Training, values | dict(changes), "training")
    return changed


def fine_tuning(training: Training, lr: float | Literal["last", "decayed"]) -> Training:
    """Return the training that fine-tunes a pruned network: as long, no warmup, at a low rate.

    Args:
        training: The one before.
        lr: "last": the rate that it ended with, constant; "decayed": from that rate down to zero
            along half a cosine; or the constant rate itself.

    Raises:
        ConfigError: The rate that the training ends with is zero, as that of ``cosine`` is without
            ``lr_end``.

    >>> training = Training(epochs=10, schedule="multistep", milestones=(5, 8), gamma=0.2)
    >>> fine_tuning(training, "last").lr
    0.004
    """
    t, lr = training, own_numbers(lr)
    if lr in ("last", "decayed") and t.schedule == "cosine" and t.lr_end is None:
        raise ConfigError(
            f"lr is {lr}, but the cosine schedule ends at a rate of 0; give the rate of fine-tuning"
        )
    # Rounded, so that 0.1 * 0.2 ** 2 is 0.004: the digits beyond are no part of the meaning.
    last = float(f"{t.lr * t.gamma ** len(t.milestones or t.milestone_steps):.12g}")
    if t.lr_end is not None:
        last = t.lr_end
    return replace(
        t,
        lr=lr if isinstance(lr, float | int) else last,
        schedule="cosine" if lr == "decayed" else "constant",
        milestones=(),
        milestone_steps=(),
        warmup=0.0,
        warmup_steps=0,
        lr_end=None,
    )


@dataclass(frozen=True)
class Schedule:
    """The numbers of one training in its own steps: those of a partition are its share of the
    full split's.

    Attributes:
        steps: How many.
        warmup: Steps of warmup.
        milestones: After which ``multistep`` multiplies the learning rate by ``gamma``.
        evaluate_every: Steps between two evaluations.
        shape: The training's ``schedule``.
        gamma: Factor at each milestone.
        floor: Factor on the base learning rate where ``cosine`` ends.
    """

    steps: int
    warmup: float
    milestones: tuple[float, ...]
    evaluate_every: int
    shape: str
    gamma: float
    floor: float = 0.0

    @classmethod
    def of(cls, training: Training, batches_per_epoch: int, share: float = 1.0) -> Schedule:
        """Work out the steps of a training on a split.

        Args:
            training: The settings; its numbers of steps refer to the full training split.
            batches_per_epoch: Of the split that is trained on.
            share: Batches of this split / batches of the full one.

        >>> Schedule.of(Training(epochs=3), batches_per_epoch=10).steps
        30
        >>> Schedule.of(Training(steps=100), batches_per_epoch=10, share=0.5).steps
        50
        """

        def in_steps(epochs: float | None, steps: int | None) -> float:
            return epochs * batches_per_epoch if epochs else (steps or 0) * share

        # Epochs are those of the partition itself; of numbers of steps it takes its share.
        evaluate_every = batches_per_epoch
        if training.evaluate_every:
            evaluate_every = max(1, round(training.evaluate_every * share))
        milestones = [in_steps(epoch, None) for epoch in training.milestones]
        milestones += [in_steps(None, step) for step in training.milestone_steps]
        return cls(
            steps=max(1, round(in_steps(training.epochs, training.steps))),
            warmup=in_steps(training.warmup, training.warmup_steps),
            milestones=tuple(sorted(milestones)),
            evaluate_every=evaluate_every,
            shape=training.schedule,
            gamma=training.gamma,
            floor=0.0 if training.lr_end is None else training.lr_end / training.lr,
        )

    def factor(self, step: int) -> float:
        """Return the factor on the base learning rate in a step, counted from 0.

        >>> schedule = Schedule.of(Training(epochs=4, warmup=1), batches_per_epoch=4)
        >>> [schedule.factor(step) for step in (0, 1, 3, 4)]
        [0.25, 0.5, 1.0, 1.0]
        """
        if step < self.warmup:
            return min(1.0, (step + 1) / self.warmup)
        if self.shape == "multistep":
            return self.gamma ** sum(step >= milestone for milestone in self.milestones)
        if self.shape == "cosine":
            past = (step - self.warmup) / max(1.0, self.steps - self.warmup)
            return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * past))
        return 1.0
