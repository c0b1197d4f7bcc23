"""Copies: how many states of a model a search has in memory, counted by the tensors that are
alive.
"""

import gc
import warnings
import weakref
from dataclasses import replace

import pytest
import torch
from tests.toys import equal
from torch import nn

from tombola import Classification
from tombola.data import synthetic
from tombola.data.partitions import WHOLE, by_seeds
from tombola.data.splits import split
from tombola.executors import serial
from tombola.ground.settings import Training
from tombola.masks import masks
from tombola.masks.masks import MaskHandle, ones
from tombola.search.rounds import find, find_at_once
from tombola.training.jobs import Job, run_job

SHAPE = (37, 64)  # of a weight that no other test has


def task_of(valid=20):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 37), nn.ReLU(), nn.Linear(37, 10))
    return Classification(model, split(synthetic(train=120, test=20), valid=valid), head="3")


def job_of(task, **settings):
    settings = {
        "steps": 6,
        "batch_size": 20,
        "lr": 0.05,
        "momentum": 0.9,
        "evaluate_every": 2,
    } | settings
    return Job(task.initial_state(), ones(task.model, head="3"), Training(**settings), seed=0)


def alive():
    """Count the tensors of numbers of that shape, each memory once."""
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some modules warn when they are looked at
        found = [
            one
            for one in gc.get_objects()
            if isinstance(one, torch.Tensor) and tuple(one.shape) == SHAPE
        ]
    return len({one.untyped_storage().data_ptr() for one in found if one.is_floating_point()})


@pytest.mark.parametrize("step", ["eager", "traced"])
def test_a_training_leaves_nothing_but_its_result(step):
    task = task_of()
    job = job_of(task, step=step)
    run_job(job, task)
    before = alive()  # the task's model and the start
    trained = run_job(job, task)
    assert alive() == before + (1 if trained.early is trained.final else 2)
    del trained
    assert alive() == before == 2


@pytest.mark.parametrize("search", [find, find_at_once])
def test_a_round_has_what_its_trainings_gave_until_the_next_is_asked_for(search):
    task = task_of()
    rounds, states = [], []
    for found in search(job_of(task), [WHOLE], [0.2] * 3, run_all=serial(task)):
        assert len(found.trained) == 1
        rounds.append(found)
        states.append(weakref.ref(found.trained[0].final["1.weight"]))
    assert [len(found.trained) for found in rounds] == [0, 0, 0]
    gc.collect()
    # One-shot pruning cuts one training again and again, which is there as long as it needs it.
    assert [state() is None for state in states] == [True] * 3
    kept = list(search(job_of(task), [WHOLE], [0.2] * 3, run_all=serial(task), keep=True))
    assert [len(found.trained) for found in kept] == [1, 1, 1]
    assert all(equal(one.mask, other.mask) for one, other in zip(rounds, kept, strict=True))


def test_no_state_of_a_round_is_left_while_the_next_one_trains():
    task, counts = task_of(), []
    train = serial(task)

    def counting(jobs):
        counts.append(alive())
        return train(jobs)

    rounds = list(find(job_of(task), by_seeds(2), [0.2] * 4, run_all=counting))
    assert len(rounds) == 4
    # The task's model and the start; of the round before what `serial` has at hand, in case it is
    # asked for again.
    assert counts[0] == 2
    assert max(counts[1:]) == min(counts[1:]) <= 2 + 2 * 2


def test_what_serial_has_at_hand_goes_before_others_are_trained(monkeypatch):
    task, counts = task_of(), []
    honest = run_job

    def counting(job, task, **options):
        counts.append(alive())
        return honest(job, task, **options)

    monkeypatch.setattr("tombola.executors.here.run_job", counting)
    for _ in find(job_of(task), [WHOLE], [0.2] * 3, run_all=serial(task)):
        pass
    assert counts == [2, 2, 2]


def test_the_early_stop_is_the_state_after_its_step_and_shares_no_memory_with_the_final_one():
    task = task_of()
    job = job_of(task, steps=40, lr=0.5)
    trained = run_job(job, task)
    assert trained.early_step < 40
    assert equal(trained.early, run_job(replace(job, last=trained.early_step), task).final)
    before = trained.early["1.weight"].clone()
    trained.final["1.weight"].zero_()
    assert torch.equal(trained.early["1.weight"], before)


def test_an_early_stop_in_the_last_step_is_the_final_state():
    task = task_of()
    trained = run_job(job_of(task, steps=6), task)
    assert trained.early_step == 6
    assert trained.early is trained.final


def test_tied_weights_and_parts_of_a_tensor_are_tensors_of_their_own_in_a_result():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(64, 64), nn.Linear(64, 64)
            self.two.weight = self.one.weight
            both = torch.zeros(2, 64)
            self.register_buffer("part", both[0])
            self.head = nn.Linear(64, 10)

        def forward(self, images):
            return self.head(self.two(torch.relu(self.one(images.flatten(1)))) + self.part)

    torch.manual_seed(0)
    task = Classification(Tied(), split(synthetic(train=120, test=20), valid=20))
    job = Job(
        task.initial_state(), ones(task.model), Training(steps=4, batch_size=20, lr=0.01), seed=0
    )
    final = run_job(job, task).final
    memory = [value.untyped_storage() for value in final.values()]
    assert len({one.data_ptr() for one in memory}) == len(final)
    assert all(
        one.nbytes() == value.numel() * 4 for one, value in zip(memory, final.values(), strict=True)
    )
    assert torch.equal(final["one.weight"], final["two.weight"])


@pytest.mark.parametrize("piece", [7, 64, 10_000])
def test_a_mask_that_is_made_piece_by_piece_gives_the_bits_of_a_whole_one(piece, monkeypatch):
    task = task_of()
    job = job_of(task, clip=0.5)
    job = job.on(WHOLE, {name: torch.rand(keep.shape) < 0.5 for name, keep in job.mask.items()})
    whole = run_job(job, task)
    monkeypatch.setattr(masks, "_LARGE", 10)
    monkeypatch.setattr(masks, "_PIECE", piece)
    pieces = run_job(job, task)
    assert equal(whole.final, pieces.final)
    assert int(pieces.final["1.weight"].count_nonzero()) == int(
        job.mask["1.weight"].count_nonzero()
    )


def test_a_large_layer_of_another_layout_is_masked_too(monkeypatch):
    monkeypatch.setattr(masks, "_LARGE", 10)
    layer = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    assert not layer.weight.is_contiguous()
    keep = torch.rand(layer.weight.shape) < 0.5
    handle = MaskHandle(layer, {"weight": keep})
    with torch.no_grad():
        layer.weight.fill_(2.0)
    layer.weight.grad = torch.full_like(layer.weight, 3.0)
    handle.mask_weights()
    handle.mask_gradients()
    assert torch.equal(layer.weight.detach(), 2.0 * keep)
    assert torch.equal(layer.weight.grad, 3.0 * keep)
