"""Regression: what is normalised, and the error in the target's own unit."""

import numpy as np
import pytest
import torch
from tests.test_bombs import refused

from tombola.data.loading import load
from tombola.data.partitions import WHOLE
from tombola.data.tables import Table
from tombola.ground.errors import InputError
from tombola.ground.settings import Training
from tombola.masks.masks import ones
from tombola.tasks._regression import regression
from tombola.tasks.settings import Data, Model
from tombola.training.jobs import Job, measure, run_job

HOUSES = "size,colour,price\n" + "".join(
    f"{40 + 7 * i % 90},red,{300 + 21 * i % 400}\n" for i in range(30)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    (folder / "houses.csv").write_text(HOUSES)
    generator = np.random.default_rng(0)
    numbers = generator.normal(50, 20, (90, 3)).astype(np.float32)
    numbers[:, 2] = 7  # a constant
    targets = 1000 + 30 * numbers[:, :1] - 4 * numbers[:, 1:2]
    np.savez(
        folder / "plane.npz", train_features=numbers[:60], train_targets=targets[:60],
        test_features=numbers[60:], test_targets=targets[60:],
    )  # fmt: skip
    return folder


def made(folder, *, model=None, seed=0, data=None, **options):
    options = {"path": "plane.npz", "unit": "euro"} | options
    data = Data("table", options=options, **(data or {}))
    model = model or Model("mlp_regressor", options={"hidden": []})
    return regression(data, model, seed=seed, device="cpu", root=folder)


def test_features_and_targets_are_normalised_by_the_training_split_alone(folder):
    task = made(folder, data={"valid": 10})
    stored = np.load(folder / "plane.npz")
    rows = task.division.train.numpy()
    features, targets = stored["train_features"][rows], stored["train_targets"][rows, 0]
    mean, std = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    std[2] = 1
    inputs, outputs = task.splits["test"]
    assert inputs.numpy() == pytest.approx((stored["test_features"] - mean) / std, abs=1e-5)
    by_hand = (stored["test_targets"][:, 0] - targets.mean(dtype=np.float64)) / targets.std(
        dtype=np.float64
    )
    assert outputs.numpy() == pytest.approx(by_hand, abs=1e-5)
    assert len(task.splits["valid"][0]) == 10
    assert not set(task.division.valid.tolist()) & set(rows.tolist())
    assert task.facts["target"].startswith(f"target: mean {targets.mean():.4g} euro, standard")
    assert made(folder, seed=1).digest != made(folder).digest


def test_the_error_is_that_of_predictions_in_the_targets_unit(folder):
    task = made(folder)
    job = Job(task.initial_state(), ones(task.model, "all"),
              Training(lr=0.02, epochs=5, batch_size=16), seed=0)  # fmt: skip
    trained = run_job(job, task)
    found = measure(job, trained, task).test
    stored = np.load(folder / "plane.npz")
    scale = {name: value.numpy() for name, value in task.scale.items()}
    inputs = (stored["test_features"] - scale["mean"]) / scale["std"]
    outputs = (
        inputs @ trained.final["head.weight"][0].double().numpy()
        + trained.final["head.bias"].item()
    )
    predicted = outputs * scale["target_std"] + scale["target_mean"]
    by_hand = np.sqrt(np.mean((predicted - stored["test_targets"][:, 0]) ** 2))
    assert found.values["rmse"] == pytest.approx(by_hand, rel=1e-3)
    # The targets vary by about 600 around their mean.
    assert 1 < by_hand < 600
    assert task.metrics[0].shown(by_hand).endswith(" euro")


def test_a_table_of_text_leaves_out_what_it_is_told_to(folder):
    options = {"path": "houses.csv", "target": "price", "drop": ["colour"]}
    table = load("table", root=folder, options=options, kind=Table)
    assert (table.train_features.shape, table.test_features.shape) == ((24, 1), (6, 1))
    rows = torch.cat([torch.cat([table.train_features, table.test_features]).flatten()[:, None],
                      torch.cat([table.train_targets, table.test_targets])[:, None]], 1)  # fmt: skip
    lines = [line.split(",") for line in HOUSES.splitlines()[1:]]
    assert sorted(rows.tolist()) == sorted([float(size), float(price)] for size, _, price in lines)


def test_weights_of_a_file_are_where_every_replicate_starts(folder, tmp_path):
    drawn = made(folder).model_of(5)
    torch.save(drawn.state_dict(), tmp_path / "weights.pt")
    model = Model("mlp_regressor", options={"hidden": []}, weights=str(tmp_path / "weights.pt"))
    task = made(folder, model=model)
    assert torch.equal(task.model_of(0).head.weight, drawn.head.weight)
    assert not torch.equal(task.model_of(0, anew=True).head.weight, drawn.head.weight)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("size,price\n1,x\n", "line 2: 'price' is 'x', which is no number; drop: [price]"),
        ("size,price\n1,2\n1,2,3\n", "line 3: there are 3 values for 2 columns"),
        ("size,cost\n1,2\n", "has no column 'price'; it has: size, cost."),
        ("size,price\n", "has no row below the names of its columns"),
        ("size,price\n1,2\nnan,3\n" * 1, "every value must be a number that float32 can hold"),
        ("price\n1\n2\n3\n", "of 0 features; at least one of each is needed"),
        ("size,price\n1,2\n", "there are 0 training examples"),
        (b"\xff\xfe\x00", "cannot read"),
        ("", "has no column 'price'"),
    ],
)  # fmt: skip
def test_a_table_that_is_none_is_one_line(tmp_path, content, said):
    path = tmp_path / "a.csv"
    path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)
    with pytest.raises(InputError) as caught:
        load("table", root=tmp_path, options={"path": "a.csv", "target": "price"}, kind=Table)
    refused(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"path": "houses.csv", "target": "price"}, "'colour' is 'red', which is no number"),
        ({"path": "plane.txt"}, "names a .csv or .npz file"),
        ({"test": 0.0, "path": "houses.csv"}, "table.test is 0.0; it is the fraction"),
        ({"model": Model("mlp")}, "model 'mlp' is for the task classification"),
        ({"model": Model("mlp_regressor", options={"hidden": [0]})}, "hidden is [0]"),
        ({"data": {"classes": 2}}, "data.classes is given, and the task regression"),
    ],
)
def test_what_cannot_be_learnt_from_is_one_line(folder, changes, said):
    with pytest.raises(InputError) as caught:
        made(folder, **changes)
    refused(caught.value)
    assert said in str(caught.value)


def test_an_npz_file_without_the_four_arrays_is_one_line(tmp_path):
    np.savez(tmp_path / "a.npz", features=np.ones(3))
    with pytest.raises(
        InputError,
        match="has no train_features, train_targets, test_features, test_targets; it has: features",
    ):
        load("table", root=tmp_path, options={"path": "a.npz"}, kind=Table)
    whole = {"train_features": np.ones((3, 2)), "train_targets": np.array(["a", "b", "c"]),
             "test_features": np.ones((1, 2)), "test_targets": np.ones(1)}  # fmt: skip
    np.savez(tmp_path / "b.npz", **whole)
    with pytest.raises(InputError, match=r"train_targets in .* are <U1; real numbers are needed"):
        load("table", root=tmp_path, options={"path": "b.npz"}, kind=Table)


def test_diabetes_is_scikit_learns(folder):
    from sklearn.datasets import load_diabetes

    features, targets = load_diabetes(return_X_y=True)
    table = load("diabetes", kind=Table)
    rows = torch.cat([table.train_targets, table.test_targets]).tolist()
    assert sorted(rows) == sorted(targets.astype(np.float32).tolist())
    task = regression(Data("diabetes"), Model("mlp_regressor"), seed=0, device="cpu", root=None)
    assert (task.size(WHOLE, "train"), task.size(WHOLE, "valid"), features.shape) == (
        319,
        35,
        (442, 10),
    )
