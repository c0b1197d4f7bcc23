"""Tickets that are tested untrained: shown by themselves, and never taken for trained ones."""

from dataclasses import replace

import pytest
from tests.test_page import FOUR, asked, records

from tombola.evidence.answers import Evidence
from tombola.evidence.comparisons import untrained_arms, values_at
from tombola.evidence.verdicts import verdict
from tombola.experiments import reporting
from tombola.ground.errors import ConfigError
from tombola.reports import aggregate, decisions, figures, layout, page, table, untrained
from tombola.reports.section import OneRun
from tombola.schema.recipe import parse

AS_IS = ("matched", "random")
RIGHT = {"matched": 0.4, "random": 0.1, "colt-2": 0.3, "lth": 0.2}


def untrained_records(arms=AS_IS):
    """Of a run of four arms, where the tickets of these are tested untrained."""
    made = []
    for record in records():
        if record["arm"] in arms and record["round"]:
            accuracy = RIGHT[record["arm"]] + 0.01 * record["replicate"]
            record |= {"untrained": True, "test_accuracy": accuracy, "early_stop_step": None}
        made.append(record)
    return Evidence(made)


def decided():
    pairs = (("colt-2", "random"), ("random", "matched"), ("lth", "colt-2"))
    pairs += tuple((arm, "dense") for arm in FOUR)
    return replace(asked(FOUR), pairs=pairs, drawn=frozenset(FOUR), at=(0.6,), chance=0.1)


def test_an_arm_is_untrained_by_what_its_tickets_say():
    assert untrained_arms(untrained_records()) == set(AS_IS)
    assert aggregate.untrained(untrained_records()) == ["matched", "random"]
    assert aggregate.trained_arms(untrained_records()) == ["colt-2", "lth"]
    # Round 0 is the trained dense network.
    assert untrained_arms([{"arm": "a", "round": 0, "untrained": True}]) == set()


def test_nothing_lies_between_a_trained_network_and_an_untrained_ticket():
    # Its densest ticket keeps 70 %; above it there is only the trained dense network.
    assert values_at(untrained_records(), "matched", 0.8) == {}
    assert values_at(untrained_records(()), "matched", 0.8)[0].rounds == (0, 1)
    assert values_at(untrained_records(), "matched", 0.7)[0].value == pytest.approx(0.4)
    assert values_at(untrained_records(), "dense", 1.0)[0].value == 0.95


def test_an_untrained_ticket_is_not_judged_and_is_no_control():
    found = untrained_records()
    for arm, controls in (("random", []), ("colt-2", ["random"])):
        with pytest.raises(ConfigError, match="tickets of random were tested untrained"):
            verdict(found, arm, at=0.5, margin=0.01, controls=controls)
    judged = decisions.verdicts(
        found, replace(decided(), controls={"colt-2": ("random",), "matched": ()})
    )
    assert [one.arm for one in judged] == ["colt-2"]
    # Without a trained control none is beaten.
    assert [one.cause for one in judged[0].conditions][-1] == "no control"


def test_only_what_is_tested_alike_is_compared():
    compared = decisions.comparisons(untrained_records(), decided())
    pairs = {(one.arm, one.other) for one in compared}
    assert pairs == {
        ("random", "matched"),
        ("lth", "colt-2"),
        ("colt-2", "dense"),
        ("lth", "dense"),
    }


def test_the_answer_is_about_trained_tickets_and_says_which_are_not():
    found = untrained_records()
    assert decisions.question(found, decided())[0].startswith("Do colt-2 and lth find tickets")
    rows = decisions.against_dense_grid(found, decided()).rows
    assert [row[0] for row in rows] == ["colt-2", "lth"]
    note = (
        "matched and random are tested untrained: they are not judged, nor compared with "
        "trained networks."
    )
    assert note in decisions.sentences(found, decided())
    assert note in layout.find("basis", "run").sentence(OneRun(found, decided()))
    assert decisions.untrained_note(untrained_records(())) == []


def test_the_section_has_each_arm_at_each_density_with_its_interval():
    [grid] = layout.find("untrained", "run").grid(OneRun(untrained_records(), decided()))
    # 0.40, 0.41, 0.42: the deviation is one point, t of 2 degrees of freedom 4.303.
    first, second = ["60", "matched", "3", "49.00"], ["", "random", "3", "49.00"]
    assert grid.rows[0] == [*first, "41.00", "1.00", "38.52 to 43.48", "+31.00"]
    assert grid.rows[1] == [*second, "11.00", "1.00", "8.52 to 13.48", "+1.00"]
    without_chance = replace(decided(), chance=None)
    assert len(untrained.untrained_grid(untrained_records(), without_chance).rows[0]) == 7
    assert grid in table.grids(untrained_records(), decided())
    assert untrained.untrained_grid(untrained_records(()), decided()).rows == []


def test_it_says_where_each_arm_is_best():
    [line] = untrained.untrained_lines(untrained_records(), decided())
    assert line == (
        "Without training, at the density at which each is best: matched 41.00 % at 60 % and "
        "random 11.00 % at 60 %. Guessing reaches 10.00 %."
    )


def drawn(chart):
    """Return the arms of all rows that a chart holds."""
    arms = set()
    for rows in chart.to_dict()["datasets"].values():
        for row in rows:
            arms.add(row.get("arm") or "")
    return arms - {""}


def test_untrained_tickets_are_drawn_by_themselves():
    found = untrained_records()
    assert drawn(figures.metric_over_density(found, at=(0.5,))) == {"colt-2", "lth"}
    assert drawn(figures.untrained(found, 0.1)) == set(AS_IS)


def test_a_page_of_untrained_arms_alone_can_be_written(tmp_path, with_charts):
    found = [record for record in untrained_records() if record["arm"] in AS_IS]
    files = page.write(tmp_path, "as it is", found, [], {}, decided(), formats=())
    text = files[-1].read_text()
    assert "Untrained tickets" in text
    assert "Guessing reaches 10.00 %." in text


def test_there_are_no_boxes_of_tickets_that_are_all_untrained():
    boxes = layout.find("boxes", "run")
    for arms, are_drawn in (((), True), (AS_IS, True), (FOUR, False)):
        found = [record | {"by_itself": True} for record in untrained_records(arms)]
        assert boxes.applies(OneRun(Evidence(found), decided())) is are_drawn


def test_a_recipe_pairs_untrained_searches_with_each_other():
    arms = {
        "lth": {"method": "lth", "rate": 0.5},
        "snip": {"method": "at_start", "score": "snip"},
        "one": {"method": "at_start", "score": "magnitude", "evaluate": "untrained"},
        "two": {"method": "at_start", "score": "random", "evaluate": "untrained"},
    }
    recipe = {"name": "x", "data": {"name": "digits"}, "densities": [0.5], "arms": arms}
    recipe |= {"model": {"name": "mlp", "hidden": [8]}, "until": {"density": 0.5}}
    pairs = reporting.asked(parse(recipe | {"training": {"epochs": 1, "lr": 0.1}})).pairs
    assert ("two", "one") in pairs
    assert ("snip", "lth") in pairs
    assert ("one", "lth") not in pairs
