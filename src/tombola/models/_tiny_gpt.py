"""A small causal transformer, for the task tokens."""

from __future__ import annotations

from tombola.ground.errors import ConfigError
from tombola.models.checks import check_classes, check_dropout, check_sizes
from tombola.models.language import Transformer


def tiny_gpt(
    vocabulary: int,
    *,
    length: int = 64,
    width: int = 64,
    layers: int = 2,
    heads: int = 4,
    dropout: float = 0.0,
    tied: bool = True,
) -> Transformer:
    """Build a transformer with norms in front, learnt places and GELU.

    Prunable are ``attend``, ``project``, ``expand`` and ``contract`` of each of the ``blocks``, and
    ``head`` unless it is the output layer that ``no_head`` leaves out. A tied head is one weight
    with the token embedding, so that ``no_head`` leaves both as they are.

    Args:
        vocabulary: How many tokens there are, at least 2.
        length: The most tokens that it reads at once; the data gives it.
        width: Of each token's vector.
        layers: Number of blocks.
        heads: Attention heads of a block; they divide the width.
        dropout: Fraction of the values that are zeroed in training behind each part of a block.
        tied: Whether the output layer's weight is that of the token embedding.

    Raises:
        ConfigError: A size will not do.

    Source:
        The layout of GPT-2 (Radford et al. 2019), without its scaling of the last projections.

    >>> sum(parameter.numel() for parameter in tiny_gpt(256).parameters())
    120576
    """
    check_classes(vocabulary)
    check_sizes(length=length, width=width, layers=layers, heads=heads)
    check_dropout(dropout)
    if width % heads:
        raise ConfigError(f"width is {width} and heads is {heads}; the heads divide the width")
    return Transformer(
        vocabulary, length, width=width, layers=layers, heads=heads, dropout=dropout, tied=tied
    )
