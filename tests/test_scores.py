"""Scores: what every entry of the catalogue keeps, and the values of each by hand."""

import inspect

import pytest
import torch
from tests.scoring import Given

from tombola.ground import catalogue
from tombola.ground.errors import InputError
from tombola.masks.masks import count, nested, ones
from tombola.masks.pruning import prune
from tombola.masks.scopes import per_layer
from tombola.masks.selection import Elementwise
from tombola.models import lenet5
from tombola.scores import lamp, large_final_same_sign, magnitude, min_rank, random
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
    model.load_state_dict(state)
    draw = torch.Generator().manual_seed(0)
    batch = torch.randn(4, 1, 28, 28, generator=draw), torch.tensor([3, 1, 4, 1])
    history = {name: torch.randn(keep.shape, generator=draw) for name, keep in mask.items()}
    problems = [Given(model, [batch], mask=mask)]
    return state, mask, Context(start, seed=3, problems=problems, histories=[history])


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


# ---- Zhou's criteria

START, FINAL = [0.5, -0.4, 0.3, -0.1], [0.6, -0.2, -0.9, 0.05]
INF = float("inf")
BY_HAND = {
    "magnitude": [0.6, 0.2, 0.9, 0.05],
    "small_final": [-0.6, -0.2, -0.9, -0.05],
    "large_init": [0.5, 0.4, 0.3, 0.1],
    "magnitude_increase": [0.1, -0.2, 0.6, -0.05],
    "distance": [0.1, 0.2, 1.2, 0.15],
    "large_final_same_sign": [0.6, 0.2, 0.0, 0.0],
    "magnitude_increase_same_sign": [0.1, -0.2, -INF, -INF],
    "min_rank": [2.0, 1.0, 1.0, 0.0],
}


def of_one_layer(values):
    return {"w": torch.tensor(values, dtype=torch.float64)}


@pytest.mark.parametrize("name", BY_HAND)
def test_zhous_criteria_have_the_values_worked_out_by_hand(name):
    mask = {"w": torch.ones(4, dtype=torch.bool)}
    scores = scores_of(name, of_one_layer(FINAL), mask, Context(of_one_layer(START), seed=0))
    assert scores["w"].tolist() == pytest.approx(BY_HAND[name], abs=1e-12)


@pytest.mark.parametrize("name", [name for name in BY_HAND if name != "min_rank"])
def test_criteria_that_compare_weight_by_weight_are_read_in_chunks(name, problem):
    scores = scores_of(name, *problem)
    assert isinstance(scores, Elementwise)
    whole = scores["fc1.weight"].flatten()[100:200]
    assert torch.equal(scores.part("fc1.weight", slice(100, 200)), whole)


def test_weights_that_changed_their_sign_go_before_those_that_shrank():
    mask = {"w": torch.ones(4, dtype=torch.bool)}
    context = Context(of_one_layer([1.0, 0.1, 1.0, -1.0]), seed=0)
    state = of_one_layer([0.01, -2.0, 1.0, 1e-3])
    scores = scores_of("magnitude_increase_same_sign", state, mask, context)
    assert prune(scores, mask, count=2)["w"].tolist() == [True, False, True, False]


def test_a_weight_that_started_at_zero_has_no_sign_to_keep():
    mask = {"w": torch.ones(2, dtype=torch.bool)}
    context, state = Context(of_one_layer([0.0, 1e-200]), seed=0), of_one_layer([2.0, -1e-200])
    assert large_final_same_sign(state, mask, context)["w"].tolist() == [0, 0]
    # The product of the second one's weights would round to zero, that of their signs does not.
    grown = scores_of("magnitude_increase_same_sign", state, mask, context)
    assert grown["w"].tolist() == [2, -INF]


def test_ranks_are_those_of_the_kept_weights_alone():
    mask = {"w": torch.tensor([True, False, True, True])}
    scores = min_rank(of_one_layer(FINAL), mask, Context(of_one_layer(START), seed=0))
    # By initial magnitude 2, 1, 0; by trained magnitude 1, 2, 0.
    assert scores["w"].tolist() == [1, 0, 1, 0]


def test_min_rank_keeps_what_is_above_both_thresholds_of_one_percentile():
    generator = torch.Generator().manual_seed(0)
    start = {"w": torch.randn(1000, generator=generator)}
    state = {"w": start["w"] + 0.5 * torch.randn(1000, generator=generator)}
    mask = {"w": torch.ones(1000, dtype=torch.bool)}
    scores = min_rank(state, mask, Context(start, seed=0))["w"]
    for percentile in (100, 500, 900):
        thresholds = [values["w"].abs().sort().values[percentile] for values in (start, state)]
        above = (start["w"].abs() >= thresholds[0]) & (state["w"].abs() >= thresholds[1])
        kept = prune({"w": scores}, mask, count=int(above.sum()))["w"]
        assert torch.equal(kept, above)


@pytest.mark.parametrize("name", ["large_init", "distance", "min_rank"])
def test_a_rewind_point_that_does_not_fit_the_mask_is_refused(name):
    mask, state = {"w": torch.ones(2, dtype=torch.bool)}, {"w": torch.rand(2)}
    with pytest.raises(InputError, match=r"the rewind point has no 'w'"):
        scores_of(name, state, mask, Context({"v": torch.rand(2)}, seed=0))
    with pytest.raises(InputError, match=r"'w' has the shape \(1,\) in the rewind point"):
        scores_of(name, state, mask, Context({"w": torch.rand(1)}, seed=0))


# ---- lamp


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([3.0, -1.0, 2.0], [1, 1 / 14, 4 / 13]),
        ([10.0, 1.0], [1, 1 / 101]),
        # Of equal weights the later one counts as the larger.
        ([1.0, -1.0, 1.0], [1 / 3, 1 / 2, 1]),
        ([0.0, 0.0], [0, 1]),
        ([0.0], [1]),
    ],
)
def test_lamp_has_the_values_worked_out_by_hand(weights, expected):
    mask = {"w": torch.ones(len(weights), dtype=torch.bool)}
    scores = lamp(of_one_layer(weights), mask, Context({}, seed=0))
    assert scores["w"].tolist() == pytest.approx(expected, abs=1e-15)


def test_lamp_keeps_three_of_two_layers_together():
    state = {"a": torch.tensor([3.0, -1.0, 2.0]), "b": torch.tensor([10.0, 1.0])}
    mask = {name: torch.ones_like(values, dtype=torch.bool) for name, values in state.items()}
    kept = prune(lamp(state, mask, Context({}, seed=0)), mask, count=3)
    assert {name: state[name][keep].tolist() for name, keep in kept.items()} == {
        "a": [3, 2],
        "b": [10],
    }


def test_masked_weights_are_not_in_lamps_sums():
    mask = {"w": torch.tensor([False, True, True])}
    scores = lamp(of_one_layer([3.0, -1.0, 2.0]), mask, Context({}, seed=0))
    assert scores["w"].tolist() == pytest.approx([0, 1 / 5, 1])


def drawn_layers(sizes, seed):
    generator = torch.Generator().manual_seed(seed)
    # Rounded, so that many weights are equal, and one layer is a thousand times as large.
    state = {str(size): torch.randn(size, generator=generator).round(decimals=1) for size in sizes}
    state[str(sizes[0])] *= 1000
    return state, {name: torch.ones(len(v), dtype=torch.bool) for name, v in state.items()}


@pytest.mark.parametrize("seed", range(3))
def test_lamp_empties_no_layer_before_every_layer_is_down_to_one_weight(seed):
    state, mask = drawn_layers([200, 50, 7, 1], seed)
    scores = lamp(state, mask, Context({}, seed=0))
    assert all(values.max() == 1 for values in scores.values())
    kept = prune(scores, mask, count=4)
    assert [count({name: keep}) for name, keep in kept.items()] == [1, 1, 1, 1]


@pytest.mark.parametrize("seed", range(3))
def test_within_a_layer_lamp_prunes_as_magnitude_does(seed):
    state, mask = drawn_layers([200, 50, 7, 1], seed)
    scores = lamp(state, mask, Context({}, seed=0))
    for rate in (0.1, 0.5, 0.9):
        by_lamp = prune(scores, mask, rate, per_layer)
        by_magnitude = prune(magnitude(state, mask), mask, rate, per_layer)
        assert all(torch.equal(by_lamp[name], by_magnitude[name]) for name in mask)
