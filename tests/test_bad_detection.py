"""Detection from the command line: what cannot be measured, divided or read is one line, and
nothing is written.
"""

import json

import pytest
import yaml
from tests.annotated import coco_content, picture, voc_annotation, voc_folder, voc_object

from tombola.commands.cli import main

RECIPE = {
    "name": "bad",
    "task": {"name": "detection", "measured": 4},
    "data": {"name": "shapes", "valid": 4, "options": {"train": 16, "test": 4, "size": 32}},
    "model": {
        "name": "faster_rcnn_small",
        "options": {"size": 32, "widths": [8], "hidden": 8, "anchors": [8]},
    },
    "training": {"optimizer": "adam", "lr": 1e-3, "batch_size": 4, "steps": 2},
    "arms": {"lth": {"method": "lth", "rate": 0.5}},
    "until": {"rounds": 1},
}
COLT = {"method": "colt", "rate": 0.5, "partitions": 2}


@pytest.fixture
def tried(tmp_path, monkeypatch, capsys):
    """Try a recipe without training; its exit code and what is said."""
    monkeypatch.chdir(tmp_path)

    def run(*options, **changed):
        (tmp_path / "bad.yaml").write_text(yaml.safe_dump(RECIPE | changed))
        code = main(["run", "bad.yaml", "--dry-run", "--workers", "1", *options])
        return code, capsys.readouterr().err.splitlines()

    return run


def refused(result, *said):
    code, lines = result
    assert code == 2
    assert [line for line in lines if not line.startswith("loading")] == lines[-1:]
    for part in said:
        assert part in lines[-1]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (["--task.resize", "big"], ["detection.resize is 'big'", "letterbox"]),
        (["--task.pints", "3"], ["no option 'pints'", "Did you mean 'points'"]),
        (["--task.measured", "-1"], ["task.measured is -1", "or 0"]),
        (["--training.select_by", "acuracy"], ["select_by is 'acuracy'", "loss, map50"]),
        (["--training.select_by", "mAP"], ["Did you mean 'map50'"]),
        (["--data.name", "digits", "--data.options", "{}"], ["is for the task classification"]),
        (["--model", "{name: resnet18}"], ["'resnet18' is for the task classification"]),
        (["--data.options.trian", "3"], ["'shapes' has no option 'trian'"]),
        (["--data.valid", "published"], ["no published validation pictures"]),
        (["--training.step", "traced"], ["step is traced", "take eager"]),
        (["--arms.lth.score", "synflow"], ["arm 'lth'", "synflow", "gives a list"]),
        (["--arms.lth.score", "grasp"], ["arm 'lth'", "grasp", "gives a dict"]),
        (["--arms.lth.score", "fisher"], ["arm 'lth'", "fisher needs a model that gives a tensor"]),
    ],
)
def test_options_that_do_not_fit_are_one_line(tried, tmp_path, changed, said):
    refused(tried(*changed), *said)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        (COLT | {"others": "ignroe"}, ["others is 'ignroe'", "Did you mean 'ignore'"]),
        (COLT | {"partitions": 4}, ["with 6 classes one would hold a single class", "at most 3"]),
    ],
)
def test_partitions_that_cannot_be_made_are_one_line(tried, arm, said):
    refused(tried(arms={"colt": arm}), "arm 'colt'", *said)


@pytest.mark.parametrize("score", ["snip", "taylor", {"name": "snip", "mode": "train"}])
@pytest.mark.parametrize("method", ["lth", "colt"])
def test_scores_of_the_loss_alone_work(tried, score, method):
    arm = {"method": method, "rate": 0.5, "score": score}
    code, lines = tried(arms={"a": arm | ({"partitions": 2} if method == "colt" else {})})
    assert (code, lines) == (0, [])


def coco(tmp_path, **changed):
    """Write three pictures in COCO's format; the data of a recipe."""
    content = coco_content() | changed
    for name in "abc":
        picture(tmp_path / "images" / f"{name}.png")
    (tmp_path / "all.json").write_text(json.dumps(content))
    paths = {"annotations": "all.json", "test_annotations": "all.json", "images": "images"}
    return {"name": "coco_folder", "valid": 0, "options": paths}


def with_flag(flag):
    first, *others = coco_content()["annotations"]
    return [first | {"iscrowd": flag}, *others]


CROWDS = [found | {"iscrowd": 1} for found in coco_content()["annotations"]]
ONE_CLASS = {
    "annotations": [found | {"category_id": 7} for found in coco_content()["annotations"]],
    "categories": coco_content()["categories"][:1],
}


@pytest.mark.parametrize(
    ("content", "arm", "said"),
    [
        ({"annotations": []}, {}, ["of the 3 training pictures", "none shows an object"]),
        ({"annotations": CROWDS}, {}, ["none shows an object that counts"]),
        ({"annotations": with_flag("yes")}, {}, ["all.json", "'iscrowd' of annotation 1 is 'yes'"]),
        ({"annotations": with_flag(None)}, {}, ["'iscrowd' of annotation 1 is None"]),
        (ONE_CLASS, COLT, ["the data has 1 class, and each partition needs at least two"]),
        ({}, COLT, ["the data has 2 classes, and each partition needs at least two"]),
    ],
)
def test_pictures_in_cocos_format_that_cannot_be_used_are_one_line(
    tried, tmp_path, content, arm, said
):
    data = coco(tmp_path, **content)
    arms = {"a": arm or RECIPE["arms"]["lth"]}
    training = RECIPE["training"] | {"select": "last"}
    refused(tried("--data-root", str(tmp_path), data=data, arms=arms, training=training), *said)
    assert not (tmp_path / "runs").exists()


def of_a_picture_in_both_lists(folder):
    (folder / "ImageSets" / "Main" / "val.txt").write_text("b\n")


def of_no_picture(folder):
    (folder / "JPEGImages" / "a.jpg").write_text("a page that says: not found")


def of_a_flag_in_words(folder):
    (folder / "Annotations" / "a.xml").write_text(voc_annotation(voc_object(difficult="yes")))


def of_difficult_objects(folder):
    (folder / "Annotations" / "c.xml").write_text(voc_annotation(voc_object(difficult=1)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (of_a_picture_in_both_lists, ["Main/val.txt names 'b', which is in train.txt, too"]),
        (of_no_picture, ["a.jpg cannot be read as an image: it is in no format of images"]),
        (of_a_flag_in_words, ["a.xml", "<difficult> is 'yes', which is neither 0 nor 1"]),
        (of_difficult_objects, ["of the 1 test pictures that are measured none shows an object"]),
    ],
)
def test_folders_as_voc_has_them_that_cannot_be_used_are_one_line(tried, tmp_path, change, said):
    change(voc_folder(tmp_path))
    options = {"year": 2012, "download": False, "verify": False}
    data = {"name": "voc", "valid": 0, "options": options}
    training = RECIPE["training"] | {"select": "last"}
    refused(tried("--data-root", str(tmp_path), data=data, training=training), *said)
    assert not (tmp_path / "runs").exists()
