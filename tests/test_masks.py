"""Masks: which weights may be pruned, how many are, and that the pruned ones stay at zero."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.toys import drawn, equal
from torch import nn

from tombola import models
from tombola.ground.errors import ConfigError, InputError
from tombola.masks.holding import hold_
from tombola.masks.masks import (
    apply_,
    count,
    density,
    empty_layers,
    head_weights,
    intersect,
    kinds,
    masked_parameters,
    nested,
    ones,
    size,
    total_weights,
)
from tombola.masks.scopes import half_output

# ---- which weights


@pytest.mark.parametrize(
    ("prunable", "names"),
    [
        ("no_head", ["conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight"]),
        ("conv", ["conv1.weight", "conv2.weight"]),
        ("all", ["conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight", "head.weight"]),
        ("fc*.weight", ["fc1.weight", "fc2.weight"]),
        ("conv?.weight", ["conv1.weight", "conv2.weight"]),
        ("head.weight", ["head.weight"]),
        (["head.*", "conv1.*"], ["conv1.weight", "head.weight"]),
        ("*", ["conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight", "head.weight"]),
    ],
)
def test_ones_keeps_every_weight_that_may_be_pruned_in_the_models_order(prunable, names):
    model = models.lenet5(10)
    mask = ones(model, prunable)
    assert list(mask) == names
    assert all(keep.dtype == torch.bool and keep.all() for keep in mask.values())
    assert all(keep.shape == model.get_parameter(name).shape for name, keep in mask.items())


def test_ones_is_no_head_if_nothing_is_said():
    assert list(ones(models.conv3(10))) == ["conv1.weight", "conv2.weight", "conv3.weight"]


def test_layers_of_every_dimension_are_found_by_their_type():
    model = nn.Sequential(
        nn.Conv1d(1, 1, 3),
        nn.Conv3d(1, 1, 3),
        nn.ConvTranspose2d(1, 1, 3),
        nn.Linear(2, 2, bias=False),
        nn.BatchNorm1d(2),
        nn.GroupNorm(1, 2),
        nn.InstanceNorm2d(2, affine=True),
        nn.LayerNorm(2),
        nn.RMSNorm(2),
        nn.BatchNorm2d(2, affine=False),
        nn.Embedding(3, 2),
        nn.PReLU(),
    )
    assert list(kinds(model).values()) == ["conv"] * 3 + ["linear"] + ["norm"] * 5
    assert list(ones(model, "all")) == ["0.weight", "1.weight", "2.weight", "3.weight"]


def test_an_unknown_prunable_gets_did_you_mean():
    with pytest.raises(
        ConfigError,
        match=r"prunable is 'no-head'; it is one of no_head, conv, all.* mean 'no_head'\?",
    ):
        ones(models.lenet5(10), "no-head")


def test_a_pattern_that_matches_nothing_is_refused_and_parameters_are_named():
    with pytest.raises(
        ConfigError, match=r"'feat\*' matches no parameter; the model has: conv1.weight, .* 4 more"
    ):
        ones(models.lenet5(10), ["conv1.weight", "feat*"])


def test_a_pattern_takes_no_biases_and_norm_weights_so_the_mask_is_never_larger_than_all_weights():
    model = models.conv3(10)
    assert size(ones(model, ["*"])) == 370_368 + 2560 < total_weights(model)
    assert list(ones(model, ["*1.*"])) == ["conv1.weight"]  # bn1 has a weight too
    message = "prunable: 'bn1.*' matches bn1.weight, bn1.bias; only the weights of convolutions and linear layers are "
    with pytest.raises(
        ConfigError, match=re.escape(message + "pruned, biases and norm weights never")
    ):
        ones(model, ["conv1.weight", "bn1.*"])


def test_a_model_without_prunable_weights_is_refused():
    with pytest.raises(ConfigError, match=r"the model has no prunable weight \(prunable: conv\)"):
        ones(models.mlp(10), "conv")
    only_head = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(
        ConfigError, match=r"no prunable weight \(prunable: no_head\); it has: 1.weight, 1.bias"
    ):
        ones(only_head, head="1")


def test_a_head_that_is_not_known_is_refused_unless_it_is_pruned_too():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    with pytest.raises(
        ConfigError, match="the model has no attribute 'head'; name its output layer with head="
    ):
        ones(model)
    with pytest.raises(ConfigError, match=r"the model has no layer 'haed'. Did you mean 'head'\?"):
        ones(models.lenet5(10), head="haed")
    assert list(ones(model, head="1")) == ["0.weight"]
    assert list(ones(model, "all")) == ["0.weight", "1.weight"]


def test_a_convolution_that_is_the_head_is_not_pruned_with_the_convolutions():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 10, 1))
    assert list(ones(model, "conv", head="1")) == ["0.weight"]


def test_what_is_below_a_head_is_not_pruned_either():
    model = nn.Sequential(nn.Linear(4, 4))
    model.head = nn.Sequential(nn.Dropout(), nn.Linear(4, 2))
    assert list(ones(model)) == list(ones(model, head="head.1")) == ["0.weight"]
    with pytest.raises(
        ConfigError, match=r"head 'head\.0' is a Dropout without a weight; name the output layer"
    ):
        ones(model, head="head.0")


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.second(self.first(x)))


def test_shared_weights_appear_once():
    model = Tied()
    assert list(ones(model)) == ["first.weight"]
    assert total_weights(model) == 9 + 6
    apply_(model, {"second.weight": torch.zeros(3, 3, dtype=torch.bool)})  # either name will do
    assert not model.first.weight.any()


def test_a_head_that_shares_its_weight_is_not_pruned_under_the_other_name():
    model = Tied()
    model.hidden, model.head.weight = nn.Linear(3, 2), nn.Parameter(torch.rand(2, 3))
    model.head.weight = model.first.weight
    assert head_weights(model, None) == ("first.weight",)
    assert list(ones(model)) == ["hidden.weight"]


# ---- wrapped models


def compiled(model):
    return torch.compile(model, backend="eager")


WRAPPERS = [
    compiled,
    nn.DataParallel,
    lambda model: compiled(nn.DataParallel(model)),
    lambda model: nn.DataParallel(compiled(model)),
]


@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.parametrize("prunable", ["no_head", "conv", "all", "fc?.*"])
def test_names_are_those_of_the_model_without_its_wrapper(wrap, prunable):
    model = models.lenet5(10)
    assert list(ones(wrap(model), prunable)) == list(ones(model, prunable))
    assert kinds(wrap(model)) == kinds(model)
    assert total_weights(wrap(model)) == total_weights(model)


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_masks_fit_wrapped_models(wrap):
    model = drawn(nn.Sequential(nn.Linear(2, 2)))
    mask = {"0.weight": torch.tensor([[True, False], [False, True]])}
    wrapped = wrap(model)
    sgd = torch.optim.SGD(wrapped.parameters(), 0.1, momentum=0.9)
    hold_(sgd, wrapped, mask)
    for _ in range(2):
        wrapped(torch.ones(1, 2)).sum().backward()
        sgd.step()
    assert (model[0].weight != 0).tolist() == [[True, False], [False, True]]


# ---- counting


def test_count_and_size_are_of_weights_kept_and_prunable():
    mask = {
        "a": torch.tensor([[True, False], [False, False]]),
        "b": torch.tensor([True]),
        "c": torch.ones(0).bool(),
    }
    assert (count(mask), size(mask)) == (2, 5)
    assert density(mask) == 0.4


def test_count_is_exact_beyond_what_float32_tells_apart():
    mask = {"w": torch.ones(2**24 + 1, dtype=torch.bool)}
    assert count(mask) == 2**24 + 1
    mask["w"][0] = False
    assert count(mask) == 2**24
    assert isinstance(count(mask), int)


def test_density_total_counts_what_is_not_prunable_as_kept():
    mask = {"w": torch.tensor([True, False, False, False])}
    assert density(mask) == 0.25
    assert density(mask, total=16) == 13 / 16


@pytest.mark.parametrize(
    ("mask", "total"), [({}, None), ({"w": torch.ones(0).bool()}, None), ({}, 0)]
)
def test_the_density_of_no_weight_is_refused(mask, total):
    with pytest.raises(InputError, match="no weight has no density"):
        density(mask, total)


def test_total_weights_are_those_of_convolutions_linear_and_norm_layers_without_biases():
    assert total_weights(models.conv3(10)) == 370_368 + (64 + 128 + 256) + 2560
    assert total_weights(nn.Sequential(nn.Embedding(9, 9), nn.Linear(2, 3))) == 6


def test_empty_layers_are_named():
    mask = {"a": torch.zeros(2, 2).bool(), "b": torch.tensor([False, True])}
    assert empty_layers(mask) == ["a"]


def test_a_mask_is_nested_where_it_keeps_nothing_new():
    within = {"a": torch.tensor([True, False]), "b": torch.tensor([True, True])}
    assert (
        list(nested({"a": torch.tensor([True, False]), "b": torch.tensor([False, True])}, within))
        == []
    )
    assert list(
        nested({"a": torch.tensor([False, True]), "b": torch.tensor([False, True])}, within)
    ) == ["a"]


# ---- intersection


def test_intersect_keeps_a_weight_only_if_every_candidate_does():
    a = {"w": torch.tensor([True, True, False, False])}
    b = {"w": torch.tensor([True, False, True, False])}
    assert intersect([a, b])["w"].tolist() == [True, False, False, False]


MASKS = st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=4).map(
    lambda rows: [
        {"v": torch.tensor(row[:4]).view(2, 2), "w": torch.tensor(row[4:])} for row in rows
    ]
)


@given(MASKS, st.randoms())
def test_intersection_hangs_on_no_order_and_repeats_nothing(candidates, chance):
    both = intersect(candidates)
    shuffled = chance.sample(candidates, len(candidates))
    assert equal(intersect(shuffled), both)
    assert equal(intersect([*candidates, both]), both)
    assert equal(intersect([intersect(candidates[:2]), *candidates[2:]]), both)
    assert equal(intersect([candidates[0]] * 3), candidates[0])
    assert not any(list(nested(both, candidate)) for candidate in candidates)
    assert count(both) <= min(map(count, candidates))


def test_intersect_gives_new_masks():
    mask = {"w": torch.tensor([True, True])}
    intersect([mask])["w"].fill_(False)
    intersect([mask, mask])["w"].fill_(False)
    assert mask["w"].all()


def test_candidates_that_do_not_fit_each_other_are_refused_by_name():
    one = {"w": torch.tensor([True])}
    with pytest.raises(InputError, match="at least one candidate"):
        intersect([])
    with pytest.raises(
        InputError, match="candidate 1 and candidate 0 name different parameters: v, w"
    ):
        intersect([one, {"v": torch.tensor([True])}])
    message = "candidate 1 and candidate 0 have different shapes for 'w': (2,) and (1,)"
    with pytest.raises(InputError, match=re.escape(message)):
        intersect([one, {"w": torch.tensor([True, True])}])


# ---- application


def test_apply_zeroes_pruned_weights_and_no_others():
    layer = nn.Linear(3, 1)
    layer.weight.data = torch.tensor([[1.0, 2.0, 3.0]])
    bias = layer.bias.item()
    apply_(layer, {"weight": torch.tensor([[True, False, True]])})
    assert layer.weight.tolist() == [[1.0, 0.0, 3.0]]
    assert layer.bias.item() == bias
    assert layer.weight.requires_grad


def test_apply_zeroes_weights_that_are_no_numbers():
    layer = nn.Linear(4, 1)
    layer.weight.data = torch.tensor([[float("nan"), float("inf"), float("-inf"), 1.0]])
    apply_(layer, {"weight": torch.tensor([[False, False, False, True]])})
    assert layer.weight.tolist() == [[0.0, 0.0, 0.0, 1.0]]


def test_a_mask_that_does_not_fit_is_refused_by_name():
    model, sgd = models.lenet5(10), None
    with pytest.raises(
        InputError,
        match=r"the mask names 'conv3.weight', which the model has not. Did you mean 'conv",
    ):
        apply_(model, {"conv3.weight": torch.ones(1).bool()})
    shapes = "'head.weight' has the shape (5, 84) in the mask and (10, 84) in the model"
    with pytest.raises(InputError, match=re.escape(shapes)):
        masked_parameters(model, {"head.weight": torch.ones(5, 84).bool()})
    sgd = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(InputError, match=re.escape(shapes)):
        hold_(sgd, model, {"head.weight": torch.ones(5, 84).bool()})


class Detecting(nn.Module):
    """A body, and a head of two layers, as detectors have it."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 3)
        self.predictor = nn.ModuleDict(
            {"norm": nn.LayerNorm(3), "classes": nn.Linear(3, 2), "boxes": nn.Linear(3, 8)}
        )


def test_a_head_may_hold_several_layers():
    model = Detecting()
    outputs = ("predictor.classes.weight", "predictor.boxes.weight")
    assert head_weights(model, "predictor") == outputs
    assert list(ones(model, head="predictor")) == ["body.weight"]
    groups = half_output(model, "predictor")(ones(model, "all"))
    assert {name: group.factor for name, group in groups.items()} == {
        "body.weight": 1.0, outputs[0]: 0.5, outputs[1]: 0.5
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"'predictor\.norm' is a LayerNorm without a weight"):
        head_weights(model, "predictor.norm")
