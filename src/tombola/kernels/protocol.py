"""The protocol of kernels: how a model is run."""

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
    """One model, prepared to be trained. In every step `train` calls gradients, then update.

    Attributes:
        gradients: From a batch to the detached loss, a scalar. It sets ``.grad`` of every
            parameter, whatever its value before: ``None`` where one is frozen or has no part in the
            loss.
        update: Clips the gradients where the training says so, takes the optimiser's step with its
            current learning rates, and leaves pruned weights at zero.
        upkeep: Inspects the model, the mask and torch's own settings, and prepares again what no
            longer fits. It is called before the first step, and before each step after the caller
            may have changed the model; between these calls nothing has changed.
        hand_over: Brings the model and the optimiser up to date, for a program that keeps weights
            of its own. It is called before the caller may read or change the model.
    """

    gradients: Callable[[Any], Tensor]
    update: Callable[[], None]
    upkeep: Callable[[], None] = nothing
    hand_over: Callable[[], None] = nothing


class Kernel(abc.ABC):
    """How a model is run. Your own kernel is a subclass of this one, or of another kernel.

    Attributes:
        preferred: The kinds of device on which it may be the default, each with a number: of the
            kernels that take the model, the one with the highest number is the default. Changing it
            changes what recipes mean.
        tolerance: How far a weight may be from that of `eager` after a few steps, as a fraction of
            the largest; 0 means bit for bit.
    """

    preferred: ClassVar[Mapping[str, int]] = {}
    tolerance: ClassVar[float] = 0.0

    def refusal(self, model: nn.Module, training: Training, kind: str) -> str:  # noqa: ARG002
        """Say what would have to change for this kernel to run a model; empty if it can.

        It depends on the model, the settings and the kind of device alone, not on timing or the
        machine.

        Args:
            model: The model to train.
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
            training: The settings, with all defaults resolved.
            loss: From the model and a batch to a scalar.
            optimizer: Over the model's parameters. Its learning rates are set before every step,
                and its state is its own: the caller of a training may inspect it.
            reseed: Sets Python's and numpy's generators for the current step; to be called before
                code of the model or of the loss is run. Torch's are set already.
        """

    def inference(self, model: nn.Module) -> nn.Module:
        """Return a module that computes what the model does in evaluation mode.

        It is valid for the weights and the mask that the model has now. By default it is the model
        itself.
        """
        return model


def described(value: object) -> str:
    """Describe a value that a user's code returned, in a few words.

    >>> described(torch.ones(2, 3)), described(None)
    ('a tensor of shape [2, 3]', 'a NoneType')
    """
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    gradient = " with a gradient" if value.requires_grad else ""
    return f"a tensor of shape {list(value.shape)}{gradient}"
