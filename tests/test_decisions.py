"""Decisions: what a report says in words and tables of what its replicates show."""

from dataclasses import replace

import numpy as np
import pytest
from tests.toys import without

from tombola.evidence.comparisons import Value
from tombola.experiments.reporting import asked
from tombola.records.records import Cost
from tombola.reports import decisions
from tombola.reports.answers import compared_in_words
from tombola.reports.decisions import Asked
from tombola.reports.grids import Grid, filled
from tombola.schema.recipe import parse


def record(arm, k, index, density, accuracy, **more):
    same = {
        "arm": arm, "replicate": k, "round": index, "density": density, "density_total": density,
        "test_accuracy": accuracy + 0.001 * k, "early_stop_step": 100 - 10 * index - k, "evaluate_every": 10,
        "evaluated": True, "samples_seen": 1000 * (index + 1), "seconds": 1.0 * (index + 1), "kept_fraction": 0.5,
        "costs": [Cost("evaluation", f"{arm}{index}{k}" if index else f"{k}", 1000, 60.0, 100, 10**13, 10**12, 30.0,
                       2**30).to_dict()],
    }  # fmt: skip
    return same | more


def three(arm, accuracy, k=3, spread=0.0005, **more):
    # differences without a spread decide nothing
    stops = [{"early_stop_step": 90 - 2 * r} | more for r in range(k)]
    return [
        one
        for r in range(k)
        for one in (record(arm, r, 0, 1.0, 0.9), record(arm, r, 1, 0.5, accuracy + spread * r, **stops[r]))
    ]  # fmt: skip


RECORDS = three("lth", 0.901) + three("random", 0.80, spread=0.001)
ASKED = Asked(
    pairs=(("lth", "random"),),
    controls={"lth": ("random",)},
    made_of={"random": "lth"},
    drawn=frozenset({"lth"}),
    at=(0.5, 0.2),
    margin=0.01,
)


def test_what_rounds_to_zero_has_no_minus():
    records = three("lth", 0.90001) + three("random", 0.90002)
    asked = replace(ASKED, controls={})
    [second] = decisions.sentences(records, asked)
    assert "-0.00" not in second
    assert "+0.00 [+0.00, +0.00] points" in second
    [row] = decisions.comparison_grid(records, asked).rows
    assert row[3:5] == ["+0.00", "[+0.00, +0.00]"]


@pytest.mark.parametrize(
    ("accuracy", "margin", "said"),
    [
        (
            0.9115,
            None,
            "lth is more accurate than other at 50 % density: +1.00 [+0.88, +1.12] points.",
        ),
        (
            0.8975,
            0.01,
            "lth is less accurate than other at 50 % density: -0.40 [-0.52, -0.28] points, within the "
            "margin of 1 point.",
        ),
        (
            0.901,
            0.01,
            "lth is not detectably different from other at 50 % density: -0.05 [-0.17, +0.07] points, "
            "equal within the margin of 1 point.",
        ),
    ],
)
def test_a_pair_is_compared_in_a_sentence_that_says_what_is_shown(accuracy, margin, said):
    records = three("lth", accuracy) + three("other", 0.901, spread=0.001)
    asked = Asked(pairs=(("lth", "other"),), at=(0.5,), margin=margin)
    [compared] = decisions.comparisons(records, asked)
    assert compared_in_words(compared) == said


def test_a_pair_of_few_replicates_is_compared_without_a_verdict():
    records = three("lth", 0.911, k=1) + three("other", 0.901, k=1)
    [compared] = decisions.comparisons(records, Asked(pairs=(("lth", "other"),), at=(0.5,)))
    assert (
        compared_in_words(compared, "lth of a", "lth of b")
        == "lth of a is +1.00 points from lth of b at 50 % density, in 1 replicate."
    )


def test_many_pairs_are_told_in_part():
    arms = [f"arm{number}" for number in range(9)]
    records = RECORDS + [one for arm in arms for one in three(arm, 0.9)]
    pairs = tuple((arm, "lth") for arm in arms)
    said = decisions.sentences(
        records, Asked(pairs=pairs, at=(0.5,), drawn=frozenset({"none"}), margin=0.01)
    )
    assert len(said) == 7
    assert said[-1] == "3 more pairs are in the table of differences."


def test_the_tables_hold_what_was_decided():
    grid = decisions.verdict_grid(RECORDS, ASKED)
    assert grid.rows == [
        ["lth", "50", "winning", "+0.15, ≥ +0.07 ✓", "-11, ≤ +6 ✓", "random +10.05, ≥ +9.97 ✓"]
    ]
    assert grid.groups[0][1][1:] == [
        "accuracy - dense (> -1.00)", "early stop - dense (< +10)", "accuracy - controls (> 0)"
    ]  # fmt: skip
    [row] = decisions.comparison_grid(RECORDS, ASKED).rows
    assert row == [
        "lth - random",
        "50",
        "3",
        "+10.05",
        "[+9.93, +10.17]",
        "higher",
        "0.000",
        "0.03",
        "",
        "0.08",
    ]


def test_the_deviation_by_examples_stands_beside_that_by_seeds():
    right = {("lth", k, 1): np.arange(400) % 10 != 0 for k in range(3)} | {
        ("random", k, 1): np.arange(400) % 5 != 0 for k in range(3)
    }
    [row] = decisions.comparison_grid(RECORDS, replace(ASKED, right=right)).rows
    # By hand: they differ in 40 of 400 examples, one way: the deviation of a mean of 0 and 1 is
    # sqrt(0.1 * 0.9 / 400).
    assert float(row[8]) == pytest.approx(100 * (0.1 * 0.9 / 400) ** 0.5, rel=0.1)


def test_between_two_rounds_an_example_is_right_by_the_share_of_each():
    value = Value(0.5, (0, 1), (0.25, 0.75))
    right = {("lth", 0, 0): np.array([True, True]), ("lth", 0, 1): np.array([True, False])}
    assert decisions._right(Asked(right=right), "lth", 0, value).tolist() == [1.0, 0.25]
    assert decisions._right(Asked(), "lth", 0, value) is None


def test_the_cost_of_a_density_is_told_in_trainings_and_flops():
    rows = decisions.cost_grid(RECORDS, ASKED).rows
    assert rows[0] == ["50", "lth", "3", "1", "0", "1", "2", "20.00", "2.00"]
    assert rows[1][0] == ""


def test_what_was_spent_is_told_once_for_trainings_that_arms_share():
    [line] = decisions.spent_lines(RECORDS)
    # two arms of three replicates, two trainings each
    assert "12 trainings, 12,000 examples seen" in line
    assert (
        "9 trainings, 9,000 examples, 900 steps, 90.00 TFLOP with all weights (9.00 with the kept"
        in line
    )
    assert (
        "9.0 min of training one after the other (4.5 min of processor time); at most 1,024 MiB"
        in line
    )


def test_older_records_leave_out_what_they_do_not_tell():
    old = [without(record, "costs", "evaluate_every") for record in RECORDS]
    assert decisions.spent_lines(old) == []
    assert decisions.overlap_grid(old, ASKED).rows == []
    assert decisions.overlap_rows(old, ASKED) == []
    assert decisions.cost_grid(old, ASKED).rows == []
    [first, cure] = decisions.sentences(old, ASKED)
    assert "it is undecided whether they stop no later than dense" in first
    assert cure.startswith("The records do not say how often")


def test_overlap_is_told_beside_chance():
    layers = {"layers": {"w": [55, 100]}, "candidate_layers": {"w": [80, 70]}}
    records = [
        one | ({"layers": {"w": [100, 100]}} if one["round"] == 0 else layers)
        for one in three("colt-2", 0.9)
    ]
    [row] = decisions.overlap_grid(records, ASKED).rows
    assert row[:5] == ["colt-2", "1", "55.00", "56.00", "56.00"]
    # Both prune 20 + 30 - 45 = 5 of the 45 that either prunes.
    assert row[6:] == ["0.111", f"{6 / 44:.3f}"]
    [drawn] = decisions.overlap_rows(records, ASKED)
    assert (drawn["lowest"], drawn["highest"], drawn["chance"]) == pytest.approx((50, 70, 56))


def test_a_recipe_asks_each_arm_against_what_follows_it_and_all_searches_together():
    arms = {
        "dense": {"method": "dense"}, "lth": {"method": "lth", "rate": 0.2}, "colt-2": {"method": "colt", "rate": 0.15},
        "matched": {"match": "colt-2"}, "random": {"method": "random_ticket", "source": "colt-2"},
        "alone": {"method": "colt", "rate": 0.15, "combine": "all_at_end"},
    }  # fmt: skip
    whole = {"name": "x", "training": {"epochs": 1}, "until": {"rounds": 3}, "arms": arms}
    found = asked(parse(whole | {"verdict": {"margin": 0.02}, "evaluate_at": [0.6, 0.3]}))
    beside_dense = [("lth", "dense"), ("colt-2", "dense"), ("matched", "dense"), ("random", "dense"),
                    ("alone", "dense")]  # fmt: skip
    assert found.pairs == (
        *beside_dense,
        ("colt-2", "matched"),
        ("colt-2", "random"),
        ("colt-2", "lth"),
        ("alone", "lth"),
    )
    assert found.controls == {"lth": (), "colt-2": ("random",), "matched": (), "alone": ()}
    assert found.matched == {
        "lth": (),
        "colt-2": ("matched",),
        "matched": (),
        "random": (),
        "alone": (),
        "dense": (),
    }
    assert (found.at, found.margin, found.independent_partitions) == ((0.6, 0.3), 0.02, {"alone"})
    assert found.drawn == {"lth", "colt-2", "alone"}
    assert asked(parse(whole)).at == decisions.TARGETS
    assert asked(parse(whole | {"verdict": {"at": [0.7]}})).at == (0.7,)


@pytest.mark.parametrize(
    ("verdict", "message"),
    [
        (
            {"margin": 1},
            "verdict.margin is 1.0; it is a fraction, so one point of accuracy is 0.01",
        ),
        ({"margin": 0}, "verdict.margin is 0"),
        ({"alpha": 5}, "verdict.alpha is 5"),
        ({"steps": 0}, "verdict.steps is 0"),
        ({"at": [20]}, "verdict.at is 20"),
        ({"magin": 0.01}, "Did you mean 'margin'?"),
    ],
)
def test_what_cannot_be_decided_is_refused(verdict, message):
    whole = {
        "name": "x",
        "training": {"epochs": 1},
        "until": {"rounds": 1},
        "arms": {"lth": {"method": "lth", "rate": 0.2}},
    }
    with pytest.raises(Exception, match="verdict") as caught:
        parse(whole | {"verdict": verdict})
    assert message in str(caught.value)


def searched(arm, r, k, density, *, accuracy=0.9):
    """Round r of LTH, whose search is the evaluation of the ticket before."""
    trainings = [("search", r - 1)] * (r > 0) + [("evaluation", r)]
    costs = [
        Cost(role, f"{arm if index else ''}{index}{k}", 1000, 1.0).to_dict()
        for role, index in trainings
    ]
    return record(arm, k, r, density, accuracy, costs=costs)


LTH = [searched("lth", r, k, 0.5**r, accuracy=0.9 - 0.01 * r) for k in range(3) for r in range(4)]
FAST = [searched("fast", r, k, 0.25**r, accuracy=0.8) for k in range(2) for r in range(2)]
RANDOM = [record("random", k, r, 0.5**r, 0.7) for k in range(3) for r in range(4)]


def test_at_equal_cost_each_arm_has_its_sparsest_ticket_within_what_the_first_arm_needs():
    asked = replace(ASKED, at=(0.5, 0.25, 0.01), drawn=frozenset({"lth", "fast"}))
    grid = decisions.budget_grid(LTH + FAST + RANDOM, asked)
    assert [name for name, _ in grid.groups] == ["2 full-data trainings", "3 full-data trainings"]
    assert grid.rows == [
        ["lth", "50.00", "89.10", "25.00", "88.10"],
        ["fast", "25.00", "80.05 (2)", "25.00", "80.05 (2)"],
        ["random", "50.00", "70.10", "25.00", "70.10"],  # with the search of lth
    ]
    assert "what lth needs" in grid.notes[0]


def test_densities_that_each_cost_the_same_make_no_budgets():
    alone = [one | {"by_itself": True} for one in LTH]
    assert decisions.budget_grid(alone, ASKED).rows == []
    assert decisions.budget_grid(RECORDS, Asked(at=(0.1,))).rows == []


def test_the_table_of_costs_says_whose_search_is_charged_and_which_is_not():
    [note] = decisions.cost_grid(LTH + RANDOM, ASKED).notes
    assert note == "Controls are charged the search of their source arm: random that of lth."
    rows = {row[1]: row for row in decisions.cost_grid(LTH + RANDOM, ASKED).rows[:2]}
    assert rows["random"][4:7] == ["1", "2", "3"]
    [note] = decisions.cost_grid(LTH + RANDOM, Asked(at=(0.5,))).notes
    assert note == "No search is charged to random: the records do not say whose tickets they take."
    assert decisions.cost_grid(LTH, ASKED).notes == ()


def test_what_a_recipe_asks_tells_tickets_from_networks():
    arms = {
        "gradual": {"method": "gradual", "densities": [0.5, 0.2]}, "lth": {"method": "lth", "rate": 0.2},
        "as-trained": {"method": "as_trained", "source": "gradual"},
        "random": {"method": "random_ticket", "source": "gradual"},
        "mixed": {"method": "shuffled", "source": "random"}, "matched": {"match": "lth"},
        "long": {"method": "dense", "as_long_as": "lth"},
    }  # fmt: skip
    whole = {"name": "x", "training": {"epochs": 1}, "until": {"rounds": 3}, "arms": arms}
    found = asked(parse(whole))
    assert found.made_of == {"as-trained": "gradual", "random": "gradual", "mixed": "random"}
    assert found.networks == {"as-trained"}


def test_from_ten_replicates_on_the_interval_of_the_bootstrap_is_there():
    heads = decisions.comparison_grid(
        three("lth", 0.9, k=9) + three("random", 0.8, k=9, spread=0.0), ASKED
    ).groups[0]
    assert "by bootstrap" not in heads[1]
    ten = decisions.comparison_grid(
        three("lth", 0.9, k=10) + three("random", 0.8, k=10, spread=0.0), ASKED
    )
    assert ten.groups[0][1][2:5] == ["95 % interval", "by bootstrap", "outcome"]
    [row] = ten.rows
    low, high = (float(end) for end in row[5].strip("[]").split(", "))
    assert 10 < low < 10.225 < high < 10.45  # the differences go from 10 to 10.45


def test_a_column_that_the_records_do_not_tell_is_left_out_with_a_word():
    grid = filled(decisions.comparison_grid(RECORDS, ASKED))
    assert "± examples" not in grid.groups[0][1]
    assert grid.notes == ("± examples: not recorded.",)
    one = [each for each in RECORDS if each["replicate"] == 0]
    notes = filled(decisions.comparison_grid(one, ASKED)).notes
    assert "p: needs three replicates." in notes
    assert "95 % interval, ± seeds and minimum detectable margin: needs two replicates." in notes
    named = Grid("t", ["round"], [("lth", ["density %", "accuracy %"])], [["1", "50", ""]])
    assert filled(named) == named
