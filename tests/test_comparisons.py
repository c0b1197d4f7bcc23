"""Comparisons: values between rounds, pairs of replicates, what cannot be compared."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tombola.evidence.comparisons import compare, compare_over, reaches, shared_range, values_at
from tombola.evidence.statistics import interval_by_replicates
from tombola.ground.errors import ConfigError


def rounds(arm, k, values, rate=0.8, **more):
    """Records of an arm's rounds 0, 1, 2 …, with the given accuracies at densities rate ^ round."""
    return [
        {"arm": arm, "replicate": k, "round": r, "density": rate**r, "test_accuracy": value} | more
        for r, value in enumerate(values)
    ]


def test_a_value_between_rounds_is_linear_in_the_logarithm_of_the_density():
    found = values_at(rounds("a", 0, [0.8, 0.9, 0.5]), "a", 0.8**1.25)
    assert found[0].value == pytest.approx(0.75 * 0.9 + 0.25 * 0.5)
    assert (found[0].rounds, found[0].interpolated) == ((1, 2), True)


@pytest.mark.parametrize(
    ("kept", "rounds_"), [(100, (1,)), (102, (1,)), (103, (1, 2)), (97, (0, 1))]
)
def test_a_round_has_a_density_as_nearly_as_a_weight_in_each_layer(kept, rounds_):
    records = rounds("a", 0, [0.8, 0.9, 0.5])
    layers = {"one": [50, 500], "two": [kept - 50, 500]}
    records[1] |= {"density": kept / 1000, "prunable": 1000, "layers": layers}
    records[2]["density"] = 0.01
    found = values_at(records, "a", 0.1)[0]
    assert found.rounds == rounds_
    assert reaches(records[1], 0.1) == (kept <= 102)


def test_a_round_that_is_there_is_taken_as_it_is():
    records = rounds("a", 0, [0.8, 0.9, 0.5])
    records[1]["density"] = 0.80004  # counts are whole weights
    found = values_at(records, "a", 0.8)[0]
    assert (found.value, found.rounds, found.interpolated) == (0.9, (1,), False)


def test_nothing_is_extrapolated():
    assert values_at(rounds("a", 0, [0.8, 0.9]), "a", 0.5) == {}


def test_a_round_that_was_not_evaluated_is_not_passed_over():
    records = rounds("a", 0, [0.8, None, 0.5])
    assert values_at(records, "a", 0.9) == {}
    assert values_at(records, "a", 0.64)[0].value == 0.5


def test_the_dense_network_has_its_value_at_every_density():
    records = rounds("dense", 0, [0.97]) + rounds("a", 0, [0.5, 0.6])
    assert values_at(records, "dense", 0.01)[0].value == 0.97


def test_without_an_arm_of_its_own_dense_is_round_zero():
    assert values_at(rounds("a", 0, [0.97, 0.6]), "dense", 0.01)[0].value == 0.97


def test_a_network_trained_longer_has_the_value_of_its_long_training():
    records = [
        {"arm": "dense-long", "replicate": 0, "round": r, "density": 1.0, "test_accuracy": a}
        for r, a in ((0, 0.9), (6, 0.95))
    ]
    assert values_at(records, "dense-long", 0.3)[0].value == 0.95


def test_a_search_that_has_only_begun_is_not_the_dense_network():
    assert values_at(rounds("a", 0, [0.97]), "a", 0.5) == {}


def three(arm, shift=0.0):
    return [
        record
        for k, own in enumerate((0.90, 0.93, 0.91))
        for record in rounds(arm, k, [own, own + shift * (1 + 0.1 * k), own + 2 * shift])
    ]


def test_arms_are_compared_within_replicates():
    found = compare(three("a", 0.01) + three("b"), "a", "b", at=0.8)
    assert found.differences == pytest.approx([0.01, 0.011, 0.012])
    assert found.paired.mean == pytest.approx(0.011)
    assert (found.verdict, found.interpolated) == ("higher", False)
    assert found.p == pytest.approx(stats.ttest_1samp([0.01, 0.011, 0.012], 0).pvalue)


def test_a_replicate_that_only_one_arm_has_is_left_out_and_told():
    records = three("a", 0.01) + [record for record in three("b") if record["replicate"] != 1]
    found = compare(records, "a", "b", at=0.8)
    assert (list(found.values), found.unpaired) == ([0, 2], (1,))


def test_fewer_than_three_replicates_give_no_verdict():
    records = [record for record in three("a", 0.01) + three("b") if record["replicate"] < 2]
    found = compare(records, "a", "b", at=0.8, margin=0.01)
    assert (found.verdict, found.p, found.p_non_inferior) == (
        "no verdict (2 of 3 replicates)",
        None,
        None,
    )


def spread(arm, shifts):
    return [
        record for k, shift in enumerate(shifts) for record in rounds(arm, k, [0.9, 0.9 + shift])
    ]


@pytest.mark.parametrize(
    ("shifts", "margin", "verdict"),
    [
        ((0.02, 0.021, 0.022), 0.01, "higher"),
        ((-0.02, -0.021, -0.022), 0.01, "lower"),
        ((-0.001, 0.0, 0.001), 0.01, "equal within the margin"),
        ((-0.0058, -0.0071, -0.0084), 0.02, "lower, within the margin"),
        ((-0.003, -0.002, -0.001), 0.01, "equal within the margin"),
        ((-0.0022, -0.002, -0.0018), 0.01, "lower, within the margin"),
        ((-0.002, -0.002, -0.002, -0.002, -0.002), 0.01, "lower, within the margin"),
        ((-0.005, 0.001, 0.02), 0.02, "not worse by more than the margin"),
        ((-0.02, 0.0, 0.02), 0.01, "inconclusive"),
        ((-0.001, 0.0, 0.001), None, "no difference shown"),
        ((-0.02, -0.021, -0.022), None, "lower"),
    ],
)
def test_verdicts_say_what_the_replicates_show(shifts, margin, verdict):
    records = spread("a", shifts) + spread("b", [0.0] * len(shifts))
    assert compare(records, "a", "b", at=0.8, margin=margin).verdict == verdict


@given(
    shifts=st.lists(st.integers(-30, 30), min_size=3, max_size=6),
    margin=st.sampled_from([0.005, 0.01, 0.02]),
    looks=st.integers(1, 3),
)
def test_what_is_called_equal_lower_or_higher_agrees_with_the_interval_beside_it(
    shifts, margin, looks
):
    records = spread("a", [shift / 1000 for shift in shifts]) + spread("b", [0.0] * len(shifts))
    found = compare_over(records, "a", "b", at=[0.8, 0.85, 0.9][:looks], margin=margin)[0]
    low, high = found.paired.low, found.paired.high
    if found.verdict.startswith("equal"):
        assert low <= 1e-12
        assert high >= -1e-12
    if found.verdict.startswith("lower"):
        assert high < 0
    if found.verdict.startswith("higher"):
        assert low > 0


def test_several_densities_are_looked_at_together():
    records = spread("a", (0.001, 0.002, 0.003)) + spread("b", (0.0, 0.0, 0.0))
    alone = compare(records, "a", "b", at=0.8, margin=0.01)
    two = compare_over(records, "a", "b", at=[0.9, 0.8], margin=0.01)
    assert [one.looks for one in two] == [2, 2]
    # half the difference halfway: both have the same p-value
    assert two[1].p == pytest.approx(2 * alone.p)
    assert two[1].p_non_inferior >= alone.p_non_inferior
    assert compare(records, "a", "b", at=0.8, alpha=0.08).verdict == "higher"
    two = compare_over(records, "a", "b", at=[0.9, 0.8], alpha=0.08)
    assert two[1].verdict == "higher by itself, inconclusive over 2 densities"


def test_steps_can_be_compared_as_accuracies_are():
    records = rounds("a", 0, [0.9, 0.9], early_stop_step=100) + rounds(
        "b", 0, [0.9, 0.9], early_stop_step=150
    )
    assert compare(records, "a", "b", at=0.8, of="early_stop_step").differences == [-50]


def test_a_density_that_is_not_shared_is_refused_with_the_range_that_is():
    records = rounds("a", 0, [0.9, 0.9, 0.9]) + rounds("b", 0, [0.9, 0.9, 0.9], rate=0.7)
    with pytest.raises(
        ConfigError, match=r"a and b have no test_accuracy .* density 0.5 .* share 0.64 to 1"
    ):
        compare(records, "a", "b", at=0.5)


def test_the_shared_range_is_over_replicates_that_both_have():
    records = rounds("a", 0, [0.9, 0.9]) + rounds("b", 1, [0.9, 0.9])
    with pytest.raises(ConfigError, match="share no density"):
        shared_range(records, "a", "b")


@pytest.mark.parametrize(
    ("arms", "options", "message"),
    [
        (
            ("a", "lht"),
            {"at": 0.8},
            "no record is of arm 'lht'; there are: a, lth. Did you mean 'lth'?",
        ),
        (("a", "lth"), {"at": 0.0}, "at is 0"),
        (("a", "lth"), {"at": 20}, "at is 20"),
        (("a", "lth"), {"at": 0.8, "margin": 0.0}, "margin is 0"),
        (("a", "lth"), {"at": 0.8, "alpha": 5.0}, "alpha is 5"),
    ],
)
def test_what_cannot_be_compared_is_told_in_one_line(arms, options, message):
    records = rounds("a", 0, [0.9, 0.9]) + rounds("lth", 0, [0.9, 0.9])
    with pytest.raises(ConfigError) as caught:
        compare(records, *arms, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_comparing_an_arm_with_itself_finds_nothing():
    found = compare(three("a"), "a", "a", at=0.9, margin=0.001)
    assert found.differences == [0, 0, 0]
    assert (found.verdict, found.p, found.decidable) == ("inconclusive", 1.0, None)
    assert not math.isnan(found.paired.low)


# 1 / 2^4 is above 0.05, 1 / 2^5 below.
@pytest.mark.parametrize(("n", "verdict"), [(4, "inconclusive"), (5, "equal within the margin")])
def test_identical_tickets_are_equal_from_five_replicates_on(n, verdict):
    found = compare(spread("a", [0.0] * n) + spread("b", [0.0] * n), "a", "b", at=0.8, margin=0.001)
    assert (found.verdict, found.p_equivalent) == (verdict, 0.5**n)


def test_from_ten_replicates_on_there_is_a_bootstrap_interval_at_the_comparisons_level():
    shifts = list(np.random.default_rng(0).normal(0.01, 0.002, 10))
    ten = compare(spread("a", shifts) + spread("b", [0.0] * 10), "a", "b", at=0.8)
    assert ten.resampled == interval_by_replicates(ten.differences, 0.95)
    wider = compare(
        spread("a", shifts) + spread("b", [0.0] * 10), "a", "b", at=0.8, alpha=0.01
    ).resampled
    assert wider[0] < ten.resampled[0] < ten.paired.mean < ten.resampled[1] < wider[1]
    assert (
        compare(spread("a", shifts[:9]) + spread("b", [0.0] * 9), "a", "b", at=0.8).resampled
        is None
    )


def of(arm, **facts):
    return [one | facts for one in rounds(arm, 0, [0.9, 0.9])]


@pytest.mark.parametrize("other", ["b", "dense"])
@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            {"run_digest": "1" * 64},
            {"run_digest": "2" * 64},
            "run_digest is 11111111 in some and 22222222 in others;",
        ),
        ({"prunable": 100}, {"prunable": 200}, "prunable is 100 in some and 200 in others;"),
        (
            {"total": 10, "prunable": 1},
            {"total": 20, "prunable": 2},
            "prunable is 1 in some and 2 in others, total is",
        ),
    ],
)
def test_records_of_different_recipes_are_refused_with_what_differs(other, first, second, message):
    with pytest.raises(ConfigError) as caught:
        compare(of("a", **first) + of("b", **second), "a", other, at=0.8)
    told = str(caught.value)
    assert f"records are of different recipes: {message}" in told
    assert "\n" not in told
    assert "tombola runs merge" in told
    assert "tombola report RUN RUN" in told


def test_another_runs_dense_network_is_not_that_of_an_arm():
    mixed = of("lth", run_digest="1" * 64) + of("dense", run_digest="2" * 64)
    with pytest.raises(ConfigError, match="run_digest is 11111111 in some and 22222222 in others"):
        compare(mixed, "lth", "dense", at=0.8)
    without_an_arm = of("lth", run_digest="1" * 64) + of("a", run_digest="2" * 64)
    with pytest.raises(ConfigError, match="records of arm 'dense' are of different recipes"):
        values_at(without_an_arm, "dense", 0.8)


def test_two_definitions_of_an_arm_are_not_one():
    mixed = of("a", arm_digest="1" * 64) + [
        one | {"replicate": 1} for one in of("a", arm_digest="2" * 64)
    ]
    with pytest.raises(
        ConfigError, match="records of arm 'a' are of different recipes: arm_digest is 11111111 in"
    ):
        compare(mixed, "a", "a", at=0.8)


def test_records_that_lack_a_digest_and_arms_of_their_own_definitions_are_compared():
    records = of("a", run_digest="1" * 64, arm_digest="3" * 64) + of("b", arm_digest="4" * 64)
    assert compare(records, "a", "b", at=0.8).differences == [0]


def test_each_of_two_collections_is_of_one_recipe():
    one, two = of("a", run_digest="1" * 64), of("a", run_digest="2" * 64)
    assert compare(one, "a", "a", at=0.8, beside=two).differences == [0]
    with pytest.raises(ConfigError, match="different recipes"):
        compare(one, "a", "a", at=0.8, beside=two + of("b", run_digest="3" * 64))


def test_recipes_are_checked_once_however_many_densities_there_are():
    class Counted(dict):
        asked = 0

        def get(self, key, default=None):
            Counted.asked += key == "total"
            return super().get(key, default)

    records = [Counted(one) for arm in ("a", "b") for one in rounds(arm, 0, [0.9] * 50)]
    compare_over(records, "a", "b", at=[0.9])
    once, Counted.asked = Counted.asked, 0
    compare_over(records, "a", "b", at=[0.8, 0.7, 0.6, 0.5])
    assert Counted.asked == once


def test_what_no_record_has_is_told_with_what_it_might_be():
    records = rounds("a", 0, [0.9, 0.9]) + rounds("b", 0, [0.9, 0.9])
    with pytest.raises(ConfigError, match=r"no record has an entry 'test_acuracy'; there are: .*, test_accuracy\. Did "
                                          r"you mean 'test_accuracy'\?$"):  # fmt: skip
        compare(records, "a", "b", at=0.8, of="test_acuracy")
    with pytest.raises(ConfigError, match=r"no record has an entry 'nonsense'"):
        shared_range(records, "a", "b", of="nonsense")
    with pytest.raises(ConfigError, match=r"no record has an entry 'other'"):
        compare(
            [one | {"other": 1} for one in records], "a", "b", at=0.8, of="other", beside=records
        )


def test_only_numbers_are_compared():
    records = rounds("a", 0, [0.9, 0.9], curve={"step": [1]}) + rounds(
        "b", 0, [0.9, 0.9], curve=None
    )
    with pytest.raises(ConfigError, match="of is 'curve', which is a dict in the records"):
        compare(records, "a", "b", at=0.8, of="curve")


def test_an_arm_is_compared_with_that_of_another_run_replicate_by_replicate():
    def run(more, prunable):
        of = {"arm": "a", "round": 1, "density": 0.5, "prunable": prunable}
        return [
            {**of, "replicate": k, "test_accuracy": 0.8 + 0.01 * k + more * (k + 1)}
            for k in range(3)
        ]

    found = compare(run(0.01, 100), "a", "a", at=0.5, beside=run(0.0, 200))
    assert found.differences == pytest.approx([0.01, 0.02, 0.03])
