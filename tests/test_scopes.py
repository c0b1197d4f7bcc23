"""Scopes: every prunable weight stands in exactly one group; how a density is divided among them."""

import re
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tombola import models
from tombola.ground import catalogue
from tombola.ground.errors import ConfigError, InputError
from tombola.masks.masks import count, ones, size
from tombola.masks.pruning import prune
from tombola.masks.rates import counts_for
from tombola.masks.scope_choices import ScopeName
from tombola.masks.scopes import (
    Group,
    by_group,
    by_name,
    check_groups,
    erdos_renyi,
    erk,
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
    "make", [lambda _: whole_model, lambda _: per_layer, per_kind, half_output, erdos_renyi, erk]
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


# ---- densities that differ by layer


def kept_at(make, model, density, prunable="no_head"):
    mask = ones(model, prunable)
    [counts] = counts_for(mask, [density], make(model))
    return counts.keep


def test_lenet_300_100_has_the_counts_worked_out_by_hand():
    # eps * 1084 + eps * 400 = 26520, so eps is 17.8706.
    for make in (erdos_renyi, erk):
        kept = kept_at(make, models.lenet_300_100(10), 0.1)
        assert list(kept.values()) == [19372, 7148]


@pytest.mark.parametrize(
    ("make", "expected"), [(erk, [1728, 5654, 11136]), (erdos_renyi, [1728, 5597, 11193])]
)
def test_conv3_keeps_its_first_layer_dense_and_divides_the_rest(make, expected):
    kept = list(kept_at(make, models.conv3(10), 0.05).values())
    assert kept == expected
    assert sum(kept) == 18518


def test_a_depthwise_convolution_stays_dense_by_its_shape():
    model = nn.Sequential(nn.Conv2d(64, 64, 3, groups=64), nn.Conv2d(64, 128, 1), nn.Linear(128, 9))
    mask = ones(model, head="2")
    [counts] = counts_for(mask, [0.3], erk(model))
    assert counts.keep["0.weight"] == 576


budgets = st.lists(st.tuples(st.integers(1, 400), st.integers(1, 60)), min_size=1, max_size=6)


@given(layers=budgets, densities=st.lists(st.floats(0.01, 1), min_size=1, max_size=6))
def test_counts_by_budget_are_exact_and_fall_with_the_density(layers, densities):
    mask, groups = {}, {}
    for number, (size_of_layer, budget) in enumerate(layers):
        mask[str(number)] = torch.ones(size_of_layer, dtype=torch.bool)
        groups[str(number)] = Group((str(number),), budget=budget)
    falling = sorted(densities, reverse=True)
    before = by_group(size, mask, groups)
    for density, counts in zip(falling, counts_for(mask, falling, lambda _: groups), strict=True):
        assert sum(counts.keep.values()) == round(density * size(mask))
        assert all(0 <= kept <= before[name] for name, kept in counts.keep.items())
        before = counts.keep


@given(layers=budgets, density=st.floats(0.01, 0.99))
def test_layers_keep_one_multiple_of_their_budgets_unless_they_are_dense(layers, density):
    mask, groups = {}, {}
    for number, (size_of_layer, budget) in enumerate(layers):
        mask[str(number)] = torch.ones(size_of_layer, dtype=torch.bool)
        groups[str(number)] = Group((str(number),), budget=budget)
    [counts] = counts_for(mask, [density], lambda _: groups)
    # Found by bisection, another way than the one under test.
    low, high = 0.0, 1e6
    for _ in range(200):
        multiple = (low + high) / 2
        shares = [min(multiple * budget, length) for length, budget in layers]
        low, high = (
            (multiple, high) if sum(shares) < round(density * size(mask)) else (low, multiple)
        )
    for kept, share in zip(counts.keep.values(), shares, strict=True):
        assert abs(kept - share) < 1 + 1e-6


def test_masks_of_falling_densities_nest_and_have_exact_counts():
    model = models.lenet5(10)
    mask, scores = ones(model), {n: torch.rand(k.shape) for n, k in ones(model).items()}
    for counts in counts_for(mask, [0.5, 0.2, 0.05, 0.0501 - 0.0002, 0.01], erk(model)):
        after = prune(scores, mask, scope=erk(model), count=counts.keep)
        assert by_group(count, after, erk(model)(after)) == counts.keep
        mask = after


@pytest.mark.parametrize("make", [erdos_renyi, erk])
def test_a_rate_is_refused_where_each_layer_has_a_density_of_its_own(make):
    model = models.lenet5(10)
    scores = {name: torch.rand(keep.shape) for name, keep in ones(model).items()}
    with pytest.raises(
        InputError, match=r"the rate is 0\.2; this scope gives each layer a density"
    ):
        prune(scores, ones(model), 0.2, make(model))


def test_a_scope_of_another_model_is_refused():
    mask = ones(models.lenet5(10))
    with pytest.raises(InputError, match=r"made from a model that has no 'conv1\.weight'"):
        erk(models.lenet_300_100(10))(mask)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"v": Group(("v",), budget=1), "w": Group(("w",))}, "'v' has a budget, and others have"),
        ({"v": Group(("v",), budget=0), "w": Group(("w",), budget=1)}, "'v' has the budget 0"),
        ({"v": Group(("v",), budget=float("nan"))}, "'v' has the budget nan; a budget is above 0"),
    ],
)
def test_budgets_that_divide_nothing_are_refused(groups, message):
    mask = {name: torch.ones(2, dtype=torch.bool) for name in ("v", "w")}
    with pytest.raises(InputError, match=re.escape(message)):
        check_groups(groups, mask)


def test_a_recipe_names_every_scope_of_the_catalogue():
    entries = catalogue.entries("tombola.masks.scopes")
    # The one that is a mapping, as it has options.
    assert sorted([*get_args(ScopeName), "n_of_m"]) == entries
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    mask = ones(model, head="1")
    for name in get_args(ScopeName):
        assert by_name(name, model, "1")(mask)
