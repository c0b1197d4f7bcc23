"""Models of torchvision and of one's own are searched, trained and carried over like any other."""

import random

import numpy as np
import pytest
import torch
from tests.test_experiment import timeless

from tombola import Classification, Job, Training, run_job, split
from tombola.data import synthetic
from tombola.experiments.experiment import run
from tombola.experiments.transfer import transfer
from tombola.ground.errors import ConfigError, InputError
from tombola.masks.masks import ones
from tombola.models.building import build, head_name
from tombola.schema.recipe import parse
from tombola.tickets import Ticket

OWN = '''
"""Models of one's own."""
import random

import numpy as np
import torch
from torch import nn


class Drawing(nn.Module):
    """Draws from all three global generators whenever it runs, in training and in evaluation."""

    def forward(self, images):
        return images * random.choice([0.5, 2.0]) + np.random.randint(1, 3) * torch.rand(())


class Net(nn.Module):
    def __init__(self, classes, image_shape, width=12):
        super().__init__()
        size = image_shape[0] * image_shape[1] * image_shape[2]
        self.drawing, self.flat = Drawing(), nn.Flatten()
        self.first, self.last = nn.Linear(size, width), nn.Linear(width, classes)
        self.calls = 0

    def forward(self, images):
        self.calls += 1  # which a recording would not count
        hidden = torch.relu(self.first(self.flat(self.drawing(images))))
        return self.last(hidden if self.calls % 2 else 0.5 * hidden)


def net(num_classes, image_shape, width=12):
    return Net(num_classes, image_shape, width)


def frozen(num_classes, image_shape, which="1"):
    """An untrained first layer, or second one: what faults of sharing recordings were found with."""
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, num_classes)
    )
    model.get_submodule(which).requires_grad_(False)
    return model


def still(num_classes, image_shape):
    """Batch norm with frozen statistics."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, num_classes))
    model[2].eval()
    return model
'''


@pytest.fixture
def own_models(tmp_path, monkeypatch):
    """A module of the user's own in the working folder, which worker processes find there, too."""
    (tmp_path / "own_models_here.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def recipe(model, **changes):
    whole = {
        "name": "models", "model": model, "seed": 5,
        "data": {"name": "synthetic", "classes": 3, "train": 12, "test": 3, "image_shape": [3, 32, 32], "valid": 3},
        "training": {"lr": 0.01, "momentum": 0.9, "epochs": 1, "batch_size": 9},
        "arms": {"lth": {"method": "lth", "rate": 0.5}},
        "until": {"rounds": 1}, "replicates": 1,
    }  # fmt: skip
    return parse(whole | changes)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("torchvision:squeezenet1_1", marks=pytest.mark.slow),
        "torchvision:mobilenet_v3_small",
        "torchvision:shufflenet_v2_x0_5",
    ],
)
def test_a_model_of_torchvision_is_searched_and_its_ticket_carried_over(model, tmp_path):
    done = run(recipe(model), runs=tmp_path, workers=1)
    assert done.complete, done.notes
    assert [record["round"] for record in done.records] == [0, 1]
    assert done.records[1]["density"] == pytest.approx(0.5, abs=1e-6)
    [path] = (done.folder / "tickets").rglob("round-001-*.safetensors")
    assert Ticket.load(path).origin["model"]["name"] == model
    if "mobilenet" in model:
        return
    # Named anew, as a function of one's own would have to be; the ticket's name would do.
    again = transfer([path], ["synthetic"], model=model, runs=tmp_path, workers=1)
    assert again.failures == []
    assert again.records[0]["test_loss"] == done.records[1]["test_loss"]


DIGITS = {"data": {"name": "digits", "valid": 100, "subset": 300}}


@pytest.mark.usefixtures("own_models")
def test_a_model_of_ones_own_that_draws_and_decides_gives_the_same_with_one_worker_and_two(
    tmp_path,
):
    made = recipe(
        {"name": "own_models_here:net", "head": "last", "width": 10}, **DIGITS, replicates=2
    )
    assert made.training.step is None
    results = []
    for workers in (1, 2):
        random.seed(workers), np.random.seed(workers), torch.manual_seed(workers)
        done = run(made, runs=tmp_path / str(workers), workers=workers)
        assert done.complete, done.notes
        results.append(timeless(done.records))
    assert results[0] == results[1]


@pytest.mark.usefixtures("own_models")
@pytest.mark.parametrize("which", ["1", "3"])
def test_replicates_of_a_model_with_a_frozen_layer_are_those_of_an_eager_step(which, tmp_path):
    """Both in one process, first one layer frozen and then another."""
    model = {"name": "own_models_here:frozen", "head": "5", "which": which}
    training = {"optimizer": "adam", "lr": 0.001, "epochs": 4, "batch_size": 32}
    results = {}
    for step in ("traced", "eager"):
        made = recipe(model, **DIGITS, training={**training, "step": step}, replicates=3)
        done = run(made, runs=tmp_path / step, workers=1)
        assert done.complete, done.notes
        results[step] = [
            (r["test_loss"], r["test_accuracy"], r["mask_digest"]) for r in done.records
        ]
    assert results["traced"] == results["eager"]
    assert min(accuracy for _, accuracy, _ in results["traced"]) > 0.5


@pytest.mark.usefixtures("own_models")
def test_a_frozen_batch_norm_is_frozen_in_a_run(tmp_path):
    done = run(
        recipe({"name": "own_models_here:still", "head": "4"}, **DIGITS, keep="all"),
        runs=tmp_path,
        workers=1,
    )
    assert done.complete, done.notes
    trained = done.folder / "machine/trainings"
    assert list(trained.iterdir())
    [ticket] = (done.folder / "tickets").rglob("round-001-*.safetensors")
    from tombola.records.storage import Store

    states = [Store(trained).trained(path.stem).state for path in trained.glob("*.training")]
    assert len(states) == 2
    for state in states:
        assert not state["2.running_mean"].any()
        assert state["2.num_batches_tracked"] == 0
    assert Ticket.load(ticket).rewind_point["2.num_batches_tracked"] == 0


def test_a_model_that_gives_more_than_logits_in_training_is_refused_with_the_option_that_helps(
    tmp_path,
):
    with pytest.raises(ConfigError, match="aux_logits") as caught:
        run(
            recipe({"name": "torchvision:googlenet", "init_weights": False}),
            runs=tmp_path,
            workers=1,
        )
    assert "\n" not in str(caught.value)
    options = {"init_weights": False, "aux_logits": False}
    assert build("torchvision:googlenet", 3, (3, 32, 32), options=options, seed=0)


def test_a_model_that_reads_numbers_while_it_is_made_is_built():
    model = build("torchvision:regnet_y_400mf", 3, (3, 32, 32), seed=0)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


def classifiers():
    from torchvision import models

    return models.list_models(module=models)


SIDES = {"inception_v3": 75, "maxvit_t": 224}  # the least that they take
MOST = 150e6  # weights; larger ones are of the same kinds


@pytest.mark.slow
def test_every_classifier_of_torchvision_takes_a_step_or_is_refused_in_one_line():
    from torchvision import models

    took, refused = [], {}
    for name in classifiers():
        weights = models.get_model_weights(name).DEFAULT.meta["num_params"]
        if weights > MOST:
            continue
        side = SIDES.get(name, 224 if name.startswith(("vit_", "swin")) else 64)
        options = (
            {"aux_logits": False, "init_weights": False}
            if name in ("googlenet", "inception_v3")
            else {}
        )
        data = split(synthetic(classes=3, train=6, test=3, image_shape=(3, side, side)), valid=0)
        try:
            model = build(f"torchvision:{name}", 3, (3, side, side), options=options, seed=0)
            head = head_name(model, outputs=3)
            task = Classification(model, data, head)
            job = Job(
                task.initial_state(),
                ones(model, head=head),
                Training(lr=1e-3, momentum=0.9, steps=1, batch_size=6),
                0,
            )
            trained = run_job(job, task)
        except InputError as error:
            refused[name] = str(error)
            continue
        moved = [not torch.equal(trained.final[weight], job.start[weight]) for weight in job.mask]
        assert any(moved), name
        took.append(name)
    assert refused == {}
    assert len(took) > 60
