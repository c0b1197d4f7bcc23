"""Running: a model's modes are restored after use, and help with outputs that are no logits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from torch import nn


@contextlib.contextmanager
def in_evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode for a block, then restore the mode of each module.

    >>> model = nn.Sequential(nn.BatchNorm1d(2).eval(), nn.Dropout())
    >>> with in_evaluation_mode(model):
    ...     model[1].training
    False
    >>> [module.training for module in model.modules()]
    [True, False, True]
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        # Not train(), which would change the modules within, too.
        for module, training in modes:
            module.training = training


def alone(output: object) -> str:
    """Say how to get the logits alone from a model's output, as the end of a message.

    Empty where that is not known.

    >>> alone({"logits": 1})[:64]
    ": wrap it in a module whose forward returns output['logits'], or"
    """
    # Models of transformers and of torchvision (Inception) return more than logits.
    has_key = isinstance(output, Mapping) and "logits" in output
    if has_key or hasattr(output, "logits"):
        logits = "output['logits']" if has_key else "output.logits"
        return (
            f": wrap it in a module whose forward returns {logits}, or switch off what it gives "
            "besides (aux_logits)"
        )
    if isinstance(output, tuple | list | Mapping):
        return ": wrap it in a module whose forward returns them alone"
    return ""
