"""Data too large for memory are read from the disk as they are needed, to the same bits; what cannot be is refused."""

import numpy as np
import pytest
import torch

from tombola import Augment, Classification, Job, Training, by_classes, measure, ones, run_job, split
from tombola.data.loading import load
from tombola.errors import DataError
from tombola.experiment import run
from tombola.progress import Display
from tombola.recipe import parse


def little_memory(monkeypatch, bytes_free):
    monkeypatch.setattr("tombola.data._arrays.free_memory", lambda _: bytes_free)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_arrays_too_large_for_memory_are_mapped_and_train_to_the_same_bits(tmp_path, monkeypatch, dtype):
    draw = np.random.default_rng(0)
    images = draw.integers(0, 255, (60, 3, 6, 5)).astype(dtype)
    labels = np.arange(60) % 3
    parts = {
        "train_images": images[:45],
        "train_labels": labels[:45],
        "test_images": images[45:],
        "test_labels": labels[45:],
    }
    np.savez(tmp_path / "large.npz", **parts)
    held = load("arrays", root=tmp_path, options={"path": "large.npz"})
    little_memory(monkeypatch, 4000)
    mapped = load("arrays", root=tmp_path, options={"path": "large.npz"})
    assert (held.streamed, mapped.streamed) == (False, True)
    assert held.fingerprint == mapped.fingerprint
    states = []
    for data in (held, mapped):
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(48, 3))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(0.01)
        task = Classification(model, split(data, valid=9), head="2", augment=Augment(crop=1, flip=True))
        job = Job(task.initial_state(), ones(model, head="2"), Training(epochs=3, batch_size=8), seed=0)
        trained = run_job(job, task)
        states.append(trained.final)
        assert ("read from the disk" in task.streams) is data.streamed
        assert len(measure(job, trained, task).test.predictions) == 15
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_mapped_images_are_not_copied_into_memory(tmp_path, monkeypatch):
    images = np.zeros((40, 1, 4, 4), np.uint8)
    np.savez(
        tmp_path / "x.npz",
        train_images=images,
        train_labels=np.arange(40) % 4,
        test_images=images,
        test_labels=np.arange(40) % 4,
    )
    little_memory(monkeypatch, 1000)
    maps, memmap = [], np.memmap
    monkeypatch.setattr("numpy.memmap", lambda *arguments: maps.append(memmap(*arguments)) or maps[-1])
    splits = split(load("arrays", root=tmp_path, options={"path": "x.npz"}), valid=4, subset=20)
    assert splits.train.source is splits.valid.source
    assert splits.train.source.data_ptr() == maps[0].ctypes.data
    task = Classification(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 4)), splits, head="1")
    assert task.split(by_classes(4, 2, seed=0)[0], "train").source is splits.train.source


@pytest.mark.parametrize(
    ("save", "change", "said"),
    [
        (np.savez_compressed, lambda images: images, "train_images is compressed"),
        (np.savez, lambda images: images.astype(np.float64), "train_images is neither uint8 nor float32"),
        (np.savez, lambda images: np.moveaxis(images, 1, 3), "train_images is laid out with the channels last"),
    ],
)
def test_arrays_too_large_for_memory_that_cannot_be_mapped_are_refused_in_one_line(
    tmp_path, monkeypatch, save, change, said
):
    images = change(np.zeros((40, 3, 6, 5), np.uint8))
    save(
        tmp_path / "x.npz",
        train_images=images,
        train_labels=np.arange(40) % 2,
        test_images=images,
        test_labels=np.arange(40) % 2,
    )
    assert not load("arrays", root=tmp_path, options={"path": "x.npz"}).streamed
    little_memory(monkeypatch, 1000)
    with pytest.raises(DataError, match=said) as caught:
        load("arrays", root=tmp_path, options={"path": "x.npz"})
    assert "GiB are free" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_whose_data_is_read_from_the_disk_says_so_at_its_start(tmp_path, monkeypatch, capsys):
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 255, (60, 1, 6, 6), np.uint8), np.arange(60) % 3
    np.savez(tmp_path / "x.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    arms = {"lth": {"method": "lth", "rate": 0.2}}
    whole = {"name": "x", "training": {"epochs": 1}, "arms": arms, "until": {"rounds": 1}}
    recipe = parse(whole | {"data": {"name": "arrays", "path": "x.npz"}})
    masks = []
    for free in (2**40, 1000):
        little_memory(monkeypatch, free)
        outcome = run(recipe, runs=tmp_path / str(free), data_root=tmp_path, workers=1, display=Display(quiet=False))
        assert outcome.complete
        masks.append([record["mask_digest"] for record in outcome.records])
        said = capsys.readouterr()
        assert ("they are read from the disk" in said.out + said.err) is (free == 1000)
    assert masks[0] == masks[1]
