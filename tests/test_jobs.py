"""A job is one training as plain data: the same job gives the same bits, and another one
another digest.
"""

import itertools
import random
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.toys import equal
from torch import nn

from tombola import Classification
from tombola.data.batches import Augment
from tombola.data.dataset import from_tensors
from tombola.data.partitions import WHOLE, Partition, by_seeds
from tombola.data.splits import split
from tombola.ground import seeds
from tombola.ground.errors import ConfigError, TrainingError
from tombola.ground.settings import Training
from tombola.masks.masks import ones
from tombola.tasks.protocol import Metrics
from tombola.training.jobs import Job, measure, run_job
from tombola.training.loop import arrange_, resolve_defaults


def data():
    """60 noisy pictures of 4 classes: a class is lighter in its own corner."""
    draw = torch.Generator().manual_seed(3)
    labels = torch.arange(60) % 4
    images = 2 * torch.rand(60, 1, 4, 4, generator=draw)
    for label, (row, column) in enumerate(itertools.product((0, 3), (0, 3))):
        images[labels == label, 0, row, column] += 1
    return from_tensors(images, labels, images[:16].flip(0), labels[:16].flip(0), 4)


def network(dropout=0.0) -> nn.Module:
    with seeds.seeded(0, "init"):
        return nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(1, 4, 3, padding=1),
                norm=nn.BatchNorm2d(4),
                relu=nn.ReLU(),
                dropout=nn.Dropout(dropout),
                flat=nn.Flatten(),
                head=nn.Linear(64, 4),
            )
        )


def make_task(kind=Classification, valid=20, **options) -> Classification:
    """40 training examples: batches of 16 make three steps an epoch, of 16, 16 and 8."""
    return kind(network(), split(data(), valid=valid), **options)


@pytest.fixture
def task() -> Classification:
    return make_task()


def job_on(task, **settings) -> Job:
    mask = ones(task.model)
    mask["conv.weight"][1:3] = False
    settings = {"epochs": 4, "batch_size": 16, "lr": 0.1} | settings
    return Job(task.initial_state(), mask, Training(**settings), seed=0)


def test_pruned_weights_of_a_trained_state_are_plus_zero(task):
    trained = run_job(job_on(task, momentum=0.9), task)
    for state in (trained.final, trained.early):
        pruned = state["conv.weight"][1:3]
        assert not pruned.any()
        assert not pruned.signbit().any()


def breaking(step, value) -> Classification:
    """A task whose loss is ``value`` at a step, counted from 1."""

    class Breaks(Classification):
        calls = itertools.count(1)

        def loss(self, model, batch):
            return super().loss(model, batch) * (value if next(self.calls) == step else 1)

    return make_task(Breaks)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("evaluate_every", [None, 1, 5, 7, 100])
def test_a_loss_that_is_no_number_ends_the_training_and_the_step_is_named(value, evaluate_every):
    task = breaking(7, value)
    with pytest.raises(
        TrainingError, match=f"the loss is {value} at step 7; a lower learning rate may help"
    ):
        run_job(job_on(task, evaluate_every=evaluate_every), task)


def test_a_learning_rate_that_blows_up_is_told(task):
    with pytest.raises(TrainingError, match="a lower learning rate may help"):
        run_job(job_on(task, lr=1e30), task)


def scripted(*losses) -> Classification:
    """A task whose validation losses are given."""

    class Scripted(Classification):
        script = iter(losses)

        def measure(self, model, partition, which):
            return Metrics(next(self.script), {"accuracy": 0.5})

    return make_task(Scripted)


@pytest.mark.parametrize(
    ("losses", "step"),
    [
        ([4, 3, 2, 1], 12),
        ([1, 2, 3, 4], 3),
        ([3, 1, 2, 1], 6),
        ([2, 2, 2, 2], 3),
        ([4, 3, 1, 2], 9),
    ],
)
def test_the_early_stop_step_is_the_first_with_the_lowest_validation_loss(losses, step):
    task = scripted(*losses)
    trained = run_job(job_on(task), task)
    assert trained.early_step == step
    assert [entry["step"] for entry in trained.history] == [3, 6, 9, 12]
    assert [entry["valid_loss"] for entry in trained.history] == losses


def test_the_early_state_is_that_of_a_training_that_ends_there(task):
    job = job_on(task, lr=1.0, momentum=0.9, evaluate_every=2, epochs=5)
    trained = run_job(job, task)
    for entry in trained.history:
        there = run_job(replace(job, last=entry["step"]), task).final
        model = task.build(there, WHOLE, 0)
        # another layout has other last bits
        arrange_(model, resolve_defaults(job.training, task.model, "cpu"))
        metrics = task.measure(model, WHOLE, "valid")
        assert (entry["valid_loss"], entry["valid_accuracy"]) == (
            metrics.loss,
            metrics.values["accuracy"],
        )
        if entry["step"] == trained.early_step:
            assert equal(trained.early, there)
    lowest = min(trained.history, key=lambda entry: entry["valid_loss"])
    assert trained.early_step == lowest["step"] < 15
    assert [entry["step"] for entry in trained.history] == [2, 4, 6, 8, 10, 12, 14, 15]
    assert equal(trained.final, there)


def test_select_says_which_state_is_the_result():
    for select, which in (("last", "final"), ("best", "early")):
        task = scripted(3, 1, 2, 4)
        trained = run_job(job_on(task, select=select), task)
        assert trained.state is getattr(trained, which)
        assert not equal(trained.final, trained.early)


@pytest.mark.parametrize(
    ("losses", "patience", "steps"),
    [
        ([3, 1, 2, 2, 0], 2, 12),
        ([3, 2, 1, 2, 3, 0], 3, 18),
        ([1, 2, 0], 1, 6),
        ([3, 2, 3, 1, 2, 3], 2, 18),
    ],
)
def test_patience_ends_a_training_after_so_many_evaluations_without_a_lower_loss(
    losses, patience, steps
):
    task = scripted(*losses)
    trained = run_job(job_on(task, epochs=6, patience=patience), task)
    assert trained.history[-1]["step"] == steps
    assert trained.samples == steps // 3 * 40


def test_without_validation_data_there_is_no_early_state():
    task = make_task(valid=0)
    trained = run_job(job_on(task), task)
    assert (trained.early, trained.early_step, trained.history) == (None, None, [])
    assert trained.state is trained.final
    measured = measure(job_on(task), trained, task)
    assert measured.valid is None
    assert measured.early is None


def test_the_best_state_cannot_be_selected_without_validation_data():
    task = make_task(valid=0)
    with pytest.raises(
        ConfigError,
        match=r"training.select is best; without validation data \(valid: 0\) it must be",
    ):
        run_job(job_on(task, select="best"), task)


@pytest.mark.parametrize(
    ("part", "settings", "samples"),
    [
        (WHOLE, {"epochs": 1}, 16 + 16 + 8),
        (WHOLE, {"epochs": None, "steps": 5}, 40 + 32),
        (
            WHOLE,
            {"epochs": None, "steps": 3, "batch_size": 13},
            39,
        ),  # a last batch of one example is dropped
        (WHOLE, {"epochs": None, "steps": 4, "batch_size": 13}, 39 + 13),
        (Partition(classes=(0, 3)), {"epochs": 2}, 2 * 20),  # 16 + 4
        (
            Partition(classes=(0, 3)),
            {"epochs": None, "steps": 9},
            3 * 20,
        ),  # 9 * 2/3 = 6 steps of its own
        (Partition(examples=tuple(range(10))), {"epochs": 2}, 2 * 10),
        (Partition(order=1), {"epochs": 2}, 2 * 40),
    ],
)
def test_samples_are_counted_as_they_are_seen(task, part, settings, samples):
    job = replace(job_on(task, **settings), part=part)
    assert run_job(job, task).samples == samples


def test_a_training_that_goes_on_from_a_step_counts_its_own_samples(task):
    job = replace(job_on(task, epochs=2), first=2)
    assert run_job(job, task).samples == 8 + 40
    assert run_job(replace(job, last=4), task).samples == 8 + 16


def test_a_rewind_point_at_step_k_goes_on_to_the_same_bits(task):
    job = replace(job_on(task, schedule="cosine", evaluate_every=4), mask=ones(task.model))
    point = run_job(replace(job, last=5), task).final
    assert equal(run_job(replace(job, start=point, first=5), task).final, run_job(job, task).final)


@pytest.mark.parametrize(
    "part", [WHOLE, Partition(classes=(0, 3)), Partition(examples=tuple(range(20)))]
)
def test_pruned_weights_end_at_zero_and_the_head_has_its_size(task, part):
    job = replace(job_on(task), part=part)
    trained = run_job(job, task)
    for state in (trained.final, trained.early):
        assert not state["conv.weight"][1:3].any()
        assert state["conv.weight"][[0, 3]].all()
        assert len(state["head.weight"]) == (2 if part.classes else 4)


def test_by_seeds_the_first_partition_trains_as_if_there_were_none(task):
    job = job_on(task)
    first, second = (run_job(job.on(part, job.mask), task).final for part in by_seeds(2))
    assert equal(first, run_job(job, task).final)
    assert not equal(first, second)


def test_the_same_job_gives_the_same_bits_even_with_dropout_and_augmentation():
    def once():
        task = Classification(
            network(dropout=0.5), split(data(), valid=20), augment=Augment(crop=1, flip=True)
        )
        return run_job(job_on(task), task)

    one, other = once(), once()
    assert equal(one.final, other.final)
    assert equal(one.early, other.early)
    assert one.history == other.history


@pytest.mark.parametrize("lr", [0.1, 1e30])
def test_the_callers_random_state_and_threads_are_left_alone(lr):
    task = Classification(network(dropout=0.5), split(data(), valid=20))
    torch.rand(1)  # no longer where another training may have left it
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    try:
        run_job(job_on(task, lr=lr, threads=2), task)
    except TrainingError:
        assert lr > 1
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_a_job_trains_with_the_threads_it_names():
    class Looks(Classification):
        def loss(self, model, batch):
            assert torch.get_num_threads() == 2
            return super().loss(model, batch)

    task = make_task(Looks)
    run_job(job_on(task, epochs=1, threads=2), task)


def test_progress_is_told_at_every_evaluation(task):
    told = []
    run_job(job_on(task, evaluate_every=5), task, lambda done, steps: told.append((done, steps)))
    assert told == [(5, 12), (10, 12), (12, 12)]
    told.clear()
    run_job(replace(job_on(task), first=4), task, lambda done, steps: told.append((done, steps)))
    assert told == [(2, 8), (5, 8), (8, 8)]


def test_neither_the_task_nor_the_job_is_changed_by_a_training(task):
    job, model = job_on(task), network().state_dict()
    before = job.digest(task.digest)
    run_job(job, task)
    assert replace(job).digest(task.digest) == before
    assert equal(task.model.state_dict(), model)


def test_measuring_gives_what_the_selected_and_the_early_state_do(task):
    job = job_on(task, lr=1.0, momentum=0.9, epochs=5)
    trained = run_job(job, task)
    measured = measure(job, trained, task)
    for metrics, state, which in (
        (measured.train, trained.final, "train"),
        (measured.valid, trained.final, "valid"),
        (measured.test, trained.final, "test"),
        (measured.early, trained.early, "test"),
    ):
        expected = task.measure(task.build(state, WHOLE, 0), WHOLE, which)
        assert (metrics.loss, metrics.values) == (expected.loss, expected.values)
        assert torch.equal(metrics.predictions, expected.predictions)
    assert measured.test.loss != measured.early.loss
    best = measure(job, replace(trained, select="best"), task)
    assert best.test is best.early
    assert best.test.loss == measured.early.loss


def test_equal_jobs_have_equal_digests(task):
    assert job_on(task).digest(task.digest) == job_on(make_task()).digest(make_task().digest)
    turned = dict(reversed(task.initial_state().items()))
    assert replace(job_on(task), start=turned).digest("task") == job_on(task).digest("task")


def other_start(job):
    start = {name: value.clone() for name, value in job.start.items()}
    start["norm.running_mean"][0] += 1e-6  # a buffer counts too
    return replace(job, start=start)


def other_mask(job):
    mask = {name: keep.clone() for name, keep in job.mask.items()}
    mask["conv.weight"][0, 0, 0, 0] = False
    return replace(job, mask=mask)


JOBS = {
    "as it is": lambda job: job,
    "start": other_start,
    "mask": other_mask,
    "seed": lambda job: replace(job, seed=1),
    "first": lambda job: replace(job, first=1),
    "last": lambda job: replace(job, last=1),
    "classes": lambda job: replace(job, part=Partition(classes=(0, 1))),
    "other classes": lambda job: replace(job, part=Partition(classes=(0, 2))),
    "examples": lambda job: replace(job, part=Partition(examples=(0, 1))),
    "order": lambda job: replace(job, part=Partition(order=1)),
} | {
    f"{name}={value}": lambda job, name=name, value=value: replace(
        job, training=replace(job.training, **{name: value})
    )
    for name, value in [
        ("lr", 0.2),
        ("momentum", 0.9),
        ("weight_decay", 0.1),
        ("betas", (0.8, 0.999)),
        ("epochs", 5),
        ("batch_size", 8),
        ("schedule", "cosine"),
        ("gamma", 0.2),
        ("warmup", 1),
        ("warmup_steps", 1),
        ("clip", 1.0),
        ("evaluate_every", 1),
        ("patience", 1),
        ("select", "best"),
        ("threads", 2),
        ("optimizer", "adam"),
    ]
}


def test_whatever_decides_a_training_changes_its_digest(task):
    job = job_on(task)
    digests = {name: change(job).digest("task") for name, change in JOBS.items()}
    digests["task"] = job.digest("another task")
    assert len(set(digests.values())) == len(digests)


def test_moving_a_job_to_a_partition_changes_part_and_mask_alone(task):
    job, part, mask = job_on(task), Partition(order=1), ones(task.model)
    moved = job.on(part, mask)
    assert moved.part is part
    assert moved.mask is mask
    assert (moved.start, moved.training, moved.seed) == (job.start, job.training, job.seed)


# ---- what a network draws by itself


class Drawing(nn.Module):
    """Draws from all three global generators, in training and in evaluation."""

    def forward(self, images):
        return images * np.random.uniform(0.5, 1.5) * random.uniform(0.5, 1.5) + 0.1 * torch.rand(
            images.shape
        )


@pytest.mark.parametrize("settings", [{}, {"select": "best", "evaluate_every": 2}])
def test_the_same_job_gives_the_same_twice_whatever_was_drawn_before_and_puts_it_back(settings):
    task = Classification(
        nn.Sequential(Drawing(), *network(dropout=0.3)), split(data(), valid=20), head="6"
    )
    training = Training(epochs=2, batch_size=16, lr=0.1, **settings)
    job = Job(task.initial_state(), {}, training, seed=0)
    results = []
    for seed in (1, 2):
        seeds.reseed_python(seed)
        torch.manual_seed(seed)
        before = (
            random.getstate(),
            np.random.get_state()[1].tolist(),
            torch.get_rng_state().tolist(),
        )
        trained = run_job(job, task)
        measured = measure(job, trained, task)
        assert before == (
            random.getstate(),
            np.random.get_state()[1].tolist(),
            torch.get_rng_state().tolist(),
        )
        results.append((trained, measured))
    (one, measured), (other, again) = results
    assert equal(one.final, other.final)
    assert equal(one.early, other.early)
    assert one.history == other.history
    for which in ("train", "valid", "test", "early"):
        assert getattr(measured, which).loss == getattr(again, which).loss


# ---- what is not seen when a model is printed


def frozen(model):
    model.conv.weight.requires_grad_(False)


def still(model):
    model.norm.eval()


def tied(model):
    model.second.weight = model.first.weight


@pytest.mark.parametrize("change", [frozen, still, tied])
def test_tasks_whose_models_train_differently_have_different_digests(change):
    def made(changed):
        model = network()
        model.first, model.second = nn.Linear(2, 2), nn.Linear(2, 2)
        if changed:
            change(model)
        return Classification(model, split(data(), valid=20)).digest

    assert made(False) == made(False) != made(True) == made(True)


def test_the_digest_of_a_task_is_the_same_in_both_modes_of_its_model():
    digests = [
        Classification(network().train(mode), split(data(), valid=20)).digest
        for mode in (True, False)
    ]
    assert digests[0] == digests[1]


def test_a_model_whose_shapes_are_not_known_yet_is_refused_in_one_line():
    with pytest.raises(
        ConfigError,
        match=r"the parameter '1.weight' has no shape yet; run the model on a batch once",
    ):
        Classification(nn.Sequential(nn.Flatten(), nn.LazyLinear(4)), split(data()), head="1")
