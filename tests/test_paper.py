"""Printed numbers: as the papers have them, by recipes that exist, beside ours."""

from pathlib import Path

import pytest
from tests.test_decisions import record

from tombola.ground.metrics import Metric
from tombola.reports import class_values, decisions, figures
from tombola.reports.decisions import Asked
from tombola.reports.paper import _table, printed

ROOT = Path(__file__).parent.parent


def test_every_entry_is_a_recipe_that_has_its_arms():
    import yaml

    for name, whole in _table().items():
        recipe = yaml.safe_load((ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8"))
        assert {point["arm"] for point in whole["points"]} <= recipe["arms"].keys(), name
        assert [recipe["data"]["name"], recipe["model"]["name"]] == whole["of"], name
        assert "arXiv" in whole["source"]


# By hand: LTH at 20 % leaves 0.8 ^ r of the prunable weights, which are 95.57 % of ResNet-18 on
# ImageNet, 99.5 % on CIFAR-100, 99.91 % on CIFAR-10, 99.05 % on Tiny ImageNet; 88.91 % of
# MobileNetV2 there.
@pytest.mark.parametrize(
    ("recipe", "share"),
    [
        ("imagenet-resnet18", 0.95574),
        ("cifar100-resnet18", 0.99501),
        ("cifar10-resnet18", 0.99911),
        ("tiny-imagenet-resnet18", 0.99049),
        ("tiny-imagenet-mobilenet-v2", 0.88913),
    ],
)
def test_the_printed_sparsities_of_lth_are_its_rounds(recipe, share):
    [lth] = [
        point for point in printed(recipe, *_table()[recipe]["of"]).points if point.arm == "lth"
    ]
    assert lth.density(share) == pytest.approx(0.8**lth.rounds, abs=6e-4)


def ours():
    share = {"prunable": 99, "total": 100}
    return [record("lth", k, r, 0.7**r, 0.7) | share for k in range(3) for r in range(11)]


def test_printed_points_stand_beside_ours_at_the_same_density():
    asked = Asked(printed=printed("cifar100-resnet18-small", "cifar100", "resnet18"))
    rows = decisions.paper_grid(ours(), asked).rows
    assert [row[0] for row in rows] == ["lth", "colt-2", "colt-3", "colt-4"]
    lth = rows[0]
    assert lth[1] == f"{100 * (1 - 0.973 / 0.99):.2f}"
    assert lth[2:] == ["66.2", "", "17", "", "479", ""]  # 0.7 ^ 10 is above 1.7 %
    deeper = [
        *ours(),
        *(record("lth", k, 12, 0.7**12, 0.7) | {"prunable": 99, "total": 100} for k in range(3)),
    ]
    assert decisions.paper_grid(deeper, asked).rows[0][3:6:2] == ["70.10", "12"]


VOC = ("voc-faster-rcnn", "voc", "faster_rcnn_vgg16")


def test_the_printed_sparsities_of_detection_are_of_the_prunable_weights():
    """By hand: 1 - 0.8 ^ rounds, printed as 36.0, 48.8, 67.0 (it is 67.2) and 79.0."""
    points = [point for point in printed(*VOC).points if point.arm == "lth"]
    assert [point.rounds for point in points] == [2, 3, 5, 7]
    for point in points:
        assert point.density(0.9968) == pytest.approx(0.8**point.rounds, abs=2.5e-3)


def test_the_means_of_the_classes_are_the_printed_map():
    """Of the dense network, of LTH at 67.0 % and of COLT at 68.6 %; each within rounding, .1."""
    whole = printed(*VOC)
    means = {}
    for arm, of_arm in whole.by_class.items():
        assert len(of_arm.values) == 20
        means[arm, round(1 - of_arm.density, 3)] = sum(of_arm.values.values()) / 20
    table = {(point.arm, round(point.sparsity, 3)): point.value for point in whole.points}
    table["dense", 0.0] = whole.dense
    for key, mean in means.items():
        assert mean == pytest.approx(table[key], abs=1e-3), key


def detected(arm, index, density, values):
    found = record(arm, 0, index, density, sum(values.values()) / len(values))
    found["test_map50"] = found.pop("test_accuracy")
    by_class = {f"ap_{name}": value for name, value in values.items()}
    return found | {"test_more": by_class, "prunable": 99, "total": 100}


def test_printed_classes_stand_beside_ours():
    values = dict.fromkeys(printed(*VOC).by_class["dense"].values, 0.5)
    found = [
        detected("dense", 0, 1.0, values | {"cat": 0.7}),
        detected("lth", 5, 0.328, values | {"cat": 0.9}),
        detected("colt-2", 3, 0.4, values),  # not sparse enough yet
    ]
    asked = Asked(printed=printed(*VOC), metric=Metric("map50", "mAP@0.5"))
    grid = class_values.paper_classes_grid(found, asked)
    assert [name for name, _ in grid.groups] == ["dense network", "lth at 33 %", "colt-2 at 31.4 %"]
    rows = {row[0]: row[1:] for row in grid.rows}
    assert rows["cat"] == ["69.4", "70.0", "71.3", "90.0", "69.9", ""]
    assert rows["mean"] == ["63.4", "51.0", "63.3", "52.0", "63.8", ""]
    heads = decisions.paper_grid(found, asked).groups[0][1]
    assert heads[0] == "printed mAP@0.5 %"
    assert class_values.paper_classes_grid(found, Asked()).rows == []


def test_printed_points_are_drawn_hollow_for_arms_that_there_are():
    points = [{"arm": "lth", "density": 1.7, "accuracy": 66.2, "source": "x"},
              {"arm": "colt-9", "density": 1.7, "accuracy": 1.0, "source": "x"}]  # fmt: skip
    chart = figures.metric_over_density(ours(), points).to_dict()
    [hollow] = [layer for layer in chart["layer"] if layer["mark"].get("filled") is False]
    rows = hollow["data"].get("values") or chart["datasets"][hollow["data"]["name"]]
    assert [row["arm"] for row in rows] == ["lth"]


def test_a_recipe_that_no_paper_has_stands_alone():
    assert printed("causes", "fashion_mnist", "lenet5") is None
    assert printed("cifar100-resnet18-small", "cifar10", "resnet18") is None
    assert decisions.paper_grid(ours(), Asked()).rows == []
