"""What a task measures beside its metrics, and the tensors that it keeps of its tests: in records,
in the run's folder, merged, packed, and made again where a file is damaged.
"""

import dataclasses
import math
import shutil

import pytest
import torch
from tests.outside.task import mirror
from torch import nn

from tombola.experiments.experiment import run
from tombola.folder.merging import merge
from tombola.folder.packing import pack
from tombola.folder.runs import Run
from tombola.ground.errors import ConfigError
from tombola.ground.metrics import Metric
from tombola.models.flops import per_example
from tombola.records.records import timeless
from tombola.records.results import ABSENT, Result
from tombola.schema.recipe import parse
from tombola.search.work import Measure
from tombola.tasks.protocol import Metrics, check_task
from tombola.tasks.rows import Rows
from tombola.training.jobs import Measured

ARMS = {"lth": {"method": "lth", "rate": 0.3}}


class Keeping(Rows):
    """Rows whose task says more of a test than its metrics."""

    def measure(self, model, part, which):
        found = super().measure(model, part, which)
        with torch.no_grad():
            turned = model(self.make(which, self.rows(part, which), 0, 0)[0])
        more = {"column_1": float(turned[:, 0].mean()), "column_2": float(turned[:, 1].mean())}
        return Metrics(found.loss, found.values | more, kept={"turned": turned})


def keeping(data, model, **made):
    """Make the task of rows that are turned around."""
    task = mirror(data, model, **made)
    return Keeping(**{field.name: getattr(task, field.name) for field in dataclasses.fields(Rows)})


def recipe(**changes):
    whole = {
        "name": "kept", "task": "tests.test_kept:keeping", "prunable": "all", "replicates": 2,
        "training": {"lr": 0.05, "epochs": 1, "batch_size": 50}, "arms": ARMS, "until": {"rounds": 1},
    }  # fmt: skip
    return parse(whole | changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(recipe(), runs=tmp_path_factory.mktemp("whole"), workers=1)


@pytest.fixture
def parts(tmp_path):
    """The same run in two parts."""
    folders = []
    for replicate in range(2):
        done = run(recipe(), runs=tmp_path / str(replicate), workers=1, replicates=[replicate])
        folders.append(done.folder)
    return folders


def kept_of(folder):
    files = Run(folder).kept_files
    return {name: files.named(name)["turned"] for name in files.names()}


def assert_keeps(folder, expected):
    found = kept_of(folder)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_what_is_measured_besides_is_in_the_record_of_the_test_split_alone(whole):
    for record, result in zip(whole.records, Run(whole.folder).records.results(), strict=True):
        assert set(record["test_more"]) == {"column_1", "column_2"}
        assert result.test_more == record["test_more"]
        assert result.to_dict() == record
        assert not any(name.endswith("column_1") for name in record)
        turned = Run(whole.folder).kept("lth", record["replicate"], record["round"])["turned"]
        assert turned.shape == (50, 8)
        assert record["test_more"]["column_1"] == pytest.approx(float(turned[:, 0].mean()))
    names = {f"lth/replicate-{k}/round-00{i}" for k in range(2) for i in range(2)}
    assert set(kept_of(whole.folder)) == names


def test_records_of_tasks_that_measure_nothing_besides_have_no_such_entry():
    record = {"arm": "lth", "test_accuracy": 0.5}
    assert Result.of_record(record | dict.fromkeys(("replicate", "round"), 0) | {
        "kept": 1, "density": 1.0, "mask_digest": "", "evaluated": True, "samples_seen": 1
    }).test_more is ABSENT  # fmt: skip


def test_parts_merged_keep_what_the_run_keeps(whole, parts, tmp_path):
    expected = kept_of(whole.folder)
    packed = pack(parts[1], tmp_path / "packed").path
    assert_keeps(packed, {name: value for name, value in expected.items() if "replicate-1" in name})
    into = shutil.copytree(parts[0], tmp_path / "into" / parts[0].name)
    merged = merge(into, [packed])
    assert_keeps(merged.path, expected)
    # The other way round files go into the one of the packed run.
    assert_keeps(merge(packed, [parts[0]]).path, expected)
    assert timeless_of(merged) == [timeless(record) for record in whole.records]


def timeless_of(run):
    return [timeless(record) for record in run.records.all()]


def test_tensors_of_one_round_that_differ_are_refused(whole, parts, tmp_path):
    packed = pack(whole.folder, tmp_path / "packed")
    tensors = packed.seals.read_tensors(packed.layout.packed_kept)
    name = "lth/replicate-0/round-001"
    tensors[f"{name}/turned"] = tensors[f"{name}/turned"] + 1
    packed.seals.write_tensors(packed.layout.packed_kept, tensors)
    with pytest.raises(ConfigError, match=f"keep different tensors of the test of {name}"):
        merge(parts[0], [packed.path])


def test_tensors_that_are_damaged_are_made_again(whole, tmp_path):
    folder = shutil.copytree(whole.folder, tmp_path / whole.folder.name)
    path = Run(folder).kept_files.path("lth", 0, 1)
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(ConfigError, match="running the recipe makes it again"):
        Run(folder).kept("lth", 0, 1)
    again = run(recipe(), runs=tmp_path, workers=1)
    assert again.complete
    assert path.read_bytes() == raw


def test_a_measurement_comes_back_with_what_its_task_keeps():
    test = Metrics(0.5, {"rmse": 0.7, "column_1": 0.1}, kept={"turned": torch.ones(2)})
    plain = Metrics(0.4, {"rmse": 0.6})
    back = Measure.from_file(*Measure.to_file(Measured(plain, None, test, plain)))
    assert back.test.values == test.values
    assert torch.equal(back.test.kept["turned"], torch.ones(2))
    assert back.train.kept == {}


@pytest.mark.parametrize(
    ("values", "kept", "said"),
    [
        ({"rmse": 1.0, "ap_cat": math.nan}, {}, "gives nan as ap_cat; it is a finite number"),
        ({"rmse": 1.0, "ap_cat": None}, {}, "gives None as ap_cat; it is a finite number"),
        ({"rmse": 1.0}, {"boxes": [1]}, "keeps 'boxes', which is no tensor"),
    ],
)
def test_what_is_measured_or_kept_besides_must_be_storable(monkeypatch, values, kept, said):
    monkeypatch.setattr(Rows, "measure", lambda *_: Metrics(1.0, values, kept=kept))
    with pytest.raises(ConfigError, match=said):
        check_task(mirror(None, None, seed=0, device="cpu", root=None), "mirror")


def test_no_metric_may_be_called_as_what_is_measured_besides():
    with pytest.raises(ConfigError, match="not one of loss, step, more"):
        Metric("more")


class InParts(nn.Module):
    """A network whose training gives its losses and takes the whole batch, as detectors do."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, rows, targets=None):
        turned = self.out(self.hidden(rows))
        if not self.training:
            return [{"rows": row} for row in turned]
        if targets is None:
            raise AssertionError("targets should not be none when in training mode")
        return {"loss_rows": (turned - targets).square().mean()}


class Losing(Rows):
    """Rows for such a network, whose layers are counted by themselves."""

    uncounted = ()

    def flops(self, part):
        layers = nn.Sequential()
        for name, layer in self.build(self.initial_state(), part, 0).named_children():
            layers.add_module(name, layer)
        return per_example(layers, self.probe(2, 0))


def in_parts(data, model, **made):
    """Make the task of a network that gives its losses."""
    task = mirror(data, model, **made)

    def loss(network, batch):
        was = network.training
        losses = network.train()(batch[0], batch[0].flip(1))
        network.train(was)
        return sum(losses.values())

    fields = {field.name: getattr(task, field.name) for field in dataclasses.fields(Rows)}
    return Losing(**fields | {"draw": InParts, "loss": loss, "head": "out"})


def test_a_model_that_gives_its_losses_in_training_runs_to_its_end(tmp_path):
    changes = {"task": "tests.test_kept:in_parts", "prunable": "no_head", "replicates": 1}
    done = run(recipe(**changes), runs=tmp_path, workers=1)
    assert done.complete, done.notes
    assert {record["round"] for record in done.records} == {0, 1}
