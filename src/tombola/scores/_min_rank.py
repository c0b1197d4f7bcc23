"""Min rank: a weight must be large both before and after training."""

from __future__ import annotations

import torch
from torch import Tensor

from tombola.ground.types import Mask, State
from tombola.scores.context import Context
from tombola.scores.weights import initial_weights, trained_weights


def min_rank(state: State, mask: Mask, context: Context) -> dict[str, Tensor]:
    """Score every weight by the lower of its ranks by initial and by trained magnitude.

    The ranks count from 0 among the kept weights of a layer, equal weights by position. So they are
    made for ``scope: per_layer``: ranked together, large layers would push out small ones. Pruned
    weights score 0. Needs the trained weights and the rewind point, and sorts each layer twice.

    Source:
        Zhou et al. 2019, arXiv:1905.01067, section 2: the criterion "large init, large final",
        min(a |w_final|, |w_init|), where the factor a aligns the two scales. The authors' code
        searches for the percentile that keeps the right number above both thresholds. That is the
        lower of two ranks, which needs no factor and no search.

    >>> start = {"w": torch.tensor([0.5, -0.4, 0.3, -0.1])}
    >>> state = {"w": torch.tensor([0.6, -0.2, -0.9, 0.05])}
    >>> mask = {"w": torch.ones(4, dtype=torch.bool)}
    >>> min_rank(state, mask, Context(start, seed=0))["w"].tolist()
    [2.0, 1.0, 1.0, 0.0]
    """
    trained = trained_weights(state, mask)
    initial = initial_weights(context, state, mask)
    scores = {}
    for name, keep in mask.items():
        after = _ranks(trained[name][keep].abs())
        before = _ranks(initial[name][keep].abs())
        scores[name] = torch.zeros(keep.shape, dtype=torch.float64, device=keep.device)
        scores[name][keep] = torch.minimum(after, before)
    return scores


def _ranks(values: Tensor) -> Tensor:
    """Rank a vector from 0, lowest first; NaN where a value is NaN, so that it is refused."""
    # float64 counts exactly to 2**53, float32 only to 16 million.
    ranks = torch.empty(values.shape, dtype=torch.float64, device=values.device)
    order = torch.argsort(values, stable=True)
    ranks[order] = torch.arange(len(values), dtype=torch.float64, device=values.device)
    return ranks.masked_fill(values.isnan(), torch.nan)
