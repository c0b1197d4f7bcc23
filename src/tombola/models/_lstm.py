"""A recurrent network of long short-term memory, for the task tokens."""

from __future__ import annotations

from tombola.models.checks import check_classes, check_dropout, check_sizes
from tombola.models.language import Recurrent


def lstm(
    vocabulary: int,
    *,
    width: int = 128,
    layers: int = 1,
    dropout: float = 0.0,
    tied: bool = True,
) -> Recurrent:
    """Build an LSTM between a token embedding and an output layer.

    Prunable are the matrices of ``recurrent``. A tied head is one weight with the token embedding,
    so that ``no_head`` leaves both as they are.

    Args:
        vocabulary: How many tokens there are, at least 2.
        width: Of each token's vector and of the state.
        layers: Of the LSTM.
        dropout: Fraction of the values that are zeroed in training in front of the head.
        tied: Whether the output layer's weight is that of the token embedding.

    Raises:
        ConfigError: A size will not do.

    >>> sum(parameter.numel() for parameter in lstm(256).parameters())
    164864
    """
    check_classes(vocabulary)
    check_sizes(width=width, layers=layers)
    check_dropout(dropout)
    return Recurrent(vocabulary, width=width, layers=layers, dropout=dropout, tied=tied)
