"""Folders of images are listed and decoded as torchvision does it; what is wrong is told in one
line.
"""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tombola import Classification, by_classes, split
from tombola.data import published
from tombola.data.loading import load
from tombola.data.pictures import Files, Pictures, decode
from tombola.data.splits import Split, moments
from tombola.ground.errors import ConfigError, DataError

TINY = "tiny-imagenet-200"


def picture(file: Path, *, size=(4, 4), seed=0, mode="RGB") -> Path:
    """Write an image of random pixels, exactly where its format keeps them (.png)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(file)
    return file


def pets(root: Path, *, train=3, test=2) -> Path:
    """A little folder of three classes; ``dog`` has one image more than the others."""
    for label, name in enumerate(("cat", "dog", "eel")):
        for number in range(train + (name == "dog")):
            picture(root / "pets" / "train" / name / f"{number}.png", seed=10 * label + number)
        for number in range(test):
            picture(root / "pets" / "val" / name / f"{number}.png", seed=100 + 10 * label + number)
    return root / "pets"


def read(root, **options):
    return load("image_folder", root=root, options={"path": "pets", "size": 4} | options)


def little_memory(monkeypatch):
    monkeypatch.setattr("tombola.data.folders.free_memory", lambda _: 10)


def no_decoding(monkeypatch):
    def fail(*_):
        raise AssertionError("an image was decoded")

    monkeypatch.setattr("tombola.data.pictures.decode", fail)


def refused(said: str, function, *args, error=DataError, **options) -> None:
    with pytest.raises(error, match=said) as raised:
        function(*args, **options)
    assert "\n" not in str(raised.value)


# ---- what is in a folder


def test_a_folder_gives_its_classes_by_name_and_its_images_by_name(tmp_path):
    pets(tmp_path)
    found = read(tmp_path)
    assert (found.num_classes, found.image_shape, found.streamed, found.skipped) == (
        3,
        (3, 4, 4),
        False,
        0,
    )
    assert found.train_labels.tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2]
    assert found.test_labels.tolist() == [0, 0, 1, 1, 2, 2]
    pixels = np.random.default_rng(12).integers(0, 256, (4, 4, 3), np.uint8)
    assert np.array_equal(found.train_images[5].numpy(), pixels.transpose(2, 0, 1))  # dog/2.png


def test_classes_labels_and_order_are_those_of_torchvision(tmp_path, needs_data):
    from torchvision.datasets import ImageFolder

    photos = needs_data(TINY) / TINY / "train"
    for name in sorted(photos.iterdir())[:4]:
        for file in sorted((name / "images").iterdir())[:12]:
            place = tmp_path / "pets" / "train" / name.name / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(file)
    first = next((tmp_path / "pets" / "train").iterdir())
    picture(first / "b" / "deep" / "0.PNG")
    picture(first / "a.b" / "0.png")
    picture(first / "z.bmp")
    (first / "notes.txt").write_text("no image")
    (tmp_path / "pets" / "train" / "README.md").write_text("no class")
    shutil.copytree(tmp_path / "pets" / "train", tmp_path / "pets" / "test", symlinks=True)
    found = read(tmp_path, size=64)
    theirs = ImageFolder(str(tmp_path / "pets" / "train"))
    assert found.num_classes == len(theirs.classes)
    names = [(str(found.files.root / name), label) for name, label in found.files.train]
    assert names == theirs.samples
    assert found.train_labels.tolist() == theirs.targets == found.test_labels.tolist()


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK", "1"])
@pytest.mark.parametrize(
    "size", [(24, 24), (31, 50), (50, 31), (24, 100), (9, 40), (40, 9), (23, 24), (27, 24)]
)
def test_an_image_is_resized_and_cropped_to_the_bits_of_torchvision(tmp_path, mode, size):
    from torchvision.datasets.folder import default_loader
    from torchvision.transforms.functional import center_crop, pil_to_tensor, resize

    file = picture(tmp_path / ("x.tif" if mode == "CMYK" else "x.png"), size=size, mode=mode)
    theirs = pil_to_tensor(center_crop(resize(default_loader(str(file)), 24), [24, 24]))
    assert np.array_equal(decode(file, 24), theirs.numpy())


def test_the_longer_side_loses_both_its_ends(tmp_path):
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(2, 6)).save(tmp_path / "x.png")
    assert decode(tmp_path / "x.png", 2)[0].tolist() == [[2, 3], [8, 9]]


def test_the_test_images_are_those_of_test_or_of_val_and_where_both_are_it_is_asked(tmp_path):
    folder = pets(tmp_path)
    (folder / "val").rename(folder / "test")
    assert len(read(tmp_path).test_labels) == 6
    picture(folder / "val" / "eel" / "0.png")
    refused("pets has test and val; .* with the option test_folder", read, tmp_path)
    assert read(tmp_path, test_folder="val").test_labels.tolist() == [2]
    refused("no folder .*/pets/held_out", read, tmp_path, test_folder="held_out")
    shutil.rmtree(folder / "val")
    shutil.rmtree(folder / "test")
    refused("pets has neither test nor val", read, tmp_path)


def test_a_folder_that_makes_no_data_set_is_told_in_one_line(tmp_path):
    refused(
        "no folder .*/none and no folder .*; 'path' names one that holds train/CLASS",
        read,
        tmp_path,
        path="none",
    )
    (tmp_path / "empty").mkdir()
    refused("no folder .*/empty/train", read, tmp_path, path="empty")
    (tmp_path / "empty" / "train").mkdir()
    refused(
        "/empty/train holds no folder; it should have one for every class",
        read,
        tmp_path,
        path="empty",
    )
    folder = pets(tmp_path)
    (folder / "train" / "bee").mkdir()
    (folder / "train" / "bee" / "0.txt").touch()
    refused(r"the class folder .*/train/bee holds no image \(.jpg ", read, tmp_path)
    (folder / "train" / "bee").rename(folder / "val" / "cats")
    refused(
        r"/val has the class folder 'cats', which .*/train has not. Did you mean 'cat'\?",
        read,
        tmp_path,
    )
    shutil.rmtree(folder / "val" / "cats")
    (folder / "val" / "cat" / "0.png").unlink()
    (folder / "val" / "cat" / "1.png").unlink()
    refused("the class folder .*/val/cat holds no image", read, tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": 0}, "image_folder.size is 0; it is a number of pixels, from 1 to 8,192"),
        ({"workers": -1}, "image_folder.workers is -1; it is a number of processes, from 0 to "),
        (
            {"unreadable": "skp"},
            "image_folder.unreadable is 'skp'; .* stop, skip. Did you mean 'skip'",
        ),
        (
            {"normalise": "none"},
            "image_folder.normalise is 'none'; it should be one of sample, imagenet",
        ),
    ],
)
def test_an_option_out_of_its_range_is_told_in_one_line(tmp_path, options, said):
    pets(tmp_path)
    refused(said, read, tmp_path, error=ConfigError, **options)


def test_classes_are_partitioned_without_reading_an_image(tmp_path, monkeypatch):
    pets(tmp_path, train=6)
    little_memory(monkeypatch)
    no_decoding(monkeypatch)
    found = read(tmp_path, normalise="imagenet")
    assert found.streamed
    splits = split(found, valid=3)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3))
    task = Classification(model, splits, head="1")
    sizes = [len(task.split(part, "train")) for part in by_classes(3, 1, seed=0)]
    assert sum(sizes) == len(splits.train) == 16
    assert splits.mean.tolist() == pytest.approx([123.675, 116.28, 103.53])
    assert splits.std.tolist() == pytest.approx([58.395, 57.12, 57.375])


def test_some_classes_of_files_are_taken_without_reading_an_image_and_give_their_images(
    tmp_path, monkeypatch
):
    pets(tmp_path, train=6)
    held = split(read(tmp_path, normalise="imagenet"), classes=2, valid=3)
    little_memory(monkeypatch)
    with monkeypatch.context() as patch:
        no_decoding(patch)
        splits = split(read(tmp_path, normalise="imagenet"), classes=2, valid=3)
    assert splits.streamed
    assert splits.classes == held.classes
    assert (len(splits.test), splits.num_classes) == (4, 2)
    assert torch.equal(splits.train.images, held.train.images)
    assert torch.equal(splits.test.labels, held.test.labels)


# ---- the fingerprint


def test_a_fingerprint_is_the_sha256_of_what_is_written_here(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"two!")
    expected = hashlib.sha256(b"8;")
    expected.update(json.dumps(["a", 1, 3, hashlib.sha256(b"one").hexdigest()]).encode() + b";")
    expected.update(json.dumps(["b", 0, 4, hashlib.sha256(b"two!").hexdigest()]).encode() + b";")
    assert Files(tmp_path, [("a", 1)], [("b", 0)], 8).fingerprint == expected.hexdigest()


def test_a_fingerprint_hangs_on_the_files_alone_and_decodes_none(tmp_path, monkeypatch):
    folder = pets(tmp_path)
    first = read(tmp_path).fingerprint
    shutil.copytree(folder, tmp_path / "elsewhere" / "pets")
    assert read(tmp_path / "elsewhere").fingerprint == first
    assert read(tmp_path, size=5).fingerprint != first
    assert read(tmp_path, normalise="imagenet").fingerprint == first
    little_memory(monkeypatch)
    no_decoding(monkeypatch)
    assert read(tmp_path, workers=3).fingerprint == first
    last = folder / "val" / "eel" / "1.png"
    content = last.read_bytes()
    last.write_bytes(content[:-1] + b"x")
    assert read(tmp_path).fingerprint != first
    last.write_bytes(content)
    assert read(tmp_path).fingerprint == first
    last.rename(last.with_name("2.png"))
    assert read(tmp_path).fingerprint != first


# ---- mean and standard deviation


def test_a_sample_lies_evenly_in_the_split():
    images = torch.randint(0, 256, (7, 2, 3, 3), generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    )
    whole = Split(images, torch.zeros(5), torch.tensor([6, 5, 4, 3, 2]))

    def of(*rows):
        return moments(Split(images[list(rows)], torch.zeros(len(rows)), torch.arange(len(rows))))

    for sample, rows in ((3, (6, 5, 3)), (1, (6,)), (5, (6, 5, 4, 3, 2)), (100, (6, 5, 4, 3, 2))):
        # positions 0, 5 // 3 and 10 // 3
        assert all(map(torch.equal, moments(whole, sample), of(*rows)))


def test_a_folder_is_normalised_by_a_sample_of_what_is_trained_on(tmp_path, monkeypatch):
    monkeypatch.setattr("tombola.data._image_folder._SAMPLE", 4)
    pets(tmp_path)
    splits = split(read(tmp_path), valid=3)
    assert len(splits.train) == 7
    some = Split(splits.train.source, torch.zeros(4), splits.train.indices[[0, 1, 3, 5]])
    assert all(map(torch.equal, (splits.mean, splits.std), moments(some)))
    assert not torch.equal(splits.mean, moments(splits.train)[0])


# ---- files that cannot be read


def broken(root: Path) -> Path:
    """Three broken files: no image at all, half an image, an empty file."""
    folder = pets(root)
    (folder / "train" / "cat" / "1.png").write_bytes(b"no image")
    whole = folder / "train" / "dog" / "3.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(whole)
    whole.write_bytes(whole.read_bytes()[:700])
    (folder / "val" / "eel" / "0.png").write_bytes(b"")
    return folder


def test_the_first_file_that_cannot_be_read_is_named(tmp_path):
    folder = broken(tmp_path)
    refused(
        r"cannot read .*/train/cat/1.png as an image: .*; put it right, or leave .* unreadable: skip",
        read,
        tmp_path,
    )
    (folder / "train" / "cat" / "1.png").unlink()
    refused(r"cannot read .*/train/dog/3.jpg as an image: .*truncated", read, tmp_path)
    (folder / "train" / "dog" / "3.jpg").unlink()
    refused(r"cannot read .*/val/eel/0.png as an image", read, tmp_path)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_streamed_file_that_cannot_be_read_is_named_when_it_is_needed(
    tmp_path, monkeypatch, workers
):
    broken(tmp_path)
    little_memory(monkeypatch)
    found = read(tmp_path, workers=workers, normalise="imagenet")
    pieces = [torch.tensor([0, 2]), torch.tensor([0, 1])]
    images = Split(
        found.train_images, found.train_labels, torch.arange(len(found.train_labels))
    ).read(pieces)
    assert next(images).shape == (2, 3, 4, 4)
    refused("cannot read .*/train/cat/1.png as an image", next, images)


@pytest.mark.parametrize("streamed", [False, True])
def test_files_that_cannot_be_read_are_left_out_and_counted_when_that_is_wanted(
    tmp_path, monkeypatch, streamed
):
    folder = broken(tmp_path)
    if streamed:
        little_memory(monkeypatch)
    found = read(tmp_path, unreadable="skip")
    assert (found.skipped, found.streamed) == (3, streamed)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3))
    task = Classification(model, split(found, valid=0), head="1")
    assert task.skips == "3 files cannot be read and are left out (data.unreadable: skip)"
    assert found.train_labels.tolist() == [0, 0, 1, 1, 1, 1, 2, 2, 2]
    assert found.test_labels.tolist() == [0, 0, 1, 1, 2]
    for name in ("train/cat/1.png", "train/dog/3.jpg", "val/eel/0.png"):
        (folder / name).unlink()
    without = read(tmp_path)
    assert Classification(model, split(without, valid=0), head="1").skips == ""
    assert found.fingerprint == without.fingerprint
    for one, other in (
        (found.train_images, without.train_images),
        (found.test_images, without.test_images),
    ):
        rows = torch.arange(len(other))
        assert torch.equal(one.index_select(0, rows), other.index_select(0, rows))


def test_a_class_of_which_no_file_can_be_read_is_told_in_one_line(tmp_path):
    folder = pets(tmp_path)
    for file in (folder / "train" / "eel").iterdir():
        file.write_bytes(b"")
    refused("class 2 has no training image", read, tmp_path, unreadable="skip")


def test_a_file_that_goes_away_is_told_in_one_line(tmp_path, monkeypatch):
    folder = pets(tmp_path)
    little_memory(monkeypatch)
    found = read(tmp_path)
    (folder / "train" / "cat" / "0.png").unlink()
    refused(
        "cannot read .*/train/cat/0.png as an image",
        found.train_images.index_select,
        0,
        torch.tensor([0]),
    )
    with pytest.raises(DataError, match=r"cannot read .*/train/cat/0.png: No such file"):
        _ = found.fingerprint


# ---- Tiny ImageNet


def tiny(root: Path, wnids=("n2", "n1", "n3"), train=2) -> Path:
    """A little folder in the layout of Tiny ImageNet; an image says by its seed which one it is."""
    folder = root / TINY
    folder.mkdir(parents=True)
    (folder / "wnids.txt").write_text("\n".join(wnids))
    lines = []
    for label, wnid in enumerate(wnids):
        for number in range(train):
            picture(
                folder / "train" / wnid / "images" / f"{wnid}_{number}.JPEG",
                size=(64, 64),
                seed=10 * label + number,
            )
        (folder / "train" / wnid / f"{wnid}_boxes.txt").touch()
    for number, wnid in enumerate((*wnids, wnids[0])):
        picture(folder / "val" / "images" / f"val_{number}.JPEG", size=(64, 64), seed=100 + number)
        lines.append(f"val_{number}.JPEG\t{wnid}\t0\t0\t63\t63")
    (folder / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    return folder


def read_tiny(root, **options):
    return load("tiny_imagenet", root=root, options=options)


def test_classes_of_tiny_imagenet_are_sorted_and_its_validation_images_are_the_test_split(tmp_path):
    folder = tiny(tmp_path)
    found = read_tiny(tmp_path, verify=False)
    assert (found.num_classes, found.image_shape, found.verified) == (3, (3, 64, 64), False)
    assert found.train_labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.test_labels.tolist() == [1, 0, 2, 1]  # n2, n1, n3, n2
    with Image.open(folder / "train" / "n1" / "images" / "n1_1.JPEG") as image:
        assert np.array_equal(found.train_images[1].numpy(), np.asarray(image).transpose(2, 0, 1))
    with Image.open(folder / "val" / "images" / "val_2.JPEG") as image:
        assert np.array_equal(found.test_images[2].numpy(), np.asarray(image).transpose(2, 0, 1))


def test_a_copy_of_tiny_imagenet_that_was_not_downloaded_is_accepted_only_unverified(needs_data):
    root = needs_data(TINY)
    folder = root / TINY
    if (folder / "tombola.sha256").exists():
        pytest.skip("this copy was downloaded by tombola")
    refused(
        r"was not downloaded by tombola, .* it has \d+ classes, [\d,]+ training and [\d,]+ validation images, and 200, "
        "100,000 and 10,000 were published; accept it as it is with the option verify: false",
        read_tiny,
        root,
        download=False,
    )
    found = read_tiny(root, verify=False)
    wnids = sorted((folder / "wnids.txt").read_text().split())
    each = [len(list((folder / "train" / wnid / "images").iterdir())) for wnid in wnids]
    assert torch.bincount(found.train_labels).tolist() == each
    first = (folder / "val" / "val_annotations.txt").read_text().split()[:2]
    assert found.test_labels[0] == wnids.index(first[1])
    with Image.open(folder / "val" / "images" / first[0]) as image:
        assert np.array_equal(
            found.test_images[0].numpy(), np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        )


def test_a_download_of_tiny_imagenet_is_compared_whenever_it_is_read(tmp_path, monkeypatch):
    asked = []

    def download(url, download_root, md5):
        asked.append((url, md5))
        tiny(published.Path(download_root))

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", download)
    found = read_tiny(tmp_path / "root")
    assert asked == [
        ("http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de")
    ]
    assert found.verified
    assert [file.name for file in (tmp_path / "root").iterdir()] == [TINY]
    assert (tmp_path / "root" / TINY / "tombola.sha256").read_text() == found.fingerprint + "\n"
    assert read_tiny(tmp_path / "root").fingerprint == found.fingerprint
    assert len(asked) == 1
    altered = tmp_path / "root" / TINY / "val" / "images" / "val_1.JPEG"
    altered.write_bytes(altered.read_bytes() + b"x")
    refused(
        "has changed since it was downloaded: its files have the sha256",
        read_tiny,
        tmp_path / "root",
    )
    assert not read_tiny(tmp_path / "root", verify=False).verified


def test_a_part_of_tiny_imagenet_gives_the_classes_and_images_that_are_there(tmp_path):
    folder = tiny(tmp_path)
    shutil.rmtree(folder / "train" / "n1")
    (folder / "val" / "images" / "val_3.JPEG").unlink()
    found = read_tiny(tmp_path, verify=False)
    assert (found.num_classes, found.train_labels.tolist()) == (2, [0, 0, 1, 1])
    assert found.test_labels.tolist() == [0, 1]


def test_a_folder_that_is_no_tiny_imagenet_is_told_in_one_line(tmp_path):
    folder = tiny(tmp_path)
    notes = folder / "val" / "val_annotations.txt"
    notes.write_text("val_0.JPEG\tn1\nval_1.JPEG n2\n")
    refused(
        "line 2 of .*val_annotations.txt names no image and class: 'val_1.JPEG n2'",
        read_tiny,
        tmp_path,
        verify=False,
    )
    (folder / "wnids.txt").write_text("n7")
    refused(
        "has no training image of a class that wnids.txt names", read_tiny, tmp_path, verify=False
    )
    (folder / "wnids.txt").unlink()
    refused(
        "lacks wnids.txt in tiny-imagenet-200, and the option download",
        read_tiny,
        tmp_path,
        download=False,
    )


def test_a_download_replaces_no_folder_that_is_there(tmp_path, monkeypatch):
    def download(url, download_root, md5):
        tiny(published.Path(download_root))

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", download)
    picture(tmp_path / TINY / "val" / "images" / "my_own.png")
    refused("cannot read .*val_annotations.txt: No such file", read_tiny, tmp_path)
    assert [file.name for file in (tmp_path / TINY / "val" / "images").iterdir()] == ["my_own.png"]


def test_a_broken_image_of_tiny_imagenet_is_named(tmp_path):
    folder = tiny(tmp_path)
    (folder / "val" / "images" / "val_0.JPEG").write_bytes(b"")
    refused(
        "cannot read .*val_0.JPEG as an image: .*; move the folder away",
        read_tiny,
        tmp_path,
        verify=False,
    )


# ---- pictures in the place of a tensor


def test_pictures_give_what_a_tensor_of_them_gives(tmp_path):
    for number in range(600):
        picture(tmp_path / f"{number}.png", seed=number)
    pictures = Pictures(tmp_path, [f"{number}.png" for number in range(600)], 4)
    held = pictures.hold()
    assert (pictures.shape, pictures.dtype, pictures.nbytes) == (
        held.shape,
        held.dtype,
        held.nbytes,
    )
    rows = torch.tensor([599, 0, 300, 300])
    assert torch.equal(pictures.index_select(0, rows), held.index_select(0, rows))
    assert torch.equal(held[599], torch.tensor(decode(tmp_path / "599.png", 4)))
    part = Split(pictures, torch.arange(3), torch.tensor([7, 300, 2]))
    assert torch.equal(part.images, held[[7, 300, 2]])
    assert torch.equal(part.pick(torch.tensor([2, 0])), held[[2, 7]])
    assert pictures.unreadable() == []


@pytest.mark.parametrize("folder", ["train", "/somewhere", "../pets/val", "."])
def test_a_test_folder_is_one_beside_train(tmp_path, folder):
    pets(tmp_path)
    refused(
        "test_folder is .*; it is the name of a folder beside train",
        read,
        tmp_path,
        test_folder=folder,
        error=ConfigError,
    )
