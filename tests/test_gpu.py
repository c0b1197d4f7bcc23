"""On a GPU: the same code, data on the device, equal bits when it is done again, close to what
the CPU gives.
"""

from dataclasses import replace

import pytest
import torch

from tombola.data.partitions import WHOLE, by_classes
from tombola.executors import serial
from tombola.experiments.experiment import run
from tombola.experiments.plans import Plans, make_task, resolve_defaults
from tombola.schema.recipe import parse
from tombola.search.rounds import find
from tombola.training.jobs import Job, measure, run_job

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="needs a CUDA device; torch finds none here"
    ),
]


def recipe(**training):
    return parse(
        {
            "name": "gpu",
            "data": {
                "name": "synthetic",
                "image_shape": [3, 16, 16],
                "augment": {"crop": 2, "flip": True, "rotate": 15},
            },
            "model": "resnet20",
            "training": {"epochs": 2, "lr": 0.02, "momentum": 0.9, **training},
            "arms": {
                "colt-2": {"method": "colt", "rate": 0.15},
                "lth": {"method": "lth", "rate": 0.2},
            },
            "until": {"rounds": 2},
        }
    )


def made(device="cuda", **training):
    one = replace(recipe(**training), device=device)
    task = make_task(one, None)
    one = resolve_defaults(one, task)
    return task, Job(task.initial_state(), Plans.of(one, task).mask, one.training, seed=0)


def test_images_are_on_the_device_once_and_models_too():
    task, job = made()
    train, valid = (task.resident(WHOLE, which) for which in ("train", "valid"))
    assert train.source.is_cuda
    assert train.source.data_ptr() == valid.source.data_ptr()
    assert (
        task.resident(by_classes(10, 2, seed=0)[0], "train").source.data_ptr()
        == train.source.data_ptr()
    )
    assert all(p.is_cuda for p in task.build(job.start, WHOLE, 0).parameters())
    assert all(not value.is_cuda for value in run_job(job, task).final.values())


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_a_training_done_again_has_the_same_bits(precision):
    task, job = made(precision=precision)
    one, other = run_job(job, task), run_job(job, task)
    assert all(torch.equal(one.final[name], other.final[name]) for name in one.final)
    assert torch.equal(
        measure(job, one, task).test.predictions, measure(job, other, task).test.predictions
    )


def test_a_training_that_streams_from_the_host_has_the_bits_of_one_whose_data_is_on_the_device(
    monkeypatch,
):
    task, job = made()
    held = run_job(job, task)
    monkeypatch.setattr("tombola.ground.devices.free_memory", lambda _: 0)
    streaming, _ = made()
    assert "brought to it batch by batch" in streaming.streams
    streamed = run_job(job, streaming)
    assert not streaming.resident(WHOLE, "train").source.is_cuda
    assert all(torch.equal(held.final[name], streamed.final[name]) for name in held.final)


def test_a_traced_step_has_the_bits_of_an_eager_one():
    states = []
    for step in ("eager", "traced"):
        one = parse(
            recipe().to_dict() | {"model": "lenet_300_100", "training": {"epochs": 1, "step": step}}
        )
        task = make_task(one, None)
        one = resolve_defaults(one, task)
        states.append(
            run_job(
                Job(task.initial_state(), Plans.of(one, task).mask, one.training, seed=0), task
            ).final
        )
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_gpu_and_the_cpu_agree_within_rounding_after_a_few_steps():
    finals = []
    for device in ("cpu", "cuda"):
        task, job = made(device, steps=3, epochs=None)
        finals.append(run_job(job, task).final)
    torch.testing.assert_close(finals[0], finals[1], atol=2e-3, rtol=2e-2)


def test_a_search_keeps_its_laws_on_the_gpu():
    task, job = made()
    rounds = list(find(job, by_classes(10, 2, seed=0), [0.15, 0.15], run_all=serial(task)))
    assert [found.index for found in rounds] == [1, 2]


def test_a_run_on_the_gpu_names_it_and_can_be_done_again(tmp_path):
    first, again = (run(recipe(), runs=tmp_path / name, workers=1) for name in ("a", "b"))
    assert first.complete
    assert "device: cuda" in (first.folder / "recipe.yaml").read_text()
    masks = [record["mask_digest"] for record in first.records]
    assert [record["mask_digest"] for record in again.records] == masks
