"""Latency: networks timed in turn, once a ticket, and what the report says of it."""

import json
import shutil
import time

import pytest
import torch
from tests.toys import without
from torch import nn

from tombola.experiments import experiment, latency
from tombola.folder.merging import merge
from tombola.folder.packing import pack
from tombola.folder.runs import Run
from tombola.ground.errors import ConfigError
from tombola.reports.decisions import Asked
from tombola.reports.inference import inference_grid, inference_lines
from tombola.schema.recipe import parse

LATENCY = "machine/latency.json"
WHOLE = {
    "name": "x",
    "model": {"name": "mlp", "hidden": [8]},
    "training": {"epochs": 1},
    "arms": {
        "lth": {"method": "lth", "rate": 0.5},
        "control": {"method": "random_ticket", "source": "lth"},
        "colt-2": {"method": "colt", "partitions": 2, "rate": 0.15},
    },
    "until": {"rounds": 2},
    "replicates": 2,
}  # fmt: skip


class _Sleeps(nn.Module):
    def __init__(self, milliseconds, calls):
        super().__init__()
        self.milliseconds, self.calls = milliseconds, calls

    def forward(self, inputs):
        self.calls.append((self.milliseconds, len(inputs)))
        time.sleep(self.milliseconds / 1000)
        return inputs


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A run that tests read; those that change it take a ``copy``."""
    return experiment.run(parse(WHOLE), runs=tmp_path_factory.mktemp("runs"), workers=1).folder


@pytest.fixture
def copy(ran, tmp_path):
    return shutil.copytree(ran, tmp_path / "runs" / ran.name)


def test_networks_are_timed_in_turn_and_a_slow_one_takes_longer():
    calls = []
    found = latency.timed(
        {"quick": _Sleeps(2, calls), "slow": _Sleeps(5, calls)}, torch.zeros(3, 1)
    )
    samples = len(found["quick"])
    assert len(found["slow"]) == samples >= 5
    # after two of each, of which the second says how many there are
    assert calls[4:] == [(2, 3), (5, 3)] * samples
    assert min(found["quick"]) >= 0.002
    assert min(found["slow"]) >= 0.005


def test_dense_and_the_sparsest_ticket_of_every_search_are_measured(ran):
    run = Run(ran)
    found = run.latency()
    assert (found["device"], found["threads"]) == ("cpu", 1)
    # a control follows a search
    assert [row["arm"] for row in found["rows"]] == ["dense", "lth", "colt-2"]
    for row in found["rows"][1:]:
        assert (row["replicate"], row["round"]) == (0, 2)
        assert row["mask_digest"] == run.record(row["arm"], 0, 2)["mask_digest"]
    for row in found["rows"]:
        for batch in latency.BATCHES:
            low, high = row[f"batch_{batch}"]["quartiles"]
            assert 0 < low <= row[f"batch_{batch}"]["ms"] <= high
            assert row[f"batch_{batch}"]["samples"] >= 5


def test_what_is_timed_is_the_ticket_and_not_the_dense_network(copy, monkeypatch):
    seen = {}

    def timed(networks, inputs):
        assert not any(network.training for network in networks.values())
        for name, network in networks.items():
            seen[name] = [int(p.count_nonzero()) for p in network.parameters() if p.dim() > 1]
        return {name: [0.001] for name in networks}

    monkeypatch.setattr(latency, "timed", timed)
    (copy / LATENCY).unlink()
    experiment.run(parse(WHOLE), runs=copy.parent, workers=1)
    assert seen["dense"] == [512, 80]
    assert seen["lth"] == [Run(copy).record("lth", 0, 2)["kept"], 80]
    assert Run(copy).latency()["rows"][0]["batch_100"] == {
        "ms": 1.0,
        "quartiles": [1.0, 1.0],
        "samples": 1,
    }


def test_it_is_measured_once_and_again_only_for_a_sparser_ticket(copy):
    before = (copy / LATENCY).read_bytes()
    experiment.run(parse(WHOLE), runs=copy.parent, workers=1)
    assert (copy / LATENCY).read_bytes() == before
    experiment.run(parse(WHOLE | {"until": {"rounds": 3}}), runs=copy.parent, workers=1)
    assert [row.get("round") for row in Run(copy).latency()["rows"]] == [None, 3, 3]


def test_it_is_packed_and_merged(ran, tmp_path):
    packed = pack(ran, tmp_path / "packed")
    assert packed.latency() == Run(ran).latency()
    alone = experiment.run(parse(WHOLE), runs=tmp_path, workers=1, replicates=[1]).folder
    own = Run(alone).latency()
    # the clocks of the run that others are merged into
    assert merge(alone, [packed.path]).latency() == own
    (alone / LATENCY).unlink()
    # without any, those that come along
    assert merge(alone, [packed.path]).latency() == packed.latency()


def test_the_report_says_what_was_counted_beside_what_was_measured(copy):
    outcome = experiment.report(Run(copy), formats=())
    grid = inference_grid(outcome.records, outcome.asked)
    assert [row[0] for row in grid.rows] == ["dense", "lth", "control", "colt-2"]
    dense, lth, control, _ = grid.rows
    # 64 x 8 + 8 x 10 weights, two FLOP each
    assert dense[1:6] == ["100", "2", "592", "0.00118", "0.00118"]
    kept = Run(copy).record("lth", 0, 2)["kept"]
    assert lth[3] == f"{kept + 80}"
    assert lth[5] == control[5] == f"{2 * (kept + 80) / 1e6:.3g}"
    assert all(lth[6:])
    assert control[6:] == ["", ""]
    text = (copy / "summary.md").read_text(encoding="utf-8")
    assert "## Inference of the sparsest tickets" in text
    assert "Masking alone gives no speed-up" in text
    assert "Inference of the sparsest tickets" in (copy / "report.html").read_text(encoding="utf-8")


def test_without_clocks_the_counts_stand_alone(copy):
    records = experiment.report(Run(copy), formats=()).records
    grid = inference_grid(records, Asked())
    assert len(grid.groups[0][1]) == 4
    assert inference_lines(records, Asked()) == []
    bare = [without(record, "inference_flops") for record in records]
    assert inference_grid(bare, Asked()).rows == []


CLOCK = {"arm": "dense", "batch_1": {"ms": 1.0, "quartiles": [1.0, 1.0]}}


@pytest.mark.parametrize(
    "content",
    [
        [1],
        {"rows": [CLOCK]},
        {"device": "cpu", "threads": 1, "rows": []},
        {"device": "cpu", "threads": 1, "rows": 3},
        {"device": "cpu", "threads": 1, "rows": [CLOCK, {"arm": "lth", "batch_1": {"ms": 1.0}}]},
        None,
    ],
)
def test_a_damaged_file_is_one_clear_line(ran, tmp_path, content):
    folder = pack(ran, tmp_path / "packed").path
    (folder / LATENCY).write_text("{" if content is None else json.dumps(content), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"latency\.json' (is|was|cannot) .*; take the file away"):
        Run(folder).latency()


def test_a_size_of_batch_that_would_take_minutes_is_left_out_and_that_is_told(copy, monkeypatch):
    (copy / LATENCY).unlink()
    monkeypatch.setattr(latency, "_LONGEST", 0.0)
    experiment.run(parse(WHOLE), runs=copy.parent, workers=1)
    measured = Run(copy).latency()
    assert measured["left_out"] == [100]
    assert all("batch_1" in row and "batch_100" not in row for row in measured["rows"])
    text = (copy / "summary.md").read_text(encoding="utf-8")
    assert "Batches of 100 would take minutes, and were not timed." in text
