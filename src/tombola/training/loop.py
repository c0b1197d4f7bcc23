"""Training: the loop itself, and defaults that depend on the model and the kind of device.

    batches -> train: [ upkeep -> gradients -> update ] -> next step

How gradients are computed and weights updated is up to a kernel, see `tombola.kernels`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from tombola.data.batches import Batches, Epochs
from tombola.ground import devices, seeds
from tombola.ground.errors import ConfigError
from tombola.ground.settings import Schedule, Training
from tombola.ground.types import Mask
from tombola.kernels import finding
from tombola.masks import names
from tombola.masks.masks import MaskHandle
from tombola.models.building import check_shapes


def resolve_defaults(training: Training, model: nn.Module, kind: str) -> Training:
    """Resolve the defaults of settings that can change results.

    They depend on the model and the kind of device alone, so that no timing and no other machine
    decides a result: channels last where there are 2d convolutions; the kernel that is preferred
    there.

    Args:
        training: The settings; those given are kept.
        model: The model to train.
        kind: "cpu" or "cuda".

    Raises:
        ConfigError: A setting does not go with this model or device, or the machine has too few
            cores for its threads.

    >>> resolve_defaults(Training(epochs=1), nn.Linear(4, 2), "cpu").step
    'traced'
    """
    if training.threads > devices.most():
        raise ConfigError(
            f"training.threads is {training.threads}; this machine has {devices.cores()} cores, "
            f"and a training takes at most {devices.most()} threads here: --training.threads "
            f"{devices.cores()} (another number may change the last bits)"
        )
    # Settings that would be ignored silently are refused.
    has_conv2d = any(isinstance(layer, nn.Conv2d) for layer in model.modules())
    if training.precision == "tf32" and kind == "cpu":
        raise ConfigError(
            "training.precision is tf32, which is CUDA's; on the CPU it is float32 or bf16"
        )
    if training.channels_last and not has_conv2d:
        raise ConfigError(
            "training.channels_last is true; the model has no 2d convolution that it would matter "
            "to"
        )
    if training.step is not None:
        refusal = finding.named(training.step).refusal(model, training, kind)
        if refusal:
            raise ConfigError(f"training.step is {training.step}; {refusal}")
    # Convolutions are faster so; without any the layout would not matter.
    channels_last = training.channels_last
    if channels_last is None:
        channels_last = has_conv2d
    step = training.step or finding.preferred(model, training, kind)
    return replace(training, channels_last=channels_last, step=step)


def arrange_(model: nn.Module, training: Training) -> None:
    """Lay a model's convolutions out in memory as its training says; no value changes."""
    if training.channels_last:
        model.to(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Step:
    """The point that a training has reached: ``number`` steps are done.

    ``loss`` is that of the last step, ``None`` before the first. The optimizer's state and learning
    rates are those in use; hooks on its step are not called.
    """

    number: int
    loss: Tensor | None
    optimizer: torch.optim.Optimizer
    handle: MaskHandle


@runtime_checkable
class Listener(Protocol):
    """What listens to the gradients of a training, see `train`."""

    def takes(self, number: int, /) -> bool:
        """Whether it takes the gradients of the step that follows after this many."""

    def take(self, number: int, optimizer: torch.optim.Optimizer, /) -> bool:
        """Take the gradients; returns whether the weights are updated by them."""


def check_trained(model: nn.Module) -> None:
    """Refuse a model that cannot be trained as it is.

    Raises:
        ConfigError: No parameter requires gradients, or one has no shape yet or is not of real
            numbers.
    """
    # Optimisers would accept such models and leave them as they are, or fail without a name.
    check_shapes(model)
    named = names.parameters(model)
    if not any(parameter.requires_grad for parameter in named.values()):
        frozen = f"; requires_grad is False for all {len(named)} of them" if named else ""
        raise ConfigError(
            f"the model {type(model).__name__} has no parameter that is trained{frozen}"
        )
    for name, parameter in named.items():
        if parameter.requires_grad and not parameter.is_floating_point():
            dtype = str(parameter.dtype).removeprefix("torch.")
            raise ConfigError(
                f"the parameter '{name}' is {dtype}; what is trained are real numbers"
            )


def optimizer_for(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    """Make the optimiser that the settings name.

    It has all parameters, also frozen ones, which may be thawed later.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.is_floating_point()]
    # Fused: one kernel for all parameters instead of several operations for each.
    lr, weight_decay = training.lr, training.weight_decay
    if training.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            lr,
            training.momentum,
            weight_decay=weight_decay,
            nesterov=training.nesterov,
            fused=True,
        )
    adam = torch.optim.Adam if training.optimizer == "adam" else torch.optim.AdamW
    return adam(parameters, lr, training.betas, weight_decay=weight_decay, fused=True)


def train(
    model: nn.Module,
    batches: Epochs,
    training: Training,
    mask: Mask,
    *,
    loss: Callable[[nn.Module, tuple[Tensor, Tensor]], Tensor],
    seed: int,
    schedule: Schedule | None = None,
    first: int = 0,
    last: int | None = None,
    visited: Callable[[int], bool] | None = None,
    listener: Listener | None = None,
) -> Iterator[Step]:
    """Train a model in place and yield before each step, and once more at the end.

    Between two steps the caller may evaluate, stop or replace the mask. Pruned weights stay zero. A
    model in evaluation mode is put into training mode; in one that is in training mode, layers that
    are in evaluation mode (batch norm with frozen statistics) stay so. Frozen parameters
    (``requires_grad``) stay as they are, and one that is thawed is trained from then on.

    What the model draws while it trains is addressed by seed and step, from torch's, Python's
    (``random``) and numpy's global generators, which are restored when the training has ended. A
    generator of the model's own (``numpy.random.default_rng()``) is not set: the model itself must
    see to it that equal trainings give equal weights.

    Args:
        model: Holds the weights to start from.
        batches: Gives the shuffled, augmented batches of each epoch.
        training: Optimiser, schedule and length.
        mask: Weights to keep; parameters without an entry are never masked.
        loss: From the model and a batch to a scalar.
        seed: Addresses what the model draws while it trains (dropout).
        schedule: The schedule in steps of these batches; made from ``training`` if not given.
        first: Steps taken before, when a training continues from a rewind point; the schedule and
            the order of the data continue there.
        last: Stop after this step of the schedule; its end if not given.
        visited: Whether the caller reads or changes the model, the optimiser or the handle when
            this many steps are done. Elsewhere the kernel relies on what it has prepared, and may
            keep weights of its own. After every step if not given.
        listener: Takes the gradients of the steps that it asks for, before they are clipped; those
            of pruned weights are there, too. It may have the update left out; the step counts all
            the same.

    Raises:
        ConfigError: A setting does not go with the model, or the model has nothing that can be
            trained.
        InputError: On a step: a trained parameter was replaced by another one.

    >>> from tombola.data.splits import Split
    >>> split = Split(torch.rand(6, 1, 2, 2), torch.arange(6) % 2, torch.arange(6))
    >>> mean, std = torch.zeros(1), torch.ones(1)
    >>> batches = Batches(split, batch_size=3, seed=0, mean=mean, std=std, published=6)
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> def loss(model, batch):
    ...     return nn.functional.cross_entropy(model(batch[0]), batch[1])
    >>> mask = {"1.weight": torch.tensor([[True, False, True, True]] * 2)}
    >>> steps = train(model, batches, Training(epochs=2), mask, loss=loss, seed=0)
    >>> [step.number for step in steps]
    [0, 1, 2, 3, 4]
    >>> model[1].weight[:, 1].count_nonzero().item()
    0
    """
    schedule = schedule or Schedule.of(training, len(batches))
    check_trained(model)
    kind = next(model.parameters()).device.type
    training = resolve_defaults(training, model, kind)
    arrange_(model, training)
    optimizer = optimizer_for(model, training)
    handle = MaskHandle(model, mask)
    value = None
    end = schedule.steps if last is None else last
    program = finding.named(training.kernel).prepare(
        model,
        handle,
        training,
        loss=loss,
        optimizer=optimizer,
        reseed=lambda: seeds.reseed_python(seed, "step", number),
    )
    if not model.training:
        model.train()
    # A user's own batches may draw from the global generators as they like.
    foreign = type(batches) is not Batches
    restore_generators = seeds.remember()
    for number in range(first, end):
        # A training that continues from a rewind point begins within an epoch.
        epoch, place = divmod(number, len(batches))
        if place == 0 or number == first:
            if foreign:
                seeds.reseed(seed, "epoch", epoch)
                seeds.reseed_python(seed, "epoch", epoch)
            remaining = itertools.islice(batches.epoch(epoch), place, None)
        for group in optimizer.param_groups:
            group["lr"] = training.lr * schedule.factor(number)

        # Where the caller may read or change the model, the kernel first brings it up to date, and
        # afterwards checks whether what it has prepared still fits.
        is_visited = visited is None or foreign or number == first or visited(number)
        if is_visited:
            program.hand_over()
        yield Step(number, value, optimizer, handle)
        if is_visited:
            program.upkeep()

        seeds.reseed(seed, "step", number)
        if foreign:
            seeds.reseed_python(seed, "batch", number)
        value = program.gradients(next(remaining))
        if listener is not None and listener.takes(number):
            program.hand_over()
            if not listener.take(number, optimizer):
                continue
        program.update()
    program.hand_over()
    yield Step(end, value, optimizer, handle)
    # Not in a finally clause: a generator that was left is closed at any time, perhaps within
    # another training's step.
    restore_generators()
