"""Answers: what a report says first, in plain English, and what keeps it from saying more, once."""

import itertools
import re
from dataclasses import replace

import pytest
from rich.console import Console
from tests.test_decisions import ASKED, RECORDS, record, three

from tombola.experiments.reporting import asked
from tombola.reports import decisions, table
from tombola.reports.decisions import Asked
from tombola.schema.recipe import parse

WORSE, DENSE_TOO = three("random", 0.80, spread=0.001), ("lth", "dense")


def answer(records, question=ASKED):
    return [" ".join(sentences) for sentences in decisions.answer(records, question)]


def test_a_winning_ticket_is_told_with_the_limits_that_were_tested():
    # By hand: differences of 0.1, 0.15, 0.2 points; t(0.95, 2) = 2.92; 0.15 - 2.92 * 0.05 / sqrt(3)
    # = 0.066.
    assert answer(RECORDS) == [
        "lth finds winning tickets at 50 % density: they are within 1 point of dense "
        "(+0.15, at least +0.07) and 10.05 points above random (at least +9.97)."
    ]


def test_a_losing_ticket_is_told_with_what_it_violates_alone():
    assert answer(three("lth", 0.85) + WORSE) == [
        "lth finds no winning ticket at 50 % density: they are more than 1 point below "
        "dense (-4.95, at most -4.87)."
    ]


def test_all_that_a_ticket_violates_is_told():
    records = three("lth", 0.85, early_stop_step=300) + three("random", 0.95, spread=0.001)
    [told] = answer(records)
    assert "they are more than 1 point below dense" in told
    assert "stop later than dense (+201, at least +184 steps)" in told
    assert "and are less accurate than random (-10.05, at most -9.97 points)" in told


def test_an_undecided_ticket_is_told_with_what_is_known_and_what_is_not():
    records = three("lth", 0.901) + three("random", 0.8999, spread=0.003)
    assert answer(records) == [
        "It is inconclusive whether lth finds winning tickets: at 50 % its tickets are within 1 "
        "point of dense (+0.15, at least +0.07), but it is undecided whether they are more accurate "
        "than random (-0.14, at least -0.56 points)."
    ]


def test_without_a_control_the_answer_says_that_none_is_there_to_beat():
    assert answer(RECORDS, replace(ASKED, controls={"lth": ()})) == [
        "It is inconclusive whether lth finds winning tickets: at 50 % its tickets are within 1 "
        "point of dense (+0.15, at least +0.07), and there is no control for them to beat."
    ]


def rounds(arm, accuracies, k=3, spread=0.001, **more):
    """Rounds at 100, 50, 25 ... % with these accuracies, the replicates spread evenly around
    them.
    """
    found = []
    for r in range(k):
        for index, accuracy in enumerate((0.9, *accuracies)):
            own = record(arm, r, index, 0.5**index, accuracy) | {"test_accuracy": accuracy} | more
            if index:  # differences without a spread decide nothing
                own |= {
                    "test_accuracy": accuracy + spread * (r - (k - 1) / 2),
                    "early_stop_step": 90 - 2 * r,
                }
            found.append(own)
    return found


def drawn_at_random(accuracies, **more):
    return rounds("random", accuracies, spread=0.002, **more)


THREE = replace(ASKED, at=(0.5, 0.25, 0.125))


@pytest.mark.parametrize(
    ("found", "drawn", "said"),
    [
        (
            [0.9, 0.9, 0.9],
            [0.8, 0.7, 0.6],
            "finds winning tickets down to 12.5 % density: at 12.5 % they",
        ),
        (
            [0.9, 0.9, 0.7],
            [0.8, 0.7, 0.6],
            "finds winning tickets down to 25 % density: at 25 % they",
        ),
        (
            [0.9, 0.9, 0.9],
            [0.9, 0.7, 0.6],
            "finds winning tickets at 25 and 12.5 % density: at 12.5 % they",
        ),
        (
            [0.9, 0.7, 0.6],
            [0.8, 0.6, 0.5],
            "finds winning tickets at 50 % density: they are",
        ),
        (
            [0.9, 0.7, 0.6],
            [0.9, 0.6, 0.5],
            "finds no winning ticket at 25 and 12.5 % density: at 25 % they",
        ),
    ],
)
def test_the_answer_says_down_to_where_tickets_win(found, drawn, said):
    [told] = answer(rounds("lth", found) + drawn_at_random(drawn), THREE)
    assert told.startswith(f"lth {said}")


def test_of_several_controls_the_closest_is_told():
    records = RECORDS + three("other", 0.85, spread=0.001)
    [told] = answer(records, replace(ASKED, controls={"lth": ("random", "other")}))
    assert told.endswith("5.05 points above other (at least +4.97), the closest of its 2 controls.")


def test_what_wins_comes_first_then_what_loses_then_what_is_open():
    records = three("open", 0.9) + three("lost", 0.8) + RECORDS
    question = replace(
        ASKED,
        controls={"open": (), "lost": (), "lth": ("random",)},
        drawn=frozenset({"open", "lost", "lth"}),
    )
    assert [told.split(" find")[0] for told in answer(records, question)] == [
        "lth",
        "lost",
        "It is inconclusive whether open",
    ]
    more = replace(
        question,
        controls=question.controls | {"also": ()},
        drawn=question.drawn | {"also", "fifth"},
        pairs=(("fifth", "dense"),),
    )
    assert (
        answer(records + three("also", 0.8) + three("fifth", 0.9), more)[-1]
        == "1 more arm is in the tables."
    )


def test_an_arm_of_as_many_weights_is_told_beside():
    def beside(accuracy, spread=0.0005):
        question = replace(ASKED, pairs=(("lth", "matched"),), matched={"lth": ("matched",)})
        return decisions.answer(RECORDS + three("matched", accuracy, spread=spread), question)[0][
            -1
        ]

    assert beside(0.95, 0.001).startswith(
        "lth is less accurate than matched, which keeps as many weights: -4.95 ["
    )
    assert beside(0.85, 0.001).startswith(
        "lth is more accurate than matched, which keeps as many weights: +5.05 ["
    )
    assert beside(0.9, 0.003).startswith(
        "lth is not detectably different from matched, which keeps as many weights: -0.15 ["
    )


def test_beside_an_arm_of_as_many_weights_the_sparsest_difference_that_is_shown_is_told():
    question = replace(THREE, pairs=(("lth", "matched"),), matched={"lth": ("matched",)})
    matched = rounds("matched", [0.8, 0.8, 0.9], spread=0.002)
    told = decisions.answer(rounds("lth", [0.9, 0.9, 0.9]) + matched, question)[0][-1]
    assert told.startswith(
        "lth is more accurate than matched, which keeps as many weights: +10.00 ["
    )
    assert told.endswith("] points at 25 %.")


def test_of_several_open_tickets_the_sparsest_is_told():
    [told] = answer(rounds("lth", [0.9, 0.9, 0.9]) + drawn_at_random([0.8, 0.9, 0.9]), THREE)
    assert told.count("undecided whether they are more accurate than random") == 1
    assert "At 12.5 % the tickets of lth are within 1 point of dense" in told


def test_without_a_margin_every_arm_is_compared_with_dense_all_the_same():
    question = Asked(pairs=(DENSE_TOO, ("random", "dense")), controls=ASKED.controls, at=(0.5,))
    assert answer(RECORDS, question) == [
        "lth is more accurate than dense at 50 % (+0.15 [+0.03, +0.27] points).",
        "random is less accurate than dense at 50 % (-9.90 [-10.15, -9.65] points).",
    ]
    said = decisions.sentences(RECORDS, question)
    assert sum("--verdict.margin 0.01" in sentence for sentence in said) == 1


def test_fewer_than_three_replicates_are_told_once_with_their_cure():
    two = [one for one in rounds("lth", [0.9, 0.9, 0.9]) if one["replicate"] < 2] + drawn_at_random(
        [0.8, 0.8, 0.8]
    )
    said = decisions.sentences(two, replace(THREE, pairs=(DENSE_TOO,)))
    assert said[0] == "lth is -0.05 [-0.69, +0.59] points from dense at 12.5 %, in 2 replicates."
    assert said[1:] == [
        "No verdict for lth: it takes 3 replicates, and there are 2. The same command with "
        "--replicates 5 adds those that are missing."
    ]


def test_of_replicates_that_are_too_few_the_fewest_are_told():
    records = rounds("lth", [0.9, 0.9, 0.9]) + drawn_at_random([0.8, 0.8, 0.8])
    few = [
        one
        for one in records
        if one["replicate"] < 2 and (one["replicate"] < 1 or one["round"] < 3)
    ]
    assert "and there is 1." in " ".join(decisions.sentences(few, THREE))


def test_a_tick_stands_only_beside_a_limit_that_was_tested():
    two = [one for one in RECORDS if one["replicate"] < 2]
    [row] = decisions.verdict_grid(two, ASKED).rows
    assert row[2:] == ["no verdict", "+0.12", "-10", "random +10.07"]
    # a sign test: no limit, and no tick
    equal = three("lth", 0.9, spread=0.0) + three("random", 0.8, spread=0.0)
    assert decisions.verdict_grid(equal, ASKED).rows[0][3:] == [
        "+0.00 ?",
        "-11, ≤ +6 ✓",
        "random +10.00 ?",
    ]


def test_early_stops_that_are_censored_are_told_once_with_their_cure():
    ended = [
        one | {"curve": {"step": [10, one["early_stop_step"]]}}
        for one in rounds("lth", [0.9, 0.9, 0.9])
    ]
    said = decisions.sentences(ended + drawn_at_random([0.8, 0.7, 0.6]), THREE)
    assert sum("before the validation loss had risen" in sentence for sentence in said) == 1
    assert said[1].startswith(
        "Early stops of lth cannot be compared with those of dense at 50, 25 and 12.5 %"
    )
    assert said[1].endswith("Train longer to decide it (training.epochs or training.steps).")
    # Beside the number that shows nothing there is a word, and no tick.
    assert [row[4] for row in decisions.verdict_grid(ended, THREE).rows] == [
        "-11, ≤ +6, censored ?"
    ] * 3


@pytest.mark.parametrize(
    ("records", "controls", "said"),
    [
        (
            RECORDS,
            (),
            "To give lth a control to beat, add an arm such as random-lth: "
            "{method: random_ticket, source: lth}.",
        ),
        (
            [one for one in RECORDS if one["arm"] == "lth" or one["round"] == 0],
            ("random",),
            "random, which lth has to beat, has no result at 50 %: finish the run, or evaluate it "
            "there (evaluate_at).",
        ),
        (
            [one for one in RECORDS if one["arm"] == "lth" or one["round"] == 0]
            + [one | {"arm": "again"} for one in RECORDS if one["round"] == 0],
            ("random", "again"),
            "random and again, which lth has to beat, have no result at 50 %: finish the run, or "
            "evaluate it there (evaluate_at).",
        ),
        (
            [one | {"early_stop_step": None} for one in RECORDS],
            ("random",),
            "Without validation data there are no early stops to compare, and no ticket can be "
            "shown to be winning: set data.valid, such as --data.valid 0.1.",
        ),
    ],
)
def test_what_stops_a_verdict_is_told_once_with_its_cure(records, controls, said):
    told = decisions.sentences(records, replace(ASKED, controls={"lth": controls}))
    assert told.count(said) == 1


def test_arms_that_reach_no_asked_density_are_named_with_what_to_do():
    question = replace(ASKED, pairs=(DENSE_TOO, ("random", "dense")), at=(0.1,))
    assert decisions.sentences(RECORDS, question) == [
        "lth and random have no results around 10 % density, so nothing is decided there: "
        "search further (until), or ask for densities that are reached, such as --verdict.at "
        "'[0.8]'."
    ]


ARMS = {
    "dense": {"method": "dense"}, "lth": {"method": "lth", "rate": 0.5}, "colt-2": {"method": "colt", "rate": 0.3},
    "matched": {"match": "colt-2"}, "long": {"method": "dense", "as_long_as": "lth"},
}  # fmt: skip
CONTROLS = {
    "random-of-lth": {"method": "random_ticket", "source": "lth"},
    "again-of-lth": {"method": "reinitialised", "source": "lth"},
    "random-of-colt": {"method": "random_ticket", "source": "colt-2"},
}


def of_recipe(arms, **decision):
    whole = {
        "name": "x",
        "training": {"epochs": 1},
        "until": {"rounds": 3},
        "arms": arms,
        "verdict": decision,
    }
    return asked(parse(whole))


def results(arms):
    found = []
    for number, (name, arm) in enumerate(arms.items()):
        own = rounds(name, [0.9 - 0.01 * number, 0.89 - 0.01 * number, 0.88 - 0.01 * number])
        found += [one | {"density": 1.0} for one in own] if arm["method"] == "dense" else own
    return [one for one in found if one["arm"] != "dense" or one["round"] == 0]


@pytest.mark.parametrize(
    "chosen",
    [names for size in range(4) for names in itertools.combinations(CONTROLS, size)],
    ids=lambda names: "+".join(names) or "none",
)
def test_a_verdict_hangs_on_the_controls_of_its_own_arm_alone(chosen):
    arms = ARMS | {name: CONTROLS[name] for name in chosen}
    records = results({name: {"method": "lth"} | arm for name, arm in arms.items()})
    at = [0.5, 0.25]
    found = decisions.verdicts(records, of_recipe(arms, margin=0.01, at=at))
    assert [(one.arm, one.density) for one in found] == [
        (arm, density) for arm in ("lth", "colt-2", "matched") for density in at
    ]
    for arm in ("lth", "colt-2", "matched"):
        own = [name for name in chosen if CONTROLS[name]["source"] == arm]
        alone = of_recipe(ARMS | {name: CONTROLS[name] for name in own}, margin=0.01, at=at)
        expected = [one for one in decisions.verdicts(records, alone) if one.arm == arm]
        assert [one for one in found if one.arm == arm] == expected


@pytest.mark.parametrize("margin", [None, 0.02])
def test_every_arm_is_compared_with_dense_at_every_asked_density(margin):
    arms = ARMS | CONTROLS
    records = results({name: {"method": "lth"} | arm for name, arm in arms.items()})
    question = of_recipe(arms, margin=margin, at=[0.5, 0.25, 0.125])
    rows = {(row[0], row[1]) for row in decisions.comparison_grid(records, question).rows}
    for arm in {*arms} - {"dense", "long"}:
        assert {(f"{arm} - dense", density) for density in ("50", "25", "12.5")} <= rows
    # Trained longer, it is one network: it differs from dense at one place, not at three.
    assert [row for row in rows if row[0] == "long - dense"] == [("long - dense", "100")]


def test_a_control_is_never_called_equal():
    question = replace(ASKED, pairs=(("lth", "random"), ("lth", "matched")), margin=0.05)
    records = (
        three("lth", 0.901)
        + three("random", 0.9, spread=0.002)
        + three("matched", 0.9, spread=0.002)
    )
    told = {row[0]: row[5] for row in decisions.comparison_grid(records, question).rows}
    assert told == {
        "lth - random": "no difference shown",
        "lth - matched": "equal within the margin",
    }


def test_the_verdict_on_a_ticket_stands_in_one_line():
    records = [one | {"arm": one["arm"].replace("random", "random-ticket")} for one in RECORDS]
    question = replace(ASKED, controls={"lth": ("random-ticket",)}, margin=0.02)
    text = table.markdown("digits", records, [], question)
    [line] = [line for line in text.splitlines() if line.startswith("| lth | 50 | winning |")]
    assert line.rstrip(" |").endswith("random-ticket +10.05, ≥ +9.97 ✓")


@pytest.mark.parametrize(("width", "tables"), [(60, 2), (100, 1)])
def test_a_narrow_terminal_stands_densities_below_each_other_and_breaks_no_cell(
    width, tables, capsys
):
    lower = [{**one, "round": 2, "density": 0.2} for one in RECORDS if one["round"] == 1]
    records = [*RECORDS, *lower]
    beside_dense = replace(ASKED, pairs=(("lth", "dense"), ("random", "dense")))
    table.terminal("digits", records, [], Console(width=width, file=None), beside_dense)
    shown = capsys.readouterr().out
    assert sum(set(line) == {"─"} for line in shown.splitlines()) == tables
    [first, second] = table.decisions.against_dense_grid(records, beside_dense).rows
    for cell in (*first, *second):
        assert cell in shown


@pytest.mark.parametrize("width", [80, 120])
def test_the_answer_ends_what_a_terminal_shows_and_begins_the_summary(width, capsys):
    said = answer(RECORDS)[0]
    table.terminal("digits", RECORDS, [], Console(width=width, file=None), ASKED)
    printed = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert printed.startswith(
        "digits: Does lth find tickets that train as well as the dense network, at 50 and 20 % "
    )
    assert printed.split("1 percentage point? ")[1].startswith("Dense network: ")
    assert said in printed.rpartition("─")[2]  # below the table
    assert printed.strip().endswith(table.decisions.sentences(RECORDS, ASKED)[0])
    first = table.markdown("digits", RECORDS, [], ASKED).splitlines()[2]
    assert first.replace("\\", "") == f"- {said}"
