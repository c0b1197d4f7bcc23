"""Selection: in chunks it gives what a stable sort gives, for all kinds of numbers, and refuses
what it cannot rank.
"""

import re
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tombola.ground.errors import InputError
from tombola.masks import selection
from tombola.masks.pruning import prune
from tombola.masks.scopes import per_layer
from tombola.masks.selection import Elementwise, in_chunks, part, without_lowest

NAN, INF = float("nan"), float("inf")
BIG = 2 * selection.CHUNK + 1000  # weights, three chunks


def ones_like(scores):
    return {name: torch.ones(values.shape, dtype=torch.bool) for name, values in scores.items()}


def by_sorting(scores, mask, names, remove):
    """The masks that a stable sort of the kept scores gives."""
    values = torch.cat([scores[name][mask[name]] for name in names])
    keep = torch.ones(len(values), dtype=torch.bool)
    order = torch.argsort(
        values.to(torch.uint8) if values.dtype == torch.bool else values, stable=True
    )
    keep[order[:remove]] = False
    result, start = {}, 0
    for name in names:
        result[name], number = mask[name].clone(), int(mask[name].sum())
        result[name][mask[name]] = keep[start : start + number]
        start += number
    return result


def equal(one, other):
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


# ---- by hand


def test_in_chunks_the_lowest_go_and_of_equal_ones_the_first():
    scores = {"a": torch.tensor([2.0, 1.0, 3.0]), "b": torch.tensor([1.0, 1.0, 0.0])}
    pruned = in_chunks(scores, ones_like(scores), ["a", "b"], 3, chunk=2)
    assert {name: keep.int().tolist() for name, keep in pruned.items()} == {
        "a": [1, 0, 1],
        "b": [0, 1, 0],
    }
    pruned = in_chunks(scores, ones_like(scores), ["b", "a"], 3, chunk=2)
    assert {name: keep.int().tolist() for name, keep in pruned.items()} == {
        "b": [0, 0, 0],
        "a": [1, 1, 1],
    }


def test_position_is_the_flat_one_whatever_the_memory_format():
    values = torch.tensor([[1.0, 1.0], [1.0, 2.0]])
    for scores in (values, values.t().contiguous().t()):
        mask = torch.ones(2, 2, dtype=torch.bool).t().contiguous().t()
        pruned = in_chunks({"w": scores}, {"w": mask}, ["w"], 2, chunk=3)["w"]
        assert pruned.tolist() == [[False, False], [True, True]]
        assert pruned.stride() == mask.stride()


def test_part_reads_a_run_of_any_tensor_in_flat_order():
    dense = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    views = [
        dense,
        dense.contiguous(memory_format=torch.channels_last),
        dense.transpose(0, 3),
        dense[:, 1:, ::2],
    ]
    for tensor in [
        *views,
        torch.tensor(7),
        torch.arange(9)[::2],
        torch.tensor([[1], [2]]).expand(2, 3),
    ]:
        flat = tensor.flatten()
        for start in range(len(flat) + 1):
            for stop in range(start, len(flat) + 1):
                assert torch.equal(part(tensor, slice(start, stop)), flat[start:stop])
        some = torch.tensor([0, len(flat) - 1, len(flat) // 2])
        assert torch.equal(part(tensor, some), flat[some])


# ---- a stable sort as second implementation

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
WHOLE = [torch.int8, torch.uint8, torch.int32, torch.int64, torch.bool]
TIED = [0.0, -0.0, 1.0, -1.0, 2.0, 0.5, INF, -INF, 1e-45, 6e-8]


@st.composite
def scored_masks(draw):
    """Scores of two parameters, many of them equal or none, and a mask; NaN where it prunes."""
    dtype = draw(st.sampled_from(FLOATS + WHOLE))
    size = draw(st.integers(1, 400))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    numbers = draw(st.sampled_from([TIED, [1.0], [0.0, 1.0], [0.0] * 30 + [1.0], None]))
    if numbers is None:
        values = torch.randn(size, generator=generator, dtype=torch.float64) * 40
    else:
        values = torch.tensor(numbers, dtype=torch.float64)[
            torch.randint(len(numbers), (size,), generator=generator)
        ]
    if not dtype.is_floating_point:
        values = values.nan_to_num(posinf=100, neginf=-100).clamp(-100, 100)
        values = values.abs() if dtype == torch.uint8 else values
    values = values.to(dtype)
    keep = torch.rand(size, generator=generator) < draw(st.sampled_from([0.05, 0.5, 1.1]))
    if dtype.is_floating_point:
        values[~keep] = NAN
    cut = draw(st.integers(0, size))
    return {"a": values[:cut], "b": values[cut:]}, {"a": keep[:cut], "b": keep[cut:]}


@pytest.mark.parametrize("arrays", ["numpy", "torch"])
@given(
    scored=scored_masks(),
    chunk=st.sampled_from([0, 3, 64]),
    sample=st.sampled_from([1, 5, 1000]),
    data=st.data(),
)
def test_in_chunks_equals_a_stable_sort(arrays, scored, chunk, sample, data):
    scores, mask = scored
    kept = sum(int(keep.sum()) for keep in mask.values())
    remove = data.draw(st.one_of(st.integers(0, kept), st.sampled_from([0, min(1, kept), kept])))
    with pytest.MonkeyPatch.context() as patch:
        if arrays == "torch":  # as on a GPU
            patch.setattr(selection, "_library", lambda *_: torch)
        pruned = in_chunks(scores, mask, ["b", "a"], remove, chunk=chunk, sample=sample)
    assert equal(pruned, by_sorting(scores, mask, ["b", "a"], remove))
    # so few that they go into one vector
    assert equal(pruned, without_lowest(scores, mask, ["b", "a"], remove))


LARGE = {
    "drawn": lambda: torch.randn(BIG, generator=torch.Generator().manual_seed(0)),
    "all equal": lambda: torch.ones(BIG),
    "two values": lambda: (torch.arange(BIG) % 5 == 0).float(),
    "sorted": lambda: torch.arange(BIG).float(),
    "backwards": lambda: -torch.arange(BIG).float(),
    "periodic": lambda: (torch.arange(BIG) % 16).float(),
    "rare": lambda: torch.zeros(BIG).index_fill(0, torch.tensor([5, 70_000, BIG - 1]), -1.0),
    "half": lambda: torch.randn(BIG, generator=torch.Generator().manual_seed(0)).bfloat16(),
    "double": lambda: (
        1 + torch.randn(BIG, generator=torch.Generator().manual_seed(0)).double() * 1e-12
    ),
    "infinite": lambda: torch.tensor([INF, -INF, 0.0, -0.0])[torch.arange(BIG) % 4],
}


@pytest.mark.parametrize("values", LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("density", [1.0, 0.02])
def test_a_large_group_is_pruned_as_a_stable_sort_does(values, density):
    scores = {"w": values()}
    mask = {"w": torch.rand(BIG, generator=torch.Generator().manual_seed(1)) < density}
    kept = int(mask["w"].sum())
    for remove in (0, 1, 3, kept // 5, kept // 2, kept - 1, kept):
        assert equal(
            prune(scores, mask, count=kept - remove), by_sorting(scores, mask, ["w"], remove)
        )


def test_large_groups_of_several_parameters_and_formats_are_pruned_each_by_itself():
    generator = torch.Generator().manual_seed(0)
    scores = {
        "conv": torch.randn(300, 100, 3, 3, generator=generator).contiguous(
            memory_format=torch.channels_last
        ),
        "fc": torch.randn(500, 400, generator=generator).t(),
        "tiny": torch.randn(7, generator=generator),
    }
    mask = {
        name: torch.rand(values.shape, generator=generator) < 0.7 for name, values in scores.items()
    }
    before = {name: keep.clone() for name, keep in mask.items()}
    pruned = prune(scores, mask, 0.3, per_layer)
    for name, keep in mask.items():
        remove = round(0.3 * int(keep.sum()))
        assert torch.equal(pruned[name], by_sorting(scores, mask, [name], remove)[name])
    assert equal(mask, before)
    whole = round(0.3 * sum(int(keep.sum()) for keep in mask.values()))
    assert equal(prune(scores, mask, 0.3), by_sorting(scores, mask, list(mask), whole))


def test_bounds_that_miss_become_limits_and_the_next_ones_enclose(monkeypatch):
    asked = []

    def beside(seen, fraction, floor, ceiling, real=selection._bounds):
        asked.append((fraction, floor, ceiling))
        misses = [(1000.0, 1001.0), (-3.0, -2.0)]
        return misses[len(asked) - 1] if len(asked) < 3 else real(seen, fraction, floor, ceiling)

    monkeypatch.setattr(selection, "_bounds", beside)
    scores = {"w": torch.arange(2000.0) - 100}
    pruned = in_chunks(scores, ones_like(scores), ["w"], 500, chunk=64, sample=100)["w"]
    assert pruned.tolist() == [False] * 500 + [True] * 1500
    # 1100 scores are less than 1000, of these 99 not more than -2
    assert asked == [
        (500 / 2000, None, None),
        (500 / 1100, None, 1000.0),
        (401 / 1001, -2.0, 1000.0),
    ]


@given(
    values=st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0]), min_size=2, max_size=50),
    data=st.data(),
)
def test_whatever_the_bounds_the_result_is_exact(values, data):
    low, high = sorted(
        data.draw(st.tuples(*[st.sampled_from([-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0])] * 2))
    )
    remove, real, calls = data.draw(st.integers(1, len(values))), selection._bounds, []

    def first_these(seen, fraction, floor, ceiling):
        calls.append(1)
        return (low, high) if len(calls) == 1 else real(seen, fraction, floor, ceiling)

    scores = {"w": torch.tensor(values)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "_bounds", first_these)
        pruned = in_chunks(scores, ones_like(scores), ["w"], remove, chunk=7)
    assert equal(pruned, by_sorting(scores, ones_like(scores), ["w"], remove))


def test_the_number_of_threads_does_not_change_the_result(monkeypatch):
    scores = {"w": torch.randn(BIG, generator=torch.Generator().manual_seed(0)).mul(50).round()}
    masks = []
    for cores in (1, 2, 5):
        monkeypatch.setattr(selection, "_cores", lambda cores=cores: cores)
        masks.append(in_chunks(scores, ones_like(scores), ["w"], 40_000, chunk=1000))
    assert equal(masks[0], masks[1])
    assert equal(masks[0], masks[2])


def test_of_equal_scores_none_is_collected(monkeypatch):
    collected = []

    def watched(group, found, number, real=selection._Group.prune_):
        collected.append(sum(len(of.values) for of in found))
        real(group, found, number)

    monkeypatch.setattr(selection._Group, "prune_", watched)
    for values in (torch.ones(BIG), (torch.arange(BIG) % 3).float()):
        assert int(prune({"w": values}, ones_like({"w": values}), 0.5)["w"].sum()) == BIG - round(
            0.5 * BIG
        )
    assert collected == []
    drawn = torch.randn(BIG, generator=torch.Generator().manual_seed(0))
    prune({"w": drawn}, ones_like({"w": drawn}), 0.2)
    assert 0 < collected[0] < BIG // 10


# ---- scores worked out while they are read


def test_elementwise_scores_are_pruned_as_the_tensors_they_stand_for():
    generator = torch.Generator().manual_seed(0)
    weights = {"w": torch.randn(700, 300, generator=generator)}
    gradients = {"w": torch.randn(700, 300, generator=generator).t().contiguous().t()}
    for function, tensors in (
        (torch.square, [weights]),
        (torch.abs, [weights]),
        (torch.mul, [weights, gradients]),
        (lambda weight, gradient: (weight * gradient).abs(), [weights, gradients]),
    ):
        scores = Elementwise(function, *tensors)
        assert isinstance(scores, Mapping)
        assert (list(scores), len(scores), "v" in scores) == (["w"], 1, False)
        mask = ones_like(scores)
        assert equal(prune(scores, mask, 0.3), prune(dict(scores), mask, 0.3))
        assert equal(prune(scores, mask, 0.3), by_sorting(dict(scores), mask, ["w"], 63_000))


def test_of_a_large_group_no_whole_score_is_worked_out():
    longest = []

    def watched(values):
        longest.append(values.numel())
        return values.abs()

    state = {"w": torch.randn(BIG, generator=torch.Generator().manual_seed(0))}
    prune(Elementwise(watched, state), ones_like(state), 0.2)
    assert max(longest) <= selection.CHUNK


def test_scores_of_weights_that_have_changed_since_are_refused():
    for size in (3, BIG):
        state = {"w": torch.rand(size)}
        scores = Elementwise(torch.abs, state)
        snapshot, mask = dict(scores), ones_like(state)
        before = prune(scores, mask, 0.5)
        state["w"].zero_()
        with pytest.raises(
            InputError, match="'w' has changed since it was scored; score it again, or keep dict"
        ):
            prune(scores, mask, 0.5)
        assert equal(prune(snapshot, mask, 0.5), before)


# ---- faults, in one vector and in chunks alike


@pytest.mark.parametrize("size", [20, BIG])
def test_scores_that_cannot_be_ranked_are_refused_by_name(size):
    mask = {"v": torch.ones(size, dtype=torch.bool), "w": torch.ones(size, dtype=torch.bool)}
    mask["w"][0] = False
    good = torch.rand(size)
    broken = good.clone()
    broken[[0, 3, size - 1]] = NAN
    for scores, message in (
        ({"v": good}, "there is no score for 'w'"),
        (
            {"v": good, "w": good[1:]},
            f"scores of 'w' have the shape ({size - 1},), its mask ({size},)",
        ),
        ({"v": good, "w": broken}, "2 scores of 'w' are NaN; a score is a number, or infinite"),
        (
            {"v": good, "w": good.to("meta")},
            "scores of 'w' are on meta, its mask on cpu; move one of them",
        ),
    ):
        for rate in (0.0, 0.5, 1.0):
            with pytest.raises(InputError, match=re.escape(message)):
                prune(scores, mask, rate)
    assert int(prune({"v": good, "w": good}, mask, 0.5)["w"][0]) == 0


def test_a_nan_does_not_hide_among_infinities_and_warns_of_nothing():
    scores = {"w": torch.tensor([INF, -INF, 1.0, 0.0]).repeat(BIG // 4)}
    mask = ones_like(scores)
    assert int(prune(scores, mask, 0.5)["w"].sum()) == BIG // 2
    scores["w"][BIG // 2] = NAN
    with pytest.raises(InputError, match="1 scores of 'w' are NaN"):
        prune(scores, mask, 0.5)


# ---- the GPU


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("values", LARGE.values(), ids=LARGE)
def test_on_a_gpu_the_same_weights_are_pruned(values):
    scores = {"w": values()}
    mask = {"w": torch.rand(BIG, generator=torch.Generator().manual_seed(1)) < 0.7}
    there = prune({"w": scores["w"].cuda()}, {"w": mask["w"].cuda()}, 0.2)
    assert there["w"].is_cuda
    assert torch.equal(there["w"].cpu(), prune(scores, mask, 0.2)["w"])
    chunked = in_chunks(
        {"w": scores["w"].cuda()}, {"w": mask["w"].cuda()}, ["w"], 1000, chunk=10_000
    )
    assert torch.equal(chunked["w"].cpu(), in_chunks(scores, mask, ["w"], 1000)["w"])


def test_scores_that_are_sparse_are_refused():
    scores = {"w": torch.ones(4).to_sparse()}
    with pytest.raises(InputError, match=r"scores of 'w' are .*an ordinary tensor of real numbers"):
        selection.check_fits(scores, {"w": torch.ones(4, dtype=torch.bool)}, "w")


@pytest.mark.parametrize("fraction", [0.05, 0.5, 0.95])
def test_the_bounds_of_a_quantile_are_scores_of_their_rank_in_the_sample(fraction):
    sample = np.random.default_rng(0).permutation(2000).astype(np.float32)
    low, high = selection._bounds(sample.copy(), fraction, -1.0, 2000.0)
    width = 3.5 * (2000 * fraction * (1 - fraction)) ** 0.5 + 2
    assert low == int(2000 * fraction - width)
    assert high == int(2000 * fraction + width)
