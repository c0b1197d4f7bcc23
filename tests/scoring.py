"""Scoring: networks with known scores, problems made of a model and batches, and scores by
torch.func, for the tests of scores that need data.
"""

import copy
from collections import OrderedDict

import torch
from torch import nn
from torch.func import functional_call

from tombola.ground import catalogue
from tombola.masks.masks import apply_, ones
from tombola.scores.context import Context
from tombola.scores.ranking import Ranking

ENTRIES = [name for name in catalogue.entries("tombola.scores") if Ranking(name).needs == "data"]


def half_squared(model, batch):
    return ((model(batch[0]) - batch[1]) ** 2).sum() / 2


def mean_cross_entropy(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


class Given:
    """A problem of a model and batches."""

    def __init__(self, model, batches, loss=mean_cross_entropy, mask=None):
        self._model, self._batches, self.loss, self._mask = model, batches, loss, mask or {}

    def model(self):
        model = copy.deepcopy(self._model)
        apply_(model, self._mask)
        return model

    def batches(self, examples):
        yield from self._batches

    def probe(self, examples):
        return torch.zeros(examples, *self._batches[0][0].shape[1:])


def hand_net():
    """The network N: f(x) = v . relu(W x), W = [[1, -1], [2, 1]], v = [1, -1]."""
    model = nn.Sequential(
        OrderedDict(w=nn.Linear(2, 2, bias=False), relu=nn.ReLU(), v=nn.Linear(2, 1, bias=False))
    )
    with torch.no_grad():
        model.w.weight.copy_(torch.tensor([[1.0, -1.0], [2.0, 1.0]]))
        model.v.weight.copy_(torch.tensor([[1.0, -1.0]]))
    return model.double()


def hand_problem():
    """N at x = (2, 1) with the target -2, half the squared error: f = -4, the residual is -2."""
    batch = torch.tensor([[2.0, 1.0]]).double(), torch.tensor([[-2.0]]).double()
    return Given(hand_net(), [batch], half_squared)


def score(name, problem, mask, **options):
    function = Ranking(name, options).score()
    return function({}, mask, Context({}, 0, problems=[problem]))


def options_of(name):
    """A score's options with their defaults."""
    return Ranking(name)._function.__kwdefaults__ or {}


def by_hand(name, **options):
    """The scores of N in the order W11 W12 W21 W22 v1 v2."""
    scores = score(name, hand_problem(), ones(hand_net(), "all"), **options)
    return torch.cat([values.flatten() for values in scores.values()]).tolist()


class Block(nn.Module):
    """A residual block whose shortcut changes the number of channels."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(4, 6, 3, padding=1, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=2, bias=False)
        self.bn2 = nn.BatchNorm2d(6)
        self.short = nn.Conv2d(4, 6, 1, stride=2)

    def forward(self, x):
        out = self.bn2(self.conv2(nn.functional.relu(self.bn1(self.conv1(x)))))
        return nn.functional.relu(out + self.short(x))


def conv_net():
    """A small network with batch norm, a residual block, groups, and pooling of either kind."""
    torch.manual_seed(0)
    model = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(2, 4, 3, padding=1),
            bn=nn.BatchNorm2d(4),
            relu=nn.ReLU(inplace=True),
            pool=nn.MaxPool2d(2),
            block=Block(),
            mean=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
            hidden=nn.Linear(6, 5),
            act=nn.ReLU(inplace=True),
            head=nn.Linear(5, 3),
        )
    ).double()
    # As if it had been trained: statistics, scales and shifts that are not 0 and 1.
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(-1, 1)
                module.bias.normal_(0, 0.3)
    return model


def image_batches(sizes=(5, 4), classes=3):
    draw = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(size, 2, 8, 8, generator=draw).double(),
            torch.randint(classes, (size,), generator=draw),
        )
        for size in sizes
    ]


def some_mask(model, prunable="all", share=0.7):
    draw = torch.Generator().manual_seed(2)
    mask = {}
    for name, keep in ones(model, prunable).items():
        mask[name] = torch.rand(keep.shape, generator=draw) < share
    return mask


def masked(model, mask):
    """A copy of a model, in evaluation mode, and its parameters that a mask names."""
    model = copy.deepcopy(model)
    apply_(model, mask)
    model.eval()
    return model, {name: model.get_parameter(name).detach() for name in mask}


def loss_of(model, weights, batch):
    """The mean cross-entropy of a batch as a function of some weights."""
    return nn.functional.cross_entropy(functional_call(model, weights, (batch[0],)), batch[1])


def close(scores, expected, mask, tolerance=1e-9):
    """Whether scores agree where the mask keeps, relative to the largest of their layer."""
    assert scores.keys() == expected.keys()
    for name, keep in mask.items():
        scale = expected[name].abs().max()
        assert scale > 0
        difference = (scores[name] - expected[name])[keep].abs().max()
        assert difference <= tolerance * scale, (name, float(difference / scale))
    return True
