"""Controls: what is drawn keeps the counts, what is shuffled keeps the values, and both are the
same every time.
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.layouts import ticket_file
from tests.toys import equal

from tombola.experiments.experiment import run
from tombola.masks.controls import draw, shuffle
from tombola.masks.masks import count, nested
from tombola.masks.rates import kept_by_group
from tombola.masks.scopes import per_layer
from tombola.schema.recipe import parse
from tombola.tickets import Ticket

MASK = {
    "a": torch.tensor([[True, True, False], [False, False, True]]),
    "b": torch.tensor([False, True, False, False]),
}
START = {
    "a": torch.tensor([[1.0, 2, 3], [4, 5, 6]]),
    "b": torch.tensor([10.0, 20, 30, 40]),
    "bias": torch.tensor([7.0, 8]),
    "steps": torch.tensor(3),
}


def copied(tensors):
    return {name: value.clone() for name, value in tensors.items()}


def test_a_drawn_mask_keeps_as_many_weights_in_each_layer():
    drawn = [draw(MASK, seed) for seed in range(200)]
    assert all(kept_by_group(mask, per_layer) == {"a": 3, "b": 1} for mask in drawn)
    assert all(mask["a"].shape == (2, 3) and mask["a"].dtype == torch.bool for mask in drawn)


def test_every_place_is_drawn_as_often_as_any_other():
    # 600 draws of 3 of 6: 300 each, with a standard deviation of 12.
    often = sum(draw(MASK, seed)["a"].int() for seed in range(600))
    assert often.sum() == 1800
    assert ((often - 300).abs() < 50).all()


def test_what_is_drawn_hangs_on_the_seed_and_the_counts_alone():
    elsewhere = {"a": MASK["a"].flip(0), "b": MASK["b"].flip(0)}
    assert equal(draw(MASK, 3), draw(elsewhere, 3))
    assert not all(equal(draw(MASK, 3), draw(MASK, seed)) for seed in range(4, 9))
    assert equal(draw({"b": MASK["b"]}, 3), {"b": draw(MASK, 3)["b"]})
    half = torch.arange(100) < 50
    one, other = draw({"one": half, "other": half}, 3).values()
    assert 10 < int((one & other).sum()) < 40  # two layers of a shape draw for themselves


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40),
    st.integers(0, 2**40),
)
def test_draws_for_nested_masks_nest(bits, seed):
    outer = {"w": torch.tensor([one for one, _ in bits])}
    inner = {"w": torch.tensor([one and other for one, other in bits])}
    big, small = draw(outer, seed), draw(inner, seed)
    assert (count(big), count(small)) == (count(outer), count(inner))
    assert list(nested(small, big)) == []


def test_both_move_each_weight_with_its_place_in_the_mask():
    values, mask = shuffle(START, MASK, seed=1)
    for name in MASK:
        pairs = zip(values[name].flatten().tolist(), mask[name].flatten().tolist(), strict=True)
        assert sorted(pairs) == sorted(
            zip(START[name].flatten().tolist(), MASK[name].flatten().tolist(), strict=True)
        )
    assert any(not equal(shuffle(START, MASK, seed)[1], MASK) for seed in range(5))


def test_weights_are_dealt_out_among_the_kept_places_alone():
    seen = set()
    for seed in range(20):
        values, mask = shuffle(START, MASK, seed, "weights")
        assert equal(mask, MASK)
        for name, keep in MASK.items():
            assert sorted(values[name][keep].tolist()) == sorted(START[name][keep].tolist())
            assert torch.equal(values[name][~keep], START[name][~keep])
        seen.add(tuple(values["a"][MASK["a"]].tolist()))
    assert len(seen) == 6  # all orders of three


def test_the_mask_moves_alone():
    values, mask = shuffle(START, MASK, 1, "mask")
    assert equal(values, START)
    assert kept_by_group(mask, per_layer) == {"a": 3, "b": 1}


@pytest.mark.parametrize("what", ["both", "weights", "mask"])
def test_shuffling_leaves_its_arguments_and_all_else_alone_and_is_the_same_again(what):
    start, keep = copied(START), copied(MASK)
    values, mask = shuffle(start, keep, 5, what)
    assert equal(start, START)
    assert equal(keep, MASK)
    assert torch.equal(values["bias"], START["bias"])
    assert values["steps"] == 3
    again = shuffle(start, keep, 5, what)
    assert equal(values, again[0])
    assert equal(mask, again[1])


def test_shuffled_masks_of_nested_tickets_nest():
    inner = {
        "a": MASK["a"] & torch.tensor([[True, False, True], [True, True, True]]),
        "b": MASK["b"],
    }
    assert list(nested(shuffle(START, inner, 5)[1], shuffle(START, MASK, 5)[1])) == []


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    def go(runs):
        recipe = {
            "name": "controls",
            "data": {"name": "digits", "subset": 200},
            "model": {"name": "mlp", "hidden": [20]},
            "training": {"lr": 0.05, "epochs": 1},
            "arms": {
                "lth": {"method": "lth", "rate": 0.4},
                "random": {"method": "random_ticket", "source": "lth"},
                "shuffled": {"method": "shuffled", "source": "lth"},
            },
            "until": {"rounds": 1},
            "replicates": 2,
        }
        return run(parse(recipe), runs=tmp_path_factory.mktemp(runs), workers=1).folder

    return go("one"), go("two")


def ticket(folder, arm, replicate):
    return Ticket.load(ticket_file(folder, arm, replicate, 1))


@pytest.mark.parametrize("arm", ["random", "shuffled"])
def test_a_control_is_another_mask_the_same_in_every_run_and_other_in_another_replicate(done, arm):
    mask = ticket(done[0], arm, 0).mask
    assert not equal(mask, ticket(done[0], "lth", 0).mask)
    assert not equal(mask, ticket(done[0], arm, 1).mask)
    assert (
        count(mask) == count(ticket(done[0], arm, 1).mask) == count(ticket(done[0], "lth", 0).mask)
    )
    for replicate in (0, 1):
        paths = [ticket_file(folder, arm, replicate, 1) for folder in done]
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_random_tickets_mask_is_no_better_than_chance_at_hitting_the_found_one(done):
    for replicate in (0, 1):
        found, drawn = (
            ticket(done[0], "lth", replicate).mask,
            ticket(done[0], "random", replicate).mask,
        )
        both = sum(int((found[name] & drawn[name]).sum()) for name in found)
        # 60 % of 1280 weights are kept, so 36 % are kept by both, give or take 1.
        assert both / 1280 == pytest.approx(0.36, abs=0.05)
