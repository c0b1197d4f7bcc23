"""A task of its own: turn a row of numbers around; judged by the root mean square error, lower
is better.
"""

import torch
from torch import nn

from tombola.ground.metrics import Metric
from tombola.tasks.rows import Rows


def squared(network, batch):
    """The mean squared difference to the row turned around."""
    return (network(batch[0]) - batch[0].flip(1)).square().mean()


def mirror(data, model, *, seed, device, root):
    """Draw rows of eight numbers."""
    rows = torch.randn(400, 8, generator=torch.Generator().manual_seed(seed))
    splits = {"train": (rows[:300],), "valid": (rows[300:350],), "test": (rows[350:],)}
    rmse = Metric("rmse", fraction=False, higher=False)
    return Rows(
        lambda: nn.Linear(8, 8), splits, seed, squared, (rmse,), lambda loss: {"rmse": loss**0.5}
    )
