"""What the page shows of detection: values by class, boxes on pictures, shares of partitions."""

import dataclasses
import re
import shutil
from html import unescape

import pytest
import torch
from tests.outside.task import mirror
from tests.test_page import record

from tombola.evidence.answers import Evidence
from tombola.experiments.experiment import run
from tombola.experiments.pictures import shown_of
from tombola.folder.contents import wrong_with_pictures
from tombola.folder.merging import merge
from tombola.folder.packing import pack
from tombola.folder.runs import Run
from tombola.ground.errors import ConfigError
from tombola.ground.metrics import Metric
from tombola.reports import class_values, detections, layout, page, together
from tombola.reports.decisions import Asked
from tombola.reports.detections import Box, Picture, Shown
from tombola.reports.section import OneRun
from tombola.reports.sections._per_class import PerClass
from tombola.reports.sections._pictures import Pictures
from tombola.reports.sections._shares import Shares
from tombola.schema.recipe import parse
from tombola.tasks.protocol import Metrics
from tombola.tasks.rows import Rows

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


def test_classes_of_several_runs_stand_in_a_column_each():
    worse = []
    for one in records():
        ring = one["test_more"]["ap_ring"] - 0.1
        worse.append(one | {"test_more": one["test_more"] | {"ap_ring": ring}})
    parts = [
        together.Part("small", Evidence(records()), asked()),
        together.Part("large", Evidence(worse), asked()),
    ]
    grid = together.classes_grid(parts)
    assert grid.groups == [("", ["small", "large"])]
    assert grid.rows[:4] == [
        ["dense", "disc", "94.00 ± 1.00", "94.00 ± 1.00"],
        ["", "cross", "72.00 ± 1.00", "72.00 ± 1.00"],
        ["", "star", "63.00 ± 1.00", "63.00 ± 1.00"],
        ["", "ring", "36.00 ± 1.00", "26.00 ± 1.00"],
    ]
    assert "at 25 % density, %" in grid.title
    assert ["random", "disc", "70.00 ± 1.00", "70.00 ± 1.00"] in grid.rows
    bare = [one | {"test_more": {}} for one in records()]
    assert together.classes_grid([together.Part("x", Evidence(bare), asked())]).rows == []


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


# Pictures


def box(name, score=None, corners=(10.0, 20.0, 40.0, 60.0)):
    return Box(corners, name, score)


def pictured(found):
    picture = Picture("data:image/png;base64,AA", 100, 80, [box("disc")], found)
    return Shown([picture], {"colt-2": 0.25}, 1)


def panels(shown):
    """The rows of every layer with boxes, by the title of the panel."""
    [figure] = Pictures().chart(seen(shown=shown)).values()
    spec = figure.chart.to_dict(validate=True)
    texts = {}
    for pair in spec["vconcat"]:
        for panel in pair["hconcat"]:
            texts[panel["title"]["text"]] = [
                spec["datasets"][layer["data"]["name"]] for layer in panel["layer"]
            ]
    return texts, figure.caption


def test_boxes_above_half_stand_beside_those_of_the_dense_network(with_charts):
    found = {
        "dense": [box("disc", 0.914), box("ring", 0.5)],
        "colt-2": [box("star", 0.501), box("disc", 0.2)],
    }
    by_panel, caption = panels(pictured(found))
    assert list(by_panel) == ["dense network", "colt-2 at 25 %"]
    drawn = {}
    for title, layers in by_panel.items():
        assert layers[0][0]["url"] == "data:image/png;base64,AA"
        drawn[title] = {row["text"] for rows in layers[1:] for row in rows}
    assert drawn == {"dense network": {"disc", "disc .91"}, "colt-2 at 25 %": {"disc", "star .50"}}
    assert "score above 0.5" in caption
    assert "replicate 1" in caption


def test_a_network_that_finds_nothing_has_the_picture_and_its_objects(with_charts):
    by_panel, _ = panels(pictured({"dense": [], "colt-2": []}))
    assert all(
        {row.get("text") for rows in layers for row in rows} == {None, "disc"}
        for layers in by_panel.values()
    )


def test_a_text_stays_on_the_picture():
    """By hand, of a picture as wide as its panel: 19 pixels for a line, 7.4 for a letter."""
    picture = Picture("", 290, 200, [], {})
    inside = detections._row(box("disc", corners=(270.0, 5.0, 288.0, 195.0)), picture)
    assert (inside["above"], inside["below"]) == (24.0, 176.0)
    assert inside["left"] == pytest.approx(290 - 4 * 7.4)
    free = detections._row(box("disc", corners=(50.0, 50.0, 90.0, 90.0)), picture)
    assert (free["above"], free["below"], free["left"]) == (50.0, 90.0, 50.0)


class Drawing(Rows):
    """Rows whose task has pictures to show, and finds the same boxes on them in every test."""

    def examples_shown(self):
        names = torch.frombuffer(bytearray(b"disc\nstar"), dtype=torch.uint8)
        shown = {"names": names}
        for index, side in enumerate((32, 300)):
            shown[f"image_{index}"] = torch.full((3, side, side), 60, dtype=torch.uint8)
            shown[f"boxes_{index}"] = torch.tensor([[2.0, 3.0, 20.0, 30.0]])
            shown[f"labels_{index}"] = torch.tensor([index])
            shown[f"difficult_{index}"] = torch.tensor([False])
        return shown

    def measure(self, model, part, which):
        found = super().measure(model, part, which)
        kept = {
            "picture": torch.tensor([0, 1, 1]),
            "boxes": torch.tensor([[1.0, 2.0, 20.0, 30.0]] * 3),
            "labels": torch.tensor([0, 1, 7]),
            "scores": torch.tensor([0.9, 0.8, 0.1]),
        }
        more = {"ap_disc": 0.5, "ap_star": 0.25}
        return Metrics(found.loss, found.values | more, kept=kept)


def drawing(data, model, **made):
    task = mirror(data, model, **made)
    return Drawing(**{field.name: getattr(task, field.name) for field in dataclasses.fields(Rows)})


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    recipe = {
        "name": "drawn", "task": "tests.test_detection_page:drawing", "prunable": "all",
        "training": {"lr": 0.05, "epochs": 1, "batch_size": 50}, "until": {"rounds": 2},
        "arms": {"lth": {"method": "lth", "rate": 0.5}}, "densities": [0.5, 0.25],
    }  # fmt: skip
    return run(parse(recipe), runs=tmp_path_factory.mktemp("drawn"), workers=1)


def test_the_report_takes_the_sparsest_ticket_that_is_compared(done):
    shown = shown_of(Run(done.folder), ["lth"], (0.5, 0.25))
    assert shown.densities == {"lth": 0.25}
    assert shown.replicate == 0
    small, large = shown.pictures
    assert small.address.startswith("data:image/png;base64,")
    assert large.address.startswith("data:image/jpeg;base64,")
    assert (large.width, large.height) == (300, 300)
    assert small.objects == [Box((2.0, 3.0, 20.0, 30.0), "disc")]
    [found] = small.found["dense"]
    assert (found.name, found.text) == ("disc", "disc .90")
    # Label 7 has no name.
    assert [found.name for found in large.found["lth"]] == ["star", "class 7"]
    assert shown_of(Run(done.folder), ["lth"], (0.1,)) is None


def test_pictures_are_kept_when_a_run_is_packed_and_merged(done, tmp_path):
    packed = pack(done.folder, tmp_path / "packed")
    assert packed.pictures().keys() == Run(done.folder).pictures().keys()
    assert shown_of(packed, ["lth"], (0.5,)) == shown_of(Run(done.folder), ["lth"], (0.5,))
    bare = pack(done.folder, tmp_path / "bare")
    bare.layout.pictures.unlink()
    assert not bare.pictures()
    merged = merge(tmp_path / "bare", [done.folder])
    assert merged.pictures().keys() == packed.pictures().keys()


def test_damaged_pictures_are_one_line_and_made_again(done, tmp_path):
    copy = tmp_path / done.folder.name
    shutil.copytree(done.folder, copy)
    path = Run(copy).layout.pictures
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"pictures\.safetensors' was altered") as error:
        Run(copy).pictures()
    assert "\n" not in str(error.value)
    run(Run(copy).recipe, runs=tmp_path, workers=1)
    assert Run(copy).pictures()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"names": None}, "has no 'names'"),
        ({"boxes_1": None}, "does not have image_K, boxes_K, labels_K, difficult_K"),
        ({"image_0": torch.zeros(3, 4, 4)}, "image_0 that is no uint8 tensor"),
        ({"boxes_0": torch.zeros(1, 3)}, "boxes_0 that are no numbers"),
        ({"boxes_0": torch.full((1, 4), torch.nan)}, "boxes_0 that are no numbers"),
        ({"labels_1": torch.zeros(2)}, "a label and a mark for each of boxes_1"),
    ],
)
def test_pictures_of_a_task_that_are_no_pictures_are_refused(changes, told):
    shown = Drawing.examples_shown(None) | changes
    kept = {name: values for name, values in shown.items() if values is not None}
    assert told in wrong_with_pictures(kept)
    assert wrong_with_pictures(Drawing.examples_shown(None)) == ""


# The whole page


@pytest.fixture(scope="module")
def written(tmp_path_factory, with_charts):
    """What is written of a run of detection that has all sections, without scripts and drawings."""
    folder = tmp_path_factory.mktemp("detection")
    found = [one | {"test_map50_early": 0.5, "train_map50": 0.8} for one in records()]
    found += [
        one | {"arm": "as-it-is", "untrained": True} for one in records() if one["arm"] == "lth"
    ]
    facts = {"data": "shapes: 600 training, 100 validation, 200 test pictures"}
    shown = pictured({"dense": [], "colt-2": []})
    files = page.write(folder, "shapes", found, [], facts, asked(shown=shown), formats=())
    by_name = {file.name: file.read_text() for file in files}
    html = re.sub(r"(?s)<(script|style|svg).*?</\1>", "", by_name["report.html"])
    return unescape(re.sub(r"<[^>]+>", "\n", html)), by_name["summary.md"], by_name["table.tex"]


def test_the_page_of_detection_speaks_of_its_metric_and_of_no_other(written):
    text = "\n".join(written)
    told = set(re.findall(r"\S*(?:accura|predicted|McNemar|image)\S*", text))
    assert told == set()
    titles = set(re.findall(r"(?i)map@0\.5", text))
    assert titles == {"mAP@0.5"}


def test_what_is_not_known_of_each_example_says_why_and_is_not_explained(written):
    text, _, _ = written
    assert "± examples: mAP@0.5 is not known of each example." in text
    assert "bootstrap" not in text


def test_the_sections_of_detection_are_in_a_fold_of_their_own(written):
    text, _, _ = written
    titles = ["Class by class", "What they find", "Partitions of classes"]
    places = [text.index(title) for title in titles]
    assert places == sorted(places)
    assert "Classes" in text[: places[0]]
