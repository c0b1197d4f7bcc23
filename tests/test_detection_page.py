"""What the page shows of detection: values by class, boxes on pictures, shares of partitions."""

import pytest
from tests.test_page import record

from tombola.evidence.answers import Evidence
from tombola.ground.metrics import Metric
from tombola.reports import class_values, layout, page
from tombola.reports.decisions import Asked
from tombola.reports.section import OneRun
from tombola.reports.sections._per_class import PerClass
from tombola.reports.sections._shares import Shares

MAP = Metric("map50", "mAP@0.5", plural="mAP@0.5")
ARMS = ("colt-2", "lth", "random")
# Of the dense network, the worst class first: the page sorts them.
CLASSES = {"ring": 0.35, "star": 0.62, "cross": 0.71, "disc": 0.93}
LOST = {"colt-2": 0.01, "lth": 0.03, "random": 0.12}

# Of the two partitions of a replicate.
SHARES = [
    [
        {"pictures": 60, "own_boxes": 90, "shared_pictures": 30, "other_boxes": 10,
         "lost_pictures": 0, "lost_boxes": 0},
        {"pictures": 40, "own_boxes": 60, "shared_pictures": 30, "other_boxes": 60,
         "lost_pictures": 0, "lost_boxes": 0},
    ],
    [
        {"pictures": 50, "own_boxes": 75, "shared_pictures": 25, "other_boxes": 25,
         "lost_pictures": 0, "lost_boxes": 0},
        {"pictures": 50, "own_boxes": 75, "shared_pictures": 25, "other_boxes": 25,
         "lost_pictures": 0, "lost_boxes": 0},
    ],
]  # fmt: skip


def detected(arm, replicate, index):
    """A record of detection, as a run writes it: AP by class and parts of the loss beside mAP."""
    by_class = {}
    for place, (name, value) in enumerate(CLASSES.items()):
        lost = LOST.get(arm, 0.0) * index * (place + 1) / 4
        by_class[f"ap_{name}"] = round(value - lost + 0.01 * replicate, 4)
    mean = sum(by_class.values()) / len(by_class)
    written = record(arm, replicate, index, 0.5**index, None, trainings=index + 1, stop=90)
    for name in ("test_accuracy", "valid_accuracy"):
        del written[name]
    more = {"test_more": {**by_class, "loss_classifier": 0.2}, "untrained": False}
    if arm == "colt-2":
        more["partition_shares"] = SHARES[replicate % 2]
    return written | {"test_map50": mean, "valid_map50": mean, "evaluated": True} | more


def records():
    found = []
    for arm in ("dense", *ARMS):
        for replicate in range(3):
            for index in range(1 if arm == "dense" else 3):
                found.append(detected(arm, replicate, index))
    return found


def asked(**more):
    pairs = [*((arm, "dense") for arm in ARMS), ("colt-2", "random"), ("lth", "colt-2")]
    return Asked(
        pairs=tuple(pairs),
        controls={"colt-2": ("random",)},
        drawn=frozenset(("colt-2", "lth")),
        at=(0.5, 0.25),
        margin=0.01,
        metric=MAP,
        **more,
    )


def seen(**more):
    return OneRun(Evidence(records()), asked(**more))


# Class by class


def test_classes_stand_in_the_order_of_the_dense_network():
    [grid] = PerClass().grid(seen())
    assert grid.groups == [("", ["n", "disc", "cross", "star", "ring"])]
    # Replicates lie 0, 1 and 2 points above what is written at the top.
    assert grid.rows[0] == ["100", "dense", "3", "94.00", "72.00", "63.00", "36.00"]
    # lth at round 2 lost .06 of the last class and a quarter of that of the first.
    assert grid.rows[5] == ["", "lth", "3", "88.00", "67.50", "60.00", "34.50"]
    assert [row[:2] for row in grid.rows[1:]] == [
        ["50", "colt-2"], ["", "lth"], ["", "random"],
        ["25", "colt-2"], ["", "lth"], ["", "random"],
    ]  # fmt: skip


def test_the_sentence_names_the_classes_that_change_most():
    [line] = PerClass().sentence(seen())
    assert line == (
        "Change of a class against the dense network at 25 % density, in points: "
        "colt-2 from -2.00 in disc to -0.50 in ring, lth from -6.00 in disc to -1.50 in ring and "
        "random from -24.00 in disc to -6.00 in ring."
    )


def test_the_dots_are_the_means_and_the_lines_the_extremes(with_charts):
    [figure] = PerClass().chart(seen()).values()
    spec = figure.chart.to_dict(validate=True)
    rows = {}
    for layer in spec["layer"]:
        data = layer["data"].get("values") or spec["datasets"][layer["data"]["name"]]
        rows |= {(row["arm"], row["class"]): row for row in data}
    row = rows["lth", "disc"]
    values = [row["low"], row["mean"], row["high"]]
    assert values == pytest.approx([87, 88, 89])
    assert rows["dense", "ring"]["mean"] == pytest.approx(36)
    assert "25 % density" in figure.caption


def test_a_class_without_a_value_and_a_ticket_that_was_not_tested_leave_a_gap():
    found = [dict(one) for one in records()]
    for one in found:
        if one["round"] == 2:
            del one["test_more"]
        elif one["arm"] == "lth":
            one["test_more"] = {"ap_ring": 0.3, "ap_disc": None}
    evidence = OneRun(Evidence(found), asked())
    [grid] = PerClass().grid(evidence)
    assert [row[:2] for row in grid.rows] == [
        ["100", "dense"], ["50", "colt-2"], ["", "lth"], ["", "random"],
    ]  # fmt: skip
    assert grid.rows[2][3:] == ["", "", "", "30.00"]
    assert class_values.shown_density(evidence.records, evidence.asked) == 0.5


def test_without_values_by_class_there_is_no_such_section():
    found = [one | {"test_more": {"loss_classifier": 0.5}} for one in records()]
    assert layout.content_of(PerClass(), OneRun(Evidence(found), asked())) is None


# Shares of partitions


def test_shares_are_the_mean_of_all_partitions_and_each_replicate_counts_once():
    """Shares of other boxes by hand: .1, .5, .25, .25 and again .1, .5; of pictures: .5 and .75."""
    [grid] = Shares().grid(seen())
    assert grid.groups[0][1][:6] == [
        "partitions", "pictures", "with other classes", "%", "own boxes", "other boxes",
    ]  # fmt: skip
    [row] = grid.rows
    assert row[:5] == ["colt-2", "6", "50 (40 to 60)", "28 (25 to 30)", "58 (50 to 75)"]
    assert row[5:8] == ["75 (60 to 90)", "32 (10 to 60)", "28 (10 to 50)"]
    assert row[8:] == ["0", "0", "0", "0"]
    assert Shares().sentence(seen()) == [
        "Pictures of a partition that show classes of other partitions, too: 58 % in colt-2.",
        "Boxes on a partition's pictures that are of other classes: 28 % in colt-2.",
    ]


def test_what_a_policy_loses_is_told_and_so_is_what_a_task_counts_besides():
    lost = {"pictures": 30, "own_boxes": 30, "lost_pictures": 10, "lost_boxes": 10, "pixels": 7}
    found = [one | {"partition_shares": [lost]} for one in records() if one["arm"] == "lth"]
    evidence = OneRun(Evidence(found), asked())
    assert Shares().sentence(evidence) == [
        "Boxes of its own classes that a partition loses: 25 % in lth."
    ]
    [grid] = Shares().grid(evidence)
    assert grid.groups[0][1][-1] == "pixels"
    assert grid.rows == [["lth", "3", "30", "30", "10", "25", "10", "25", "7"]]


def test_a_run_without_partitions_of_classes_has_no_shares():
    found = [one for one in records() if one["arm"] != "colt-2"]
    assert layout.content_of(Shares(), OneRun(Evidence(found), asked())) is None


@pytest.fixture(scope="module")
def written(tmp_path_factory, with_charts):
    folder = tmp_path_factory.mktemp("detection")
    facts = {"data": "shapes: 600 training, 100 validation, 200 test examples"}
    files = page.write(folder, "shapes", records(), [], facts, asked(), formats=())
    return files[-1]
