"""Types: the values that flow through a search, all of them plain mappings of tensors.

A mask maps a parameter's name to a boolean tensor of that parameter's shape; True keeps the weight.
Parameters that are never pruned (biases, batch norm) have no entry. Scores have the names and
shapes of a mask; larger means keep. A state is a full ``state_dict``, buffers included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from jaxtyping import Bool
from torch import Tensor

Mask: TypeAlias = Mapping[str, Bool[Tensor, "..."]]
Scores: TypeAlias = Mapping[str, Tensor]
State: TypeAlias = Mapping[str, Tensor]
