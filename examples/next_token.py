"""Next token: which letter follows a few (Bengio et al. 2003, JMLR 3)? Run by next_token.yaml."""

import math
from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tombola.ground import devices
from tombola.ground.metrics import Metric
from tombola.tasks.rows import Rows


def loss(network, batch):
    """Cross-entropy of the letter that follows."""
    letters, following = batch
    return cross_entropy(network(letters), following)


def next_token(data, model, *, seed, device, root):  # noqa: ARG001 - a task is called so
    """Cut a text into windows; the last tenth is tested on, the one before validated."""
    text, length = Path(data.options["path"]).read_text(encoding="utf-8"), data.options["length"]
    known = {letter: number for number, letter in enumerate(sorted(set(text)))}
    windows = torch.tensor([known[letter] for letter in text]).unfold(0, length + 1, 1)
    parts = windows.tensor_split([8 * len(windows) // 10, 9 * len(windows) // 10])
    pairs = [(part[:, :-1], part[:, -1]) for part in parts]
    splits = dict(zip(("train", "valid", "test"), pairs, strict=True))

    def draw():
        layers = OrderedDict(embed=nn.Embedding(len(known), 16), flat=nn.Flatten())
        layers |= {"wide": nn.Linear(16 * length, 100), "relu": nn.ReLU()}
        layers["head"] = nn.Linear(100, len(known))
        return nn.Sequential(layers)

    metrics = (Metric("perplexity", fraction=False, higher=False),)
    values = lambda mean: {"perplexity": math.exp(mean)}  # noqa: E731
    return Rows(draw, splits, seed, loss, metrics, values, "head", devices.device(device))
