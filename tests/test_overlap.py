"""Overlap against chance: by hand, against scipy, and against masks drawn at random."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from tombola.experiment import run
from tombola.overlap import Overlap, by_chance, overlaps, together
from tombola.recipe import parse
from tombola.runs import Run

pytestmark = pytest.mark.usefixtures("undrawn")


# By hand: of 10 weights one keeps 5, another 4; by chance 5 * 4 / 10 = 2 in common. They prune 5 and 6, either one 7
# of the 10 when 3 are common, so both prune 5 + 6 - 7 = 4: Jaccard 4 / 7. By chance: either 8, both 3.
def test_common_weights_and_jaccard_by_hand():
    found = Overlap(10, (5, 4), 3, *by_chance(10, [5, 4]))
    assert (found.expected, found.fraction) == (2.0, 0.3)
    assert found.jaccard == pytest.approx(4 / 7)
    assert found.jaccard_by_chance == pytest.approx(3 / 8)
    assert found.z == pytest.approx((3 - 2) / math.sqrt(2 / 3))


@pytest.mark.parametrize(("before", "kept"), [(10, [5, 4]), (1000, [850, 850]), (40, [30, 3])])
def test_two_candidates_agree_by_chance_as_the_hypergeometric_distribution(before, kept):
    law = stats.hypergeom(before, *kept)
    assert by_chance(before, kept) == pytest.approx((law.mean(), law.std()), abs=1e-9)


def test_three_candidates_agree_by_chance_as_drawn_ones_do():
    random, before, kept = np.random.default_rng(0), 60, [50, 40, 30]
    drawn = [len(set.intersection(*(set(random.choice(before, n, replace=False)) for n in kept))) for _ in range(4000)]
    mean, deviation = by_chance(before, kept)
    assert np.mean(drawn) == pytest.approx(mean, abs=4 * deviation / math.sqrt(4000))
    assert np.std(drawn) == pytest.approx(deviation, rel=0.06)


def test_equal_and_disjoint_cuts_are_the_two_ends():
    same = Overlap(100, (80, 80), 80, *by_chance(100, [80, 80]))
    apart = Overlap(100, (80, 80), 60, *by_chance(100, [80, 80]))
    assert (same.jaccard, apart.jaccard) == (1.0, 0.0)
    assert same.z > 5
    assert apart.z < -2


def test_where_there_is_no_choice_there_is_no_z():
    assert Overlap(10, (10, 10), 10, *by_chance(10, [10, 10])).z is None
    assert Overlap(10, (10, 10), 10, 10.0, 0.0).jaccard is None
    assert by_chance(1, [1, 1]) == (1.0, 0.0)
    assert by_chance(0, [0, 0]) == (0.0, 0.0)


# By hand: layers pruned at 10 % and 50 % by both of two cuts: chance keeps 0.81 * 100 + 0.25 * 100 of 200, 53 %;
# one rate for both, 30 %, gives 49 %.
def test_chance_over_all_layers_is_the_sum_of_each_layers_own():
    layers = {
        "a": Overlap(100, (90, 90), 81, *by_chance(100, [90, 90])),
        "b": Overlap(100, (50, 50), 25, *by_chance(100, [50, 50])),
    }
    whole = together(layers)
    assert whole.expected == pytest.approx(106)
    assert whole.expected > 200 * (1 - 0.3) ** 2
    assert whole.z == pytest.approx(0)
    assert whole.kept == (140, 140)


def test_a_run_tells_what_each_candidate_keeps_of_each_layer(tmp_path):
    whole = {
        "name": "overlap", "training": {"epochs": 1, "lr": 0.05}, "until": {"rounds": 2}, "device": "cpu",
        "model": {"name": "mlp", "hidden": [30, 20]}, "arms": {"colt-2": {"method": "colt", "rate": 0.3}},
    }  # fmt: skip
    folder = Run(run(parse(whole), runs=tmp_path, workers=1).folder)
    before, record = folder.record("colt-2", 0, 1), folder.record("colt-2", 0, 2)
    found = overlaps(before, record)
    mask = {name: torch.ones(layer[1], dtype=torch.bool) for name, layer in record["layers"].items()}
    for name, layer in found.items():
        kept = [int(one[name].sum()) for one in folder.candidates("colt-2", 0, 2, mask)]
        assert (layer.kept, layer.before) == (tuple(kept), before["layers"][name][0])
        assert layer.common == record["layers"][name][0]
    assert together(found).fraction == pytest.approx(record["kept_fraction"])
    assert overlaps(None, folder.record("colt-2", 0, 0)) == {}
