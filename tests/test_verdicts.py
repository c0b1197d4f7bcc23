"""Verdicts: each condition alone, all together, and how often a false one is given."""

import math

import numpy as np
import pytest
from scipy import stats

from tombola.errors import ConfigError
from tombola.verdicts import verdict


def ticket(arm, accuracies, steps=None, dense=0.9, dense_step=100):
    """Rounds 0 and 1 of an arm: the dense network, and a ticket with these accuracies and early-stop steps."""
    steps = steps or [80 + k for k in range(len(accuracies))]
    records = []
    for k, (accuracy, step) in enumerate(zip(accuracies, steps, strict=True)):
        own = {"arm": arm, "replicate": k, "evaluate_every": 10}
        records.append(own | {"round": 0, "density": 1.0, "test_accuracy": dense, "early_stop_step": dense_step})
        records.append(own | {"round": 1, "density": 0.5, "test_accuracy": accuracy, "early_stop_step": step})
    return records


GOOD, BAD = [0.900, 0.902, 0.901], [0.850, 0.852, 0.856]


def judged(*records, controls=("random",), **options):
    return verdict([one for arm in records for one in arm], "lth", at=0.5, margin=0.01, controls=controls, **options)


def states(found):
    return [condition.state for condition in found.conditions]


def test_a_ticket_that_meets_every_condition_is_winning():
    found = judged(ticket("lth", GOOD), ticket("random", BAD))
    assert (found.word, states(found), found.replicates) == ("winning", ["shown"] * 3, 3)
    assert not found.interpolated


def test_a_ticket_less_accurate_than_dense_is_losing():
    found = judged(ticket("lth", BAD), ticket("random", [0.80, 0.81, 0.82]))
    assert (found.word, states(found)) == ("losing", ["violated", "shown", "shown"])


def test_a_ticket_that_stops_later_is_losing():
    found = judged(ticket("lth", GOOD, [200, 201, 203]), ticket("random", BAD))
    assert (found.word, states(found)) == ("losing", ["shown", "violated", "shown"])


def test_a_ticket_worse_than_a_control_is_losing():
    found = judged(ticket("lth", GOOD), ticket("random", [0.950, 0.951, 0.953]))
    assert (found.word, states(found)) == ("losing", ["shown", "shown", "violated"])


def test_one_condition_that_is_not_shown_leaves_the_verdict_open():
    found = judged(ticket("lth", GOOD), ticket("random", [0.89, 0.91, 0.90]))
    assert (found.word, states(found)) == ("not shown", ["shown", "shown", "not shown"])


# Steps 5, 10 and 12 later, 9 on average: not shown to be within one evaluation interval of ten, but within 20.
def test_an_early_stop_may_be_one_evaluation_later_unless_said():
    later = ticket("lth", GOOD, [105, 110, 112]), ticket("random", BAD)
    assert judged(*later).conditions[1].state == "not shown"
    assert judged(*later, steps=20).conditions[1].state == "shown"
    assert judged(*later).conditions[1].bound == 10


def test_without_a_control_no_ticket_is_winning():
    found = judged(ticket("lth", GOOD), controls=())
    assert found.word == "not shown"
    assert "no arm is a control" in found.conditions[-1].why


def test_a_control_without_a_result_there_leaves_the_verdict_open():
    random = [record for record in ticket("random", BAD) if record["round"] == 0]
    found = judged(ticket("lth", GOOD), random)
    assert (found.word, found.conditions[2].why) == ("not shown", "it has no result there")


def test_without_validation_data_there_is_no_early_stop_to_judge():
    records = [record | {"early_stop_step": None} for record in ticket("lth", GOOD) + ticket("random", BAD)]
    found = judged(records)
    assert (found.word, found.conditions[1].state) == ("not shown", "not shown")
    assert "without validation data" in found.conditions[1].why


def test_two_replicates_give_no_verdict():
    found = judged(ticket("lth", GOOD[:2]), ticket("random", BAD))
    assert (found.word, found.replicates) == ("no verdict", 2)
    assert found.conditions[0].why == "2 of the 3 replicates that a verdict needs"


def test_a_verdict_needs_a_margin():
    with pytest.raises(ConfigError, match=r"needs a margin.*verdict: \{margin: 0.01\}"):
        verdict(ticket("lth", GOOD), "lth", at=0.5, margin=None)


def test_records_that_do_not_tell_the_interval_of_evaluations_need_steps():
    records = [record | {"evaluate_every": None} for record in ticket("lth", GOOD) + ticket("random", BAD)]
    assert judged(records).word == "not shown"
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
