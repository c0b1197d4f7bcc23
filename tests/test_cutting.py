"""Cutting: what the partitions agree on, at a rate or at an exact count."""

import bisect

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.toys import equal

from tombola.ground.errors import InputError
from tombola.masks.masks import count, intersect, nested, union
from tombola.masks.pruning import prune
from tombola.masks.rates import Count, kept_by_group
from tombola.masks.scopes import Group, per_layer, whole_model
from tombola.scores import magnitude, random
from tombola.scores.context import Context
from tombola.search.cutting import keep_any, keep_common

CONTEXT = Context({}, seed=0)


def absolute(state):
    return {name: value.abs() for name, value in state.items()}


# ---- by hand


def test_a_rate_is_what_each_partition_removes():
    mask = {"w": torch.ones(5, dtype=torch.bool)}
    states = [{"w": torch.tensor([1.0, -2, 3, 4, 5])}, {"w": torch.tensor([-5.0, 4, 3, 2, 1])}]
    result, candidates = keep_common()(mask, states, 0.4, CONTEXT)
    assert [c["w"].int().tolist() for c in candidates] == [[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert result["w"].int().tolist() == [0, 0, 1, 0, 0]


def test_a_count_is_what_the_intersection_keeps():
    # Keeping 3 each leaves 1 common weight, keeping 4 each leaves 3: the surplus one is the lowest
    # of partition 1.
    mask = {"w": torch.ones(5, dtype=torch.bool)}
    states = [{"w": torch.tensor([1.0, 2, 3, 4, 5])}, {"w": torch.tensor([5.0, 4, 3, 2, 1])}]
    result, candidates = keep_common()(mask, states, Count(2), CONTEXT)
    assert [c["w"].int().tolist() for c in candidates] == [[0, 0, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert result["w"].int().tolist() == [0, 0, 1, 1, 0]


def test_without_a_state_there_is_nothing_to_agree_on():
    with pytest.raises(InputError, match="at least one"):
        keep_common()({"w": torch.ones(2, dtype=torch.bool)}, [], 0.5, CONTEXT)


def test_a_count_above_what_is_kept_is_refused_for_several_partitions_too():
    mask, states = {"w": torch.ones(3, dtype=torch.bool)}, [{"w": torch.rand(3)}] * 2
    with pytest.raises(InputError, match="count of 'model' is 4; 3 weights are still kept there"):
        keep_common()(mask, states, Count(4), CONTEXT)


def test_every_partition_is_scored_with_its_own_context():
    seen = []

    def watching(state, mask, context):
        seen.append((context.seed, context.partition, context.rewind_point))
        return random(state, mask, context)

    mask, start = {"w": torch.ones(30, dtype=torch.bool)}, {"w": torch.zeros(30)}
    _, candidates = keep_common(watching)(mask, [start] * 3, 0.5, Context(start, seed=4))
    assert seen == [(4, 0, start), (4, 1, start), (4, 2, start)]
    assert not equal(candidates[0], candidates[1])


# ---- laws

TIED = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, -3.0, 4.0, 5.0, -6.0])
SCOPES = [whole_model, per_layer]


@st.composite
def trained(draw, partitions):
    """A mask of two parameters and, for each partition, a state with many ties."""
    size = draw(st.integers(1, 24))
    cut = draw(st.integers(0, size))
    keep = torch.tensor(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    states = []
    for _ in range(draw(partitions)):
        value = torch.tensor(draw(st.lists(TIED, min_size=size, max_size=size)))
        states.append({"a": value[:cut], "b": value[cut:]})
    return {"a": keep[:cut], "b": keep[cut:]}, states


@pytest.mark.parametrize("scope", SCOPES)
@given(case=trained(st.just(1)), rate=st.floats(0, 1))
def test_one_partition_is_imp_bit_for_bit(scope, case, rate):
    mask, (state,) = case
    result, (candidate,) = keep_common(scope=scope)(mask, [state], rate, CONTEXT)
    assert equal(result, prune(absolute(state), mask, rate, scope))
    assert equal(result, candidate)
    kept = kept_by_group(result, scope)
    assert equal(keep_common(scope=scope)(mask, [state], Count(kept), CONTEXT)[0], result)


@given(case=trained(st.just(1)), n=st.integers(2, 4), rate=st.floats(0, 1))
def test_identical_states_give_the_mask_of_imp(case, n, rate):
    mask, (state,) = case
    imp = prune(absolute(state), mask, rate)
    assert equal(keep_common()(mask, [state] * n, rate, CONTEXT)[0], imp)
    assert equal(keep_common()(mask, [state] * n, Count(count(imp)), CONTEXT)[0], imp)


@pytest.mark.parametrize("scope", SCOPES)
@given(case=trained(st.integers(2, 4)), rate=st.floats(0, 1))
def test_n_partitions_remove_between_the_rate_and_n_times_it(scope, case, rate):
    mask, states = case
    result, candidates = keep_common(scope=scope)(mask, states, rate, CONTEXT)
    assert equal(result, intersect(candidates))
    assert all(not list(nested(c, mask)) and not list(nested(result, c)) for c in candidates)
    assert all(
        equal(c, prune(absolute(s), mask, rate, scope))
        for c, s in zip(candidates, states, strict=True)
    )
    had, kept = kept_by_group(mask, scope), kept_by_group(result, scope)
    for group in had:
        removed = round(rate * had[group])
        assert max(0, had[group] - len(states) * removed) <= kept[group] <= had[group] - removed


@given(case=trained(st.integers(2, 4)), rate=st.floats(0, 1))
def test_the_order_of_the_partitions_does_not_matter_at_a_rate(case, rate):
    mask, states = case
    assert equal(
        keep_common()(mask, states, rate, CONTEXT)[0],
        keep_common()(mask, states[::-1], rate, CONTEXT)[0],
    )


@pytest.mark.parametrize("scope", SCOPES)
@given(case=trained(st.integers(2, 4)), data=st.data())
def test_exact_counts_are_met_in_every_group_with_nested_candidates(scope, case, data):
    mask, states = case
    had = kept_by_group(mask, scope)
    asked = {group: data.draw(st.integers(0, kept)) for group, kept in had.items()}
    before = {name: keep.clone() for name, keep in mask.items()}
    result, candidates = keep_common(scope=scope)(mask, states, Count(asked), CONTEXT)
    assert kept_by_group(result, scope) == asked
    assert equal(result, intersect(candidates))
    assert not any(list(nested(candidate, mask)) for candidate in candidates)
    assert equal(mask, before)


# ---- a search for the common count as second implementation


def copied(mask):
    return {name: keep.clone() for name, keep in mask.items()}


def places_kept(mask):
    """The name and the position of each weight that a mask of flat tensors keeps."""
    places = []
    for name, keep in mask.items():
        places += [(name, position) for position in range(keep.numel()) if keep[position]]
    return places


def by_search(mask, states, target, scope):
    """The candidates of the smallest common count that keeps enough, less the surplus in
    partition 1's order.
    """
    candidates = [copied(mask) for _ in states]
    for name, group in scope(mask).items():
        part = {n: mask[n] for n in group.names}

        def cut(common, part=part):
            return [prune(absolute(state), part, count=common) for state in states]

        def common_weights(common, cut=cut):
            return count(intersect(cut(common)))

        smallest = bisect.bisect_left(range(count(part) + 1), target[name], key=common_weights)
        found = cut(smallest)
        both = intersect(found)
        places = places_kept(both)
        assert 0 <= len(places) - target[name] < len(states)
        places.sort(key=lambda place: float(states[0][place[0]][place[1]].abs()))
        for n, i in places[: len(places) - target[name]]:
            found[0][n][i] = False
        for candidate, masks in zip(candidates, found, strict=True):
            candidate.update(masks)
    return candidates


def backwards(mask):
    return {"model": Group(tuple(mask)[::-1])}


@pytest.mark.parametrize("scope", [*SCOPES, backwards])
@given(case=trained(st.integers(2, 3)), data=st.data())
def test_exact_counts_equal_a_search_for_the_common_count(scope, case, data):
    mask, states = case
    asked = {
        group: data.draw(st.integers(0, kept)) for group, kept in kept_by_group(mask, scope).items()
    }
    result, candidates = keep_common(scope=scope)(mask, states, Count(asked), CONTEXT)
    expected = by_search(mask, states, asked, scope)
    assert all(equal(c, e) for c, e in zip(candidates, expected, strict=True))
    assert equal(result, intersect(expected))


# ---- the union


def test_a_count_is_what_the_union_keeps():
    # Keeping one each gives 2, two each 4: of the two that came in last the lower one of partition
    # 1 goes, from both.
    mask = {"w": torch.ones(5, dtype=torch.bool)}
    states = [{"w": torch.tensor([1.0, 2, 3, 4, 5])}, {"w": torch.tensor([5.0, 4, 3, 2, 1])}]
    result, candidates = keep_any()(mask, states, Count(2), CONTEXT)
    assert [c["w"].int().tolist() for c in candidates] == [[0, 0, 0, 0, 1], [1, 0, 0, 0, 0]]
    assert result["w"].int().tolist() == [1, 0, 0, 0, 1]
    result, candidates = keep_any()(mask, states, Count(3), CONTEXT)
    assert [c["w"].int().tolist() for c in candidates] == [[0, 0, 0, 1, 1], [1, 0, 0, 0, 0]]
    assert result["w"].int().tolist() == [1, 0, 0, 1, 1]


def test_equal_scores_leave_the_union_by_position():
    mask = {"w": torch.ones(4, dtype=torch.bool)}
    tied = {"w": torch.ones(4)}
    assert keep_any()(mask, [tied, tied], Count(3), CONTEXT)[0]["w"].int().tolist() == [0, 1, 1, 1]
    # The second ranks 3, 2, 1, 0 without a tie; 3 of both keep all, and of 0 and 3, that came last,
    # 0 goes.
    falling = {"w": torch.tensor([1.0, 4, 3, 2])}
    assert keep_any()(mask, [tied, falling], Count(3), CONTEXT)[0]["w"].int().tolist() == [
        0,
        1,
        1,
        1,
    ]


def test_a_rate_of_the_union_is_what_each_partition_removes():
    mask = {"w": torch.ones(5, dtype=torch.bool)}
    states = [{"w": torch.tensor([1.0, 2, 3, 4, 5])}, {"w": torch.tensor([2.0, 1, 3, 5, 4])}]
    result, candidates = keep_any()(mask, states, 0.2, CONTEXT)
    assert [c["w"].int().tolist() for c in candidates] == [[0, 1, 1, 1, 1], [1, 0, 1, 1, 1]]
    assert result["w"].int().tolist() == [1] * 5
    assert keep_any()(mask, states, 0.4, CONTEXT)[0]["w"].int().tolist() == [0, 0, 1, 1, 1]


def union_by_search(mask, states, target, scope):
    """The candidates of the smallest common count whose union has enough, less the surplus of
    those that came last.
    """
    candidates = [copied(mask) for _ in states]
    for name, group in scope(mask).items():
        part = {n: mask[n] for n in group.names}

        def cut(common, part=part):
            return [prune(absolute(state), part, count=common) for state in states]

        smallest = next(c for c in range(count(part) + 1) if count(union(cut(c))) >= target[name])
        found, before = cut(smallest), union(cut(max(0, smallest - 1)))
        joined = union(found)
        new = [(n, i) for n, i in places_kept(joined) if not before[n][i]]
        surplus = count(joined) - target[name]
        assert 0 <= surplus < len(states)
        new.sort(key=lambda place: float(states[0][place[0]][place[1]].abs()))
        for n, i in new[:surplus]:
            for candidate in found:
                candidate[n][i] = False
        for candidate, masks in zip(candidates, found, strict=True):
            candidate.update(masks)
    return candidates


@pytest.mark.parametrize("scope", [*SCOPES, backwards])
@given(case=trained(st.integers(2, 4)), data=st.data())
def test_exact_counts_of_the_union_equal_a_search_for_the_common_count(scope, case, data):
    mask, states = case
    asked = {
        group: data.draw(st.integers(0, kept)) for group, kept in kept_by_group(mask, scope).items()
    }
    before = {name: keep.clone() for name, keep in mask.items()}
    result, candidates = keep_any(scope=scope)(mask, states, Count(asked), CONTEXT)
    assert kept_by_group(result, scope) == asked
    assert equal(result, union(candidates))
    assert not any(list(nested(candidate, mask)) for candidate in candidates)
    assert all(map(equal, candidates, union_by_search(mask, states, asked, scope)))
    assert equal(mask, before)


@given(case=trained(st.just(1)), n=st.integers(2, 4), data=st.data())
def test_the_union_of_equal_states_is_imp(case, n, data):
    mask, (state,) = case
    asked = data.draw(st.integers(0, count(mask)))
    imp = prune(absolute(state), mask, count=asked)
    assert equal(keep_any()(mask, [state] * n, Count(asked), CONTEXT)[0], imp)
    assert equal(keep_any()(mask, [state], Count(asked), CONTEXT)[0], imp)


# ---- a score for each partition


def test_each_partition_may_have_a_score_of_its_own():
    mask, state = {"w": torch.ones(40, dtype=torch.bool)}, {"w": torch.arange(40.0) + 1}
    _, (real, drawn) = keep_common([magnitude, random])(mask, [state] * 2, 0.25, CONTEXT)
    assert real["w"].int().tolist() == [0] * 10 + [1] * 30
    assert equal(drawn, prune(random(state, mask, Context({}, 0, 1)), mask, 0.25))
    assert not equal(real, drawn)


def test_as_many_scores_as_partitions_are_asked_for():
    mask, state = {"w": torch.ones(4, dtype=torch.bool)}, {"w": torch.rand(4)}
    with pytest.raises(
        InputError, match="there are 2 scores for 3 partitions; one each, or one for all"
    ):
        keep_common([magnitude, random])(mask, [state] * 3, 0.5, CONTEXT)
