"""FLOPs, against counts by hand: two for a multiplication and its addition."""

import pytest
import torch
from torch import nn

from tombola import flops
from tombola.flops import Flops, per_example
from tombola.masks import ones
from tombola.models import conv3, lenet_300_100


# By hand: a linear layer of n inputs and m outputs takes 2nm forward, as much for the gradient of its weights, and as
# much again for that of its input, which the first layer does not need.
def test_lenet_300_100_by_hand():
    first, second, head = 2 * 784 * 300, 2 * 300 * 100, 2 * 100 * 10
    assert per_example(lenet_300_100(10), torch.zeros(2, 1, 28, 28)) == {
        "fc1": Flops(first, first), "fc2": Flops(second, 2 * second), "head": Flops(head, 2 * head),
    }  # fmt: skip


# By hand: a 3 x 3 convolution of n channels to m on h x h pixels takes 2 * 9 * n * m * h * h; 64, 128, 256 channels,
# halved in size by a pooling after each.
def test_conv3_by_hand():
    first, second = 2 * 9 * 3 * 64 * 32**2, 2 * 9 * 64 * 128 * 16**2
    third, head = 2 * 9 * 128 * 256 * 8**2, 2 * 256 * 10
    assert per_example(conv3(10), torch.zeros(2, 3, 32, 32)) == {
        "conv1": Flops(first, first), "conv2": Flops(second, 2 * second), "conv3": Flops(third, 2 * third),
        "head": Flops(head, 2 * head),
    }  # fmt: skip


# By hand: in g groups each output sees a g-th of the channels, forward and in both gradients.
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_convolution_in_groups_by_hand(groups):
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 8, 3, padding=1, groups=groups))
    found = per_example(model, torch.zeros(2, 4, 5, 5))
    ahead = 2 * 9 * (4 // groups) * 8 * 25
    assert found["1"] == Flops(ahead, 2 * ahead)


def test_what_is_in_no_layer_is_counted_too():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 3))

        def forward(self, x):
            return x @ self.weight

    assert per_example(Own(), torch.zeros(2, 4)) == {flops.OTHER: Flops(24, 24)}


def test_counting_leaves_the_model_as_it_is():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    per_example(model, torch.ones(2, 4))
    assert not model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model[0].weight.grad is None


def test_a_mask_leaves_its_layers_share():
    mask = ones(lenet_300_100(10))
    mask["fc1.weight"][:150] = False
    found = per_example(lenet_300_100(10), torch.zeros(2, 1, 28, 28))
    whole = 2 * (784 * 300 + 300 * 100 + 100 * 10)
    assert flops.inference(found) == whole == 532_400
    assert flops.inference(found, mask) == whole - 784 * 300
    assert flops.training(found) == 2 * whole + 2 * (300 * 100 + 100 * 10)
    assert flops.training(found, mask) == flops.training(found) - 2 * 784 * 300
