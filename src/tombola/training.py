"""Training: the settings of one training, its schedule, and the loop itself.

Numbers given in epochs or steps refer to the full training split; a partition, which is smaller, takes its share of
the steps, as it does of an epoch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from tombola import devices, names, seeds, steps
from tombola.batches import Batches
from tombola.checking import check_most, hints_of, own_numbers, take_own_numbers_
from tombola.errors import ConfigError, near, shown
from tombola.masks import Handle
from tombola.models.building import check_shapes
from tombola.types import Mask

# What no training could have; torch's own float32 ends at 3.4e38.
_MOST = {
    "lr": 1e38, "momentum": 1, "weight_decay": 1e38, "epochs": 1e6, "steps": 1e9, "batch_size": 1e9,
    "milestones": 1e6, "milestone_steps": 1e9, "gamma": 1e38, "warmup": 1e6, "warmup_steps": 1e9, "clip": 1e38,
    "evaluate_every": 1e9, "patience": 1e9, "threads": 1024,
}  # fmt: skip


@dataclass(frozen=True)
class Training:
    """How every training of an experiment runs; the same for all arms.

    Attributes:
        optimizer: "sgd", "adam" or "adamw".
        lr: Base learning rate.
        momentum: Of SGD.
        nesterov: Of SGD; needs momentum.
        betas: Of Adam and AdamW.
        weight_decay: As the optimiser has it: L2 for SGD and Adam, decoupled for AdamW.
        epochs: Length in epochs; give this or ``steps``.
        steps: Length in optimiser steps on the full training split.
        batch_size: Examples a step.
        schedule: "constant", "multistep" or "cosine" (down to zero at the end).
        milestones: Epochs after which "multistep" multiplies the rate by ``gamma``; or ``milestone_steps``.
        milestone_steps: The same in steps.
        gamma: Factor at each milestone.
        warmup: Epochs of linear warmup from zero; or ``warmup_steps``.
        warmup_steps: The same in steps.
        clip: Largest norm of all gradients together, after pruned weights' gradients are zeroed; none if not given.
        evaluate_every: Steps between two looks at the validation split; once an epoch if not given.
        patience: Evaluations without a better one, by ``select_by``, after which a training stops; never if not given.
        select: Which weights are pruned and tested: "last", or "best" on validation data. One rule for all arms.
        select_by: What "best" and the early-stop step go by: lowest validation "loss" or highest "accuracy".
        threads: Threads of one training.
        precision: Numbers of the forward and backward pass: "float32"; "bf16" where autocast holds it safe; "tf32",
            rounded products on CUDA.
        channels_last: Lay images and convolutions out with the channels innermost.
        compile: Train through ``torch.compile``.
        step: "traced" runs a recording of one step instead of modules and autograd, "eager" does not. What is left
            open here is filled in by `settle`; the last five may all change bits, so they count in the digest.

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
    select_by: Literal["loss", "accuracy"] = "loss"
    threads: int = 1
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    channels_last: bool | None = None
    compile: bool = False
    step: Literal["traced", "eager"] | None = None

    def __post_init__(self) -> None:
        take_own_numbers_(self)
        hints = hints_of(Training)
        for name in ("optimizer", "schedule", "select", "select_by", "precision", "step"):
            optional = getattr(Training, name) is None
            value, known = getattr(self, name), get_args(get_args(hints[name])[0] if optional else hints[name])
            if value not in known and not (optional and value is None):
                raise ConfigError(f"training.{name} is {shown(value)}; it is one of {', '.join(known)}."
                                  f"{near(str(value), known)}")  # fmt: skip
        if (self.epochs is None) == (self.steps is None):
            raise ConfigError("training needs epochs or steps, exactly one of the two")
        for name in ("lr", "epochs", "steps", "batch_size", "gamma", "clip", "evaluate_every", "patience", "threads"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ConfigError(f"training.{name} is {shown(value)}; it must be above 0")
        for name in ("momentum", "weight_decay", "warmup", "warmup_steps"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise ConfigError(f"training.{name} is {shown(value)}; it must be 0 or more")
        check_most(self, _MOST, "training")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"training.betas is {shown(list(self.betas))}; both are from 0 to below 1")
        if self.optimizer != "sgd" and (self.momentum or self.nesterov):
            raise ConfigError(f"training.momentum and nesterov belong to sgd; the optimizer is {self.optimizer}")
        if self.nesterov and not self.momentum:
            raise ConfigError("training.nesterov needs momentum above 0, such as 0.9")
        if self.warmup and self.warmup_steps:
            raise ConfigError("training has warmup and warmup_steps; give one of the two")
        if any(not milestone > 0 for milestone in (*self.milestones, *self.milestone_steps)):
            raise ConfigError(
                f"training has a milestone that is not above 0: {shown(self.milestones or self.milestone_steps)}"
            )
        number = len(self.milestones or self.milestone_steps)
        if self.gamma > 1 and math.log10(self.lr) + number * math.log10(self.gamma) > 38:
            raise ConfigError(f"training.gamma is {self.gamma:g}, and there are {number} milestones; the learning rate "
                              f"{self.lr:g} would become infinite")  # fmt: skip
        if self.milestones and self.milestone_steps:
            raise ConfigError("training has milestones and milestone_steps; give one of the two")
        if (self.schedule == "multistep") != bool(self.milestones or self.milestone_steps):
            raise ConfigError(f"training.schedule is {self.schedule}; milestones and the schedule multistep need each "
                              "other")  # fmt: skip


def settle(training: Training, model: nn.Module, kind: str) -> Training:
    """Fill in what a training leaves open and what changes bits.

    It hangs on the model and the kind of device alone, so that no timing and no other machine decides a result:
    channels innermost where there are 2d convolutions; a traced step on the CPU where `steps.traceable` allows it.

    Args:
        training: The settings; what they say is kept.
        model: What is trained.
        kind: "cpu" or "cuda".

    Raises:
        ConfigError: A setting does not go with this model or device, or the machine has too few cores for its threads.

    >>> settle(Training(epochs=1), nn.Linear(4, 2), "cpu").step
    'traced'
    """
    if training.threads > devices.most():
        raise ConfigError(f"training.threads is {training.threads}; this machine has {devices.cores()} cores, and a "
                          f"training takes at most {devices.most()} threads here: --training.threads "
                          f"{devices.cores()} (another number may change the last bits)")  # fmt: skip
    images = any(isinstance(layer, nn.Conv2d) for layer in model.modules())
    able = steps.traceable(model) and training.precision == "float32" and not training.compile
    if training.precision == "tf32" and kind == "cpu":
        raise ConfigError("training.precision is tf32, which is CUDA's; on the CPU it is float32 or bf16")
    if training.channels_last and not images:
        raise ConfigError("training.channels_last is true; the model has no 2d convolution that it would matter to")
    if training.step == "traced" and not able:
        raise ConfigError("training.step is traced; that needs a model of torch's own layers without batch norm, hooks "
                          "and anything else of one's own, float32 and no compile; take eager")  # fmt: skip
    return replace(
        training,
        channels_last=images if training.channels_last is None else training.channels_last,
        step=training.step or ("traced" if able and kind == "cpu" else "eager"),
    )


def in_words(training: Training) -> str:
    """Say in a few words how a training runs.

    >>> in_words(Training(lr=0.05, epochs=3))
    'sgd, learning rate 0.05, batch 64, 3 epochs, weights taken: last'
    """
    t = training
    length = f"{t.epochs:g} epochs" if t.epochs is not None else f"{t.steps:,} steps"
    return f"{t.optimizer}, learning rate {t.lr:g}, batch {t.batch_size}, {length}, weights taken: {t.select}"


def stretched(training: Training, factor: float) -> Training:
    """Return the same training at another length: its warmup and milestones move with its end.

    >>> stretched(Training(epochs=10, schedule="multistep", milestones=(5, 8)), 1.5).milestones
    (7.5, 12.0)
    """
    t, factor = training, own_numbers(factor)
    return replace(
        t,
        epochs=t.epochs and t.epochs * factor,
        steps=t.steps and round(t.steps * factor),
        milestones=tuple(epoch * factor for epoch in t.milestones),
        milestone_steps=tuple(round(step * factor) for step in t.milestone_steps),
        warmup=t.warmup * factor,
        warmup_steps=round(t.warmup_steps * factor),
    )


def fine_tuning(training: Training, lr: float | Literal["last", "decayed"]) -> Training:
    """Return the training with which a pruned network is trained on: as long, without warmup, at a low rate.

    Args:
        training: The one before.
        lr: "last": the rate that it ended with, constant; "decayed": from that rate down to zero along half a cosine;
            or the constant rate itself.

    Raises:
        ConfigError: The rate that the training ends with is zero.

    >>> fine_tuning(Training(lr=0.1, epochs=10, schedule="multistep", milestones=(5, 8), gamma=0.2), "last").lr
    0.004
    """
    t, lr = training, own_numbers(lr)
    if lr in ("last", "decayed") and t.schedule == "cosine":
        raise ConfigError(f"lr is {lr}, but the cosine schedule ends at a rate of 0; give the rate of fine-tuning")
    # Rounded, so that 0.1 * 0.2 ** 2 is 0.004: the digits beyond are no part of the meaning.
    last = float(f"{t.lr * t.gamma ** len(t.milestones or t.milestone_steps):.12g}")
    return replace(
        t,
        lr=lr if isinstance(lr, float | int) else last,
        schedule="cosine" if lr == "decayed" else "constant",
        milestones=(),
        milestone_steps=(),
        warmup=0.0,
        warmup_steps=0,
    )


def arrange_(model: nn.Module, training: Training) -> None:
    """Lay a model's convolutions out in memory as its settled training says; no value changes."""
    if training.channels_last:
        model.to(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Schedule:
    """The numbers of one training in its own steps: those of a partition are its share of the full split's."""

    steps: int
    warmup: float
    milestones: tuple[float, ...]
    evaluate_every: int
    shape: str
    gamma: float

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

        def own(epochs: float | None, steps: int | None) -> float:
            return epochs * batches_per_epoch if epochs else (steps or 0) * share

        every = training.evaluate_every
        milestones = [own(epoch, None) for epoch in training.milestones]
        milestones += [own(None, step) for step in training.milestone_steps]
        return cls(
            steps=max(1, round(own(training.epochs, training.steps))),
            warmup=own(training.warmup, training.warmup_steps),
            milestones=tuple(sorted(milestones)),
            evaluate_every=max(1, round(every * share)) if every else batches_per_epoch,
            shape=training.schedule,
            gamma=training.gamma,
        )

    def factor(self, step: int) -> float:
        """Return what the base learning rate is multiplied by in a step, counted from 0.

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
            return 0.5 * (1 + math.cos(math.pi * past))
        return 1.0


@dataclass(frozen=True)
class Step:
    """Where a training stands: ``number`` steps are done, ``loss`` is the last one's (none before the first).

    The optimizer's state and rates are those that are trained with; hooks on its step are not called.
    """

    number: int
    loss: Tensor | None
    optimizer: torch.optim.Optimizer
    handle: Handle


def check_trained(model: nn.Module) -> None:
    """Refuse a model that cannot be trained as it is.

    Raises:
        ConfigError: It has no parameter that is trained, one of unknown shape, or one that is not of real numbers.
    """
    check_shapes(model)
    named = names.parameters(model)
    if not any(parameter.requires_grad for parameter in named.values()):
        frozen = f"; requires_grad is False for all {len(named)} of them" if named else ""
        raise ConfigError(f"the model {type(model).__name__} has no parameter that is trained{frozen}")
    for name, parameter in named.items():
        if parameter.requires_grad and not parameter.is_floating_point():
            raise ConfigError(f"the parameter '{name}' is {str(parameter.dtype).removeprefix('torch.')}; what is "
                              "trained are real numbers")  # fmt: skip


def optimizer_for(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    """Make the optimiser that the settings name, over all parameters, so that a frozen one may be thawed later."""
    t, parameters = training, [p for p in model.parameters() if p.is_floating_point()]
    if t.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, t.lr, t.momentum, weight_decay=t.weight_decay, nesterov=t.nesterov, fused=True
        )
    if t.optimizer == "adam":
        return torch.optim.Adam(parameters, t.lr, t.betas, weight_decay=t.weight_decay, fused=True)
    return torch.optim.AdamW(parameters, t.lr, t.betas, weight_decay=t.weight_decay, fused=True)


def train(
    model: nn.Module,
    batches: Batches,
    training: Training,
    mask: Mask,
    *,
    loss: Callable[[nn.Module, tuple[Tensor, Tensor]], Tensor],
    seed: int,
    schedule: Schedule | None = None,
    first: int = 0,
    last: int | None = None,
) -> Iterator[Step]:
    """Train a model in place and yield before each step, and once more at the end.

    Whoever drives the loop may evaluate, stop or replace the mask between two steps. Pruned weights stay zero. A model
    in evaluation mode is put into training mode; in one that is in training mode, layers that are in evaluation mode
    (batch norm with frozen statistics) stay so. Parameters that are frozen (``requires_grad``) stay as they are, and
    one that is thawed meanwhile is trained from then on.

    What the model draws while it trains is addressed by seed and step, from torch's, Python's (``random``) and numpy's
    global generators, which are put back when the training has come to its end. A generator of the model's own
    (``numpy.random.default_rng()``) is not set: where the same training is to give the same weights, the model has to
    see to it.

    Args:
        model: Holds the weights to start from.
        batches: Gives the shuffled, augmented batches of each epoch.
        training: Optimiser, schedule and length.
        mask: Weights to keep; parameters without an entry are never masked.
        loss: From the model and a batch to a scalar.
        seed: Addresses what the model draws while it trains (dropout).
        schedule: The schedule in steps of these batches; made from ``training`` if not given.
        first: Steps taken before, when a training goes on from a rewind point; the schedule and the order of
            the data go on there.
        last: Stop after this step of the schedule; its end if not given.

    Raises:
        ConfigError: A setting does not go with the model, or the model has nothing that can be trained.
        InputError: On a step: a trained parameter was replaced by another one.

    >>> from tombola.splits import Split
    >>> split = Split(torch.rand(6, 1, 2, 2), torch.arange(6) % 2, torch.arange(6))
    >>> batches = Batches(split, batch_size=3, seed=0, mean=torch.zeros(1), std=torch.ones(1), published=6)
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> def loss(model, batch):
    ...     return nn.functional.cross_entropy(model(batch[0]), batch[1])
    >>> mask = {"1.weight": torch.tensor([[True, False, True, True]] * 2)}
    >>> [step.number for step in train(model, batches, Training(epochs=2), mask, loss=loss, seed=0)]
    [0, 1, 2, 3, 4]
    >>> model[1].weight[:, 1].count_nonzero().item()
    0
    """
    schedule = schedule or Schedule.of(training, len(batches))
    check_trained(model)
    kind = next(model.parameters()).device.type
    training = settle(training, model, kind)
    arrange_(model, training)
    optimizer, handle, value = optimizer_for(model, training), Handle(model, mask), None
    compiled: nn.Module = torch.compile(model) if training.compile else model  # type: ignore[assignment]
    gradients = steps.gradients(
        compiled,
        loss,
        traced=training.step == "traced",
        autocast=devices.autocast(kind, training.precision),
        before=lambda: seeds.reseed_python(seed, "step", number),
    )
    update = steps.update(optimizer)
    if not model.training:
        model.train()
    foreign = type(batches) is not Batches  # those of somebody else may draw from the global generators as they like
    put_back = seeds.remember()
    for number in range(first, schedule.steps if last is None else last):
        epoch, place = divmod(number, len(batches))
        if place == 0 or number == first:
            if foreign:
                seeds.reseed(seed, "epoch", epoch)
                seeds.reseed_python(seed, "epoch", epoch)
            ahead = itertools.islice(batches.epoch(epoch), place, None)
        for group in optimizer.param_groups:
            group["lr"] = training.lr * schedule.factor(number)
        yield Step(number, value, optimizer, handle)
        seeds.reseed(seed, "step", number)
        if foreign:
            seeds.reseed_python(seed, "batch", number)
        value = gradients(next(ahead))
        if training.clip is not None:
            # Before clipping: the gradients of pruned weights must not count in the norm. Otherwise they need no mask:
            # these optimisers treat every weight by itself.
            handle.mask_gradients()
            moved = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(moved, training.clip)
        update()
        # After the step: a pruned weight has a gradient and momentum of its own, and must not move. (It may become
        # minus zero, which is zero too.)
        handle.mask_weights()
    yield Step(schedule.steps if last is None else last, value, optimizer, handle)
    # Not in a finally clause: a loop that was left may be cleared away at any time, in another training's step, too.
    put_back()
