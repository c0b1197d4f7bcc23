"""Scores: what every entry of the catalogue keeps, and the values of each by hand."""

import inspect

import pytest
import torch

from tombola.ground import catalogue
from tombola.masks.masks import count, nested, ones
from tombola.masks.pruning import prune
from tombola.models import lenet5
from tombola.scores import magnitude, random
from tombola.scores.context import Context

ENTRIES = catalogue.entries("tombola.scores")


@pytest.fixture(scope="module")
def problem():
    """A trained state, a mask that has lost every second weight of a layer, and a context."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = lenet5(10)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    mask = ones(model)
    mask["fc1.weight"][::2] = False
    state = {name: value + 0.01 for name, value in start.items()}
    state["fc1.weight"][::2] = 0
    return state, mask, Context(start, seed=3)


def scores_of(name, state, mask, context):
    return catalogue.entry("tombola.scores", name)(state, mask, context)


# ---- what every score keeps


@pytest.mark.parametrize("name", ENTRIES)
def test_every_score_takes_a_state_a_mask_and_a_context(name):
    parameters = list(inspect.signature(catalogue.entry("tombola.scores", name)).parameters)
    assert parameters[:3] == ["state", "mask", "context"]


@pytest.mark.parametrize("name", ENTRIES)
def test_every_score_has_the_names_and_shapes_of_the_mask(name, problem):
    scores = scores_of(name, *problem)
    assert {n: s.shape for n, s in scores.items()} == {
        n: keep.shape for n, keep in problem[1].items()
    }
    assert all(s.is_floating_point() and not s.requires_grad for s in scores.values())


@pytest.mark.parametrize("name", ENTRIES)
def test_every_score_is_a_number_where_the_mask_keeps(name, problem):
    scores = scores_of(name, *problem)
    assert not any(scores[n][keep].isnan().any() for n, keep in problem[1].items())


@pytest.mark.parametrize("name", ENTRIES)
def test_every_score_is_the_same_twice_and_draws_nothing_from_the_global_generator(name, problem):
    before = torch.random.get_rng_state()
    first = scores_of(name, *problem)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    second = scores_of(name, *problem)
    assert all(torch.equal(first[n], second[n]) for n in first)


@pytest.mark.parametrize("name", ENTRIES)
def test_every_score_leaves_its_inputs_as_they_were(name, problem):
    state, mask, context = problem
    values = {**state, **{f"mask of {n}": k for n, k in mask.items()}}
    values |= {f"start of {n}": v for n, v in context.rewind_point.items()}
    copies = {n: v.clone() for n, v in values.items()}
    for score in scores_of(name, *problem).values():
        score.add(1)
    assert all(torch.equal(values[n], copies[n]) for n in values)


@pytest.mark.parametrize("name", ENTRIES)
def test_every_score_prunes_to_exact_nested_masks(name, problem):
    state, mask, context = problem
    had = count(mask)
    pruned = prune(scores_of(name, state, mask, context), mask, 0.3)
    assert count(pruned) == had - round(0.3 * had)
    assert not list(nested(pruned, mask))


@pytest.mark.parametrize("name", ENTRIES)
def test_every_score_is_handed_out_by_the_package_and_says_what_it_does(name):
    import tombola.scores

    score = getattr(tombola.scores, name)
    assert score is catalogue.entry("tombola.scores", name)
    assert inspect.getdoc(score).startswith("Score every weight")


# ---- magnitude


def test_magnitude_is_the_absolute_value():
    state = {"w": torch.tensor([[-2.0, 1.0], [0.0, float("-inf")]]), "bias": torch.tensor([-9.0])}
    scores = magnitude(state, {"w": torch.ones(2, 2, dtype=torch.bool)})
    assert {name: s.tolist() for name, s in scores.items()} == {
        "w": [[2.0, 1.0], [0.0, float("inf")]]
    }


# ---- random


def test_random_scores_are_the_same_in_every_round_so_that_masks_nest():
    mask = {"w": torch.ones(50, dtype=torch.bool)}
    context = Context({}, seed=1)
    first = prune(random({}, mask, context), mask, 0.5)
    second = prune(random({"w": torch.rand(50)}, first, context), first, 0.5)
    at_once = prune(random({}, mask, context), mask, count=count(second))
    assert torch.equal(second["w"], at_once["w"])


def test_random_scores_differ_by_seed_partition_and_parameter():
    mask = {name: torch.ones(20, dtype=torch.bool) for name in ("v", "w")}
    contexts = [Context({}, seed=1), Context({}, seed=2), Context({}, seed=1, partition=1)]
    drawn = [s for context in contexts for s in random({}, mask, context).values()]
    assert len({tuple(s.tolist()) for s in drawn}) == 6


def test_random_scores_are_uniform():
    drawn = random({}, {"w": torch.ones(20_000, dtype=torch.bool)}, Context({}, seed=0))["w"]
    tenths = torch.histc(drawn, bins=10, min=0, max=1)
    assert tenths.sum() == 20_000
    assert (tenths - 2000).abs().max() < 5 * (20_000 * 0.1 * 0.9) ** 0.5
