"""Several labels a picture: what each partition learns, and mean average precision by hand."""

import pytest
import torch
from tests.test_bombs import refused
from torch import nn

from tombola.data.boxes import BoxData, Boxes, HeldPictures
from tombola.data.partitions import WHOLE, Partition
from tombola.ground.errors import ConfigError, InputError
from tombola.tasks import _multi_label
from tombola.tasks._multi_label import MultiLabel, average_precisions, multi_label, pictures_of
from tombola.tasks.pictured import PictureSplit
from tombola.tasks.settings import Augment, Data, Model, Skew

NAMES = ("a", "b", "c", "d")
# The pictures A {a, b, c}, B {d}, C {a, b} and D {}.
SHOWN = torch.tensor([[1, 1, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0]], dtype=torch.int8)


def made(targets=SHOWN):
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(256, (len(targets), 3, 4, 4), generator=generator, dtype=torch.uint8)
    split = PictureSplit(pictures, targets, targets == 1, torch.arange(len(targets)))
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 4))
    return MultiLabel(
        model=model, splits=dict.fromkeys(("train", "valid", "test"), split), class_names=NAMES,
        head="1", fingerprint="", published=len(targets), draw=lambda *_: model,
    )  # fmt: skip


# ---- partitions


@pytest.mark.parametrize(
    ("others", "full_head", "first", "second"),
    [
        ("ignore", False, {0: [1, 1], 2: [1, 1]}, {0: [1, 0], 1: [0, 1]}),
        ("ignore", True, {0: [1, 1, -1, -1], 2: [1, 1, -1, -1]}, {0: [-1, -1, 1, 0], 1: [-1, -1, 0, 1]}),
        ("background", True, {0: [1, 1, 0, 0], 2: [1, 1, 0, 0]}, {0: [0, 0, 1, 0], 1: [0, 0, 0, 1]}),
        ("exclude", False, {2: [1, 1]}, {1: [0, 1]}),
    ],
)  # fmt: skip
def test_a_partition_takes_pictures_with_its_classes_and_sees_others_by_its_policy(
    others, full_head, first, second
):
    task = made()
    for classes, expected in (((0, 1), first), ((2, 3), second)):
        part = Partition(classes, full_head=full_head, others=others)
        rows = task.rows(part, "train")
        _, targets = task.batch(part, "train", rows)
        assert dict(zip(rows.tolist(), targets.tolist(), strict=True)) == expected
        assert task.outputs(part) == (4 if full_head else 2)
        assert task.build(task.initial_state(), part, 0)(torch.zeros(2, 3, 4, 4)).shape == (
            2,
            task.outputs(part),
        )


def test_the_shares_of_a_partition_are_counted():
    task = made()
    both = {"pictures": 2, "shared_pictures": 1, "lost_pictures": 0}
    assert task.shares(Partition((0, 1))) == both
    assert task.shares(Partition((0, 1), others="exclude")) == both | {
        "pictures": 1,
        "lost_pictures": 1,
    }
    assert task.shares(WHOLE) is None
    assert task.membership("train").tolist() == (SHOWN == 1).tolist()


def test_partitions_without_a_picture_and_unknown_policies_are_refused():
    task = made(SHOWN[[0, 1]])
    with pytest.raises(
        ConfigError, match="partition 1 has no picture to train on; its classes are a, b"
    ):
        task.check([Partition((0, 1), others="exclude")], covering=False)
    with pytest.raises(
        ConfigError, match="others is drop; it is one of ignore, background, exclude"
    ):
        task.check([Partition((0, 1), others="drop")], covering=False)


# ---- loss and metric


def test_the_loss_is_the_mean_over_what_is_known():
    targets = torch.tensor([[1, 0, -1, -1]], dtype=torch.int8)
    logits = torch.tensor([[2.0, -1.0, 5.0, -5.0]], requires_grad=True)
    loss = made().loss(lambda _: logits, (torch.zeros(1), targets))
    by_hand = (torch.log1p(torch.tensor(-2.0).exp()) + torch.log1p(torch.tensor(-1.0).exp())) / 2
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-6)
    loss.backward()
    assert logits.grad[0, 2:].tolist() == [0, 0]
    nothing = made().loss(lambda _: logits, (torch.zeros(1), torch.full((1, 4), -1)))
    assert nothing.item() == 0


def test_average_precision_by_hand():
    scores = torch.tensor([[4.0], [3.0], [2.0], [1.0], [5.0]])
    # The ranks: unknown (left out), right, wrong, right, wrong.
    truth = torch.tensor([[1], [0], [1], [0], [-1]])
    assert average_precisions(scores, truth) == [pytest.approx((1 + 2 / 3) / 2)]
    assert average_precisions(scores, torch.zeros(5, 1)) == [None]
    # Equal scores are one step: the precision of all of them together.
    assert average_precisions(torch.zeros(4, 1), truth[:4]) == [pytest.approx(0.5)]


def test_a_model_is_measured_by_class_and_by_the_mean_of_those_that_are_shown():
    task = made(SHOWN[[0, 2, 3]])
    found = task.measure(task.model, WHOLE, "test")
    assert list(found.values) == ["map", "ap_a", "ap_b", "ap_c"]
    values = list(found.values.values())
    assert values[0] == pytest.approx(sum(values[1:]) / 3)
    part = Partition((1, 2))
    model = task.build(task.initial_state(), part, 0)
    assert list(task.measure(model, part, "test").values) == ["map", "ap_b", "ap_c"]
    with pytest.raises(InputError, match="no test picture shows a class"):
        made(SHOWN[[3]]).measure(task.model, WHOLE, "test")


# ---- the task


def test_difficult_objects_alone_leave_a_class_unknown():
    boxes = torch.tensor([[0.0, 0, 2, 2]] * 4)
    labels, difficult = torch.tensor([0, 1, 1, 3]), torch.tensor([False, True, False, True])
    held = Boxes(
        HeldPictures([torch.full((3, 6, 4), 9, dtype=torch.uint8)]),
        (boxes,),
        (labels,),
        (difficult,),
        ("x",),
    )
    split = pictures_of(held, 4, 8, None)
    assert split.targets.tolist() == [[1, 1, 0, -1]]
    assert split.shows.tolist() == [[True, True, False, False]]
    assert split.pictures.shape == (1, 3, 8, 8)
    assert split.pictures.unique().tolist() == [9]


def shapes(*, data=None, model="conv2", size=16, **changes):
    data = Data("shapes", options={"train": 20, "test": 6}, **(data or {}))
    return multi_label(data, Model(model), seed=0, device="cpu", root=None, size=size, **changes)


def test_the_boxes_classes_of_a_data_set_are_learnt():
    from tombola.data.loading import load

    task = shapes()
    published = load("shapes", options={"train": 20, "test": 6}, kind=BoxData)
    for row, labels in enumerate(published.test.labels):
        shown = task.splits["test"].targets[row].nonzero().flatten().tolist()
        assert shown == sorted(set(labels.tolist()))
    mean, std = task.scale
    inputs, _ = task.batch(WHOLE, "train", torch.arange(18))
    assert inputs.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert inputs.std((0, 2, 3), correction=0).tolist() == pytest.approx([1, 1, 1], abs=1e-4)
    assert (mean.shape, std.shape) == ((1, 3, 1, 1), (1, 3, 1, 1))
    flipped = shapes(data={"augment": Augment(flip=True)})
    assert flipped.digest != task.digest
    rows = torch.arange(18)
    plain, _ = flipped.batch(WHOLE, "train", rows)
    varied, _ = flipped.batch(WHOLE, "train", rows, 0, 0)
    mirrored = [
        bool(torch.equal(one, two.flip(-1))) for one, two in zip(plain, varied, strict=True)
    ]
    same = [bool(torch.equal(one, two)) for one, two in zip(plain, varied, strict=True)]
    assert [one != two for one, two in zip(mirrored, same, strict=True)] == [True] * 18
    assert 0 < sum(mirrored) < 18


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": 0}, "size is 0; it is a number of pixels"),
        ({"data": {"classes": 3}}, "data.classes is given, and the task multi_label has nothing"),
        ({"data": {"skew": Skew(0.3)}}, "data.skew is given"),
        ({"data": {"augment": Augment(crop=16)}}, "augment.crop is 16"),
        ({"data": {"valid": "published"}}, "no published validation pictures"),
        ({"model": "tiny_gpt"}, "model 'tiny_gpt' is for the task tokens"),
    ],
)
def test_what_cannot_be_learnt_from_is_one_line(changes, said):
    with pytest.raises(InputError) as caught:
        shapes(**changes)
    refused(caught.value)
    assert said in str(caught.value)


def test_pictures_that_memory_cannot_hold_are_refused(monkeypatch):
    monkeypatch.setattr(_multi_label.devices, "free_memory", lambda _: 30_000)
    with pytest.raises(
        ConfigError,
        match="26 pictures of 16 x 16 pixels take",
    ):
        shapes()
