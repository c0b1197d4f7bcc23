"""Comparisons: values between rounds, pairs of replicates, what cannot be compared."""

import math

import pytest

from tombola.comparisons import compare, compare_over, reaches, shared_range, values_at
from tombola.errors import ConfigError


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


@pytest.mark.parametrize(("kept", "rounds_"), [(100, (1,)), (102, (1,)), (103, (1, 2)), (97, (0, 1))])
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
        for record in rounds(arm, k, [own, own + shift + 0.001 * k, own + 2 * shift])
    ]


def test_arms_are_compared_within_replicates():
    found = compare(three("a", 0.01) + three("b"), "a", "b", at=0.8)
    assert found.differences == pytest.approx([0.01, 0.01, 0.01])
    assert found.paired.mean == pytest.approx(0.01)
    assert (found.verdict, found.p, found.interpolated) == ("higher", 0.0, False)


def test_a_replicate_that_only_one_arm_has_is_left_out_and_told():
    records = three("a", 0.01) + [record for record in three("b") if record["replicate"] != 1]
    found = compare(records, "a", "b", at=0.8)
    assert (list(found.values), found.unpaired) == ([0, 2], (1,))


def test_fewer_than_three_replicates_give_no_verdict():
    records = [record for record in three("a", 0.01) + three("b") if record["replicate"] < 2]
    found = compare(records, "a", "b", at=0.8, margin=0.01)
    assert (found.verdict, found.p, found.p_non_inferior) == ("no verdict (2 of 3 replicates)", None, None)


def spread(arm, shifts):
    return [record for k, shift in enumerate(shifts) for record in rounds(arm, k, [0.9, 0.9 + shift])]


@pytest.mark.parametrize(
    ("shifts", "margin", "verdict"),
    [
        ((0.02, 0.021, 0.022), 0.01, "higher"),
        ((-0.02, -0.021, -0.022), 0.01, "lower"),
        ((-0.001, 0.0, 0.001), 0.01, "equal within the margin"),
        ((-0.005, 0.001, 0.02), 0.02, "not worse than the margin"),
        ((-0.02, 0.0, 0.02), 0.01, "not shown"),
        ((-0.001, 0.0, 0.001), None, "no difference shown"),
        ((-0.02, -0.021, -0.022), None, "lower"),
    ],
)
def test_verdicts_say_what_the_replicates_show(shifts, margin, verdict):
    records = spread("a", shifts) + spread("b", (0.0, 0.0, 0.0))
    assert compare(records, "a", "b", at=0.8, margin=margin).verdict == verdict


def test_several_densities_are_looked_at_together():
    records = spread("a", (0.001, 0.002, 0.003)) + spread("b", (0.0, 0.0, 0.0))
    alone = compare(records, "a", "b", at=0.8, margin=0.01)
    two = compare_over(records, "a", "b", at=[0.9, 0.8], margin=0.01)
    assert [one.looks for one in two] == [2, 2]
    assert two[1].p == pytest.approx(2 * alone.p)  # half the difference halfway: both have the same p-value
    assert two[1].p_non_inferior >= alone.p_non_inferior
    assert compare(records, "a", "b", at=0.8, alpha=0.08).verdict == "higher"
    two = compare_over(records, "a", "b", at=[0.9, 0.8], alpha=0.08)
    assert two[1].verdict == "higher by itself, not shown over 2 densities"


def test_steps_can_be_compared_as_accuracies_are():
    records = rounds("a", 0, [0.9, 0.9], early_stop_step=100) + rounds("b", 0, [0.9, 0.9], early_stop_step=150)
    assert compare(records, "a", "b", at=0.8, of="early_stop_step").differences == [-50]


def test_a_density_that_is_not_shared_is_refused_with_the_range_that_is():
    records = rounds("a", 0, [0.9, 0.9, 0.9]) + rounds("b", 0, [0.9, 0.9, 0.9], rate=0.7)
    with pytest.raises(ConfigError, match=r"a and b have no test_accuracy .* density 0.5 .* share 0.64 to 1"):
        compare(records, "a", "b", at=0.5)


def test_the_shared_range_is_over_replicates_that_both_have():
    records = rounds("a", 0, [0.9, 0.9]) + rounds("b", 1, [0.9, 0.9])
    with pytest.raises(ConfigError, match="share no density"):
        shared_range(records, "a", "b")


@pytest.mark.parametrize(
    ("arms", "options", "message"),
    [
        (("a", "lht"), {"at": 0.8}, "no record is of arm 'lht'; there are: a, lth. Did you mean 'lth'?"),
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
    assert (found.verdict, found.p, found.decidable) == ("equal within the margin", 1.0, 0.0)
    assert not math.isnan(found.paired.low)


def test_records_of_different_recipes_are_refused_with_the_entry_in_which_they_differ():
    one = {"arm": "a", "replicate": 0, "round": 0, "density": 1.0, "test_accuracy": 0.9, "prunable": 100}
    with pytest.raises(
        ConfigError, match="arm 'a' are of different recipes: prunable is 100 in some and 200 in others"
    ):
        compare([one, one | {"replicate": 1, "prunable": 200}], "a", "a", at=1.0)


def test_an_arm_is_compared_with_that_of_another_run_replicate_by_replicate():
    def run(more, prunable):
        of = {"arm": "a", "round": 1, "density": 0.5, "prunable": prunable}
        return [{**of, "replicate": k, "test_accuracy": 0.8 + 0.01 * k + more * (k + 1)} for k in range(3)]

    found = compare(run(0.01, 100), "a", "a", at=0.5, beside=run(0.0, 200))
    assert found.differences == pytest.approx([0.01, 0.02, 0.03])
