"""The kind of device is named, refused where it is not there, and decides with the model what
changes bits.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tombola import models
from tombola.experiments.plans import Plans, make_task
from tombola.experiments.plans import resolve_defaults as resolve_recipe
from tombola.folder.identity import run_digest
from tombola.ground import devices
from tombola.ground.errors import ConfigError
from tombola.ground.settings import Training
from tombola.schema.recipe import Recipe, parse
from tombola.training.jobs import Job, measure, run_job
from tombola.training.loop import resolve_defaults


def recipe(**changes) -> Recipe:
    whole = {
        "name": "x",
        "data": {"name": "synthetic", "image_shape": [3, 8, 8]},
        "model": "conv3",
        "training": {"epochs": 1, "lr": 0.05},
        "arms": {"lth": {"method": "lth", "rate": 0.2}},
        "until": {"rounds": 1},
    }
    return parse(whole | changes)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_auto_is_the_cpu_where_there_is_no_gpu_and_cuda_is_refused():
    assert devices.kind_of("auto") == devices.kind_of("cpu") == "cpu"
    with pytest.raises(ConfigError, match="device is cuda; torch finds no GPU here"):
        devices.kind_of("cuda")
    with pytest.raises(ConfigError, match="device is cuda"):
        make_task(recipe(device="cuda"), None)


def test_auto_is_cuda_where_there_is_a_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert [devices.kind_of(name) for name in ("auto", "cpu", "cuda")] == ["cuda", "cpu", "cuda"]


def test_a_device_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(ConfigError, match=r"device is 'gpu'.*auto, cpu, cuda"):
        recipe(device="gpu")


@pytest.mark.parametrize(
    ("model", "kind", "channels_last", "step"),
    [
        (models.lenet_300_100(10), "cpu", False, "traced"),
        (models.lenet5(10), "cpu", True, "traced"),
        (models.conv3(10), "cpu", True, "eager"),
        (models.resnet18(10), "cpu", True, "eager"),
        (models.lenet5(10), "cuda", True, "eager"),
        (nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2)), "cpu", False, "eager"),
    ],
    ids=["lenet_300_100", "lenet5", "conv3", "resnet18", "lenet5 on cuda", "one-dimensional"],
)
def test_what_is_left_open_follows_from_the_model_and_the_kind_of_device(
    model, kind, channels_last, step
):
    training = resolve_defaults(Training(epochs=1), model, kind)
    assert (training.channels_last, training.step) == (channels_last, step)
    assert (training.threads, training.precision, training.compile) == (1, "float32", False)
    assert resolve_defaults(training, model, kind) == training


def test_what_a_training_says_is_kept():
    said = Training(
        epochs=1, channels_last=False, step="eager", precision="bf16", compile=True, threads=2
    )
    assert resolve_defaults(said, models.lenet5(10), "cpu") == said
    assert (
        resolve_defaults(Training(epochs=1, precision="bf16"), models.lenet5(10), "cpu").step
        == "eager"
    )


@pytest.mark.parametrize(
    ("settings", "model", "said"),
    [
        ({"precision": "tf32"}, models.lenet5(10), "precision is tf32, which is CUDA's"),
        ({"channels_last": True}, models.lenet_300_100(10), "no 2d convolution"),
        (
            {"step": "traced"},
            models.conv3(10),
            "step is traced; that needs a model of torch's own layers",
        ),
        ({"step": "traced", "precision": "bf16"}, models.lenet5(10), "step is traced"),
        ({"step": "traced", "compile": True}, models.lenet5(10), "step is traced"),
    ],
)
def test_what_does_not_go_with_the_model_or_the_device_is_refused(settings, model, said):
    with pytest.raises(ConfigError, match=said):
        resolve_defaults(Training(epochs=1, **settings), model, "cpu")


@pytest.mark.parametrize("settings", [{"precision": "float16"}, {"step": "fast"}])
def test_a_setting_that_does_not_exist_is_refused_with_those_that_do(settings):
    with pytest.raises(
        ConfigError, match=r"it is one of (float32, tf32, bf16|compiled, eager, traced)"
    ):
        Training(epochs=1, **settings)


def test_the_settled_recipe_says_all_and_each_of_it_names_another_run():
    open_ = recipe()
    whole = resolve_recipe(open_, make_task(open_, None))
    assert (whole.device, whole.training.channels_last, whole.training.step) == (
        devices.kind_of("auto"),
        True,
        "eager",
    )
    others = [
        replace(whole, training=replace(whole.training, **{key: value}))
        for key, value in {
            "threads": 2, "channels_last": False, "compile": True, "precision": "bf16", "step": None,
        }.items()
    ]  # fmt: skip
    others.append(replace(whole, device="cuda" if whole.device == "cpu" else "cpu"))
    assert len({run_digest(one) for one in (whole, *others)}) == 7
    assert parse(whole.to_dict()) == whole


def small(**settings):
    one = recipe(training={"epochs": 2, "lr": 0.01, **settings})
    task = make_task(one, None)
    one = resolve_recipe(one, task)
    return task, Job(task.initial_state(), Plans.of(one, task).mask, one.training, seed=0)


def test_bf16_computes_in_bf16_and_keeps_its_weights_in_float32():
    task, job = small(precision="bf16")
    _, plain = small()
    trained, exact = run_job(job, task), run_job(plain, task)
    assert all(value.dtype == exact.final[name].dtype for name, value in trained.final.items())
    assert not torch.equal(trained.final["conv1.weight"], exact.final["conv1.weight"])
    torch.testing.assert_close(
        trained.final["conv1.weight"], exact.final["conv1.weight"], atol=0.1, rtol=0
    )
    measured = measure(job, trained, task)
    assert measured.test.loss != measure(plain, trained, task).test.loss


def test_a_layout_changes_no_more_than_rounding_and_leaves_states_plain_in_memory():
    states = []
    for layout in (False, True):
        task, job = small(channels_last=layout)
        trained = run_job(job, task)
        assert all(value.is_contiguous() for value in trained.final.values())
        states.append(trained.final)
    torch.testing.assert_close(states[0], states[1], atol=5e-3, rtol=1e-2)


def test_free_memory_is_told_in_bytes():
    assert 2**24 < devices.free_memory(torch.device("cpu")) < 2**50


def test_the_arithmetic_of_a_training_on_cuda_is_put_back_afterwards():
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul

    def now():
        return (
            cudnn.conv.fp32_precision,
            matmul.fp32_precision,
            cudnn.deterministic,
            cudnn.benchmark,
        )

    before = now()
    with devices.numbers("cuda", "float32"):
        assert now() == ("ieee", "ieee", True, False)
        with devices.numbers("cuda", "tf32"):
            assert now() == ("tf32", "tf32", True, False)
    assert now() == before
    with devices.numbers("cpu", "float32"):
        assert now() == before


def test_worker_processes_share_several_gpus_out_unless_one_is_named(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setattr(devices, "_turn", 0)
    chosen = {}
    for number in range(4):
        devices.take_turn(number)
        chosen[number] = [str(devices.device(name)) for name in ("auto", "cuda", "cuda:1", "cpu")]
    own = ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]
    assert chosen == {number: [gpu, gpu, "cuda:1", "cpu"] for number, gpu in enumerate(own)}
    assert [devices.workers(name, 1) for name in ("auto", "cuda", "cuda:1")] == [3, 3, 1]


def test_a_run_on_the_cpu_has_as_many_workers_as_its_cores_have_threads_for(monkeypatch):
    monkeypatch.setattr(devices, "cores", lambda: 5)
    assert [devices.workers("cpu", threads) for threads in (1, 2, 8)] == [5, 2, 1]
