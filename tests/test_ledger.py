"""The ledger, against counts by hand."""

import pytest

from tombola.experiment import run
from tombola.ledger import accounts, at_equal_cost, spent, to_reach, total
from tombola.recipe import parse
from tombola.records import Cost, costs_of

pytestmark = pytest.mark.usefixtures("undrawn")

WHOLE, HALF = 1000, 500  # samples of a training on all data, and on one of two partitions


def record(arm, index, density, costs, replicate=0, accuracy=0.9):
    same = {"arm": arm, "replicate": replicate, "round": index, "density": density, "test_accuracy": accuracy}
    return same | {"costs": [cost.plain() for cost in costs]}


def cost(role, training, samples=WHOLE, flops=None):
    return Cost(role, training, samples, 1.0, samples // 10, flops, flops and flops // 2, 0.5, 7)


def lth(rounds, rate=0.8):
    """Round r + 1 of LTH is the evaluation of ticket r."""
    found = [record("lth", 0, 1.0, [cost("evaluation", "0")])]
    for r in range(1, rounds + 1):
        found.append(record("lth", r, rate**r, [cost("search", f"{r - 1}"), cost("evaluation", f"{r}")]))
    return found


def colt(rounds, kept=0.7225):
    """Two trainings on half the data a round, and an evaluation that serves nothing else."""
    found = [record("colt-2", 0, 1.0, [cost("evaluation", "0")])]
    for r in range(1, rounds + 1):
        halves = [cost("search", f"{r}{part}", HALF) for part in "ab"]
        found.append(record("colt-2", r, kept**r, [*halves, cost("evaluation", f"colt {r}")]))
    return found


# By hand, as for the paper's Table IV: at 2.25 % LTH has done 17 rounds for 18 trainings, with all
# accuracies; COLT-2 comes to 2.02 % in 12 rounds, for 12 + 1 trainings with one accuracy, 12 + 13 with all of them.
def test_what_a_density_costs_in_full_data_trainings():
    [one] = to_reach(lth(17), 0.0226)
    assert (one.rounds, one.search, one.own, one.whole) == (17, 17, 18, 18)
    [other] = to_reach(colt(12), 0.0226)
    assert (other.rounds, other.search, other.own, other.whole) == (12, 12, 13, 25)


def test_a_density_that_an_arm_does_not_reach_has_no_cost():
    assert [one.arm for one in to_reach(lth(3) + colt(3), 0.5)] == ["colt-2"]


def test_costs_are_means_over_the_replicates_that_get_there():
    records = lth(3) + [one | {"replicate": 1} for one in lth(2)]
    [one] = to_reach(records, 0.52)
    assert (one.replicates, one.rounds, one.whole) == (1, 3, 4)


def test_each_training_is_charged_once_to_an_arm_and_done_once_by_a_run():
    charged, done = spent(lth(2) + colt(2))
    assert charged.samples == 3 * WHOLE + 5 * WHOLE
    assert done.samples == charged.samples - WHOLE  # both begin with the dense network
    assert (charged.trainings, done.trainings) == (3 + 7, 9)
    assert charged.steps == charged.samples // 10
    assert charged.flops is None  # not counted in these records


def test_for_a_budget_each_arm_has_the_sparsest_ticket_it_pays_for():
    found = {one.arm: one for one in at_equal_cost(lth(5) + colt(5), 4)}
    assert found["lth"].density == pytest.approx(0.8**3)  # 3 rounds, and the evaluation
    assert found["colt-2"].density == pytest.approx(0.7225**3)
    assert at_equal_cost(lth(5), 1) == []


def test_the_dense_network_trained_longer_is_one_training():
    long = [record("dense-long", 0, 1.0, [cost("evaluation", "0")]),
            record("dense-long", 9, 1.0, [cost("evaluation", "long", 9 * WHOLE)])]  # fmt: skip
    assert [account.trainings() for account in accounts(long)] == [1, 9]


def test_flops_and_memory_add_up_as_they_should():
    found = total([cost("search", "a", flops=100), cost("search", "b", flops=60), cost("evaluation", "a", flops=100)])
    assert (found.flops, found.flops_sparse, found.peak_bytes, found.process_seconds) == (160, 80, 7, 1.0)


def test_costs_of_older_records_are_read():
    [old] = costs_of({"costs": [["search", "ab", 600, 1.5]]})
    assert (old.role, old.samples, old.seconds, old.flops) == ("search", 600, 1.5, None)


# By hand: LeNet-300-100 on 8 x 8 images takes 2 (64 * 300 + 300 * 100 + 100 * 10) FLOPs forward, as many for the
# gradients of its weights, and 2 (300 * 100 + 100 * 10) for those of the layers' inputs; the first needs none.
# In half of the classes the output layer has 5 of its 10 units.
def test_the_ledger_of_a_run_is_the_count_by_hand(tmp_path):
    whole = {
        "name": "counted", "training": {"epochs": 1, "lr": 0.05}, "until": {"rounds": 1}, "device": "cpu",
        "arms": {"lth": {"method": "lth", "rate": 0.5, "scope": "per_layer"},
                 "colt-2": {"method": "colt", "rate": 0.1}},
    }  # fmt: skip
    records = {(r["arm"], r["round"]): r for r in run(parse(whole), runs=tmp_path, workers=1).records}
    first, second, head = 64 * 300, 300 * 100, 100 * 10
    forward = 2 * (first + second + head)
    training = 2 * forward + 2 * (second + head)
    [dense] = costs_of(records["lth", 0])
    assert dense.flops == dense.flops_sparse == dense.samples * training
    assert dense.steps == -(-dense.samples // 64)
    assert dense.peak_bytes > 10**6
    ticket = costs_of(records["lth", 1])[-1]
    assert records["lth", 1]["layers"] == {"fc1.weight": [first // 2, first], "fc2.weight": [second // 2, second]}
    assert ticket.flops == ticket.samples * training
    assert ticket.flops_sparse == ticket.samples * (training - 2 * first - 3 * second)
    assert records["lth", 1]["inference_flops"] == [forward, forward - first - second]
    halves = [one for one in costs_of(records["colt-2", 1]) if one.role == "search"]
    half = training - 6 * head // 2
    assert [one.flops for one in halves] == [one.samples * half for one in halves]
    assert sum(one.samples for one in halves) == dense.samples
