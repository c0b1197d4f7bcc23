"""Training: the loop itself, and what it settles by the model and the kind of device.

    batches -> train: [ upkeep -> gradients -> update ] -> next step

How a batch becomes gradients, and gradients other weights, is a kernel's affair, see
`tombola.kernels`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tombola.data.batches import Batches, Epochs
from tombola.ground import devices, seeds
from tombola.ground.errors import ConfigError
from tombola.ground.settings import Schedule, Training
from tombola.ground.types import Mask
from tombola.kernels import finding
from tombola.masks import names
from tombola.masks.masks import Handle
from tombola.models.building import check_shapes


def settle(training: Training, model: nn.Module, kind: str) -> Training:
    """Fill in what a training leaves open and what changes bits.

    It hangs on the model and the kind of device alone, so that no timing and no other machine
    decides a result: channels innermost where there are 2d convolutions; the kernel that is
    preferred there.

    Args:
        training: The settings; what they say is kept.
        model: What is trained.
        kind: "cpu" or "cuda".

    Raises:
        ConfigError: A setting does not go with this model or device, or the machine has too few
            cores for its threads.

    >>> settle(Training(epochs=1), nn.Linear(4, 2), "cpu").step
    'traced'
    """
    if training.threads > devices.most():
        raise ConfigError(
            f"training.threads is {training.threads}; this machine has {devices.cores()} cores, "
            f"and a training takes at most {devices.most()} threads here: --training.threads "
            f"{devices.cores()} (another number may change the last bits)"
        )
    images = any(isinstance(layer, nn.Conv2d) for layer in model.modules())
    if training.precision == "tf32" and kind == "cpu":
        raise ConfigError(
            "training.precision is tf32, which is CUDA's; on the CPU it is float32 or bf16"
        )
    if training.channels_last and not images:
        raise ConfigError(
            "training.channels_last is true; the model has no 2d convolution that it would matter "
            "to"
        )
    if training.step is not None:
        refusal = finding.named(training.step).refusal(model, training, kind)
        if refusal:
            raise ConfigError(f"training.step is {training.step}; {refusal}")
    return replace(
        training,
        channels_last=images if training.channels_last is None else training.channels_last,
        step=training.step or finding.preferred(model, training, kind),
    )


def arrange_(model: nn.Module, training: Training) -> None:
    """Lay a model's convolutions out in memory as its settled training says; no value changes."""
    if training.channels_last:
        model.to(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Step:
    """Where a training stands: ``number`` steps are done, ``loss`` is the last one's (none before
    the first).

    The optimizer's state and rates are those that are trained with; hooks on its step are not
    called.
    """

    number: int
    loss: Tensor | None
    optimizer: torch.optim.Optimizer
    handle: Handle


def check_trained(model: nn.Module) -> None:
    """Refuse a model that cannot be trained as it is.

    Raises:
        ConfigError: It has no parameter that is trained, one of unknown shape, or one that is not
            of real numbers.
    """
    check_shapes(model)
    named = names.parameters(model)
    if not any(parameter.requires_grad for parameter in named.values()):
        frozen = f"; requires_grad is False for all {len(named)} of them" if named else ""
        raise ConfigError(
            f"the model {type(model).__name__} has no parameter that is trained{frozen}"
        )
    for name, parameter in named.items():
        if parameter.requires_grad and not parameter.is_floating_point():
            raise ConfigError(
                f"the parameter '{name}' is {str(parameter.dtype).removeprefix('torch.')}; what is "
                "trained are real numbers"
            )


def optimizer_for(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    """Make the optimiser that the settings name, over all parameters, so that a frozen one may
    be thawed later.
    """
    t, parameters = training, [p for p in model.parameters() if p.is_floating_point()]
    if t.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            t.lr,
            t.momentum,
            weight_decay=t.weight_decay,
            nesterov=t.nesterov,
            fused=True,
        )
    if t.optimizer == "adam":
        return torch.optim.Adam(parameters, t.lr, t.betas, weight_decay=t.weight_decay, fused=True)
    return torch.optim.AdamW(parameters, t.lr, t.betas, weight_decay=t.weight_decay, fused=True)


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
) -> Iterator[Step]:
    """Train a model in place and yield before each step, and once more at the end.

    Whoever drives the loop may evaluate, stop or replace the mask between two steps. Pruned weights
    stay zero. A model in evaluation mode is put into training mode; in one that is in training
    mode, layers that are in evaluation mode (batch norm with frozen statistics) stay so. Parameters
    that are frozen (``requires_grad``) stay as they are, and one that is thawed meanwhile is
    trained from then on.

    What the model draws while it trains is addressed by seed and step, from torch's, Python's
    (``random``) and numpy's global generators, which are put back when the training has come to its
    end. A generator of the model's own (``numpy.random.default_rng()``) is not set: where the same
    training is to give the same weights, the model has to see to it.

    Args:
        model: Holds the weights to start from.
        batches: Gives the shuffled, augmented batches of each epoch.
        training: Optimiser, schedule and length.
        mask: Weights to keep; parameters without an entry are never masked.
        loss: From the model and a batch to a scalar.
        seed: Addresses what the model draws while it trains (dropout).
        schedule: The schedule in steps of these batches; made from ``training`` if not given.
        first: Steps taken before, when a training goes on from a rewind point; the schedule and the
            order of the data go on there.
        last: Stop after this step of the schedule; its end if not given.
        visited: Whether whoever drives the loop looks at the model, the optimiser or the handle, or
            changes them, when so many steps are done. Elsewhere the kernel trusts what it has
            prepared, and may hold weights of its own. After every step if not given.

    Raises:
        ConfigError: A setting does not go with the model, or the model has nothing that can be
            trained.
        InputError: On a step: a trained parameter was replaced by another one.

    >>> from tombola.data.splits import Split
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
    # those of somebody else may draw from the global generators as they like
    foreign = type(batches) is not Batches
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
        in_hands = visited is None or foreign or number == first or visited(number)
        if in_hands:
            program.hand_over()
        yield Step(number, value, optimizer, handle)
        if in_hands:
            program.upkeep()
        seeds.reseed(seed, "step", number)
        if foreign:
            seeds.reseed_python(seed, "batch", number)
        value = program.gradients(next(ahead))
        program.update()
    program.hand_over()
    yield Step(schedule.steps if last is None else last, value, optimizer, handle)
    # Not in a finally clause: a loop that was left may be cleared away at any time, in another
    # training's step, too.
    put_back()
