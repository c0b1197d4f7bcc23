"""Running: a model as its owner left it, and what it gives."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from torch import nn


@contextlib.contextmanager
def in_evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put every module of a model into evaluation mode for a block, and then each back into its
    own.

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
        for module, training in modes:  # not train(): it would tell the modules within, too
            module.training = training


def alone(given: object) -> str:
    """Say how to come to the logits alone from what a model gives besides, where that is known;
    else nothing.

    >>> alone({"logits": 1})[:64]
    ": wrap it in a module whose forward returns output['logits'], or"
    """
    by_key = isinstance(given, Mapping) and "logits" in given
    if by_key or hasattr(given, "logits"):
        taken = "output['logits']" if by_key else "output.logits"
        return f": wrap it in a module whose forward returns {taken}, or switch off what it gives besides (aux_logits)"
    if isinstance(given, tuple | list | Mapping):
        return ": wrap it in a module whose forward returns them alone"
    return ""
