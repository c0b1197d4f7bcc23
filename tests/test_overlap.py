"""Overlap against chance: by hand, against scipy, and against masks drawn at random."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from tombola.evidence.overlap import Overlap, by_chance, overlaps, similarities, together
from tombola.experiments.experiment import run
from tombola.folder.runs import Run
from tombola.schema.recipe import parse


# By hand: of 10 weights one keeps 5, another 4; by chance 5 * 4 / 10 = 2 in common. They prune 5
# and 6, either one 7 of the 10 when 3 are common, so both prune 5 + 6 - 7 = 4: Jaccard 4 / 7. By
# chance: either 8, both 3.
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
    drawn = []
    for _ in range(4000):
        candidates = [set(random.choice(before, n, replace=False)) for n in kept]
        drawn.append(len(set.intersection(*candidates)))
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


# By hand: layers pruned at 10 % and 50 % by both of two cuts: chance keeps 0.81 * 100 + 0.25 * 100
# of 200, 53 %; one rate for both, 30 %, gives 49 %.
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
    mask = {
        name: torch.ones(layer[1], dtype=torch.bool) for name, layer in record["layers"].items()
    }
    for name, layer in found.items():
        kept = [int(one[name].sum()) for one in folder.candidates("colt-2", 0, 2, mask)]
        assert (layer.kept, layer.before) == (tuple(kept), before["layers"][name][0])
        assert layer.common == record["layers"][name][0]
    assert together(found).fraction == pytest.approx(record["kept_fraction"])
    assert overlaps(None, folder.record("colt-2", 0, 0)) == {}


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("before", range(5))
def test_chance_is_what_counting_every_case_gives(before, number):
    subsets = {
        size: list(itertools.combinations(range(before), size)) for size in range(before + 1)
    }
    for kept in itertools.product(range(before + 1), repeat=number):
        every = itertools.product(*(subsets[size] for size in kept))
        common = [len(set.intersection(*map(set, chosen))) for chosen in every]
        mean = sum(common) / len(common)
        deviation = math.sqrt(sum((one - mean) ** 2 for one in common) / len(common))
        assert by_chance(before, kept) == pytest.approx((mean, deviation), abs=1e-6), kept


def test_beyond_chance_is_the_place_between_chance_and_the_most_there_can_be():
    # 10 weights, 5 and 4 kept: 2 in common by chance, 4 at most. 3 lie half way, 1 as far below
    # chance.
    assert [Overlap(10, (5, 4), common, 2.0, 1.0).beyond_chance for common in (2, 3, 4, 1)] == [
        0.0,
        0.5,
        1.0,
        -0.5,
    ]
    # Where one keeps all there is no place between the two.
    assert Overlap(10, (10, 5), 5, 5.0, 0.0).beyond_chance is None


def test_jaccard_of_one_rate_and_the_most_that_there_can_be_by_hand():
    # Kept 5 and 4 of 10; by chance 2 in common at any rates. At most 4: 5 and 6 pruned, 5 of them
    # by both.
    found = Overlap(10, (5, 4), 3, 2.0, 1.0)
    assert found.jaccard_of_one_rate == pytest.approx(3 / 8)
    assert found.jaccard_at_most == pytest.approx(5 / 6)


def test_the_overlap_with_a_mask_by_size_takes_the_count_of_the_ticket_that_is_asked_for():
    line = {"layers": {"w": [10, 5, 4, 3, 2, 1]}}
    assert similarities(line)["w"].common == 3
    assert [similarities(line, by_start=which)["w"].common for which in (0, 1)] == [2, 1]
