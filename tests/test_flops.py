"""FLOPs, against counts by hand: two for a multiplication and its addition."""

import copy
import inspect
import json
import threading
import warnings
from pathlib import Path

import pytest
import torch
from tests.toys import keep_fraction
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.rnn import pack_sequence
from torch.utils.checkpoint import checkpoint

from tombola import models
from tombola.ground import catalogue
from tombola.ground.errors import OldNameWarning
from tombola.masks.masks import ones
from tombola.models import conv3, flops, lenet_300_100
from tombola.models.detectors import build_detector, flops_of
from tombola.models.flops import Flops, per_example, uncounted
from tombola.records.records import costs_of
from tombola.schema import recipe


# By hand: a linear layer of n inputs and m outputs takes 2nm forward, as much for the gradient of
# its weights, and as much again for that of its input, which the first layer does not need.
def test_lenet_300_100_by_hand():
    first, second, head = 2 * 784 * 300, 2 * 300 * 100, 2 * 100 * 10
    assert per_example(lenet_300_100(10), torch.zeros(2, 1, 28, 28)) == {
        "fc1": Flops(first, first), "fc2": Flops(second, 2 * second), "head": Flops(head, 2 * head),
    }  # fmt: skip


# By hand: a 3 x 3 convolution of n channels to m on h x h pixels takes 2 * 9 * n * m * h * h; 64,
# 128, 256 channels, halved in size by a pooling after each.
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


# By hand: 2 x outputs x the weights that each sees; a transposed one 2 x inputs x the weights that
# each meets.
@pytest.mark.parametrize(
    ("layer", "shape", "ahead"),
    [
        (
            nn.Conv2d(2, 4, 3, groups=2),
            (2, 8, 8),
            2 * (4 * 6 * 6) * (1 * 9),
        ),  # a first layer in groups
        (nn.Conv2d(6, 6, 3, padding=1, groups=6), (6, 4, 4), 2 * (6 * 16) * 9),  # depthwise
        (nn.Conv2d(2, 4, 3, dilation=2), (2, 8, 8), 2 * (4 * 4 * 4) * (2 * 9)),
        (
            nn.Conv2d(2, 4, 3, stride=2, padding=1, padding_mode="circular"),
            (2, 8, 8),
            2 * (4 * 4 * 4) * (2 * 9),
        ),
        (
            nn.Conv2d(2, 4, 3, padding="same", padding_mode="reflect"),
            (2, 5, 5),
            2 * (4 * 25) * (2 * 9),
        ),
        (nn.Conv1d(2, 4, 3), (2, 8), 2 * (4 * 6) * (2 * 3)),
        (nn.Conv3d(2, 4, 2), (2, 3, 3, 3), 2 * (4 * 8) * (2 * 8)),
        (nn.ConvTranspose2d(2, 4, 2, stride=2), (2, 3, 3), 2 * (2 * 9) * (4 * 4)),
        (
            nn.ConvTranspose2d(4, 6, 3, groups=2, output_padding=1, stride=2),
            (4, 3, 3),
            2 * (4 * 9) * (3 * 9),
        ),
        (nn.Linear(4, 3), (5, 4), 2 * 5 * 4 * 3),  # once for each of five places
        (nn.Linear(4, 3, bias=False), (4,), 2 * 4 * 3),
    ],
)
def test_a_first_layer_by_hand_and_a_second_one_that_passes_a_gradient_on(layer, shape, ahead):
    assert per_example(nn.Sequential(layer), torch.zeros(2, *shape)) == {"0": Flops(ahead, ahead)}
    before = nn.PReLU()  # costs nothing, and what comes out of it needs a gradient
    assert per_example(nn.Sequential(before, layer), torch.zeros(2, *shape)) == {
        "1": Flops(ahead, 2 * ahead)
    }


def test_a_frozen_layer_has_no_gradient_of_its_weights():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].requires_grad_(False)
    found = per_example(model, torch.zeros(2, 4))
    assert found == {"0": Flops(32, 32), "1": Flops(32, 32), "2": Flops(32, 64)}
    model[0].requires_grad_(False)
    assert per_example(model, torch.zeros(2, 4)) == {
        "0": Flops(32, 0),
        "1": Flops(32, 0),
        "2": Flops(32, 32),
    }


def test_what_runs_without_gradients_costs_nothing_backward():
    class Taught(nn.Module):
        def __init__(self):
            super().__init__()
            self.student, self.teacher = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            with torch.no_grad():
                wanted = self.teacher(x)
            return self.student(x) - wanted

    assert per_example(Taught(), torch.zeros(2, 4)) == {
        "student": Flops(32, 32),
        "teacher": Flops(32, 0),
    }


# ---- weights that are used in other ways than by their layer


class Twice(nn.Module):
    """One weight in two layers, and once more by a function."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 10)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.head(linear(self.second(self.first(x)), self.first.weight))


def test_a_weight_that_is_used_often_is_counted_and_masked_in_each_use():
    found = per_example(Twice(), torch.zeros(2, 16))
    use, head = 2 * 16 * 16, 2 * 16 * 10
    assert found == {"first": Flops(3 * use, use + 2 * 2 * use), "head": Flops(head, 2 * head)}
    mask = {"first.weight": torch.zeros(16, 16, dtype=torch.bool)}
    assert flops.training(found, mask) == 3 * head
    mask["first.weight"][:4] = True
    assert flops.inference(found, mask) == 3 * use // 4 + head


def test_a_layer_called_twice_with_nothing_kept_costs_nothing():
    class Again(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.head = nn.Linear(32, 32), nn.Linear(32, 10)

        def forward(self, x):
            return self.head(self.inner(self.inner(x)))

    found = per_example(Again(), torch.zeros(2, 32))
    nothing = {"inner.weight": torch.zeros(32, 32, dtype=torch.bool)}
    assert flops.training(found) == 2 * 32 * 32 * (2 + 3) + 2 * 32 * 10 * 3
    assert flops.training(found, nothing) == 2 * 32 * 10 * 3


def test_what_is_in_no_layer_is_counted_too():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 3))

        def forward(self, x):
            return x @ self.weight

    assert per_example(Own(), torch.zeros(2, 4)) == {flops.OTHER: Flops(24, 24)}


# By hand: 3 x 6 places for q, k and v of 8 each; two products of 6 x 6 by 8 wide, all heads
# together; 6 places out.
def attention_by_hand(tokens, width):
    return {
        "in_proj_weight": 2 * tokens * width * 3 * width,
        flops.BETWEEN: 2 * (2 * tokens * tokens * width),
        "out_proj": 2 * tokens * width * width,
    }


@pytest.mark.parametrize("needs_weights", [True, False])
def test_attention_by_hand_whose_products_no_mask_shrinks(needs_weights):
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            return self.attention(x, x, x, need_weights=needs_weights)[0]

    found = per_example(Attention(), torch.zeros(2, 6, 8))
    by_hand = attention_by_hand(6, 8)
    projected = by_hand["in_proj_weight"]
    assert found == {
        "attention.in_proj_weight": Flops(projected, projected),
        flops.BETWEEN: Flops(by_hand[flops.BETWEEN], 2 * by_hand[flops.BETWEEN]),
        "attention.out_proj": Flops(by_hand["out_proj"], 2 * by_hand["out_proj"]),
    }
    half = keep_fraction(ones(Attention(), "all"), 0.5)
    assert (
        flops.inference(found, half)
        == projected // 2 + by_hand[flops.BETWEEN] + by_hand["out_proj"] // 2
    )


def test_attention_of_fewer_keys_than_queries_by_hand():
    class Cross(nn.Module):
        def __init__(self):
            super().__init__()
            self.keys = nn.Parameter(torch.ones(3, 8))

        def forward(self, x):
            keys = self.keys.expand(len(x), 1, 3, 8)
            return scaled_dot_product_attention(x, keys, keys)

    # The keys are a weight of the model's own: both products have it as a factor.
    found = per_example(Cross(), torch.zeros(2, 1, 5, 8))
    assert found == {"keys": Flops(2 * 2 * 5 * 3 * 8, 2 * 5 * 3 * 8 + 2 * (2 * 5 * 3 * 8))}


# By hand: each matrix once by each of 5 steps; 4 gates of 6; the second layer's input are the first
# one's 6 outputs.
@pytest.mark.parametrize(("layer", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
@pytest.mark.parametrize("packed", [False, True])
def test_recurrent_layers_by_hand(layer, gates, packed):
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.cells = layer(3, 6, num_layers=2, batch_first=True)

        def forward(self, x):
            return self.cells(pack_sequence(list(x)) if packed else x)[0]

    matrix = 5 * 2 * gates * 6
    first, others = Flops(3 * matrix, 3 * matrix), Flops(6 * matrix, 2 * 6 * matrix)
    found = per_example(Last(), torch.zeros(2, 5, 3))
    assert found == {
        "cells.weight_ih_l0": first, "cells.weight_hh_l0": others,
        "cells.weight_ih_l1": others, "cells.weight_hh_l1": others,
    }  # fmt: skip
    assert uncounted(Last(), torch.zeros(2, 5, 3)) == []


def test_a_layer_that_holds_its_matrix_transposed_by_hand():
    class Conv1D(nn.Module):  # as in transformers' GPT-2
        def __init__(self):
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.ones(4, 6)), nn.Parameter(torch.ones(6))

        def forward(self, x):
            return torch.addmm(self.bias, x.view(-1, 4), self.weight).view(*x.shape[:-1], 6)

    model = nn.Sequential(Conv1D())
    assert per_example(model, torch.zeros(2, 5, 4)) == {"0": Flops(2 * 5 * 24, 2 * 5 * 24)}
    mask = keep_fraction(ones(model, "all"), 0.25)
    assert flops.inference(per_example(model, torch.zeros(2, 5, 4)), mask) == 2 * 5 * 6


def test_a_cell_and_a_stack_of_experts_by_hand():
    class Step(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRUCell(4, 6)
            self.experts = nn.Parameter(torch.ones(3, 6, 5))
            self.mixed = nn.Parameter(torch.ones(3, 5, 2))

        def forward(self, x):
            hidden = self.cell(x)
            return torch.einsum(
                "bei,eij->bej", torch.einsum("bi,eij->bej", hidden, self.experts), self.mixed
            )

    found = per_example(Step(), torch.zeros(2, 4))
    assert {name: of.forward for name, of in found.items()} == {
        "cell.weight_ih": 2 * 4 * 18, "cell.weight_hh": 2 * 6 * 18, "experts": 2 * 3 * 6 * 5, "mixed": 2 * 3 * 5 * 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("norm", "of", "iterates"),
    [
        (parametrizations.weight_norm, "0.parametrizations.weight.original1", False),
        (parametrizations.spectral_norm, "0.parametrizations.weight.original", True),
        (nn.utils.spectral_norm, "0.weight_orig", True),
        (lambda layer: prune.identity(layer, "weight"), "0.weight_orig", False),
    ],
)
def test_a_weight_that_is_computed_costs_what_its_layer_does_and_the_rest_is_named(
    norm, of, iterates
):
    model = nn.Sequential(norm(nn.Linear(4, 3)), nn.Linear(3, 2))
    model(torch.zeros(2, 4))  # old norms leave a weight there that is no leaf
    found = per_example(model, torch.zeros(2, 4))
    assert found == {"0": Flops(24, 24), "1": Flops(12, 24)}
    mask = {of: torch.tensor([[True, False, False, False]] * 3)}
    assert flops.training(found, mask) == 48 // 4 + 36
    assert uncounted(model, torch.zeros(2, 4)) == ["what computes the weight of '0'"] * iterates


def test_a_weight_that_its_own_layer_changes_first_is_still_its_weight():
    class Standardised(nn.Conv2d):
        def forward(self, x):
            return self._conv_forward(
                x, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias
            )

    found = per_example(nn.Sequential(Standardised(2, 4, 3)), torch.zeros(2, 2, 5, 5))
    ahead = 2 * (4 * 9) * (2 * 9)
    assert found == {"0": Flops(ahead, ahead)}


# ---- what is not counted is named


def test_what_has_no_formula_is_named():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.bilinear = nn.Bilinear(4, 4, 3)

        def forward(self, x):
            spectrum = torch.fft.rfft(x).abs()
            near = torch.cdist(x, x) + torch.linalg.matrix_exp(x.t() @ x).sum()
            return (
                self.bilinear(x, x).sum()
                + spectrum.sum()
                + near.sum()
                + nn.functional.interpolate(x[None], scale_factor=2, mode="linear").sum()
            )

    assert uncounted(Odd(), torch.ones(2, 4)) == [
        "aten::_cdist_forward", "aten::_fft_r2c", "aten::_trilinear", "aten::linalg_matrix_exp",
    ]  # fmt: skip


class Doubling(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return 2 * (x @ weight)

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        return 2 * gradient @ weight.t(), 2 * x.t() @ gradient


def test_a_backward_pass_of_ones_own_is_named_and_its_forward_pass_counted():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = nn.Parameter(torch.ones(4, 3))

        def forward(self, x):
            return {"logits": Doubling.apply(x, self.mix)}

    assert per_example(Own(), torch.zeros(2, 4)) == {"mix": Flops(24, 0)}
    assert uncounted(Own(), torch.zeros(2, 4)) == ["the backward pass of Doubling"]


@pytest.mark.parametrize("reentrant", [False, True])
def test_what_is_done_again_for_the_backward_pass_is_counted_once_or_named(reentrant):
    class Saving(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return checkpoint(self.second, self.first(x), use_reentrant=reentrant)

    assert per_example(Saving(), torch.zeros(2, 4))["second"] == Flops(32, 0 if reentrant else 64)
    told = ["the backward pass of CheckpointFunction"] if reentrant else []
    assert uncounted(Saving(), torch.zeros(2, 4)) == told


def test_an_operation_of_another_library_is_named():
    from torchvision.ops import DeformConv2d

    class Deformed(nn.Module):
        def __init__(self):
            super().__init__()
            self.offsets, self.layer = (
                nn.Conv2d(2, 18, 3, padding=1),
                DeformConv2d(2, 4, 3, padding=1),
            )

        def forward(self, x):
            return self.layer(x, self.offsets(x))

    assert uncounted(Deformed(), torch.zeros(2, 2, 5, 5)) == ["torchvision::deform_conv2d"]
    assert list(per_example(Deformed(), torch.zeros(2, 2, 5, 5))) == ["offsets"]


# ---- a second count: each layer's shapes as they pass, for every model of the catalogue and of torchvision


def catalogued(name):
    shape = (1, 28, 28) if name.startswith(("lenet", "mlp")) else (3, 32, 32)
    return empty(lambda: getattr(models, name)(10)), shape


def empty(make):
    """Make a model whose numbers nobody has drawn: only its shapes matter here."""
    with torch.device("meta"):
        model = make()
    return model.to_empty(device="cpu").requires_grad_()


def by_layer(model, inputs):
    """Count layer by layer what passes; a layer's input needs a gradient unless it is made of
    the images alone.
    """
    model = copy.deepcopy(model).train()
    found = {}

    def count(name):
        def hook(layer, given, output):
            if isinstance(layer, nn.Linear):
                ahead = 2 * output.numel() * layer.in_features
            else:
                size = layer.kernel_size[0] * layer.kernel_size[1]
                ahead = 2 * output.numel() * size * layer.in_channels // layer.groups
            old = found.get(name, Flops(0, 0))
            found[name] = Flops(
                old.forward + ahead, old.backward + (2 if given[0].requires_grad else 1) * ahead
            )

        return hook

    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count(name))
    model(inputs)
    return {
        name: Flops(of.forward // len(inputs), of.backward // len(inputs))
        for name, of in found.items()
    }


def check_against_layers(model, inputs):
    found, second = per_example(model, inputs), by_layer(model, inputs)
    assert found == second
    assert uncounted(model, inputs) == []
    assert sum(of.backward == of.forward for of in found.values()) >= 1
    mask = keep_fraction(ones(model, "all"), 0.3)
    by_hand = 0
    for name, of in second.items():
        keep = mask[f"{name}.weight"]
        by_hand += of.training * round(0.3 * keep.numel()) // keep.numel()
    assert flops.training(found, mask) == by_hand


@pytest.mark.parametrize("name", catalogue.entries_for("tombola.models", "classification"))
def test_the_catalogues_models_by_a_second_count(name):
    model, shape = catalogued(name)
    check_against_layers(model, torch.zeros(2, *shape))


TORCHVISIONS = {
    "alexnet": {},
    "resnet18": {},
    "resnet50": {"replace_stride_with_dilation": [False, True, True]},
    "resnext50_32x4d": {},  # in groups
    "mobilenet_v3_small": {},  # depthwise, with squeezing
    "shufflenet_v2_x0_5": {},
    "densenet121": {},
    "squeezenet1_1": {},
    "googlenet": {"init_weights": False},  # with auxiliary heads
    "efficientnet_b0": {},
    "mnasnet0_5": {},
    "convnext_tiny": {},
}


@pytest.mark.parametrize("name", TORCHVISIONS)
def test_torchvisions_models_by_a_second_count(name):
    from torchvision.models import get_model

    model = empty(lambda: get_model(name, weights=None, num_classes=10, **TORCHVISIONS[name]))
    check_against_layers(model, torch.zeros(2, 3, 64, 64))


def test_a_vision_transformer_by_hand():
    from torchvision.models import VisionTransformer

    model = VisionTransformer(32, 8, 2, 2, 16, 64, num_classes=10)
    found = per_example(model, torch.zeros(2, 3, 32, 32))
    tokens, patches, width = 17, 16, 16
    block = attention_by_hand(tokens, width)
    by_hand = {"conv_proj": 2 * patches * width * 3 * 64, "heads.head": 2 * width * 10}
    for index in range(2):
        at_block = f"encoder.layers.encoder_layer_{index}"
        by_hand |= {
            f"{at_block}.self_attention.{name}": block[name]
            for name in ("in_proj_weight", "out_proj")
        }
        by_hand |= {f"{at_block}.mlp.{layer}": 2 * tokens * width * 64 for layer in (0, 3)}
    by_hand[flops.BETWEEN] = 2 * block[flops.BETWEEN]
    assert {name: of.forward for name, of in found.items()} == by_hand
    backward = {name: (1 if name == "conv_proj" else 2) * ahead for name, ahead in by_hand.items()}
    assert {name: of.backward for name, of in found.items()} == backward


def test_networks_with_branches_at_a_density():
    def of(model, kept):
        found = per_example(model, torch.zeros(2, 3, 32, 32))
        return found, [
            round(flops.training(found, keep_fraction(ones(model, "all"), k)) / 1e6) for k in kept
        ]

    found, millions = of(empty(lambda: models.resnet18(100)), (0.5, 0.1, 0.02))
    assert found["stage2.0.shortcut.0"] == Flops(4_194_304, 8_388_608)
    assert millions == pytest.approx([1663, 333, 67], abs=2)
    _, millions = of(empty(lambda: models.resnet50(100)), (0.5, 0.1, 0.02))
    assert millions == pytest.approx([3890, 779, 156], abs=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["resnet18", "vgg11", "densenet121", "swin_t", "vit_b_16", "convnext_tiny", "resnext50_32x4d"],
)
def test_torchs_own_counter_has_the_same_totals(name):
    from torch.utils.flop_counter import FlopCounterMode
    from torchvision.models import get_model

    model = get_model(name, weights=None, num_classes=10).train()
    inputs = torch.zeros(2, 3, 224, 224)
    with FlopCounterMode(display=False) as once, torch.no_grad():
        model(inputs)
    found = per_example(model, inputs)
    # The processor's kernel of attention has no formula in torch's counter; swin_t multiplies by
    # itself.
    attention = found[flops.BETWEEN].forward if name == "vit_b_16" else 0
    assert 2 * (sum(of.forward for of in found.values()) - attention) == once.get_total_flops()
    # Backward it counts grouped weights as ungrouped ones, and attention's first product again.
    if name not in ("convnext_tiny", "resnext50_32x4d", "vit_b_16", "swin_t"):
        with FlopCounterMode(display=False) as both:
            model(inputs).sum().backward()
        assert 2 * sum(of.training for of in found.values()) == both.get_total_flops()


# ---- counting changes nothing


def test_counting_leaves_the_model_as_it_is():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    per_example(model, torch.ones(2, 4))
    assert not model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model[0].weight.grad is None
    assert not model[0]._forward_hooks
    assert not model[0]._forward_pre_hooks


def test_what_other_threads_train_meanwhile_is_not_counted():
    begun, stop = threading.Event(), threading.Event()
    other = nn.Linear(64, 64)

    def train():
        while not stop.is_set():
            other(torch.zeros(8, 64)).sum().backward()
            begun.set()

    thread = threading.Thread(target=train)
    thread.start()
    try:
        begun.wait()
        found = [per_example(nn.Sequential(nn.Linear(4, 3)), torch.zeros(2, 4)) for _ in range(20)]
    finally:
        stop.set()
        thread.join()
    assert found == [{"0": Flops(24, 24)}] * 20


def test_a_model_that_is_compiled_is_counted_as_it_is_written(monkeypatch):
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    model.compile(backend="eager")
    assert per_example(model, torch.zeros(2, 4)) == {"0": Flops(24, 24), "1": Flops(12, 24)}


def test_a_mask_leaves_its_layers_share():
    mask = ones(lenet_300_100(10))
    mask["fc1.weight"][:150] = False
    found = per_example(lenet_300_100(10), torch.zeros(2, 1, 28, 28))
    whole = 2 * (784 * 300 + 300 * 100 + 100 * 10)
    assert flops.inference(found) == whole == 532_400
    assert flops.inference(found, mask) == whole - 784 * 300
    assert flops.training(found) == 2 * whole + 2 * (300 * 100 + 100 * 10)
    assert flops.training(found, mask) == flops.training(found) - 2 * 784 * 300


# ---- what is committed


FINDINGS = Path(__file__).parents[1] / "docs" / "findings"
SHAPES = {
    "mnist": (1, 28, 28),
    "fashion_mnist": (1, 28, 28),
    "cifar10": (3, 32, 32),
    "cifar100": (3, 32, 32),
    "shapes": (3, 96, 96),
}
CLASSES = {"cifar100": 100, "shapes": 6}
COUNTED = [
    path
    for path in sorted(FINDINGS.rglob("records.jsonl"))
    if "inference_flops" in path.read_text()
]


def test_records_with_flops_are_committed():
    assert len(COUNTED) > 10


@pytest.mark.parametrize("path", COUNTED, ids=lambda path: str(path.parent.relative_to(FINDINGS)))
def test_committed_records_have_the_flops_that_are_counted_now(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OldNameWarning)
        # Those of earlier versions have all files in one folder.
        folder = path.parent.parent if path.parent.name == "machine" else path.parent
        plan = recipe.read(folder / "recipe.yaml")
    classes = plan.data.classes or CLASSES.get(plan.data.name, 10)
    # Drawn images have the shape that their recipe says.
    shape = SHAPES.get(plan.data.name) or tuple(plan.data.options["image_shape"])

    def counted(outputs):
        if plan.task.name == "detection":
            drawn = build_detector(plan.model.name, outputs, options=plan.model.options, seed=0)
            return flops_of(drawn, shape[1])
        make = getattr(models, plan.model.name)
        options = (
            {"image_shape": shape} if "image_shape" in inspect.signature(make).parameters else {}
        )
        return per_example(
            empty(lambda: make(outputs, **options, **plan.model.options)), torch.zeros(2, *shape)
        )

    whole = counted(classes)
    # Models of class partitions have outputs of their own.
    heads = {classes // partitions for partitions in (1, 2, 3, 4, 5)}
    possible = {flops.training(counted(outputs)) for outputs in heads}
    trained = 0
    for line in path.read_text().splitlines():
        record = json.loads(line)
        if "inference_flops" not in record:  # of before they were counted
            continue
        kept = {name: (keep, number) for name, (keep, number) in record["layers"].items()}
        ahead = {name: Flops(of.forward, 0) for name, of in whole.items()}
        assert record["inference_flops"] == [flops.inference(whole), flops.training_at(ahead, kept)]
        gradual = plan.arms[record["arm"]].method in ("gradual", "as_trained")
        for cost in costs_of(record):
            assert cost.flops in {cost.samples * number for number in possible}
            if cost.role == "evaluation" and not gradual:
                assert cost.flops_sparse == flops.training_at(whole, kept) * cost.samples
                trained += 1
    assert trained
