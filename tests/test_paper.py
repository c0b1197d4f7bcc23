"""Printed numbers: as the papers have them, by recipes that exist, beside ours."""

from pathlib import Path

import pytest
from tests.test_decisions import record

from tombola.reports import decisions, figures
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
