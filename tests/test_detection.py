"""The task of detection: what a model is given, and what is measured of it."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from tombola.data.batches import Augment
from tombola.data.partitions import WHOLE, Partition
from tombola.ground.errors import ConfigError, InputError, TrainingError
from tombola.ground.settings import Training
from tombola.masks.masks import ones
from tombola.models.detectors import losses_in_evaluation
from tombola.tasks import detection
from tombola.tasks._detection import Move, _moved
from tombola.tasks.box_targets import View
from tombola.tasks.settings import Data, Model, Skew
from tombola.training.jobs import Job, run_job

SMALL = {"train": 24, "test": 6, "size": 48, "largest": 20}
MODEL = {"size": 48, "widths": [8, 16, 16], "hidden": 16}


def made(data=None, model=None, **options):
    given = {"valid": 8, "augment": Augment(flip=True), "options": SMALL} | (data or {})
    return detection(
        Data("shapes", **given),
        Model("faster_rcnn_small", **({"options": MODEL} | (model or {}))),
        seed=0,
        device="cpu",
        root=None,
        **options,
    )


@pytest.fixture(scope="module")
def task():
    return made()


class Told(nn.Module):
    """A detector that finds what it is told, picture after picture."""

    head, knows_ignored = "roi_heads.box_predictor", True

    def __init__(self, found):
        super().__init__()
        self.found, self.calls = found, 0

    def forward(self, images, targets=None):
        (found,) = self.found[self.calls : self.calls + 1]
        self.calls += 1
        return [found]


def perfect(task, part=WHOLE, which="test", shift=0.0):
    """Detections that are the truths, moved to the right by some pixels."""
    split, view = task.split(which), task.view(part)
    found = []
    for row in task.positions(part, which).tolist():
        own = view.is_own(split.labels[row])
        boxes = split.boxes[row][own] + torch.tensor([shift, 0, shift, 0])
        # In the picture as the model is given it.
        picture = split.pictures[row].float()
        boxes = task._resized(picture, boxes)[1]
        labels = view.numbered(split.labels[row][own])
        found.append({"boxes": boxes, "labels": labels, "scores": torch.ones(len(labels))})
    return found


def measured(task, found, part=WHOLE, which="test", monkeypatch=None):
    monkeypatch.setattr("tombola.tasks._detection.losses_in_evaluation", lambda *_: {})
    return task.measure(Told(found), part, which)


@pytest.mark.parametrize("part", [WHOLE, Partition((0, 2, 5)), Partition((1, 3), full_head=True)])
@pytest.mark.parametrize("resize", ["model", "letterbox", "warp"])
def test_who_finds_the_truth_has_it_all_and_who_finds_nothing_has_none(part, resize, monkeypatch):
    # Another size than the pictures', so that boxes must be brought back.
    task = made(model={"options": MODEL | {"size": 64}}, resize=resize)
    all_right = measured(task, perfect(task, part), part, monkeypatch=monkeypatch)
    assert all_right.values["map50"] == 1
    beside = measured(task, perfect(task, part, shift=100.0), part, monkeypatch=monkeypatch)
    assert beside.values["map50"] == 0
    shown = {name.removeprefix("ap_") for name in all_right.values if name.startswith("ap_")}
    own = range(6) if part.classes is None else part.classes
    assert shown <= {task.splits.class_names[number] for number in own}


def test_a_class_by_hand(task, monkeypatch):
    """One class is found, all others are missed: its AP is 1, the mean one of those shown."""
    found = perfect(task)
    for detected in found:
        only = detected["labels"] == 1
        for name in detected:
            detected[name] = detected[name][only]
    values = measured(task, found, monkeypatch=monkeypatch).values
    classes = {int(number) for labels in task.splits.test.labels for number in labels}
    assert 0 in classes
    assert values["ap_disc"] == 1
    assert values["map50"] == pytest.approx(1 / len(classes))


def test_kept_detections_are_those_of_the_pictures_shown(task, monkeypatch):
    metrics = measured(task, perfect(task), monkeypatch=monkeypatch)
    number = sum(len(task.splits.test.labels[row]) for row in range(4))
    assert {name: len(rows) for name, rows in metrics.kept.items()} == dict.fromkeys(
        ("picture", "boxes", "labels", "scores"), number
    )
    assert torch.equal(metrics.kept["labels"], torch.cat(task.splits.test.labels[:4]))
    everything = made(detections="all")
    metrics = measured(everything, perfect(everything), monkeypatch=monkeypatch)
    assert len(metrics.kept["labels"]) == sum(map(len, everything.splits.test.labels))
    valid = measured(task, perfect(task, which="valid"), which="valid", monkeypatch=monkeypatch)
    assert not valid.kept


def test_boxes_are_mirrored_with_their_pictures(task):
    """The tight box of the drawn pixels is that of the mirrored picture."""
    plain = made({"augment": Augment()})
    moved = 0
    for (images, targets), (straight, original) in zip(
        task.batches(WHOLE, 8, 3).epoch(1), plain.batches(WHOLE, 8, 3).epoch(1), strict=True
    ):
        for image, target, before, truth in zip(images, targets, straight, original, strict=True):
            if torch.equal(image, before):
                assert torch.equal(target["boxes"], truth["boxes"])
                continue
            moved += 1
            assert torch.equal(image, before.flip(-1))
            back = 48 - target["boxes"][:, [2, 1, 0, 3]]
            assert torch.equal(back[:, [0, 2]], truth["boxes"][:, [0, 2]])
            assert torch.equal(target["boxes"][:, [1, 3]], truth["boxes"][:, [1, 3]])
    assert 0 < moved < task.size(WHOLE, "train")


def test_zoomed_pictures_keep_their_boxes_and_what_is_left_of_an_object_is_ignored(task):
    zoomed = made({"augment": Augment()}, zoom=0.5)
    plain = made({"augment": Augment()})
    ignored = kept = 0
    for (images, targets), (straight, originals) in zip(
        zoomed.batches(WHOLE, 8, 3).epoch(0), plain.batches(WHOLE, 8, 3).epoch(0), strict=True
    ):
        for image, target, before, truth in zip(images, targets, straight, originals, strict=True):
            assert image.shape == before.shape
            boxes, labels = target["boxes"], target["labels"]
            assert ((boxes >= 0) & (boxes <= 48)).all()
            assert (boxes[:, 2:] > boxes[:, :2]).all()
            assert len(labels) <= len(truth["labels"])
            ignored += int((labels == -1).sum())
            kept += int((labels > 0).sum())
    assert kept > ignored > 0
    # A model that ignores nothing sees only what is left of at least a half.
    view = View(ignores=False)
    boxes = torch.tensor([[0.0, 20, 10, 30], [20, 20, 30, 30]])
    labels = torch.tensor([1, 2])
    _, left, seen = _moved(
        torch.zeros(3, 48, 48), Move(factor=1.5), view, boxes=boxes, labels=labels
    )
    assert seen.tolist() == [2]
    assert left.tolist() == [[18, 18, 33, 33]]


def test_a_picture_is_mirrored_alike_in_every_partition(task):
    part = Partition(tuple(range(3)))
    whole = _by_content(task.batches(WHOLE, 4, 7).epoch(2))
    for image in _by_content(task.batches(part, 4, 7).epoch(2)):
        assert image in whole


def _by_content(batches):
    return {image.numpy().tobytes() for images, _ in batches for image in images}


def test_digest_counts_what_a_training_depends_on_and_nothing_else(task):
    assert made().digest == task.digest
    others = {
        "anchors": made(model={"options": MODEL | {"anchors": [9, 15, 24]}}),
        "flip": made({"augment": Augment()}),
        "resize": made(resize="warp"),
        "zoom": made(zoom=0.2),
        "validation": made({"valid": 4}),
        "init": made(model={"init": "default"}),
        "pictures": made({"options": SMALL | {"seed": 1}}),
    }
    digests = {name: other.digest for name, other in others.items()}
    assert len({task.digest, *digests.values()}) == 1 + len(others)
    # What is kept beside the record decides no training.
    assert made(detections="all").digest == task.digest


def test_a_job_trains_measures_and_repeats(task):
    mask = ones(task.model, head=task.head)
    assert not any(name.startswith(task.head) for name in mask)
    training = Training(optimizer="adam", lr=1e-3, steps=4, batch_size=8, evaluate_every=2)
    part = Partition((0, 1, 2))
    for where in (WHOLE, part):
        job = Job(task.initial_state(), mask, training, 0, where)
        first, second = run_job(job, task), run_job(job, task)
        assert first.history == second.history
        assert all(torch.equal(first.final[name], second.final[name]) for name in first.final)
        assert {"valid_loss", "valid_map50", "valid_loss_classifier"} <= first.history[0].keys()


def test_looking_more_often_changes_nothing(task):
    mask = ones(task.model, head=task.head)
    ends = []
    for every in (1, 3):
        training = Training(optimizer="adam", lr=1e-3, steps=3, batch_size=8, evaluate_every=every)
        ends.append(run_job(Job(task.initial_state(), mask, training, 0), task).final)
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_broken_loss_is_named(task, monkeypatch):
    model = task.build(task.initial_state(), WHOLE, 0)
    with torch.no_grad():
        model.rpn.head.bbox_pred.weight.fill_(math.nan)
    batch = next(iter(task.batches(WHOLE, 4, 0).epoch(0)))
    with pytest.raises(TrainingError, match="loss_rpn_box_reg"):
        task.loss(model, batch)


@pytest.mark.parametrize(
    ("data", "model", "message"),
    [
        ({"augment": Augment(crop=4)}, {}, "data.augment.crop"),
        ({"augment": Augment(rotate=5)}, {}, "data.augment.rotate"),
        ({"classes": 3}, {}, "data.classes"),
        ({"skew": Skew(0.2)}, {}, "data.skew"),
        ({}, {"head": "rpn"}, "model.head"),
    ],
)
def test_settings_of_other_tasks_are_refused(data, model, message):
    with pytest.raises(InputError, match=message):
        made(data, model)


def test_a_partition_without_a_picture_is_refused_by_its_classes(task):
    without = _of_pictures(task, lambda shown: not shown & {4, 5})
    with pytest.raises(ConfigError, match=r"partition 2 has no picture.* cross, diamond"):
        without.check([Partition((0, 1, 2, 3)), Partition((4, 5))])
    # With `exclude` only pictures that show nothing else are left.
    mixed = _of_pictures(task, lambda shown: len(shown) > 2)
    parts = [Partition((number, number + 1)) for number in (0, 2, 4)]
    mixed.check(parts)
    with pytest.raises(ConfigError, match="no picture"):
        mixed.check([dataclasses.replace(part, others="exclude") for part in parts])
    with pytest.raises(ConfigError, match="others is leave"):
        task.check([Partition((0, 1, 2), others="leave"), Partition((3, 4, 5), others="leave")])


def _of_pictures(task, chosen):
    """The task with those training pictures alone whose classes are chosen."""
    splits = task.splits
    rows = [row for row, labels in enumerate(splits.train.labels) if chosen(set(labels.tolist()))]
    few = dataclasses.replace(
        splits, train=splits.train.take(rows), indices=splits.indices[torch.tensor(rows)]
    )
    return dataclasses.replace(task, splits=few)


def test_membership_and_shares_count_the_same_pictures(task):
    shown = task.membership("train")
    assert shown.shape == (16, 6)
    for classes in ((0, 1, 2), (3, 4, 5)):
        part = Partition(classes)
        assert task.size(part, "train") == int(shown[:, list(classes)].any(1).sum())
        assert task.shares(part)["pictures"] == task.size(part, "train")
    assert task.shares(WHOLE) is None


def test_an_object_that_a_zoom_cuts_off_is_dropped_and_half_of_one_is_ignored():
    """By hand, about the centre at 24 and 24, twice as large: gone, a quarter left, all left."""
    boxes = torch.tensor([[0.0, 0, 6, 6], [6, 20, 14, 28], [20, 20, 28, 28]])
    _, left, seen = _moved(
        torch.zeros(3, 48, 48),
        Move(factor=2.0),
        View(),
        boxes=boxes,
        labels=torch.tensor([1, 2, 3]),
    )
    assert seen.tolist() == [-1, 3]
    assert left.tolist() == [[0, 16, 4, 32], [16, 16, 32, 32]]


def test_the_loss_in_evaluation_is_that_of_the_losses_in_evaluation(task):
    model = task.build(task.initial_state(), WHOLE, 0).eval()
    batch = next(iter(task.batches(WHOLE, 4, 0).epoch(0)))
    torch.manual_seed(0)
    loss = task.loss(model, batch)
    torch.manual_seed(0)
    assert torch.equal(loss, sum(losses_in_evaluation(model, *batch).values()))
    assert not model.training


def test_a_partition_of_classes_and_examples_has_the_pictures_of_both(task):
    shown = task.membership("train")[:, :2].any(1)
    examples = tuple(range(0, 16, 2))
    part = Partition((0, 1), examples)
    expected = [row for row in examples if shown[row]]
    assert task.positions(part, "train").tolist() == expected
    assert 0 < len(expected) < len(examples)
    # Examples are divided in the training split alone.
    assert task.size(part, "valid") == task.size(Partition((0, 1)), "valid")
