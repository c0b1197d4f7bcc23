"""What a report says of masks: what two arms prune alike, by hand, and where layers are left
empty.
"""

import pytest
from tests.test_decisions import record
from tests.toys import without

from tombola.reports import masks
from tombola.reports.decisions import Asked


def line(arms, k, rounds, *, kept, common, by_start, size=100):
    layers = {"w": [size, *kept, common, *by_start]}
    return {
        "arms": list(arms),
        "replicate": k,
        "rounds": list(rounds),
        "masks": ["a", "b"],
        "layers": layers,
    }


RECORDS = [
    record(arm, k, r, 0.6**r, 0.9, layers={"w": [60, 100]}, collapsed=[])
    for arm in ("colt-2", "lth", "other")
    for k in (0, 1)
    for r in (0, 1)
]
ASKED = Asked(
    pairs=(("lth", "colt-2"),),
    at=(0.8, 0.6, 0.5, 0.2),
    similar=[
        line(("lth", "colt-2"), 0, (1, 1), kept=(60, 60), common=44, by_start=(40, 42)),
        line(("lth", "colt-2"), 1, (1, 1), kept=(60, 60), common=46, by_start=(40, 42)),
        line(("lth", "colt-2"), 1, (2, 2), kept=(20, 20), common=10, by_start=(5, 5)),
        line(("other", "lth"), 0, (1, 1), kept=(60, 60), common=60, by_start=(40, 42)),
    ],
)


# By hand: both prune 40, both together 40 + 40 - (100 - 44) = 24 of the 56 that either prunes; and
# 26 of 54. Chance keeps 36 in common: 16 of 64. From the start: 20 of 60 and 22 of 58.
def test_what_two_arms_prune_alike_stands_beside_chance():
    first, second = masks.similarity_grid(RECORDS, ASKED).rows
    jaccards = [24 / 56, 26 / 54]
    assert first[:5] == ["lth - colt-2", "60.00", "2", "25.00", f"{sum(jaccards) / 2:.3f}"]
    assert first[5:9] == ["0.250", "0.250", "1.000", f"{(20 / 60 + 22 / 58) / 2:.3f}"]
    assert first[9] == f"{100 * (45 - 36) / 24:.1f}"
    assert second[:3] == ["lth - colt-2", "20.00", "1"]  # at 50 and 20 % the same ticket: told once
    [drawn, later] = masks.similarity_rows(RECORDS, ASKED)
    assert (drawn["jaccard"], drawn["chance"], drawn["most"]) == pytest.approx(
        (100 * sum(jaccards) / 2, 25, 100)
    )
    assert (drawn["arm"], drawn["replicates"], later["replicates"]) == ("lth", 2, 1)


def test_without_a_file_of_counts_there_is_nothing_to_tell():
    assert masks.similarity_grid(RECORDS, Asked(pairs=ASKED.pairs)).rows == []
    assert masks.similarity_rows(RECORDS, Asked(pairs=ASKED.pairs)) == []


def test_that_no_layer_collapses_is_told_without_a_table():
    assert masks.collapse_lines(RECORDS, Asked()) == [
        "No layer is left without weights in any ticket."
    ]
    assert masks.collapse_grid(RECORDS, Asked()).rows == []
    old = [without(record, "layers", "collapsed") for record in RECORDS]
    assert masks.collapse_lines(old, Asked()) == []


def test_the_first_round_with_an_empty_layer_is_told_of_tickets_and_of_candidates():
    more = [
        record("lth", 0, 2, 0.2, 0.5, collapsed=["w"], layers={"w": [0, 100]}),
        record("lth", 0, 3, 0.1, 0.5, collapsed=["w"], layers={"w": [0, 100]}),
        record("lth", 1, 4, 0.1, 0.5, layers={"w": [0, 100]}),
        record("colt-2", 0, 2, 0.2, 0.5, layers={"w": [3, 100]}, candidate_layers={"w": [4, 0]}),
    ]
    [text] = masks.collapse_lines(RECORDS + more, Asked())
    assert text == (
        "A layer is left without weights by lth in 2 of 2 replicates (first in round 2) and a "
        "candidate of colt-2 first in round 2; by no other arm."
    )
    rows = {row[0]: row[1:] for row in masks.collapse_grid(RECORDS + more, Asked()).rows}
    assert rows["lth"] == ["2 of 2", "2 to 4", "w", "", ""]
    assert rows["colt-2"] == ["0 of 2", "", "", "1 of 2", "2"]
    assert rows["other"] == ["0 of 2", "", "", "", ""]


def test_an_arm_that_ended_by_collapse_has_no_record_of_it_and_is_told_all_the_same():
    asked = Asked(collapsed={("lth", 1): (2, ("conv1.weight",)), ("new", 0): (1, ("w",))})
    [text] = masks.collapse_lines([*RECORDS, record("new", 0, 0, 1.0, 0.9)], asked)
    assert (
        "lth in 1 of 2 replicates (first in round 2) and new in 1 of 1 replicates (first in round "
        "1)" in text
    )
    rows = {row[0]: row[1:] for row in masks.collapse_grid(RECORDS, asked).rows}
    assert rows["lth"][:3] == ["1 of 2", "2", "conv1.weight"]
