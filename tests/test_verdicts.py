"""Verdicts: each condition alone, all together, and how often a false one is given."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tombola.evidence.comparisons import compare
from tombola.evidence.verdicts import verdict
from tombola.ground.errors import ConfigError
from tombola.ground.metrics import Metric


def ticket(arm, accuracies, steps=None, dense=0.9, dense_step=100):
    """Rounds 0 and 1 of an arm: the dense network, and a ticket with these accuracies and
    early-stop steps.
    """
    steps = steps or [80 + k for k in range(len(accuracies))]
    records = []
    for k, (accuracy, step) in enumerate(zip(accuracies, steps, strict=True)):
        own = {"arm": arm, "replicate": k, "evaluate_every": 10}
        records.append(
            own
            | {"round": 0, "density": 1.0, "test_accuracy": dense, "early_stop_step": dense_step}
        )
        records.append(
            own | {"round": 1, "density": 0.5, "test_accuracy": accuracy, "early_stop_step": step}
        )
    return records


GOOD, BAD = [0.900, 0.902, 0.901], [0.850, 0.852, 0.856]


def judged(*records, controls=("random",), **options):
    return verdict(
        [one for arm in records for one in arm],
        "lth",
        at=0.5,
        margin=0.01,
        controls=controls,
        **options,
    )


def states(found):
    return [condition.state for condition in found.conditions]


def test_a_ticket_that_meets_every_condition_is_winning():
    found = judged(ticket("lth", GOOD), ticket("random", BAD))
    assert (found.word, states(found), found.replicates) == ("winning", ["shown"] * 3, 3)
    assert not found.interpolated


def test_a_ticket_less_accurate_than_dense_is_losing():
    found = judged(ticket("lth", BAD), ticket("random", [0.80, 0.81, 0.82]))
    assert (found.word, states(found)) == ("losing", ["violated", "shown", "shown"])


@given(
    values=st.lists(st.floats(0.5, 1.5), min_size=6, max_size=6),
    margin=st.floats(0.01, 0.5),
)
def test_where_lower_is_better_a_verdict_is_that_of_the_negated_values(values, margin):
    """A law: with every value's sign changed, and the direction too, each condition is what it
    was.
    """
    error = Metric("error", fraction=False, higher=False)
    gain = Metric("gain", fraction=False)
    made = [*ticket("lth", values[:3], dense=1.0), *ticket("random", values[3:], dense=1.0)]
    lower = [record | {"test_error": record["test_accuracy"]} for record in made]
    higher = [record | {"test_gain": -record["test_accuracy"]} for record in made]
    one, other = (
        verdict(records, "lth", at=0.5, margin=margin, controls=["random"], metric=metric)
        for records, metric in ((lower, error), (higher, gain))
    )
    assert (one.word, states(one)) == (other.word, states(other))
    assert [c.p_shown for c in one.conditions] == pytest.approx(
        [c.p_shown for c in other.conditions]
    )
    assert (one.conditions[0].bound, other.conditions[0].bound) == (margin, -margin)
    words = [
        compare(records, "lth", "random", at=0.5, metric=metric, margin=margin).verdict
        for records, metric in ((lower, error), (higher, gain))
    ]
    swapped = {"higher": "lower", "lower": "higher"}
    assert words[0] == re.sub("higher|lower", lambda word: swapped[word[0]], words[1])


def test_a_lower_perplexity_by_hand_wins_and_a_higher_one_loses():
    perplexity = Metric("perplexity", fraction=False, higher=False)

    def told(values):
        made = [
            *ticket("lth", values, dense=12.0),
            *ticket("random", [14.0, 14.2, 14.1], dense=12.0),
        ]
        records = [record | {"test_perplexity": record["test_accuracy"]} for record in made]
        return verdict(records, "lth", at=0.5, margin=0.5, controls=["random"], metric=perplexity)

    good, bad = told([12.1, 12.2, 12.15]), told([13.0, 13.2, 13.1])
    assert (good.word, states(good)) == ("winning", ["shown"] * 3)
    assert (bad.word, states(bad)[0]) == ("losing", "violated")
    assert [condition.name for condition in good.conditions][::2] == [
        "as good as dense",
        "better than random",
    ]


def test_a_ticket_that_stops_later_is_losing():
    found = judged(ticket("lth", GOOD, [200, 201, 203]), ticket("random", BAD))
    assert (found.word, states(found)) == ("losing", ["shown", "violated", "shown"])


def test_a_ticket_worse_than_a_control_is_losing():
    found = judged(ticket("lth", GOOD), ticket("random", [0.950, 0.951, 0.953]))
    assert (found.word, states(found)) == ("losing", ["shown", "shown", "violated"])


def test_one_condition_that_is_not_shown_leaves_the_verdict_open():
    found = judged(ticket("lth", GOOD), ticket("random", [0.89, 0.91, 0.90]))
    assert (found.word, states(found)) == ("inconclusive", ["shown", "shown", "undecided"])


# Steps 5, 10 and 12 later, 9 on average: not shown to be within one evaluation interval of ten, but
# within 30. They are taken to scatter by an interval of ten, so within 20 is not shown: t = 11 /
# (10 / sqrt(3)) is below 2.92.
def test_an_early_stop_may_be_one_evaluation_later_unless_said():
    later = ticket("lth", GOOD, [105, 110, 112]), ticket("random", BAD)
    assert judged(*later).conditions[1].state == "undecided"
    assert judged(*later, steps=20).conditions[1].state == "undecided"
    assert judged(*later, steps=30).conditions[1].state == "shown"
    assert judged(*later).conditions[1].bound == 10


# By hand: 1 / 2^3 and 1 / 2^5.
@pytest.mark.parametrize(("n", "state", "p"), [(3, "undecided", 0.125), (5, "shown", 0.03125)])
def test_equal_early_stops_show_no_more_than_their_signs(n, state, p):
    found = judged(ticket("lth", GOOD[:1] * n, [50] * n), ticket("random", BAD[:1] * n)).conditions[
        1
    ]
    assert (found.state, found.p_shown) == (state, p)


@pytest.mark.parametrize("n", [3, 5])
def test_early_stops_on_the_lattice_of_evaluations_hold_the_level(n):
    """Half of the tickets stop with the dense network, half two evaluations later: one on
    average, the bound.
    """
    random, times = np.random.default_rng(n), 500
    late = 100 + 20 * random.integers(0, 2, size=(times, n))
    false = np.mean(
        [
            judged(ticket("lth", GOOD[:1] * n, list(steps)), controls=()).conditions[1].state
            == "shown"
            for steps in late
        ]
    )
    assert false <= 0.05 + stats.norm.ppf(0.995) * math.sqrt(0.05 * 0.95 / times)


def curves(records, *, of_round, ends, replicates=(0, 1, 2)):
    """Give the records of a round curves that end at a step; those of the others end later than
    any early stop.
    """
    return [
        record | {"curve": {"step": [10.0, ends if record["round"] == of_round and record["replicate"] in replicates
                                     else 1000.0]}}
        for record in records
    ]  # fmt: skip


EARLY, LATE = [70, 70, 60], [200, 210, 230]
ENDED = "training ended before its validation loss rose again"


def test_a_ticket_whose_training_ended_too_early_is_not_shown_to_stop_no_later():
    own = curves(ticket("lth", GOOD, EARLY), of_round=1, ends=70)
    found = judged(own, curves(ticket("random", BAD), of_round=1, ends=1000))
    condition = found.conditions[1]
    assert (found.word, states(found)) == ("inconclusive", ["shown", "undecided", "shown"])
    assert condition.why == f"the ticket's {ENDED} (2 of 3 replicates)"
    assert condition.paired.mean == pytest.approx(-100 / 3)
    assert (condition.p_shown, condition.state) == (1.0, "undecided")


def test_a_ticket_whose_training_ended_can_be_shown_to_stop_later():
    found = judged(curves(ticket("lth", GOOD, LATE), of_round=1, ends=200), ticket("random", BAD))
    assert (found.word, states(found)) == ("losing", ["shown", "violated", "shown"])
    assert found.conditions[1].why == ""


def test_where_the_dense_networks_training_ended_a_ticket_cannot_stop_too_late():
    late = curves(ticket("lth", GOOD, LATE), of_round=0, ends=100, replicates=[1])
    found = judged(late, [record for record in ticket("random", BAD) if record["round"]])
    assert (found.word, states(found)) == ("inconclusive", ["shown", "undecided", "shown"])
    assert found.conditions[1].why == f"the dense network's {ENDED} (1 of 3 replicates)"
    assert found.conditions[1].p_violated == 1.0


def test_where_the_dense_networks_training_ended_a_ticket_can_stop_no_later():
    random = [record for record in ticket("random", BAD) if record["round"]]
    found = judged(curves(ticket("lth", GOOD, EARLY), of_round=0, ends=100), random)
    assert (found.word, states(found), found.conditions[1].why) == ("winning", ["shown"] * 3, "")


def test_where_both_trainings_ended_nothing_is_known_of_early_stops():
    both = [
        one | {"curve": {"step": [100.0 if one["round"] == 0 else 70.0]}}
        for one in ticket("lth", GOOD, EARLY)
    ]
    condition = judged(both, controls=()).conditions[1]
    assert (
        condition.why
        == f"the ticket's {ENDED} (2 of 3 replicates); the dense network's {ENDED} (3 of 3 replicates)"
    )
    assert (condition.state, condition.p_shown, condition.p_violated) == ("undecided", 1.0, 1.0)


def test_only_the_rounds_that_a_value_rests_on_can_be_censored():
    lth = curves(ticket("lth", GOOD, EARLY), of_round=1, ends=1000)
    further = [record | {"round": 2, "density": 0.25, "early_stop_step": 70, "curve": {"step": [70.0]}}
               for record in lth if record["round"] == 1]  # fmt: skip
    both = [*lth, *further], curves(ticket("random", BAD), of_round=1, ends=1000)
    assert judged(*both).word == "winning"
    between = verdict([one for arm in both for one in arm], "lth", at=0.4, margin=0.01)
    assert between.conditions[1].why == f"the ticket's {ENDED} (3 of 3 replicates)"


def test_records_without_curves_are_judged_by_their_steps():
    own = [one | {"curve": None} for one in ticket("lth", GOOD, EARLY)]
    assert judged(own, ticket("random", BAD)).word == "winning"


def test_a_text_is_one_control():
    both = ticket("lth", GOOD), ticket("random", BAD)
    assert judged(*both, controls="random") == judged(*both, controls=["random"])


def test_without_a_control_no_ticket_is_winning():
    found = judged(ticket("lth", GOOD), controls=())
    assert found.word == "inconclusive"
    assert "no arm is a control" in found.conditions[-1].why


def test_a_control_without_a_result_there_leaves_the_verdict_open():
    random = [record for record in ticket("random", BAD) if record["round"] == 0]
    found = judged(ticket("lth", GOOD), random)
    assert (found.word, found.conditions[2].why) == ("inconclusive", "it has no result there")


def test_without_validation_data_there_is_no_early_stop_to_judge():
    records = [
        record | {"early_stop_step": None} for record in ticket("lth", GOOD) + ticket("random", BAD)
    ]
    found = judged(records)
    assert (found.word, found.conditions[1].state) == ("inconclusive", "undecided")
    assert "without validation data" in found.conditions[1].why


def test_two_replicates_give_no_verdict():
    found = judged(ticket("lth", GOOD[:2]), ticket("random", BAD))
    assert (found.word, found.replicates) == ("no verdict", 2)
    assert found.conditions[0].why == "2 of the 3 replicates that a verdict needs"


def test_a_control_with_two_replicates_gives_no_verdict():
    found = judged(ticket("lth", [0.900, 0.902, 0.901, 0.903, 0.900]), ticket("random", BAD[:2]))
    assert (found.word, found.replicates) == ("no verdict", 2)
    assert found.conditions[2].cause == "replicates"


@given(
    st.lists(st.integers(-30, 30), min_size=3, max_size=6),
    st.lists(st.integers(-4, 4), min_size=6, max_size=6),
)
def test_a_condition_is_shown_where_its_limit_is_beyond_its_bound(shifts, later):
    own = ticket(
        "lth",
        [0.9 + shift / 1000 for shift in shifts],
        [100 + 10 * k for k in later[: len(shifts)]],
    )
    found = judged(own, ticket("random", [0.89] * len(shifts)))
    for condition, below in zip(found.conditions, [False, True, False], strict=True):
        if condition.limits is None:  # all differences are equal: a sign test
            continue
        low, high = condition.limits
        assert low < condition.paired.mean < high
        assert (condition.state == "shown") == (
            high < condition.bound if below else low > condition.bound
        )
        if condition.state == "violated":
            assert low > condition.bound if below else high < condition.bound


def test_what_keeps_a_condition_from_being_decided_is_one_of_a_few_words():
    def causes(records, **options):
        return [condition.cause for condition in judged(records, **options).conditions]

    lth, random = ticket("lth", GOOD), ticket("random", BAD)
    assert causes(lth + random) == ["", "", ""]
    assert causes(lth, controls=()) == ["", "", "no control"]
    assert causes(lth + [one for one in random if one["round"] == 0]) == ["", "", "no result"]
    assert causes([one | {"early_stop_step": None} for one in lth + random]) == [
        "",
        "no validation",
        "",
    ]
    assert causes([one | {"evaluate_every": None} for one in lth + random]) == [
        "",
        "no interval",
        "",
    ]
    assert causes([one | {"curve": {"step": [70.0]}} for one in lth] + random) == [
        "",
        "censored",
        "",
    ]
    assert causes([one for one in lth + random if one["replicate"]]) == ["replicates"] * 3


def test_a_verdict_needs_a_margin():
    with pytest.raises(ConfigError, match=r"needs a margin.*verdict: \{margin: 0.01\}"):
        verdict(ticket("lth", GOOD), "lth", at=0.5, margin=None)


def test_records_that_do_not_tell_the_interval_of_evaluations_need_steps():
    records = [
        record | {"evaluate_every": None} for record in ticket("lth", GOOD) + ticket("random", BAD)
    ]
    assert judged(records).word == "inconclusive"
    assert "verdict.steps is not set" in judged(records).conditions[1].why
    assert judged(records, steps=10).word == "winning"


@pytest.mark.parametrize("at_its_bound", [0, 1, 2])
def test_winning_is_said_falsely_no_more_often_than_the_level(at_its_bound):
    """One condition lies exactly at its bound, the others hold by far."""
    random, times, false = np.random.default_rng(at_its_bound), 500, 0
    truth = [(0.0, 0.0, 0.0), (0.10, -100.0, 0.10)]  # accuracy, steps, accuracy above the control
    accuracy, steps, above = (truth[index != at_its_bound][index] for index in range(3))
    for _ in range(times):
        scores = 0.9 - 0.01 + accuracy + random.normal(0, 0.004, 5)
        late = 100 + 10 + steps + random.normal(0, 8, 5)
        controls = scores - above - random.normal(0, 0.004, 5)
        found = judged(ticket("lth", list(scores), list(late)), ticket("random", list(controls)))
        false += found.word == "winning"
    assert false / times <= 0.05 + stats.norm.ppf(0.995) * math.sqrt(0.05 * 0.95 / times)
    assert false  # the simulation is at the bound, not beyond it


def test_losing_is_said_falsely_no_more_often_than_the_level_over_all_conditions():
    random, times, false = np.random.default_rng(9), 500, 0
    for _ in range(times):
        scores = 0.9 - 0.01 + random.normal(0, 0.004, 5)
        late = 110 + random.normal(0, 8, 5)
        controls = scores + random.normal(0, 0.004, 5)
        found = judged(ticket("lth", list(scores), list(late)), ticket("random", list(controls)))
        false += found.word == "losing"
    assert 0 < false / times <= 0.05 + stats.norm.ppf(0.995) * math.sqrt(0.05 * 0.95 / times)


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_every_condition_has_its_limits_at_the_level_of_the_verdict(alpha):
    found = judged(ticket("lth", GOOD), ticket("random", BAD), alpha=alpha)
    quantile = stats.t.ppf(1 - alpha, df=len(GOOD) - 1)
    for condition, other in zip(found.conditions[::2], ([0.9] * 3, BAD), strict=True):
        differences = np.subtract(GOOD, other)
        error = differences.std(ddof=1) / math.sqrt(len(GOOD))
        least, most = condition.limits
        assert least == pytest.approx(differences.mean() - quantile * error)
        assert most == pytest.approx(differences.mean() + quantile * error)
