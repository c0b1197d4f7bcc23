"""Rates: what each round is asked for."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tombola.ground.errors import ConfigError
from tombola.masks.masks import ones
from tombola.masks.pruning import prune
from tombola.masks.rates import Count, counts_for, kept_by_group, rate_to_reach
from tombola.masks.scopes import half_output, per_kind, per_layer, whole_model
from tombola.models import lenet5


def test_rate_to_reach_keeps_the_root_of_the_density_each_round():
    assert rate_to_reach(0.25, 1) == 0.75
    assert rate_to_reach(0.25, 2) == 0.5
    assert rate_to_reach(0.125, 3) == pytest.approx(0.5)


@given(st.floats(0.001, 0.999), st.integers(1, 30))
def test_the_constant_rate_reaches_its_density_in_its_number_of_rounds(density, rounds):
    rate = rate_to_reach(density, rounds)
    assert 0 < rate < 1
    assert (1 - rate) ** rounds == pytest.approx(density)


def test_pruning_at_the_constant_rate_reaches_the_density():
    mask, scores = {"w": torch.ones(100_000, dtype=torch.bool)}, {"w": torch.arange(100_000.0)}
    for _ in range(7):
        mask = prune(scores, mask, rate_to_reach(0.05, 7))
    assert int(mask["w"].sum()) == pytest.approx(5000, abs=3)


@pytest.mark.parametrize("density", [0, 1, 2.0, -0.1, float("nan")])
def test_a_density_that_cannot_be_reached_is_refused(density):
    with pytest.raises(
        ConfigError,
        match=re.escape(f"reach.density is {density:g}; it is a fraction between 0 and 1"),
    ):
        rate_to_reach(density, 3)


def test_no_rounds_reach_nothing():
    with pytest.raises(ConfigError, match=r"reach.rounds is 0; it must be 1 or more"):
        rate_to_reach(0.5, 0)


def test_counts_for_gives_every_group_the_same_density_rounded():
    mask = {"a": torch.ones(10, dtype=torch.bool), "b": torch.zeros(25, dtype=torch.bool)}
    assert list(counts_for(mask, [1, 0.5, 0.1], per_layer)) == [
        Count({"a": 10, "b": 25}),
        Count({"a": 5, "b": 12}),  # 12.5, to even
        Count({"a": 1, "b": 2}),
    ]
    assert list(counts_for(mask, [0.5], whole_model)) == [Count({"model": 18})]


@pytest.mark.parametrize("density", [0, -0.5, 1.01, float("nan")])
def test_counts_for_refuses_what_is_no_density(density):
    with pytest.raises(ConfigError, match=f"densities holds {density}"):
        list(counts_for({"w": torch.ones(4, dtype=torch.bool)}, [density], whole_model))


def test_exact_densities_of_a_scope_with_two_rates_are_refused():
    model = lenet5(10)
    with pytest.raises(
        ConfigError,
        match="exact densities and half_output do not go together: the output layer has",
    ):
        next(counts_for(ones(model, "all"), [0.5], half_output(model)))
    # the output layer is not pruned
    kept = next(counts_for(ones(model), [0.5], half_output(model))).keep
    assert kept["conv1.weight"] == 75


def test_kept_by_group_counts_every_group():
    model = lenet5(10)
    mask = ones(model, "all")
    mask["conv1.weight"][0] = False
    assert kept_by_group(mask, per_kind(model)) == {
        "conv": 150 + 2400 - 25,
        "linear": 48_000 + 10_080 + 840,
    }
    assert kept_by_group(mask, whole_model) == {"model": 61_470 - 25}
