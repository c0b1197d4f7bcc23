"""Data too large for memory are read from the disk as they are needed, to the same bits; what
cannot be is refused.
"""

import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tombola import (
    Augment,
    Classification,
    Job,
    Partition,
    Training,
    by_classes,
    measure,
    ones,
    run_job,
    split,
)
from tombola.data.loading import load
from tombola.data.pictures import Pictures
from tombola.experiments.experiment import run
from tombola.experiments.progress import Display
from tombola.ground.errors import DataError
from tombola.models.building import build
from tombola.schema.recipe import parse


def little_memory(monkeypatch, bytes_free):
    monkeypatch.setattr("tombola.data._arrays.free_memory", lambda _: bytes_free)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_arrays_too_large_for_memory_are_mapped_and_train_to_the_same_bits(
    tmp_path, monkeypatch, dtype
):
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
        model = torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(48, 3)
        )
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(0.01)
        task = Classification(
            model, split(data, valid=9), head="2", augment=Augment(crop=1, flip=True)
        )
        job = Job(
            task.initial_state(), ones(model, head="2"), Training(epochs=3, batch_size=8), seed=0
        )
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
    monkeypatch.setattr(
        "numpy.memmap", lambda *arguments: maps.append(memmap(*arguments)) or maps[-1]
    )
    splits = split(load("arrays", root=tmp_path, options={"path": "x.npz"}), valid=4, subset=20)
    assert splits.train.source is splits.valid.source
    assert splits.train.source.data_ptr() == maps[0].ctypes.data
    task = Classification(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 4)), splits, head="1"
    )
    assert task.split(by_classes(4, 2, seed=0)[0], "train").source is splits.train.source


@pytest.mark.parametrize(
    ("save", "change", "said"),
    [
        (np.savez_compressed, lambda images: images, "train_images is compressed"),
        (
            np.savez,
            lambda images: images.astype(np.float64),
            "train_images is neither uint8 nor float32",
        ),
        (
            np.savez,
            lambda images: np.moveaxis(images, 1, 3),
            "train_images is laid out with the channels last",
        ),
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
    np.savez(
        tmp_path / "x.npz",
        train_images=images,
        train_labels=labels,
        test_images=images,
        test_labels=labels,
    )
    arms = {"lth": {"method": "lth", "rate": 0.2}}
    whole = {"name": "x", "training": {"epochs": 1}, "arms": arms, "until": {"rounds": 1}}
    recipe = parse(whole | {"data": {"name": "arrays", "path": "x.npz"}})
    masks = []
    for free in (2**40, 1000):
        little_memory(monkeypatch, free)
        outcome = run(
            recipe,
            runs=tmp_path / str(free),
            data_root=tmp_path,
            workers=1,
            display=Display(quiet=False),
        )
        assert outcome.complete
        masks.append([record["mask_digest"] for record in outcome.records])
        said = capsys.readouterr()
        assert ("they are read from the disk" in said.out + said.err) is (free == 1000)
    assert masks[0] == masks[1]


# ---- images in files of their own


@pytest.fixture(scope="module")
def photos(tmp_path_factory, data_root):
    """Photographs of four classes of Tiny ImageNet as an image folder, some of them no squares."""
    source = data_root / "tiny-imagenet-200" / "train"
    if not source.exists():
        pytest.skip(f"needs tiny-imagenet-200 under {data_root} (TOMBOLA_DATA names another root)")
    root = tmp_path_factory.mktemp("photos")
    for wnid in sorted(source.iterdir())[:4]:
        for number, file in enumerate(sorted((wnid / "images").iterdir())[:20]):
            place = root / "photos" / ("val" if number < 5 else "train") / wnid.name / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(file) as image:
                image.resize((64 + 3 * number, 60)).save(place)
    return root


def small(task_data, **options):
    """A small network trained on a data set and on two of its classes: the task, what training
    and tests gave.
    """
    model = build("conv2", 4, task_data.image_shape, options={"dropout": 0.3}, seed=0)
    task = Classification(
        model, split(task_data, valid=8), augment=Augment(crop=2, flip=True, rotate=10)
    )
    # Validated in the middle of an epoch, while the batches of the epoch are being read.
    job = Job(
        task.initial_state(),
        ones(model),
        Training(steps=9, lr=0.01, batch_size=8, evaluate_every=3),
        seed=0,
    )
    trained = run_job(job, task)
    return (
        task,
        [trained, run_job(job.on(Partition(classes=(1, 3)), job.mask), task)],
        measure(job, trained, task),
    )


def photographs(root, size=16, **options):
    return load("image_folder", root=root, options={"path": "photos", "size": size} | options)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_folder_too_large_for_memory_trains_to_the_same_bits(photos, monkeypatch, workers):
    held = photographs(photos)
    monkeypatch.setattr("tombola.data.folders.free_memory", lambda _: 1000)
    streamed = photographs(photos, workers=workers)
    assert (held.streamed, streamed.streamed) == (False, True)
    assert isinstance(streamed.train_images, Pictures)
    assert held.fingerprint == streamed.fingerprint
    (task, trained, measured), (other_task, other, remeasured) = small(held), small(streamed)
    assert task.digest == other_task.digest
    assert "read from the disk" in other_task.streams
    for one, same in zip(trained, other, strict=True):
        assert one.history == same.history
        assert all(torch.equal(one.final[name], same.final[name]) for name in one.final)
    for which in ("train", "valid", "test"):
        assert torch.equal(
            getattr(measured, which).predictions, getattr(remeasured, which).predictions
        )
        assert getattr(measured, which).loss == getattr(remeasured, which).loss


def test_an_image_folder_is_held_to_the_same_bits_by_any_number_of_readers(photos):
    assert torch.equal(
        photographs(photos).train_images, photographs(photos, workers=2).train_images
    )


def test_tiny_imagenet_too_large_for_memory_is_streamed_to_the_same_bits(needs_data, monkeypatch):
    root = needs_data("tiny-imagenet-200")
    held = load("tiny_imagenet", root=root, options={"verify": False})
    monkeypatch.setattr("tombola.data.folders.free_memory", lambda _: 1000)
    streamed = load("tiny_imagenet", root=root, options={"verify": False})
    assert (held.streamed, streamed.streamed) == (False, True)
    one, other = (split(data, valid=0.1, subset=300) for data in (held, streamed))
    assert torch.equal(one.mean, other.mean)
    assert torch.equal(one.std, other.std)
    assert one.fingerprint == other.fingerprint
    for which in ("train", "valid", "test"):
        assert torch.equal(getattr(one, which).images, getattr(other, which).images)


def test_readings_may_be_interleaved_and_left_and_their_processes_are_used_again(
    photos, monkeypatch
):
    held = photographs(photos).train_images
    monkeypatch.setattr("tombola.data.folders.free_memory", lambda _: 1000)
    pictures = photographs(photos, workers=1).train_images
    pieces = list(torch.randperm(60, generator=torch.Generator().manual_seed(0)).split(7))
    before = torch.random.get_rng_state()
    one, other = pictures.read(pieces), pictures.read(pieces[::-1])
    for piece, last in list(zip(pieces, pieces[::-1], strict=True))[:3]:
        assert torch.equal(next(one), held[piece])
        assert torch.equal(next(other), held[last])
    processes = set(multiprocessing.active_children())
    del one, other  # with pieces on their way
    for order in (pieces[4:], pieces):
        for piece, images in zip(order, pictures.read(order), strict=True):
            assert torch.equal(images, held[piece])
    assert set(multiprocessing.active_children()) == processes
    assert torch.equal(torch.random.get_rng_state(), before)


def test_readers_end_with_a_training_that_is_killed(photos):
    code = f"""
import multiprocessing, pathlib, time, torch
from tombola.data.pictures import Pictures
if __name__ == "__main__":
    root = pathlib.Path({str(photos)!r}) / "photos"
    names = [str(file.relative_to(root)) for file in root.rglob("*.JPEG")]
    reading = Pictures(root, names, 8, workers=1).read([torch.arange(4)] * 100)
    next(reading)
    print(*[process.pid for process in multiprocessing.active_children()], flush=True)
    time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as training:
        readers = [Path("/proc") / pid for pid in training.stdout.readline().split()]
        assert [reader.exists() for reader in readers] == [True]
        training.kill()
    late = time.monotonic() + 10
    while any(reader.exists() for reader in readers) and time.monotonic() < late:
        time.sleep(0.05)
    assert [reader.exists() for reader in readers] == [False]


def test_a_process_that_may_have_no_children_reads_for_itself(photos, monkeypatch):
    held = photographs(photos).train_images
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    assert torch.equal(photographs(photos, workers=2).train_images, held)


def test_a_run_on_an_image_folder_says_that_it_reads_from_the_disk(
    photos, tmp_path, monkeypatch, capsys
):
    recipe = parse(
        {
            "name": "x",
            "data": {"name": "image_folder", "path": "photos", "size": 8, "valid": 8},
            "training": {"epochs": 1, "lr": 0.01},
            "arms": {"colt-2": {"method": "colt", "partitions": 2, "rate": 0.2}},
            "until": {"rounds": 1},
        }
    )
    monkeypatch.setattr("tombola.data.folders.free_memory", lambda _: 1000)
    assert run(
        recipe, runs=tmp_path, data_root=photos, workers=1, display=Display(quiet=False)
    ).complete
    said = capsys.readouterr()
    assert "they are read from the disk" in said.out + said.err
