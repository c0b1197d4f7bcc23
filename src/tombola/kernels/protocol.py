"""What a kernel is asked for, and what it gives."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from tombola.ground.settings import Training
from tombola.masks.masks import MaskHandle

Loss: TypeAlias = Callable[[nn.Module, Any], Tensor]


def nothing() -> None:
    """Do nothing: the upkeep of a program that needs none."""


class Program(NamedTuple):
    """One model, prepared to be trained. In every step `train` calls the gradients, then the
    update.

    Attributes:
        gradients: From a batch to the detached loss, a scalar. It sets ``.grad`` of every
            parameter, whatever was there before: ``None`` where one is frozen or has no part in the
            loss.
        update: Clips the gradients where the training says so, takes the optimiser's step with the
            rates that the optimiser has now, and leaves pruned weights at zero.
        upkeep: Looks at the model, the mask and torch's own settings, and makes anew what no longer
            fits. It is called before the first step, and before each step after somebody had the
            model in hands; in between nobody has touched anything.
        hand_over: Brings the model and the optimiser to where the training stands, for a program
            that keeps weights of its own. It is called before somebody gets the model into their
            hands.
    """

    gradients: Callable[[Any], Tensor]
    update: Callable[[], None]
    upkeep: Callable[[], None] = nothing
    hand_over: Callable[[], None] = nothing


class Kernel(abc.ABC):
    """How a model is run. Your own kernel is a class made of this one, or of another kernel.

    Attributes:
        preferred: The kinds of device on which it is taken where a recipe leaves the choice open,
            and how much: of those that take the model, the one with the highest number. To change
            it is to change what recipes mean.
        tolerance: How far a weight may be from the one that `eager` gives after a few steps, as a
            fraction of the largest; 0 is every bit.
    """

    preferred: ClassVar[Mapping[str, int]] = {}
    tolerance: ClassVar[float] = 0.0

    def refusal(self, model: nn.Module, training: Training, kind: str) -> str:  # noqa: ARG002
        """Say what would have to be otherwise for this kernel to run a model; nothing if it can.

        It hangs on the model, the settings and the kind of device alone: no timing and no other
        machine decides it.

        Args:
            model: What would be trained.
            training: Its settings.
            kind: Of the device: "cpu" or "cuda".
        """
        return ""

    @abc.abstractmethod
    def prepare(
        self,
        model: nn.Module,
        handle: MaskHandle,
        training: Training,
        *,
        loss: Loss,
        optimizer: torch.optim.Optimizer,
        reseed: Callable[[], None],
    ) -> Program:
        """Prepare to train a model.

        Args:
            model: Trained in place; in its mode, on its device and laid out as the settings say.
            handle: Holds the mask, which may be replaced between two steps.
            training: The settings, settled.
            loss: From the model and a batch to a scalar.
            optimizer: Over the model's parameters. Its rates are set anew before every step, and
                its state is its own: whoever drives a training may look at it.
            reseed: Sets Python's and numpy's generators for the step at hand; to be called before
                code of the model or of the loss is run. Torch's are set already.
        """

    def inference(self, model: nn.Module) -> nn.Module:
        """Return a module that gives what the model gives in evaluation mode; the model itself
        unless said otherwise.

        What it gives stands for the weights and the mask that the model has now.
        """
        return model


def described(value: object) -> str:
    """Say what somebody's code has given, in a few words.

    >>> described(torch.ones(2, 3)), described(None)
    ('a tensor of shape [2, 3]', 'a NoneType')
    """
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)}{' with a gradient' if value.requires_grad else ''}"
    return f"a {type(value).__name__}"
