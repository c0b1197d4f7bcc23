"""What a newcomer adds is one file: every kind of it is here once, outside of the package, and
one recipe runs them.
"""

import re
from pathlib import Path

import pytest
import torch
from tests.outside.metric import fair
from tests.outside.weight_score import drift

from tombola.data.partitions import WHOLE
from tombola.experiments import experiment
from tombola.schema.recipe import parse
from tombola.scores.context import Context
from tombola.tasks.settings import Data, Model

OUTSIDE = Path(__file__).parent / "outside"
RECIPE = {
    "name": "outside",
    "task": "tests.outside.metric:fair",
    "data": {"name": "digits", "subset": 400},
    "model": {"name": "mlp", "hidden": [20, 10]},
    "training": {"lr": 0.1, "epochs": 2, "step": "tests.outside.kernel:Elsewhere"},
    "arms": {
        "weights": {"method": "lth", "rate": 0.5, "score": "tests.outside.weight_score:drift"},
        "gradients": {
            "method": "lth",
            "rate": 0.5,
            "score": "tests.outside.gradient_score:connection",
        },
        "layers": {"method": "tests.outside.method:LayerByLayer", "share": 0.5},
        "mirrored": {"method": "tests.outside.control:Mirrored", "source": "layers"},
    },
    "until": {"rounds": 2},
    "verdict": {"margin": 0.1},
}


def test_one_recipe_runs_a_score_of_each_kind_a_method_a_control_a_metric_a_kernel_and_an_executor(
    tmp_path,
):
    """Their bits do not hang on where and by what the networks are trained."""
    found = {}
    for executor, kernel in (
        (None, "eager"),
        ("tests.outside.executor:Elsewhere", RECIPE["training"]["step"]),
    ):
        made = parse(RECIPE | {"training": RECIPE["training"] | {"step": kernel}})
        done = experiment.run(
            made, runs=tmp_path / kernel.rpartition(":")[2], workers=1, executor=executor
        )
        assert done.complete, done.notes
        found[kernel] = {
            (record["arm"], record["round"]): (
                record["mask_digest"],
                record["test_worst_class"],
                record["kept"],
            )
            for record in done.records
        }
    eager, own = found.values()
    assert eager == own
    assert {arm for arm, _ in own} == set(RECIPE["arms"])
    # the dense network's, and two of each arm
    assert len({mask for mask, _, _ in own.values()}) == 1 + 4 * 2
    # By hand: 64 x 20 and 20 x 10 weights; half of all, or one layer's half a round.
    assert [own[arm, 1][2] for arm in RECIPE["arms"]] == [740, 740, 840, 840]
    assert [own[arm, 2][2] for arm in RECIPE["arms"]] == [370, 370, 740, 740]
    page = (done.folder / "report.html").read_text()
    assert "accuracy of the worst class" in page


def test_a_task_of_ones_own_runs_from_a_recipe(tmp_path):
    arms = {
        "lth": {"method": "lth", "rate": 0.5},
        "random": {"method": "random_ticket", "source": "lth"},
    }
    whole = {
        "name": "mirror", "task": "tests.outside.task:mirror", "data": {"name": "rows"}, "model": {"name": "linear"},
        "training": {"lr": 0.1, "epochs": 20}, "arms": arms, "until": {"rounds": 1}, "prunable": "all",
    }  # fmt: skip
    done = experiment.run(parse(whole), runs=tmp_path, workers=1)
    assert done.complete, done.notes
    rmse = {(record["arm"], record["round"]): record["test_rmse"] for record in done.records}
    # The identity turned around keeps 8 of 64 weights, so half of them are enough, but not any
    # half.
    assert rmse["lth", 1] < 0.3 < rmse["random", 1]


def test_the_score_and_the_metric_by_hand():
    state, start = {"w": torch.tensor([1.0, -2.0, 0.5])}, {"w": torch.tensor([0.5, -2.0, -1.0])}
    assert drift(state, {"w": torch.ones(3).bool()}, Context(start, 0))["w"].tolist() == [
        0.5,
        0.0,
        1.5,
    ]
    task = fair(
        Data("synthetic"), Model("mlp", options={"hidden": [8]}), seed=0, device="cpu", root=None
    )
    found = task.measure(task.build(task.initial_state(), WHOLE, 0), WHOLE, "test")
    right, there = [0] * task.classes, [0] * task.classes
    for label, guess in zip(task.labels("test").tolist(), found.predictions.tolist(), strict=True):
        there[label] += 1
        right[label] += label == guess
    assert found.values["worst_class"] == pytest.approx(
        min(r / n for r, n in zip(right, there, strict=True) if n)
    )
    assert list(found.values) == ["worst_class", "accuracy"]


def test_the_page_of_the_architecture_names_each_of_these_files(request):
    page = (request.config.rootpath / "docs" / "architecture.md").read_text()
    named = re.findall(r"\| 1 \| `tests/outside/(\w+)\.py` \|", page)
    assert set(named) == {file.stem for file in OUTSIDE.glob("[a-z]*.py")}
    assert len(named) == len(set(named))
