"""Scopes: every prunable weight stands in exactly one group."""

import pytest
import torch
from torch import nn

from tombola import models
from tombola.ground.errors import ConfigError, InputError
from tombola.masks.masks import count, ones, size
from tombola.masks.scopes import (
    Group,
    by_group,
    check_groups,
    half_output,
    per_kind,
    per_layer,
    whole_model,
)

LENET5 = ["conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight", "head.weight"]


def test_whole_model_is_one_group_in_the_masks_order():
    assert whole_model(ones(models.lenet5(10), "all")) == {"model": Group(tuple(LENET5), 1.0)}


def test_per_layer_has_one_group_a_parameter():
    assert per_layer(ones(models.lenet5(10))) == {name: Group((name,)) for name in LENET5[:-1]}


def test_per_kind_parts_convolutions_from_linear_layers():
    model = models.lenet5(10)
    groups = per_kind(model)(ones(model, "all"))
    assert groups == {"conv": Group(tuple(LENET5[:2])), "linear": Group(tuple(LENET5[2:]))}


def test_per_kind_leaves_out_a_kind_of_which_nothing_is_prunable():
    model = models.lenet5(10)
    assert list(per_kind(model)(ones(model, "conv"))) == ["conv"]


def test_per_kind_refuses_what_is_neither_convolution_nor_linear():
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    with pytest.raises(
        InputError, match=r"per_kind: '1.weight' belongs to no convolution or linear layer"
    ):
        per_kind(model)({**ones(model, "all"), "1.weight": torch.ones(2, dtype=torch.bool)})


def test_weights_are_counted_by_group():
    mask = {"a": torch.tensor([True, False]), "b": torch.tensor([True, True, False])}
    groups = {"both": Group(("a", "b")), "last": Group(("b",))}
    assert by_group(count, mask, groups) == {"both": 3, "last": 2}
    assert by_group(size, mask, groups) == {"both": 5, "last": 3}


def test_half_output_halves_the_rate_of_the_head_alone():
    model = models.lenet5(10)
    groups = half_output(model)(ones(model, "all"))
    assert {name: group.factor for name, group in groups.items()} == {
        **dict.fromkeys(LENET5, 1.0),
        "head.weight": 0.5,
    }
    assert all(group.names == (name,) for name, group in groups.items())


def test_half_output_takes_the_head_that_is_named():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    groups = half_output(model, head="0")(ones(model, "all"))
    assert [group.factor for group in groups.values()] == [0.5, 1.0]
    with pytest.raises(ConfigError, match="no attribute 'head'"):
        half_output(model)
    with pytest.raises(ConfigError, match="no layer '2'"):
        half_output(model, head="2")


@pytest.mark.parametrize(
    "make", [lambda _: whole_model, lambda _: per_layer, per_kind, half_output]
)
@pytest.mark.parametrize("name", ["lenet_300_100", "lenet5", "conv3", "resnet20"])
def test_the_groups_of_every_scope_divide_the_mask(make, name):
    model = getattr(models, name)(10)
    mask = ones(model, "all")
    names = [of for group in make(model)(mask).values() for of in group.names]
    assert sorted(names) == sorted(mask)
    assert torch.tensor([group.factor for group in make(model)(mask).values()]).gt(0).all()


@pytest.mark.parametrize("factor", [-0.1, float("inf"), float("nan")])
def test_a_group_whose_factor_is_no_share_of_the_rate_is_refused(factor):
    mask = {"w": torch.ones(2, dtype=torch.bool)}
    check_groups({"fixed": Group(("w",), 0)}, mask)
    with pytest.raises(InputError, match="a factor of 0 or more"):
        check_groups({"odd": Group(("w",), factor)}, mask)
