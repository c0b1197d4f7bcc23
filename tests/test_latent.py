"""Masks that are trained while the weights stay as they are: edge-popup and supermasks."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.test_executors import TASK, job
from tests.test_method_contracts import tickets
from torch import nn

from tombola import Classification, Run, Training, ones, split
from tombola.data import synthetic
from tombola.experiments.experiment import plan, run
from tombola.ground.errors import ConfigError, TrainingError
from tombola.masks.masks import count, size
from tombola.masks.pruning import prune
from tombola.schema.recipe import parse
from tombola.scores.context import Context
from tombola.training import latent
from tombola.training.jobs import Job, run_job
from tombola.training.latent import (
    EdgePopup,
    KeptLargest,
    PopupTrainer,
    Supermask,
    SupermaskTrainer,
)

MASK = {"weight": torch.ones(1, 4, dtype=torch.bool)}


def layer():
    """A layer of four weights, (2, -1, .5, 1), whose output is their sum."""
    model = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2.0, -1.0, 0.5, 1.0]]))
    return model


def trainer(kind, during, model, scores):
    """Make a driver whose layer has the given scores."""
    driver = kind(during, model, None, MASK, steps=9, first=0, context=Context({}, seed=0))
    driver._layers["weight"].scores.data.copy_(torch.tensor(scores))
    return driver


def step(driver, model, lr=0.1):
    """Take the step of L = the sum of the kept weights, whose gradient is 1 everywhere."""
    model.weight.grad = None
    model(torch.ones(1, 4)).sum().backward()
    driver.on_gradients(0, model, torch.optim.SGD(model.parameters(), lr))
    return driver._layers["weight"]


def test_edge_popup_by_hand_as_in_the_authors_code():
    model = layer()
    driver = trainer(PopupTrainer, EdgePopup(0.5), model, [0.1, -0.4, 0.3, 0.2])
    driver.begin()
    assert driver.settled()["weight"].tolist() == [[False, True, True, False]]
    assert model.weight.tolist() == [[0.0, -1.0, 0.5, 0.0]]
    # The gradient of L = -(sum) would lower what is kept; here it rises: + and - of the same rule.
    after = step(driver, model)
    assert after.scores.grad.tolist() == [2.0, 1.0, 0.5, 1.0]
    assert after.scores.tolist() == pytest.approx([-0.1, -0.5, 0.25, 0.1])
    assert driver.settled()["weight"].tolist() == [[False, True, True, False]]


def test_edge_popup_by_hand_as_in_the_paper():
    model = layer()
    driver = trainer(PopupTrainer, EdgePopup(0.5, rank="signed"), model, [0.1, -0.4, 0.3, 0.2])
    driver.begin()
    assert driver.settled()["weight"].tolist() == [[False, False, True, True]]
    assert step(driver, model).scores.grad.tolist() == [2.0, -1.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("rescaled", "expected"),
    [(False, [0.5, -0.25, 0.125, 0.25]), (True, [0.375, -1.125, -0.375, -0.125])],
)
def test_a_supermask_by_hand(rescaled, expected):
    model = layer()
    driver = trainer(SupermaskTrainer, Supermask(rescaled=rescaled), model, [0.0] * 4)
    driver.begin()
    drawn = driver._layers["weight"]
    drawn.keep(*driver._kept(drawn, torch.tensor([True, False, True, False])))
    factor = 2 if rescaled else 1
    assert model.weight.tolist() == [[2.0 * factor, 0.0, 0.5 * factor, 0.0]]
    assert step(driver, model, lr=100.0).scores.grad.tolist() == expected


def test_a_supermask_keeps_what_is_more_likely_kept_than_not():
    model = layer()
    driver = trainer(SupermaskTrainer, Supermask(), model, [0.1, -0.1, 0.0, 9.0])
    assert driver.settled()["weight"].tolist() == [[True, False, False, True]]
    assert model.weight.tolist() == [[2.0, 0.0, 0.0, 1.0]]


def test_an_evaluation_in_between_moves_nothing_of_a_supermask():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    task = Classification(model, split(synthetic()), head="1")
    settings = {"lr": 10.0, "epochs": 2}
    often, seldom = (Training(**settings, evaluate_every=every) for every in (1, 7))
    job = Job(task.initial_state(), ones(model, "all"), often, seed=3, during=Supermask())
    finals = [run_job(replace(job, training=training), task).final for training in (often, seldom)]
    assert torch.equal(finals[0]["1.weight"], finals[1]["1.weight"])


@pytest.mark.parametrize("during", [EdgePopup(0.3), EdgePopup(0.3, rank="signed"), Supermask()])
def test_a_training_finds_a_mask_and_moves_no_weight(during):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10))
    task = Classification(model, split(synthetic()), head="3")
    start, mask = task.initial_state(), ones(model, "all")
    training = Training(lr=10.0, momentum=0.9, epochs=4)
    job = Job(start, mask, training, seed=0, during=during)
    results = {}
    for kernel in ("eager", "traced"):
        trained = run_job(replace(job, training=replace(training, step=kernel)), task)
        for name, value in trained.final.items():
            kept = trained.mask.get(name, torch.ones_like(value, dtype=torch.bool))
            assert torch.equal(value, start[name] * kept)
        if isinstance(during, EdgePopup):
            assert int(trained.mask["1.weight"].sum()) == round(0.3 * 64 * 20)
            assert int(trained.mask["3.weight"].sum()) == round(0.3 * 20 * 10)
        results[kernel] = trained
        losses = [entry["valid_loss"] for entry in trained.history]
        assert losses[-1] < losses[0]
    for name, keep in results["eager"].mask.items():
        assert torch.equal(keep, results["traced"].mask[name])


@pytest.mark.parametrize("during", [EdgePopup(0.3), Supermask(rescaled=True)])
def test_convolutions_with_their_channels_last_keep_their_weights_too(during):
    each = replace(job(), during=during)
    trained = run_job(each, TASK)
    start = (
        each.start if isinstance(during, EdgePopup) else latent.rescaled(each.start, trained.mask)
    )
    for name, keep in trained.mask.items():
        assert 0 < int(keep.sum()) < keep.numel()
        assert torch.allclose(trained.final[name], start[name] * keep)


def test_the_loop_is_that_of_plain_autograd():
    """Edge-popup by a straight-through function of torch's own, step by step."""

    class Kept(torch.autograd.Function):
        @staticmethod
        def forward(_, scores, number):
            keep = torch.zeros_like(scores)
            keep[scores.abs().argsort(stable=True)[-number:]] = 1
            return keep

        @staticmethod
        def backward(_, gradient):
            return gradient, None

    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    task = Classification(model, split(synthetic()), head="1")
    training = Training(lr=0.5, momentum=0.9, weight_decay=1e-4, epochs=1, step="eager")
    job = Job(task.initial_state(), ones(model, "all"), training, seed=0, during=EdgePopup(0.25))
    trained = run_job(job, task)

    weight, bias = job.start["1.weight"], job.start["1.bias"]
    driver = PopupTrainer(
        job.during, model, "1", job.mask, steps=1, first=0, context=Context({}, seed=0)
    )
    scores = nn.Parameter(driver._layers["1.weight"].scores.detach().clone())
    optimizer = torch.optim.SGD([scores], 0.5, momentum=0.9, weight_decay=1e-4)
    for inputs, labels in task.batches(job.part, training.batch_size, 0).epoch(0):
        # |s| passes the gradient with the sign of s.
        keep = Kept.apply(scores, 160)
        straight = keep.detach() + (scores.abs() - scores.abs().detach())
        outputs = inputs.flatten(1) @ (weight * straight.view(10, 64)).T + bias
        optimizer.zero_grad()
        nn.functional.cross_entropy(outputs, labels).backward()
        optimizer.step()
    kept = scores.detach().abs().argsort(stable=True)[-160:]
    mine = torch.nonzero(trained.mask["1.weight"].flatten()).flatten()
    assert sorted(kept.tolist()) == mine.tolist()


@given(
    st.lists(st.lists(st.integers(-4, 4), min_size=12, max_size=12), min_size=1, max_size=6),
    st.integers(0, 12),
)
def test_the_largest_are_those_that_pruning_keeps_whatever_was_before(calls, number):
    largest = KeptLargest(number)
    every = {"w": torch.ones(12, dtype=torch.bool)}
    for values in calls:
        scores = {"w": torch.tensor(values, dtype=torch.float32)}
        expected = prune(scores, every, count=number)["w"]
        assert torch.equal(largest(scores["w"]), expected)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 10.0))
def test_the_largest_of_values_that_drift(seed, drift):
    draw = np.random.default_rng(seed)
    values, largest = draw.normal(size=5000).astype(np.float32), KeptLargest(1700)
    for _ in range(5):
        kept = largest(torch.from_numpy(values))
        expected = np.sort(values)[-1700:]
        assert np.array_equal(np.sort(values[kept.numpy()]), expected)
        values = values + np.float32(drift) * draw.normal(size=5000).astype(np.float32)


def test_scores_that_are_not_numbers_are_told():
    largest = KeptLargest(2)
    largest(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    with pytest.raises(TrainingError, match="is not a number"):
        largest(torch.full((4,), float("nan")))
    with pytest.raises(TrainingError, match="is not a number"):
        KeptLargest(2)(torch.full((4,), float("nan")))


RECIPE = {
    "name": "latent",
    "data": {"name": "digits", "subset": 320},
    "model": {"name": "mlp", "hidden": [20, 10]},
    "training": {"lr": 0.05, "epochs": 1, "batch_size": 32, "clip": 1.0},
    "until": {"rounds": 2},
}


def recipe(**arms):
    return parse(RECIPE | {"arms": arms})


def test_tickets_start_from_the_weights_that_the_mask_was_found_on(tmp_path):
    arms = {
        "popup": {
            "method": "edge_popup",
            "densities": [0.5, 0.2],
            "constants": "signed",
            "scaled": True,
            "evaluate": "untrained",
        },
        "mask": {"method": "supermask", "constants": "signed", "rescaled": True},
        "same": {"match": "mask"},
        "signs": {"method": "signed_constants", "source": "same"},
    }
    outcome = run(recipe(**arms), runs=tmp_path, workers=1)
    assert outcome.complete, outcome.notes
    found, plans = tickets(outcome.folder), plan(recipe(**arms))
    assert [len(found[arm]) for arm in arms] == [2, 1, 1, 1]
    seed = found["same"][0].origin["seeds"]["replicate"]
    initial = dict(plans.task.model_of(seed).state_dict())
    for ticket, density in zip(found["popup"], (0.5, 0.2), strict=True):
        for name, keep in ticket.mask.items():
            weight = initial[name]
            kept = round(density * keep.numel()) / keep.numel()
            constant = weight.sign() * (2 / (weight.shape[1] * kept)) ** 0.5
            assert torch.allclose(ticket.rewind_point[name], constant)
            assert int(keep.sum()) == round(density * keep.numel())
    [ticket], [same], [signs] = found["mask"], found["same"], found["signs"]
    for name, keep in ticket.mask.items():
        weight = initial[name]
        constant = weight.sign() * weight.std(correction=0)
        factor = keep.numel() / int(keep.sum())
        assert torch.allclose(ticket.rewind_point[name], constant * factor)
        assert torch.allclose(signs.rewind_point[name], constant)
        assert int(same.mask[name].sum()) == int(keep.sum())


class Tied(nn.Module):
    """Its two layers share their weight."""

    def __init__(self, width, classes):
        super().__init__()
        self.one = nn.Linear(width, width)
        self.two = nn.Linear(width, width)
        self.two.weight = self.one.weight
        self.head = nn.Linear(width, classes)

    def forward(self, images):
        return self.head(self.two(self.one(images.flatten(1)).relu()).relu())


def tied(num_classes, image_shape):
    return Tied(math.prod(image_shape), num_classes)


def test_layers_that_share_a_weight_share_the_one_that_tickets_start_from(tmp_path):
    entries = RECIPE | {"model": {"name": "tests.test_latent:tied"}, "replicates": 1}
    arms = {
        "popup": {"method": "edge_popup", "densities": [0.5], "constants": "signed"},
        "mask": {"method": "supermask", "constants": "signed", "rescaled": True, "draws": 1},
        "signs": {"method": "signed_constants", "source": "mask"},
        "both": {"method": "shuffled", "source": "mask"},
    }
    for arm in arms.values():
        arm["evaluate"] = "untrained"
    outcome = run(parse(entries | {"arms": arms}), runs=tmp_path, workers=1)
    assert outcome.complete, outcome.notes
    for found in tickets(outcome.folder).values():
        for ticket in found:
            start = ticket.rewind_point
            assert torch.equal(start["one.weight"], start["two.weight"])


@pytest.mark.parametrize("kernel", ["eager", "traced"])
@pytest.mark.parametrize("during", [EdgePopup(0.5), Supermask()])
def test_masks_of_frozen_layers_are_trained_and_a_layer_that_is_not_called_does_no_harm(
    during, kernel
):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10))
    model[1].requires_grad_(False)
    model[0].unused = nn.Linear(4, 4)
    task = Classification(model, split(synthetic()), head="3")
    training = Training(lr=10.0, epochs=1, step=kernel)
    job = Job(task.initial_state(), ones(model, head="3"), training, seed=0, during=during)
    trained = run_job(job, task)
    still = run_job(replace(job, training=replace(training, lr=1e-12)), task)
    assert not torch.equal(trained.mask["1.weight"], still.mask["1.weight"])
    assert torch.equal(trained.final["1.weight"], job.start["1.weight"] * trained.mask["1.weight"])


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        ({"method": "supermask", "densities": [0.5]}, "densities has no meaning with method: supermask"),
        ({"method": "edge_popup"}, "needs densities"),
        ({"method": "edge_popup", "densities": [0.5], "scope": "whole_model"}, "x.scope is 'whole_model'"),
        ({"method": "edge_popup", "densities": [0.5], "scaled": True}, "scaled has no meaning"),
        ({"method": "supermask", "training": {"clip": 1.0}}, "training.clip limits the gradients"),
        ({"method": "supermask", "constants": "kaiming"}, "x.constants is 'kaiming'"),
        ({"method": "supermask", "draws": -1}, "x.draws is -1"),
    ],
)  # fmt: skip
def test_bad_options_are_told_in_one_line(arm, said):
    with pytest.raises(ConfigError, match=said) as told:
        recipe(x=arm)
    assert "\n" not in str(told.value)


def test_the_plain_data_of_a_training_is_in_its_digest():
    job = Job({"w": torch.ones(2)}, {"w": torch.ones(2) > 0}, Training(epochs=1), seed=0)
    kinds = [None, EdgePopup(0.5), EdgePopup(0.5, rank="signed"), Supermask(), Supermask(bias=1.0)]
    assert len({replace(job, during=kind).digest("task") for kind in kinds}) == len(kinds)
    assert latent.rescaling(4, 0) == 4.0


def test_further_tickets_are_drawn_by_the_probabilities(tmp_path):
    arms = {"mask": {"method": "supermask", "draws": 3, "evaluate": "untrained"}}
    whole = recipe(**arms)
    outcome = run(replace(whole, until=replace(whole.until, rounds=4)), runs=tmp_path, workers=1)
    assert outcome.complete, outcome.notes
    found = tickets(outcome.folder)["mask"]
    densities = [count(ticket.mask) / size(ticket.mask) for ticket in found]
    assert len(found) == 4
    # Of the first ticket no other differs in nothing, and all are about as dense.
    assert len({ticket.digest for ticket in found}) == 4
    assert max(densities[1:]) - min(densities[1:]) < 0.1
    # A denser mask than the one before keeps no share of it, and the records can be read.
    fractions = [after / before for before, after in pairwise(densities)]
    assert max(fractions) > 1
    rounds = Run(outcome.folder).records.all()[2:]
    assert [record["kept_fraction"] for record in rounds] == [
        pytest.approx(fraction) if fraction <= 1 else None for fraction in fractions
    ]
    # Each is charged the one training that they share.
    searched = {record["samples_seen_search"] for record in outcome.records if record["round"]}
    assert len(searched) == 1
    assert searched.pop() > 0


def test_drawn_masks_have_the_probabilities_that_were_trained():
    scores = {"w": torch.full((20000,), 1.0)}
    keep = {"w": torch.ones(20000, dtype=torch.bool)}
    shares = []
    for number in range(3):
        shares.append(latent.drawn(scores, keep, seed=0, number=number)["w"].float().mean().item())
    assert all(abs(share - torch.sigmoid(torch.tensor(1.0)).item()) < 0.02 for share in shares)
    assert len(set(shares)) == 3
