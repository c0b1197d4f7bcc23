"""Pruning: exact counts, ties by position, and agreement with a plain sort and with
torch.nn.utils.prune.
"""

import re

import pytest
import torch
import torch.nn.utils.prune as torchs
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tombola.ground.errors import InputError
from tombola.masks.masks import count, ones
from tombola.masks.pruning import check_rate, prune
from tombola.masks.scopes import Group, half_output, per_kind, per_layer, whole_model
from tombola.masks.selection import lowest

NAN, INF = float("nan"), float("inf")


def kept(*values):
    return torch.tensor(values, dtype=torch.bool)


# ---- by hand


def test_prune_removes_the_lowest_scores():
    scores = {"w": torch.tensor([[3.0, 1.0], [4.0, 2.0]])}
    assert prune(scores, {"w": torch.ones(2, 2, dtype=torch.bool)}, 0.5)["w"].tolist() == [
        [True, False],
        [True, False],
    ]


def test_of_equal_scores_the_first_goes_first():
    mask = {"a": kept(1, 1, 1), "b": kept(1, 1)}
    scores = {"a": torch.tensor([1.0, 1.0, 0.0]), "b": torch.tensor([1.0, 1.0])}
    pruned = prune(scores, mask, 0.6)
    assert (pruned["a"].tolist(), pruned["b"].tolist()) == ([False, False, False], [True, True])


def test_the_groups_order_of_parameters_breaks_ties_between_them():
    mask = {"a": kept(1, 1), "b": kept(1, 1)}
    scores = {name: torch.zeros(2) for name in mask}

    def backwards(mask):
        return {"model": Group(tuple(mask)[::-1])}

    assert prune(scores, mask, 0.25)["a"].tolist() == [False, True]
    assert prune(scores, mask, 0.25, backwards)["b"].tolist() == [False, True]


@pytest.mark.parametrize(
    ("weights", "rate", "left"),
    [
        (9, 0.2, 7),
        (10, 0.25, 8),
        (10, 0.35, 6),
        (14, 0.25, 10),
        (3, 0.1, 3),
        (5, 0.0, 5),
        (5, 1, 0),
        (1, 0.5, 1),
    ],
)
def test_round_of_rate_times_kept_weights_are_pruned_as_python_rounds(weights, rate, left):
    # 1.8 -> 2; 2.5 -> 2 and 3.5 -> 4, to even; 0.3 -> 0; 0.5 -> 0
    mask = {"w": torch.ones(weights, dtype=torch.bool)}
    assert count(prune({"w": torch.rand(weights)}, mask, rate)) == left


def test_the_rate_is_of_the_weights_still_kept():
    mask, scores = {"w": torch.ones(1000, dtype=torch.bool)}, {"w": torch.arange(1000.0)}
    left = []
    for _ in range(4):
        mask = prune(scores, mask, 0.2)
        left.append(count(mask))
    assert left == [800, 640, 512, 410]


def test_weights_already_pruned_stay_so_whatever_their_score():
    mask = {"w": kept(0, 1, 1, 0, 1, 1)}
    scores = {"w": torch.tensor([INF, 1.0, 2.0, NAN, 3.0, 4.0])}
    assert prune(scores, mask, 0.5)["w"].tolist() == [False, False, False, False, True, True]


def test_infinite_scores_are_never_or_first_pruned():
    scores = {"w": torch.tensor([INF, 5.0, -INF, 7.0])}
    assert prune(scores, {"w": kept(1, 1, 1, 1)}, 0.75)["w"].tolist() == [True, False, False, False]
    assert prune(scores, {"w": kept(1, 1, 1, 1)}, 0.25)["w"].tolist() == [True, True, False, True]


def test_boolean_scores_are_ranked_false_first():
    scores = {"w": torch.tensor([True, False, True, False])}
    assert prune(scores, {"w": kept(1, 1, 1, 1)}, 0.75)["w"].tolist() == [False, False, True, False]


def test_more_scores_than_the_mask_has_names_do_no_harm():
    scores = {"w": torch.tensor([1.0, 2.0]), "bias": torch.tensor([NAN])}
    assert prune(scores, {"w": kept(1, 1)}, 0.5)["w"].tolist() == [False, True]


def test_a_single_weight_without_dimensions_can_be_pruned():
    mask, scores = (
        {"a": torch.tensor(True), "b": torch.tensor(True)},
        {"a": torch.tensor(2.0), "b": torch.tensor(1.0)},
    )
    assert {name: bool(keep) for name, keep in prune(scores, mask, 0.5).items()} == {
        "a": True,
        "b": False,
    }


def test_prune_changes_none_of_its_inputs():
    scores, mask = {"w": torch.tensor([3.0, 1.0, 2.0, NAN])}, {"w": kept(1, 1, 1, 0)}
    before = scores["w"].clone(), mask["w"].clone()
    result = prune(scores, mask, 1 / 3)
    prune(scores, mask, 0.0)["w"].fill_(False)  # even a mask that lost nothing is a new one
    result["w"].fill_(False)
    torch.testing.assert_close(scores["w"], before[0], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(mask["w"], before[1])


# ---- counts


def test_a_count_is_what_is_kept():
    scores = {"w": torch.tensor([0.5, 0.1, 0.4, 0.2])}
    assert prune(scores, {"w": kept(1, 1, 1, 1)}, count=1)["w"].tolist() == [
        True,
        False,
        False,
        False,
    ]
    assert count(prune(scores, {"w": kept(1, 0, 1, 1)}, count=3)) == 3
    assert count(prune(scores, {"w": kept(1, 1, 1, 1)}, count=0)) == 0


def test_counts_may_be_given_per_group():
    mask = {"a": torch.ones(10, dtype=torch.bool), "b": torch.ones(20, dtype=torch.bool)}
    scores = {name: torch.rand(keep.shape) for name, keep in mask.items()}
    pruned = prune(scores, mask, scope=per_layer, count={"b": 7, "a": 10})
    assert {name: int(keep.sum()) for name, keep in pruned.items()} == {"a": 10, "b": 7}
    assert count(prune(scores, mask, scope=whole_model, count={"model": 3})) == 3


def test_a_count_above_what_is_kept_is_refused():
    with pytest.raises(InputError, match="count of 'model' is 3; 2 weights are still kept there"):
        prune({"w": torch.rand(3)}, {"w": kept(1, 1, 0)}, count=3)
    with pytest.raises(InputError, match="count of 'model' is -1; 2 weights"):
        prune({"w": torch.rand(3)}, {"w": kept(1, 1, 0)}, count=-1)


@pytest.mark.parametrize("number", [2.7, 2.0, True, "2"])
def test_a_count_that_is_no_whole_number_is_refused(number):
    message = f"count of 'model' is {number}; it is a whole number of weights to keep"
    with pytest.raises(InputError, match=re.escape(message)):
        prune({"w": torch.rand(3)}, {"w": kept(1, 1, 1)}, count=number)


def test_one_count_for_several_groups_is_refused_and_the_groups_are_named():
    mask = {"a": kept(1), "b": kept(1)}
    with pytest.raises(
        InputError, match="count is 1; this scope has 2 groups, so give one per group: a, b"
    ):
        prune({name: torch.ones(1) for name in mask}, mask, scope=per_layer, count=1)


# ---- rates by group


def small_convnet():
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential()
    model.conv1 = nn.Conv2d(1, 4, 3, padding=1)
    model.conv2 = nn.Conv2d(4, 6, 3, padding=1)
    model.flat = nn.Flatten()
    model.fc = nn.Linear(6 * 16, 20)
    model.head = nn.Linear(20, 3)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return model


def test_per_layer_prunes_the_same_fraction_of_every_layer():
    model = small_convnet()
    mask = ones(model, "all")
    scores = {name: model.get_parameter(name).detach().abs() for name in mask}
    pruned = prune(scores, mask, 0.2, per_layer)
    sizes = {"conv1.weight": 36, "conv2.weight": 216, "fc.weight": 1920, "head.weight": 60}
    assert {name: int(keep.sum()) for name, keep in pruned.items()} == {
        n: k - round(k / 5) for n, k in sizes.items()
    }


def test_convolutions_and_linear_layers_may_have_rates_of_their_own():
    model = small_convnet()
    mask = ones(model, "all")
    scores = {name: model.get_parameter(name).detach().abs() for name in mask}
    pruned = prune(scores, mask, {"conv": 0.15, "linear": 0.20}, per_kind(model))
    # round(37.8)
    assert int(pruned["conv1.weight"].sum() + pruned["conv2.weight"].sum()) == 252 - 38
    assert int(pruned["fc.weight"].sum() + pruned["head.weight"].sum()) == 1980 - 396
    one = torch.cat([scores["conv1.weight"].flatten(), scores["conv2.weight"].flatten()])
    assert torch.equal(
        torch.cat([pruned["conv1.weight"].flatten(), pruned["conv2.weight"].flatten()]),
        one > one.sort().values[37],
    )


def test_a_groups_factor_multiplies_its_rate():
    model = small_convnet()
    mask = ones(model, "all")
    scores = {name: model.get_parameter(name).detach().abs() for name in mask}
    pruned = prune(scores, mask, 0.2, half_output(model))
    assert int(pruned["head.weight"].sum()) == 54
    assert int(pruned["fc.weight"].sum()) == 1920 - 384


def test_rates_that_name_other_groups_than_the_scope_are_refused():
    mask = {"w": kept(1, 1)}
    with pytest.raises(
        InputError, match="rate names the groups conv, linear; the scope has: model"
    ):
        prune({"w": torch.rand(2)}, mask, {"conv": 0.15, "linear": 0.2})


def test_a_rate_by_kind_under_another_scope_is_told_which_scope_has_kinds():
    message = (
        "rate names the groups conv; the scope has: model (scope: per_kind has conv and linear)"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        prune({"w": torch.rand(2)}, {"w": kept(1, 1)}, {"conv": 0.15})
    with pytest.raises(InputError, match=r"the scope has: w$"):
        prune({"w": torch.rand(2)}, {"w": kept(1, 1)}, {"v": 0.15}, per_layer)


# ---- refusals


def test_both_or_neither_of_rate_and_count_are_refused():
    scores, mask = {"w": torch.rand(2)}, {"w": kept(1, 1)}
    for both_or_neither in ({}, {"rate": 0.5, "count": 1}, {"rate": 0.0, "count": 0}):
        with pytest.raises(InputError, match="a rate or a count, exactly one of the two"):
            prune(scores, mask, **both_or_neither)


def test_a_rate_in_percent_is_told_its_fraction():
    with pytest.raises(
        InputError, match=re.escape("rate is 20; it is a fraction from 0 to 1, so 20 % is 0.2")
    ):
        prune({"w": torch.rand(2)}, {"w": kept(1, 1)}, 20)
    with pytest.raises(
        InputError,
        match=re.escape("rate of 'b' is 15; it is a fraction from 0 to 1, so 15 % is 0.15"),
    ):
        prune(
            {n: torch.rand(1) for n in "ab"},
            {n: kept(1) for n in "ab"},
            {"a": 0.5, "b": 15},
            per_layer,
        )


@pytest.mark.parametrize("rate", [-0.1, 1.0001, NAN, INF, "0.2", True, False])
def test_a_rate_that_is_no_fraction_is_refused(rate):
    with pytest.raises(InputError, match="rate is "):
        check_rate(rate)


def test_a_mask_that_is_empty_or_not_boolean_is_refused():
    with pytest.raises(InputError, match="the mask of 'w' is float32; a mask is boolean"):
        prune({"w": torch.rand(2)}, {"w": torch.ones(2)}, 0.5)
    for scope in (whole_model, per_layer):
        with pytest.raises(
            InputError, match="the mask is empty; it names the weights that may be pruned"
        ):
            prune({}, {}, 0.5, scope)


def test_a_missing_score_is_refused_by_name():
    with pytest.raises(InputError, match="there is no score for 'w'"):
        prune({"v": torch.rand(2)}, {"w": kept(1, 1)}, 0.5)


def test_scores_of_another_shape_are_refused_by_name():
    with pytest.raises(
        InputError, match=re.escape("scores of 'w' have the shape (1, 2), its mask (2,)")
    ):
        prune({"w": torch.rand(1, 2)}, {"w": kept(1, 1)}, 0.5)


def test_scores_that_are_nan_at_kept_places_are_refused_and_counted():
    with pytest.raises(InputError, match="2 scores of 'w' are NaN"):
        prune({"w": torch.tensor([NAN, NAN, NAN, 1.0])}, {"w": kept(1, 1, 0, 1)}, 0.5)


# ---- laws, and a stable sort as second implementation

TIED = [0.0, -0.0, 1.0, -1.0, 2.0, 0.5, INF, -INF]
WHOLE = [0, 1, -1, 2, 100]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
INTEGERS = [torch.int8, torch.int32, torch.int64]


@st.composite
def scored_masks(draw):
    """Scores with many ties for two parameters, and a mask; NaN where it prunes."""
    dtype = draw(st.sampled_from(FLOATS + INTEGERS))
    numbers = st.sampled_from(TIED if dtype.is_floating_point else WHOLE)
    places = draw(st.lists(st.tuples(numbers, st.booleans()), min_size=1, max_size=40))
    values = torch.tensor([number for number, _ in places], dtype=dtype)
    keep = torch.tensor([keep for _, keep in places])
    if dtype.is_floating_point:
        values[~keep] = NAN
    cut = draw(st.integers(0, len(places)))
    return {"a": values[:cut], "b": values[cut:]}, {"a": keep[:cut], "b": keep[cut:]}


def by_sorting(scores, mask, remove):
    """The mask that a stable sort of the kept scores gives, in plain Python."""
    values = torch.cat([scores[name] for name in mask]).tolist()
    keep = torch.cat([mask[name] for name in mask]).tolist()
    order = sorted(
        (place for place in range(len(values)) if keep[place]), key=lambda place: values[place]
    )
    for place in order[:remove]:
        keep[place] = False
    return keep


def flat(mask):
    return torch.cat([keep.flatten() for keep in mask.values()]).tolist()


@given(scored_masks(), st.floats(0, 1))
def test_prune_equals_a_stable_sort(scored, rate):
    scores, mask = scored
    assert flat(prune(scores, mask, rate)) == by_sorting(scores, mask, round(rate * count(mask)))


@given(scored_masks(), st.data())
def test_prune_by_count_equals_a_stable_sort(scored, data):
    scores, mask = scored
    number = data.draw(st.integers(0, count(mask)))
    assert flat(prune(scores, mask, count=number)) == by_sorting(scores, mask, count(mask) - number)


@given(scored_masks(), st.floats(0, 1))
def test_per_layer_equals_a_stable_sort_of_every_layer(scored, rate):
    scores, mask = scored
    pruned = prune(scores, mask, rate, per_layer)
    for name in mask:
        remove = round(rate * count({name: mask[name]}))
        assert pruned[name].tolist() == by_sorting({name: scores[name]}, {name: mask[name]}, remove)


@given(scored_masks(), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_rate_keeps_a_subset(scored, one, other):
    scores, mask = scored
    low, high = sorted((one, other))
    more, fewer = flat(prune(scores, mask, low)), flat(prune(scores, mask, high))
    assert all(m or not f for m, f in zip(more, fewer, strict=True))


@given(st.lists(st.sampled_from(TIED), min_size=1, max_size=30), st.data())
def test_lowest_marks_the_first_places_of_a_stable_argsort(values, data):
    values = torch.tensor(values)
    number = data.draw(st.integers(0, len(values)))
    expected = torch.zeros(len(values), dtype=torch.bool)
    expected[torch.argsort(values, stable=True)[:number]] = True
    assert torch.equal(lowest(values, number), expected)


# ---- torch.nn.utils.prune as second implementation


def weights_of(model):
    return {
        "conv1.weight": model.conv1,
        "conv2.weight": model.conv2,
        "fc.weight": model.fc,
        "head.weight": model.head,
    }


def train_a_little(layers, seed):
    """Give every layer new weights without ties, its pruned ones included."""
    generator = torch.Generator().manual_seed(seed)
    for layer in layers.values():
        original = layer.weight_orig if hasattr(layer, "weight_orig") else layer.weight
        with torch.no_grad():
            original.copy_(torch.randn(original.shape, generator=generator, dtype=torch.float64))
            if hasattr(layer, "weight_mask"):
                layer.weight = original * layer.weight_mask


def test_torchs_global_pruning_agrees_mask_for_mask_over_four_rounds():
    model = small_convnet().double()
    mask, layers = ones(model, "all"), weights_of(model)
    for number, rate in enumerate([0.2, 0.35, 0.2, 0.5]):
        train_a_little(layers, number)
        mask = prune(
            {name: layer.weight.detach().abs() for name, layer in layers.items()}, mask, rate
        )
        torchs.global_unstructured(
            [(x, "weight") for x in layers.values()], torchs.L1Unstructured, amount=rate
        )
        assert all(
            torch.equal(mask[name], layer.weight_mask.bool()) for name, layer in layers.items()
        )
    assert 0 < count(mask) < 0.22 * sum(keep.numel() for keep in mask.values())


def test_torchs_pruning_layer_by_layer_agrees_mask_for_mask_over_four_rounds():
    model = small_convnet().double()
    mask, layers = ones(model, "all"), weights_of(model)
    for number, rate in enumerate([0.2, 0.35, 0.2, 0.5]):
        train_a_little(layers, number)
        mask = prune(
            {name: layer.weight.detach().abs() for name, layer in layers.items()},
            mask,
            rate,
            per_layer,
        )
        for name, layer in layers.items():
            torchs.l1_unstructured(layer, "weight", amount=rate)
            assert torch.equal(mask[name], layer.weight_mask.bool())
