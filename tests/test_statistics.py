"""Statistics: hand-worked cases, second implementations, and simulations in which the truth is
known.
"""

import math

import numpy as np
import pytest
from scipy import stats

from tombola.evidence import statistics

TIMES = 2000  # simulated experiments


def band(probability):
    """Half the width of the band in which 99 % of all simulated rates fall."""
    return stats.norm.ppf(0.995) * math.sqrt(probability * (1 - probability) / TIMES)


def experiments(n, truth, seed=0):
    return np.random.default_rng(seed).normal(truth, 0.004, size=(TIMES, n))


# By hand: 1, 2, 3 have mean 2 and deviation 1; t of 2 degrees of freedom at 0.975 is 4.3027, over
# sqrt(3) 2.4842.
def test_the_interval_of_three_differences_is_the_one_worked_out_by_hand():
    found = statistics.paired([1.0, 2.0, 3.0])
    assert (found.n, found.mean, found.deviation) == (3, 2.0, 1.0)
    assert found.low == pytest.approx(2 - 2.4842, abs=1e-4)
    assert found.high == pytest.approx(2 + 2.4842, abs=1e-4)


def test_one_replicate_has_a_mean_and_no_interval():
    found = statistics.paired([0.5])
    assert (found.mean, found.deviation, found.low, found.high) == (0.5, None, None, None)


# By hand: mean -0.001, deviation 0.001, so t = (-0.001 + 0.003) / (0.001 / sqrt(3)) = 3.4641; with
# two degrees of freedom P(T > t) = 1/2 - t / (2 sqrt(2 + t^2)) = 0.0371.
def test_non_inferiority_is_the_one_sided_test_against_the_margin():
    t = 2 * math.sqrt(3)
    expected = 0.5 - t / (2 * math.sqrt(2 + t * t))
    assert statistics.p_non_inferior([-0.002, -0.001, 0.0], 0.003) == pytest.approx(expected)
    assert expected == pytest.approx(0.0371, abs=1e-4)


def test_the_t_test_is_scipys():
    for n in (2, 5, 20):
        differences = list(np.random.default_rng(n).normal(0.1, 1, n))
        one_sided = stats.ttest_1samp(differences, -0.3, alternative="greater").pvalue
        assert statistics.p_above(differences, -0.3) == pytest.approx(one_sided, rel=1e-9)
        assert statistics.p_different(differences) == pytest.approx(
            stats.ttest_1samp(differences, 0).pvalue, rel=1e-9
        )
        interval = stats.ttest_1samp(differences, 0).confidence_interval(0.9)
        found = statistics.paired(differences, 0.9)
        assert (found.low, found.high) == pytest.approx(tuple(interval), rel=1e-9)


def test_equivalence_is_the_weaker_of_the_two_sides():
    differences = [-0.002, -0.001, 0.0]
    both = statistics.p_above(differences, -0.003), statistics.p_below(differences, 0.003)
    assert statistics.p_equivalent(differences, 0.003) == max(both) == both[0]


# By hand: n signs that are all alike have the probability 1 / 2^n.
def test_differences_without_spread_say_no_more_than_their_signs():
    assert statistics.p_above([0.01] * 3, 0.0) == 0.125
    assert statistics.p_above([0.01] * 5, 0.0) == 0.03125
    assert statistics.p_above([0.0] * 3, 0.0) == 1.0
    assert statistics.p_above([-0.01] * 5, 0.0) == 1.0
    assert statistics.p_different([0.0] * 3) == 1.0
    assert statistics.p_different([0.01] * 5) == 0.0625
    assert statistics.p_below([0.3 - 0.2, 0.1, 0.1], 0.1) == 1.0  # equal but for rounding
    assert statistics.p_below([0.3 - 0.2, 0.1, 0.1], 0.2) == 0.125
    assert (
        statistics.p_equivalent([0.0] * 5, 0.01)
        == statistics.p_non_inferior([0.0] * 5, 0.01)
        == 0.03125
    )


# By hand: mean 2, taken deviation 2, so t = 2 / (2 / sqrt(3)); with two degrees of freedom 1/2 - t
# / (2 sqrt(2 + t^2)).
def test_values_on_a_lattice_scatter_no_less_than_its_distance():
    t = math.sqrt(3)
    assert statistics.p_above([1.0, 2.0, 3.0], resolution=2.0) == pytest.approx(
        0.5 - t / (2 * math.sqrt(2 + t * t))
    )
    assert statistics.p_above([1.0, 2.0, 3.0], resolution=0.5) == statistics.p_above(
        [1.0, 2.0, 3.0]
    )
    assert statistics.p_below([-1.0, -2.0, -3.0], resolution=2.0) == statistics.p_above(
        [1.0, 2.0, 3.0], 0.0, 2.0
    )


def test_without_spread_neither_test_alone_shows_more_than_both():
    # by t alone it would be 0.00002
    assert statistics.p_above([100.0] * 3, resolution=1.0) == 0.125
    # above 1 / 32
    assert statistics.p_above([1.0] * 5, resolution=1.0) == pytest.approx(
        stats.t.sf(math.sqrt(5), 4)
    )
    assert statistics.p_above([0.0] * 5, resolution=1.0) == 1.0


def test_a_resolution_is_not_below_zero():
    with pytest.raises(ValueError, match="resolution is -1"):
        statistics.p_above([1.0, 2.0], resolution=-1)


# Early stops are multiples of the evaluation interval, here 1: 0 or 2, so that the truth is at the
# margin.
@pytest.mark.parametrize("n", [3, 4, 5])
def test_on_a_lattice_the_level_holds_at_the_margin(n):
    late = 2.0 * np.random.default_rng(n).integers(0, 2, size=(TIMES, n))
    false = np.mean([statistics.p_below(list(d), 1.0, resolution=1.0) <= 0.05 for d in late])
    assert false <= 0.05 + band(0.05)


@pytest.mark.parametrize("n", [3, 5])
def test_non_inferiority_is_claimed_falsely_no_more_often_than_its_level(n):
    false = np.mean(
        [statistics.p_non_inferior(list(d), 0.01) <= 0.05 for d in experiments(n, truth=-0.01)]
    )
    assert abs(false - 0.05) <= band(0.05)


def test_equivalence_is_claimed_falsely_no_more_often_than_its_level():
    false = np.mean(
        [statistics.p_equivalent(list(d), 0.01) <= 0.05 for d in experiments(5, truth=0.01)]
    )
    assert false <= 0.05 + band(0.05)


# The t statistic under a true effect is noncentral t: its tail is what the test must find.
@pytest.mark.parametrize("n", [3, 5])
def test_a_known_effect_is_found_as_often_as_theory_says(n):
    found = np.mean(
        [
            statistics.p_non_inferior(list(d), 0.01) <= 0.05
            for d in experiments(n, truth=0.0, seed=1)
        ]
    )
    power = stats.nct.sf(stats.t.ppf(0.95, n - 1), n - 1, 0.01 / 0.004 * math.sqrt(n))
    assert abs(found - power) <= band(power)


@pytest.mark.parametrize("n", [3, 5])
def test_intervals_hold_the_truth_as_often_as_they_say(n):
    intervals = [statistics.paired(list(d)) for d in experiments(n, truth=0.002, seed=2)]
    covered = np.mean([one.low <= 0.002 <= one.high for one in intervals])
    assert abs(covered - 0.95) <= band(0.95)


def test_the_decidable_margin_is_where_arms_that_are_equal_on_average_are_just_shown():
    differences = [-0.003, 0.001, 0.002]
    margin = statistics.decidable_margin(differences)
    assert statistics.p_non_inferior(differences, margin) == pytest.approx(0.05)


def test_too_few_differences_without_spread_decide_no_margin():
    assert statistics.decidable_margin([0.01] * 4) == math.inf
    assert statistics.decidable_margin([0.01] * 5) == 0.0


@pytest.mark.parametrize("n", [3, 5, 8])
def test_a_rank_test_cannot_come_below_one_in_two_to_the_n(n):
    assert statistics.p_wilcoxon([0.001 * (k + 1) for k in range(n)]) == 0.5**n
    assert statistics.p_wilcoxon([0.0] * n) == 1.0


# By hand, the example of a 3-fold look: 0.01 x 3, then 0.03 x 2, then the highest before it.
def test_holm_multiplies_by_how_many_are_left_and_never_falls():
    assert statistics.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert statistics.holm([0.5, 0.9]) == [1.0, 1.0]
    assert statistics.holm([]) == []


def test_holm_keeps_the_probability_of_any_false_alarm():
    random = np.random.default_rng(3)
    alarms = [min(statistics.holm(list(random.uniform(size=4)))) <= 0.05 for _ in range(TIMES)]
    assert abs(np.mean(alarms) - 0.05) <= band(0.05)


# By hand: of 10 examples on which the models disagree one has 8 right; two-sided binomial 2 (1 + 10
# + 45) / 1024.
def test_mcnemar_counts_the_examples_on_which_two_models_disagree():
    first = [True] * 8 + [False] * 2 + [True] * 5
    second = [False] * 8 + [True] * 2 + [True] * 5
    found = statistics.mcnemar(first, second)
    assert (found.first_only, found.second_only) == (8, 2)
    assert found.p == pytest.approx(2 * (1 + 10 + 45) / 1024)
    assert statistics.mcnemar(first, first).p == 1.0


def test_mcnemar_refuses_other_examples():
    with pytest.raises(ValueError, match="the same"):
        statistics.mcnemar([True], [True, False])


# Theory: the mean of independent examples has the deviation of one over the root of their number.
def test_the_deviation_by_examples_is_that_of_a_mean():
    random = np.random.default_rng(4)
    right, other = random.uniform(size=(3, 5000)) < 0.9, random.uniform(size=(3, 5000)) < 0.8
    differences = (right.astype(float) - other).mean(axis=0)
    expected = differences.std(ddof=1) / math.sqrt(5000)
    assert statistics.deviation_by_examples(right, other) == pytest.approx(expected, rel=0.1)


def test_replicates_are_bootstrapped_from_ten_on():
    with pytest.raises(ValueError, match="10 replicates or more are needed, and there are 9"):
        statistics.interval_by_replicates([0.1] * 9)
    low, high = statistics.interval_by_replicates(list(np.random.default_rng(5).normal(1, 0.1, 12)))
    assert 0.9 < low < 1 < high < 1.1
    assert statistics.interval_by_replicates([0.1] * 10) == (0.1, 0.1)


@pytest.mark.parametrize("bad", [[], [math.nan], [0.1, math.inf]])
def test_a_difference_is_a_finite_number(bad):
    with pytest.raises(ValueError, match=r"needed|finite"):
        statistics.paired(bad)


def test_a_margin_is_above_zero():
    with pytest.raises(ValueError, match=r"margin is -0\.01"):
        statistics.p_non_inferior([0.1, 0.2], -0.01)
