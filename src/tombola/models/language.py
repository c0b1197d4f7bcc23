"""Language models: from the tokens of a window to logits of each next token."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional


class LanguageModel(nn.Module):
    """A model for the task "tokens"; it has its output layer as ``head``.

    It takes token numbers, int64 [batch, length], and gives logits [batch, length, vocabulary]:
    those at a place are for the token that follows, and see nothing of what stands behind it.
    """

    task: ClassVar[str] = "tokens"


class Transformer(LanguageModel):
    """A causal transformer: embeddings, blocks, a norm, and a head that may share their weight.

    Args:
        vocabulary: How many tokens there are.
        length: The most tokens that it reads at once.
        width: Of each token's vector.
        layers: Number of blocks.
        heads: Attention heads of a block; they divide the width.
        dropout: Fraction of the values that are zeroed in training behind each part of a block.
        tied: Whether the output layer's weight is that of the token embedding.
    """

    def __init__(
        self,
        vocabulary: int,
        length: int,
        *,
        width: int,
        layers: int,
        heads: int,
        dropout: float,
        tied: bool,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, heads, dropout) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=not tied)
        # torch's own draw, with a deviation of 1, would drown what attention adds.
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.places.weight, std=0.02)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of the token behind each place."""
        places = self.places.weight[: tokens.shape[1]]
        return self.head(self.norm(self.blocks(self.tokens(tokens) + places)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Causal attention, then a multilayer perceptron, each added to what it was given."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.attend = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return vectors of the same shape, [batch, length, width]."""
        batch, length, _ = inputs.shape
        # Queries, keys and values, each [batch, heads, length, width of a head].
        parts = self.attend(self.norm1(inputs)).view(batch, length, 3, self.heads, -1)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        found = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        inputs = inputs + self.drop(self.project(found.transpose(1, 2).reshape(inputs.shape)))
        hidden = functional.gelu(self.expand(self.norm2(inputs)))
        added: Tensor = self.drop(self.contract(hidden))
        return inputs + added


class Recurrent(LanguageModel):
    """Embeddings, an LSTM, and a head that may share the embeddings' weight.

    Args:
        vocabulary: How many tokens there are.
        width: Of each token's vector and of the state.
        layers: Of the LSTM.
        dropout: Fraction of the values that are zeroed in training in front of the head.
        tied: Whether the output layer's weight is that of the token embedding.
    """

    def __init__(
        self, vocabulary: int, *, width: int, layers: int, dropout: float, tied: bool
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.recurrent = nn.LSTM(width, width, layers, batch_first=True)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(width, vocabulary, bias=not tied)
        nn.init.normal_(self.tokens.weight, std=0.02)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of the token behind each place."""
        found, _ = self.recurrent(self.tokens(tokens))
        return self.head(self.drop(found))  # type: ignore[no-any-return]
