"""The ledger, against counts by hand."""

import pytest

from tombola.evidence.ledger import (
    accounts,
    at_equal_cost,
    budgets,
    independent_arms,
    sources,
    spent,
    to_reach,
    total,
    unsearched,
)
from tombola.experiments.experiment import run
from tombola.records.records import Cost, costs_of
from tombola.schema.recipe import parse

WHOLE, HALF = 1000, 500  # samples of a training on all data, and on one of two partitions


def record(arm, index, density, costs, replicate=0, accuracy=0.9):
    same = {
        "arm": arm,
        "replicate": replicate,
        "round": index,
        "density": density,
        "test_accuracy": accuracy,
    }
    return same | {"costs": [cost.to_dict() for cost in costs]}


def cost(role, training, samples=WHOLE, flops=None):
    return Cost(role, training, samples, 1.0, samples // 10, flops, flops and flops // 2, 0.5, 7)


def lth(rounds, rate=0.8):
    """Round r + 1 of LTH is the evaluation of ticket r."""
    found = [record("lth", 0, 1.0, [cost("evaluation", "0")])]
    for r in range(1, rounds + 1):
        found.append(
            record("lth", r, rate**r, [cost("search", f"{r - 1}"), cost("evaluation", f"{r}")])
        )
    return found


def colt(rounds, kept=0.7225):
    """Two trainings on half the data a round, and an evaluation that serves nothing else."""
    found = [record("colt-2", 0, 1.0, [cost("evaluation", "0")])]
    for r in range(1, rounds + 1):
        halves = [cost("search", f"{r}{part}", HALF) for part in "ab"]
        found.append(record("colt-2", r, kept**r, [*halves, cost("evaluation", f"colt {r}")]))
    return found


# By hand, as for the paper's Table IV: at 2.25 % LTH has done 17 rounds for 18 trainings, with all
# accuracies; COLT-2 comes to 2.02 % in 12 rounds, for 12 + 1 trainings with one accuracy, 12 + 13
# with all of them.
def test_what_a_density_costs_in_full_data_trainings():
    [one] = to_reach(lth(17), 0.0226)
    assert (one.rounds, one.search, one.this_ticket, one.so_far) == (17, 17, 18, 18)
    [other] = to_reach(colt(12), 0.0226)
    assert (other.rounds, other.search, other.this_ticket, other.so_far) == (12, 12, 13, 25)


def test_a_density_that_an_arm_does_not_reach_has_no_cost():
    assert [one.arm for one in to_reach(lth(3) + colt(3), 0.5)] == ["colt-2"]


def test_costs_are_means_over_the_replicates_that_get_there():
    records = lth(3) + [one | {"replicate": 1} for one in lth(2)]
    [one] = to_reach(records, 0.52)
    assert (one.replicates, one.rounds, one.so_far) == (1, 3, 4)


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
    assert [account.trainings(account.so_far) for account in accounts(long)] == [1, 9]


def test_flops_and_memory_add_up_as_they_should():
    found = total(
        [
            cost("search", "a", flops=100),
            cost("search", "b", flops=60),
            cost("evaluation", "a", flops=100),
        ]
    )
    assert (found.flops, found.flops_sparse, found.peak_bytes, found.process_seconds) == (
        160,
        80,
        7,
        1.0,
    )


def test_costs_of_older_records_are_read():
    [old] = costs_of({"costs": [["search", "ab", 600, 1.5]]})
    assert (old.role, old.samples, old.seconds, old.flops) == ("search", 600, 1.5, None)


# By hand: LeNet-300-100 on 8 x 8 images takes 2 (64 * 300 + 300 * 100 + 100 * 10) FLOPs forward, as
# many for the gradients of its weights, and 2 (300 * 100 + 100 * 10) for those of the layers'
# inputs; the first needs none. In half of the classes the output layer has 5 of its 10 units.
def test_the_ledger_of_a_run_is_the_count_by_hand(tmp_path):
    whole = {
        "name": "counted", "training": {"epochs": 1, "lr": 0.05}, "until": {"rounds": 1}, "device": "cpu",
        "arms": {"lth": {"method": "lth", "rate": 0.5, "scope": "per_layer"},
                 "colt-2": {"method": "colt", "rate": 0.1}},
    }  # fmt: skip
    records = {
        (r["arm"], r["round"]): r for r in run(parse(whole), runs=tmp_path, workers=1).records
    }
    first, second, head = 64 * 300, 300 * 100, 100 * 10
    forward = 2 * (first + second + head)
    training = 2 * forward + 2 * (second + head)
    [dense] = costs_of(records["lth", 0])
    assert dense.flops == dense.flops_sparse == dense.samples * training
    assert dense.steps == -(-dense.samples // 64)
    assert dense.peak_bytes > 10**6
    ticket = costs_of(records["lth", 1])[-1]
    assert records["lth", 1]["layers"] == {
        "fc1.weight": [first // 2, first],
        "fc2.weight": [second // 2, second],
    }
    assert ticket.flops == ticket.samples * training
    assert ticket.flops_sparse == ticket.samples * (training - 2 * first - 3 * second)
    assert records["lth", 1]["inference_flops"] == [forward, forward - first - second]
    halves = [one for one in costs_of(records["colt-2", 1]) if one.role == "search"]
    half = training - 6 * head // 2
    assert [one.flops for one in halves] == [one.samples * half for one in halves]
    assert sum(one.samples for one in halves) == dense.samples


def control(name, of, rounds, costs, mask=None):
    """A control of tickets that were found elsewhere: it is evaluated in every round, and
    searches nothing.
    """
    found = [record(name, 0, 1.0, [cost("evaluation", "0")])]
    for r, here in zip(range(1, rounds + 1), costs, strict=True):
        found.append(
            record(name, r, of**r, here) | ({"mask_digest": mask.format(r)} if mask else {})
        )
    return found


def evaluations(name, rounds):
    return [[cost("evaluation", f"{name} {r}")] for r in range(1, rounds + 1)]


# By hand, three rounds: LTH searches for 3; the random ticket's own evaluation makes 4, those of
# all four accuracies 7, but that of the dense network is LTH's first search.
def test_a_control_is_charged_the_search_that_found_its_tickets():
    records = lth(3) + control("random", 0.8, 3, evaluations("random", 3))
    found = {one.arm: one for one in to_reach(records, 0.52, {"random": "lth"})}
    assert (found["random"].search, found["random"].this_ticket, found["random"].so_far) == (
        3,
        4,
        6,
    )
    assert unsearched(records, {"random": "lth"}) == []
    bare = {one.arm: one for one in to_reach(records, 0.52)}
    assert (bare["random"].search, bare["random"].this_ticket) == (0, 1)
    assert unsearched(records) == ["random"]
    charged, done = spent(records, {"random": "lth"})
    assert charged.samples == (4 + 6) * WHOLE
    assert done.samples == 7 * WHOLE


def test_records_alone_tell_whose_tickets_have_the_same_masks():
    records = [one | {"mask_digest": f"m{one['round']}"} for one in lth(2)]
    same = control("reinitialised", 0.8, 2, evaluations("other", 2), mask="m{}")
    drawn = control("random", 0.8, 2, evaluations("random", 2), mask="r{}")
    assert sources(records + same + drawn) == {"reinitialised": "lth"}
    assert sources(records + same + drawn, {"random": "reinitialised"}) == {"reinitialised": "lth"}
    both = {"random": "reinitialised", "reinitialised": "lth"}
    assert sources(records + same + drawn, both) == {"reinitialised": "lth", "random": "lth"}


def test_a_matched_arm_is_charged_its_own_search_alone():
    matched = [one | {"arm": "matched"} for one in lth(3)]
    found = {one.arm: one for one in to_reach(colt(3) + matched, 0.52, {"matched": "colt-2"})}
    assert (found["matched"].search, found["matched"].this_ticket) == (3, 4)


def gradual(rounds):
    """Each density has a training of its own that prunes, and its ticket's evaluation."""
    found = [record("gradual", 0, 1.0, [cost("evaluation", "0")]) | {"by_itself": True}]
    for r in range(1, rounds + 1):
        costs = [cost("search", f"pruned {r}"), cost("evaluation", f"gradual {r}")]
        found.append(record("gradual", r, 0.5**r, costs) | {"by_itself": True})
    return found


def test_densities_that_are_found_by_themselves_are_so_for_controls_and_for_one_shot_pruning_too():
    once = [record("one-shot", 0, 1.0, [cost("evaluation", "0")])] + [
        record(
            "one-shot",
            r,
            0.5**r,
            [*([cost("search", "0")] if r == 1 else []), cost("evaluation", f"once {r}")],
        )
        for r in (1, 2)
    ]
    records = (
        gradual(2) + once + control("random", 0.5, 2, evaluations("random", 2)) + lth(3) + colt(2)
    )
    assert independent_arms(records, {"random": "gradual"}) == {"gradual", "one-shot", "random"}
    assert independent_arms(records, {"random": "lth"}) == {"gradual", "one-shot"}
    for density in (0.5, 0.25):
        found = {one.arm: one for one in to_reach(records, density, {"random": "gradual"})}
        assert [found[arm].search for arm in ("gradual", "one-shot", "random")] == [1, 1, 1]
        assert [found[arm].this_ticket for arm in ("gradual", "one-shot", "random")] == [2, 2, 2]


# LTH comes to 0.5 in round 4 and to 0.2 in round 8, each with one evaluation more.
def test_budgets_are_what_an_arm_needs_to_come_to_densities():
    assert budgets(lth(8), "lth", [0.5, 0.2, 0.1]) == [5, 9]
    late = [one | {"replicate": 1} for one in lth(8, rate=0.85)]
    assert budgets(lth(8) + late, "lth", [0.5]) == [6]  # so that every replicate has its ticket
    none = [one | {"test_accuracy": None} if one["round"] == 4 else one for one in lth(5)]
    assert budgets(none, "lth", [0.5]) == [6]


def test_costs_have_no_unit_where_the_dense_network_was_not_evaluated():
    records = [one for one in lth(3) if one["round"]]
    assert {account.unit for account in accounts(records)} == {None}
    assert {account.unit for account in accounts(lth(3))} == {WHOLE}


def test_an_arm_that_has_trained_nothing_yet_owes_no_search():
    tickets = [record("drawn", 1, 0.5, []), record("drawn", 2, 0.25, [])]
    assert unsearched(tickets) == []
    assert unsearched([*tickets, record("drawn", 3, 0.1, [cost("evaluation", "d")])]) == ["drawn"]
