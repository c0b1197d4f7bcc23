"""What tickets prune of the trained dense network: counts against the files of a real run."""

import shutil

import numpy as np
import pytest
from tests.charts import charts
from tests.test_experiment import go, recipe

from tombola.experiments.experiment import report
from tombola.folder.packing import pack
from tombola.folder.runs import Run
from tombola.folder.weight_histograms import histogram
from tombola.records.storage import Store
from tombola.reports import panels

SMALL = {
    "training": {"lr": 0.05, "momentum": 0.9, "epochs": 1, "batch_size": 64},
    "device": "cpu",
    "replicates": 1,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return go(tmp_path_factory.mktemp("pruned"), recipe(**SMALL)).folder


def test_every_weight_of_the_largest_layer_is_counted_once_for_each_arm(folder):
    run = Run(folder)
    rows = histogram(run, ["lth", "colt-2"])
    lowest = max(run.record(arm, 0, 3)["density"] for arm in ("lth", "colt-2"))
    state = Store(run.trainings).trained(run.record("lth", 0, 0)["training_digest"]).state
    weights = state["fc1.weight"].flatten().numpy()
    for arm in ("lth", "colt-2"):
        own = [row for row in rows if row["arm"] == arm]
        ticket = run.rounds_done(arm, 0)[own[0]["round"] - 1]
        keep = ticket.mask["fc1.weight"].flatten().numpy()
        assert ticket.density == min(
            (run.record(arm, 0, r)["density"] for r in (1, 2, 3)),
            key=lambda density: abs(np.log(density / lowest)),
        )
        assert {row["layer"] for row in own} == {"fc1.weight"}
        assert (sum(row["kept"] for row in own), sum(row["pruned"] for row in own)) == (
            keep.sum(),
            (~keep).sum(),
        )
        within = [row for row in own if row["from"] >= 0.02 and row["to"] < own[-1]["to"]]
        low, high = within[0]["from"], within[-1]["to"]
        inside = (weights >= np.float32(low)) & (weights < np.float32(high))
        assert sum(row["kept"] for row in within) == pytest.approx((keep & inside).sum(), abs=2)


def test_small_weights_are_pruned_and_large_ones_kept(folder):
    rows = histogram(Run(folder), ["lth"])
    middle, ends = rows[29:31], (rows[0], rows[-1])
    assert all(row["pruned"] > row["kept"] for row in middle)
    assert all(row["kept"] > row["pruned"] for row in ends)


def test_without_trained_weights_or_tickets_there_is_no_figure(folder, tmp_path):
    with charts(drawn=True):
        packed = pack(folder, tmp_path / "packed")
        drawn = [
            (report(run, formats=("svg",)).folder / "figures" / "weights.svg").exists()
            for run in (Run(folder), packed)
        ]
    assert drawn == [True, False]
    bare = shutil.copytree(folder, tmp_path / folder.name)
    shutil.rmtree(bare / "tickets")
    assert histogram(Run(bare), ["lth"]) == []
    assert histogram(Run(folder), ["dense"]) == []


def test_a_panel_an_arm_stacks_what_is_pruned_on_what_is_kept(folder):
    rows = histogram(Run(folder), ["lth", "colt-2"])
    spec = panels.weights(rows, ["colt-2", "lth"]).to_dict()
    assert [panel["title"]["text"].split(",")[0] for panel in spec["vconcat"]] == ["lth", "colt-2"]
    kept, pruned = spec["vconcat"][0]["layer"]
    assert (kept["mark"]["color"], kept["encoding"]["y2"]["field"]) == ("#D55E00", "kept")
    assert (pruned["encoding"]["y"]["field"], pruned["encoding"]["y2"]["field"]) == ("kept", "all")
