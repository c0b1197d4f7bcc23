"""Pascal VOC: its boxes, its splits, how it is downloaded and verified, and what is refused."""

import hashlib
import shutil
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from tests.annotated import SIZE, voc_annotation, voc_folder, voc_object
from tests.test_data import refused

from tombola.data import picture_files
from tombola.data.boxes import BoxData, split_boxes
from tombola.data.loading import load
from tombola.data.picture_files import PictureFiles
from tombola.ground.errors import DataError


def read(root, year=2012, **options):
    options = {"year": year, "download": False, "verify": False} | options
    return load("voc", root=root, options=options, kind=BoxData)


@pytest.fixture
def folder(tmp_path):
    return voc_folder(tmp_path)


# what is read


def test_a_box_of_voc_becomes_half_open_and_counts_from_zero(folder, tmp_path):
    objects = voc_object("cat", (1, 1, 40, 30)), voc_object("person", (11, 21, 30, 30), 1)
    (folder / "Annotations" / "a.xml").write_text(voc_annotation(*objects))
    train = read(tmp_path).train
    assert train.boxes[0].tolist() == [[0, 0, *SIZE], [10, 20, 30, 30]]
    assert train.labels[0].tolist() == [7, 14]
    assert train.difficult[0].tolist() == [False, True]
    assert (train.names, train.count) == (("a", "b"), 3)


def test_the_developers_pictures_are_read_as_they_were_counted(needs_data):
    found = read(needs_data("VOCdevkit/VOC2012"))
    parts = found.train, found.test
    assert [len(part) for part in parts] == [51, 25]
    assert sum(part.count for part in parts) == 196
    assert sum(int(flags.sum()) for part in parts for flags in part.difficult) == 29
    labels = torch.cat([*found.train.labels, *found.test.labels])
    assert int((labels == found.class_names.index("person")).sum()) == 50
    assert found.facts[0].startswith("no annotations of the test pictures")
    assert (found.skipped, found.verified, found.valid) == ((), False, None)


def test_torchvision_reads_the_same_pictures_and_boxes(needs_data):
    from torchvision.datasets import VOCDetection

    root = needs_data("VOCdevkit/VOC2012")
    found = read(root).test
    published = VOCDetection(root, "2012", "val")
    for row in range(0, len(published), 5):
        image, target = published[row]
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        assert torch.equal(found.pictures[row], pixels)
        edges = [thing["bndbox"] for thing in target["annotation"]["object"]]
        boxes = [[float(box[edge]) for edge in ("xmin", "ymin", "xmax", "ymax")] for box in edges]
        expected = torch.tensor(boxes) - torch.tensor([1.0, 1, 0, 0])
        assert torch.equal(found.boxes[row], expected)


def test_pictures_decoded_ahead_are_those_decoded_one_by_one(folder, tmp_path):
    train = read(tmp_path).train
    pieces = [[0, 1], [1], [], [0, 0, 1], [1, 0], [0]]
    ahead = list(train.pictures.read(pieces))
    assert [len(piece) for piece in ahead] == list(map(len, pieces))
    for rows, piece in zip(pieces, ahead, strict=True):
        for row, picture in zip(rows, piece, strict=True):
            assert torch.equal(picture, train.pictures[row])
    taken = train.take([1, 0])
    assert torch.equal(next(taken.pictures.read([[0]]))[0], train.pictures[1])


def test_reading_that_is_broken_off_leaves_no_thread_and_reads_little_ahead(folder, monkeypatch):
    decoded = []
    real = picture_files.decode
    monkeypatch.setattr(picture_files, "decode", lambda content: decoded.append(1) or real(content))
    pictures = PictureFiles([folder / "JPEGImages" / "a.jpg"])
    before = set(threading.enumerate())
    reading = pictures.read([[0]] * 50)
    next(reading)
    reading.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()
    assert 1 <= len(decoded) <= 4


def test_a_grey_picture_becomes_rgb(folder, tmp_path):
    Image.new("L", SIZE, 77).save(folder / "JPEGImages" / "a.jpg")
    picture = read(tmp_path).train.pictures[0]
    assert picture.shape == (3, SIZE[1], SIZE[0])
    assert picture.unique().tolist() == [77]


# splits


def test_2007_trains_on_trainval_and_val_is_its_published_validation_split(tmp_path):
    voc_folder(tmp_path, 2007, {"trainval": "abc", "val": "b", "test": "d"})
    found = read(tmp_path, 2007)
    assert (found.train.names, found.valid.names) == (("a", "b", "c"), ("b",))
    assert (found.test.names, found.facts) == (("d",), ())
    splits = split_boxes(found, valid="published")
    assert (splits.train.names, splits.valid.names) == (("a", "c"), ("b",))
    assert splits.indices.tolist() == [0, 2]
    said = "3 to train on are more than the 2 training pictures that are not published for"
    refused(said, split_boxes, found, valid="published", subset=3)


def test_both_years_train_on_trainval_of_both_and_test_on_2007(tmp_path):
    voc_folder(tmp_path, 2007, {"trainval": "ab", "val": "b", "test": "c"})
    voc_folder(tmp_path, 2012, {"trainval": "xyz", "val": "z"})
    found = read(tmp_path, "2007+2012")
    assert (found.train.names, found.test.names) == (tuple("abxyz"), ("c",))
    assert found.valid.names == ("b", "z")
    assert found.facts == ()


def test_a_fingerprint_sees_another_byte_of_a_picture_and_another_box(folder, tmp_path):
    fingerprints = {read(tmp_path).fingerprint, read(tmp_path).fingerprint}
    assert len(fingerprints) == 1
    Image.new("RGB", SIZE).save(folder / "JPEGImages" / "a.jpg")
    fingerprints.add(read(tmp_path).fingerprint)
    (folder / "Annotations" / "a.xml").write_text(voc_annotation(voc_object(box=(1, 1, 40, 29))))
    fingerprints.add(read(tmp_path).fingerprint)
    assert len(fingerprints) == 3


# downloading and verifying


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """torchvision's download of 2007 gives two little archives, unpacked."""
    from torchvision.datasets import utils

    asked = []

    def unpack(url, root, filename, md5):
        asked.append((filename, md5))
        lists = {"test": "cd"} if "test" in filename else {"trainval": "ab", "val": "b"}
        made = voc_folder(tmp_path / filename, 2007, lists)
        shutil.copytree(made, f"{root}/VOCdevkit/VOC2007", dirs_exist_ok=True)

    monkeypatch.setattr(utils, "download_and_extract_archive", unpack)
    return asked


def test_both_archives_are_downloaded_compared_and_verified_when_they_are_read(archive, tmp_path):
    found = read(tmp_path, 2007, download=True, verify=True)
    assert archive == [
        ("VOCtrainval_06-Nov-2007.tar", "c52e279531787c972589f7e41ab4ae64"),
        ("VOCtest_06-Nov-2007.tar", "b6e924de25625d8de591ea690078ad9f"),
    ]
    assert (found.train.names, found.test.names, found.verified) == (("a", "b"), ("c", "d"), True)
    # It is there now.
    again = read(tmp_path, 2007, verify=True)
    assert again.fingerprint == found.fingerprint

    changed = tmp_path / "VOCdevkit" / "VOC2007" / "Annotations" / "a.xml"
    changed.write_text(voc_annotation())
    digest = hashlib.sha256(changed.read_bytes()).hexdigest()
    refused(f"a.xml is not the published file: .*{digest}", read, tmp_path, 2007, verify=True)
    assert read(tmp_path, 2007).facts == ("1 of 2 training pictures have no box",)


def test_a_download_adds_what_is_missing_and_replaces_nothing(archive, tmp_path):
    # As torchvision leaves it to somebody who asked for the training pictures alone.
    folder = voc_folder(tmp_path, 2007, {"trainval": "a", "val": "a"})
    found = read(tmp_path, 2007, download=True)
    assert (found.train.names, found.test.names) == (("a",), ("c", "d"))
    assert (folder / "JPEGImages" / "b.jpg").is_file()


def test_a_folder_that_tombola_did_not_download_is_not_verified(folder, tmp_path):
    said = "VOC2012 was not downloaded by tombola, .* verify: false"
    refused(said, read, tmp_path, verify=True)


# what is refused, or left out

BAD = [
    # file, content, what is said, and what is left out
    ("Annotations/a.xml", voc_annotation(voc_object(box=(1, 1, 41, 30))),
     r"a.xml has the box \[0.0, 0.0, 41.0, 30.0\] in a, which reaches out of the picture \(40 x 30",
     "boxes"),
    ("Annotations/a.xml", voc_annotation(voc_object(box=(0, 1, 9, 9))), "left of or above", "boxes"),
    ("Annotations/a.xml", voc_annotation(voc_object(box=(9, 9, 8, 20))), "has no area", "boxes"),
    ("Annotations/a.xml", voc_annotation(voc_object(box=(1, "nan", 9, 9))), "finite", "boxes"),
    ("Annotations/a.xml", voc_annotation(width=30, height=40),
     "a.xml says that a has 30 x 40 pixels, and it has 40 x 30", "pictures"),
    ("Annotations/a.xml", "<annotation>", "a.xml cannot be read as an annotation: no element",
     "pictures"),
    ("Annotations/a.xml", "<html></html>", "first element is <html>", "pictures"),
    ("Annotations/a.xml", "", "no element found", "pictures"),
    ("Annotations/a.xml", voc_annotation("<object><name>dog</name></object>"),
     "<object> has no <bndbox><xmin>", "pictures"),
    ("Annotations/a.xml", voc_annotation(voc_object(box=("left", 1, 2, 2))),
     "<xmin> is 'left', which is no number", "pictures"),
    ("Annotations/a.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "entities", "pictures"),
    ("Annotations/a.xml", None, "a.xml cannot be read as an annotation: No such file", "pictures"),
    ("JPEGImages/a.jpg", None, "a.jpg cannot be read as an image: No such file", "pictures"),
    ("JPEGImages/a.jpg", "text", "a.jpg cannot be read as an image: it is in no format", "pictures"),
]  # fmt: skip


def spoil(file, content):
    if content is None:
        file.unlink()
    else:
        file.write_text(content)


@pytest.mark.parametrize(("file", "content", "said", "kind"), BAD)
def test_what_cannot_be_used_stops_with_the_file_named_or_is_left_out_and_counted(
    folder, tmp_path, file, content, said, kind
):
    spoil(folder / file, content)
    refused(f"{said}.*unreadable: skip", read, tmp_path)
    found = read(tmp_path, unreadable="skip")
    (line,) = found.skipped
    assert line.startswith(f"left out 1 unusable {kind}; the first: a.")
    assert str(tmp_path) not in line
    if kind == "pictures":
        assert found.train.names == ("b",)
    else:
        assert [len(labels) for labels in found.train.labels] == [0, 1]
        assert found.facts[1:] == ("1 of 2 training pictures have no box",)


def test_a_picture_that_is_cut_off_is_told_when_it_is_read_or_left_out_at_once(folder, tmp_path):
    file = folder / "JPEGImages" / "a.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    Image.fromarray(noise).save(file)
    file.write_bytes(file.read_bytes()[:-300])
    train = read(tmp_path).train
    refused("cannot read .*a.jpg as an image: .*truncated", lambda: train.pictures[0])
    refused("a.jpg", lambda: list(train.pictures.read([[1], [0]])))
    assert read(tmp_path, unreadable="skip").train.names == ("b",)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("Annotations/a.xml", voc_annotation(voc_object("dgo")), "a.xml has .*'dgo', .* 'dog'"),
        ("Annotations/a.xml", voc_annotation("<object/>"), "a.xml has an object of the class ''"),
        ("ImageSets/Main/train.txt", "", "train.txt names no picture"),
        ("ImageSets/Main/train.txt", "a\nb\na\n", "train.txt names the picture 'a' twice"),
    ],
)
def test_a_class_that_is_not_known_or_a_broken_list_always_stops(
    folder, tmp_path, file, content, said
):
    spoil(folder / file, content)
    for unreadable in ("stop", "skip"):
        refused(said, read, tmp_path, unreadable=unreadable)


def test_a_validation_list_is_a_part_of_the_training_list(tmp_path):
    voc_folder(tmp_path, 2007, {"trainval": "ab", "val": "bx", "test": "c"})
    refused("val.txt names 'x', which is not in trainval.txt", read, tmp_path, 2007)


def test_a_folder_without_its_lists_says_what_it_lacks(tmp_path):
    said = "VOC2012 under .* lacks ImageSets/Main/train.txt, ImageSets/Main/val.txt in VOCdevkit"
    refused(said, read, tmp_path, error=DataError)


def test_where_all_pictures_are_left_out_nothing_is_left_to_train_on(folder, tmp_path):
    for name in "ab":
        (folder / "JPEGImages" / f"{name}.jpg").write_text("")
    refused("there are no training pictures", read, tmp_path, unreadable="skip")
