"""COCO folders: an annotation file and a folder of pictures of the user's own."""

import json

import pytest
import torch
from tests.annotated import SIZE, coco_content, coco_folder
from tests.test_data import refused

from tombola.data.boxes import BoxData
from tombola.data.loading import load
from tombola.folder import identity
from tombola.ground.errors import ConfigError


def read(root, **options):
    paths = {"annotations": "train.json", "images": "pictures", "test_annotations": "train.json"}
    return load("coco_folder", root=root, options=paths | options, kind=BoxData)


def changed(kind, place=0, **values):
    """The content with an entry of one list changed; a value of None leaves the key out."""
    content = coco_content()
    entry = content[kind][place] | values
    content[kind][place] = {key: value for key, value in entry.items() if value is not None}
    return content


def test_boxes_classes_and_crowds_are_read_in_the_order_of_the_file(tmp_path):
    coco_folder(tmp_path)
    train = read(tmp_path).train
    assert read(tmp_path).class_names == ("pen", "cup")
    assert train.names == ("a.png", "b.png", "c.png")
    assert [labels.tolist() for labels in train.labels] == [[1, 0], [0], []]
    assert [flags.tolist() for flags in train.difficult] == [[False, True], [False], []]
    assert train.boxes[0].tolist() == [[0, 0, *SIZE], [1.5, 2, 11.5, 22.25]]
    # It ends 0.005 pixels outside.
    assert train.boxes[1].tolist() == [[30, 20, *SIZE]]
    assert train.boxes[2].shape == (0, 4)
    assert train.pictures[1].shape == (3, SIZE[1], SIZE[0])


def test_pycocotools_reads_the_same_boxes(tmp_path, capsys):
    coco = pytest.importorskip("pycocotools.coco").COCO(str(coco_folder(tmp_path)))
    train = read(tmp_path).train
    for row, number in enumerate((5, 3, 9)):
        entries = coco.loadAnns(coco.getAnnIds(imgIds=number))
        corners = [[x, y, x + w, y + h] for x, y, w, h in (entry["bbox"] for entry in entries)]
        torch.testing.assert_close(
            train.boxes[row], torch.tensor(corners).reshape(-1, 4), atol=0.01, rtol=0
        )
        names = [coco.cats[entry["category_id"]]["name"] for entry in entries]
        assert [read(tmp_path).class_names[label] for label in train.labels[row]] == names


def test_pictures_without_boxes_are_counted(tmp_path):
    coco_folder(tmp_path)
    facts = ("1 of 3 training pictures have no box", "1 of 3 test pictures have no box")
    assert read(tmp_path).facts == facts


def test_a_validation_split_has_a_file_of_its_own(tmp_path):
    coco_folder(tmp_path)
    coco_folder(tmp_path, changed("annotations", image_id=3), "valid")
    found = read(tmp_path, valid_annotations="valid.json")
    assert [labels.tolist() for labels in found.valid.labels] == [[0], [1, 0], []]
    assert found.fingerprint != read(tmp_path).fingerprint
    said = "valid_images is given without valid_annotations"
    refused(said, read, tmp_path, valid_images="pictures", error=ConfigError)


def test_where_the_files_lie_does_not_make_another_run():
    options = set(identity.READING["coco_folder"])
    from inspect import signature

    from tombola.data import coco_folder as entry

    assert set(signature(entry).parameters) - options == {"root", "unreadable"}


# what is refused, or left out


@pytest.mark.parametrize(
    ("content", "said", "kind"),
    [
        (
            changed("annotations", 2, bbox=[30, 20, 10.02, 5]),
            "in b.png, which reaches out",
            "boxes",
        ),
        (changed("annotations", 2, bbox=[-1, 20, 5, 5]), "left of or above", "boxes"),
        (changed("annotations", 2, bbox=[1, 20, 0, 5]), "has no area", "boxes"),
        (changed("annotations", 2, bbox=[1, 20, float("nan"), 5]), "finite numbers", "boxes"),
        (changed("annotations", 2, bbox=[1, 20, float("inf"), 5]), "finite numbers", "boxes"),
        (
            changed("images", 1, width=41),
            "that b.png has 41 x 30 pixels, and it has 40",
            "pictures",
        ),
        (changed("images", 1, file_name="x.png"), "x.png cannot be read as an image", "pictures"),
    ],
)
def test_what_cannot_be_used_stops_with_the_file_named_or_is_left_out_and_counted(
    tmp_path, content, said, kind
):
    coco_folder(tmp_path)
    coco_folder(tmp_path, content, "bad")
    refused(
        f"(bad.json|x.png).*{said}.*unreadable: skip|{said}", read, tmp_path, annotations="bad.json"
    )
    found = read(tmp_path, annotations="bad.json", unreadable="skip")
    (line,) = found.skipped
    assert line.startswith(f"left out 1 unusable {kind}; the first: ")
    assert len(found.train) == (3 if kind == "boxes" else 2)
    assert found.train.count == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "is no annotation file of COCO: it has no list 'images'"),
        (coco_content(annotations={}), "it has no list 'annotations'"),
        (coco_content(categories=None), "it has no list 'categories'"),
        (coco_content(images=[3]), "'id' of image 0 is 3; it should be a whole number"),
        (changed("images", id="5"), "'id' of image 0 is '5'; it should be a whole number"),
        (changed("images", file_name=None), "'file_name' of image 5 is missing; .* a text"),
        (changed("images", height=None), "'height' of image 5 is missing"),
        (changed("images", id=3), "has two images of the id 3"),
        (changed("categories", id=2), "has two categories of one id"),
        (changed("categories", name="pen"), "two classes have one name"),
        (changed("annotations", image_id=4), "annotation 1 is of image 4, which is not listed"),
        (changed("annotations", category_id=1), r"annotation 1 .*category 1, .* are \[2, 7\]"),
        (changed("annotations", bbox=[1, 2, 3]), r"the bbox of annotation 1 is \[1, 2, 3\]; it is"),
        (changed("annotations", bbox=None, id=None), "the bbox of annotation 0 is None"),
        (changed("annotations", bbox=[1, 2, 3, "4"]), "it is a list of left, top"),
        (changed("annotations", bbox=[1, 2, 3, 10**400]), "it is a list of left, top"),
    ],
)
def test_what_is_no_annotation_file_is_refused(tmp_path, content, said):
    coco_folder(tmp_path)
    coco_folder(tmp_path, content, "bad")
    options = {"annotations": "bad.json", "test_annotations": "bad.json"}
    for unreadable in ("stop", "skip"):
        refused(said, read, tmp_path, unreadable=unreadable, **options)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"images": [' + "9" * 5000 + "]}"])
def test_what_is_no_json_is_refused(tmp_path, text):
    coco_folder(tmp_path)
    (tmp_path / "bad.json").write_text(text)
    refused("cannot read .*bad.json as JSON", read, tmp_path, annotations="bad.json")


def test_bytes_that_are_no_text_are_refused(tmp_path):
    coco_folder(tmp_path)
    (tmp_path / "bad.json").write_bytes(b"\xff\x00\xff\xfe\x80")
    refused("cannot read .*bad.json as JSON", read, tmp_path, annotations="bad.json")


def test_test_pictures_have_the_same_categories(tmp_path):
    coco_folder(tmp_path)
    coco_folder(tmp_path, changed("categories", name="mug"), "other")
    said = "other.json and .*train.json have different categories: .*'mug'.* and .*'cup'"
    refused(said, read, tmp_path, test_annotations="other.json")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"annotations": "none.json"}, "no file .*none.json.*'annotations' names annotations in"),
        ({"images": "none"}, "no folder .*none.*'images' names one that holds the training"),
        ({"test_annotations": "none.json"}, "'test_annotations' names annotations in COCO's"),
        ({"test_images": "none"}, "'test_images' names one that holds the test pictures"),
        ({"valid_annotations": "none.json"}, "'valid_annotations' names"),
    ],
)
def test_a_path_that_leads_nowhere_is_told_with_the_option(tmp_path, options, said):
    coco_folder(tmp_path)
    refused(said, read, tmp_path, **options)


def test_another_order_of_categories_in_the_file_is_the_same_data(tmp_path):
    coco_folder(tmp_path)
    turned = coco_content(categories=coco_content()["categories"][::-1])
    coco_folder(tmp_path, turned, "turned")
    assert read(tmp_path, annotations="turned.json").fingerprint == read(tmp_path).fingerprint
    assert json.loads((tmp_path / "turned.json").read_text()) != coco_content()
