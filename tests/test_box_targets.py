"""What a partition of classes sees of annotated pictures, by the table worked out by hand."""

import pytest
import torch

from tombola.data.boxes import Boxes, HeldPictures
from tombola.data.partitions import Partition
from tombola.tasks.box_targets import View, shares

# Pictures A {a, b, c}, B {d}, C {a, b}, D {}.
SHOWN = ((0, 1, 2), (3,), (0, 1), ())


def annotated(shown=SHOWN, difficult=None):
    """Pictures with boxes of these classes, side by side."""
    labels, boxes, marks = [], [], []
    for row, classes in enumerate(shown):
        labels.append(torch.tensor(classes, dtype=torch.int64))
        sides = [[10.0 * place, 0.0, 10.0 * place + 8, 9.0] for place in range(len(classes))]
        boxes.append(torch.tensor(sides).reshape(-1, 4))
        marks.append(torch.tensor(difficult[row] if difficult else [False] * len(classes)).bool())
    names = tuple("ABCD") if shown is SHOWN else tuple(map(str, range(len(shown))))
    pictures = HeldPictures([torch.zeros(3, 20, 60, dtype=torch.uint8) for _ in shown])
    return Boxes(pictures, tuple(boxes), tuple(labels), tuple(marks), names)


def seen(view, split):
    """The labels of each picture that the view takes, by the picture's name."""
    found = {}
    for row in view.pictures_of(split).tolist():
        target = view.target(split.boxes[row], split.labels[row], split.difficult[row])
        assert len(target["boxes"]) == len(target["labels"])
        found[split.names[row]] = target["labels"].tolist()
    return found


@pytest.mark.parametrize(
    ("policy", "classes", "own", "full"),
    [
        ("ignore", (0, 1), {"A": [1, 2, -1], "C": [1, 2]}, {"A": [1, 2, -1], "C": [1, 2]}),
        ("ignore", (2, 3), {"A": [-1, -1, 1], "B": [2]}, {"A": [-1, -1, 3], "B": [4]}),
        ("background", (0, 1), {"A": [1, 2], "C": [1, 2]}, {"A": [1, 2], "C": [1, 2]}),
        ("background", (2, 3), {"A": [1], "B": [2]}, {"A": [3], "B": [4]}),
        ("exclude", (0, 1), {"C": [1, 2]}, {"C": [1, 2]}),
        ("exclude", (2, 3), {"B": [2]}, {"B": [4]}),
    ],
)
def test_what_a_partition_sees_by_hand(policy, classes, own, full):
    split = annotated()
    for full_head, expected in ((False, own), (True, full)):
        part = Partition(classes, full_head=full_head, others=policy)
        assert seen(View.of(part, "background", ignores=True), split) == expected


def test_all_data_by_hand():
    dense = View.of(Partition(), "ignore", ignores=True)
    assert seen(dense, annotated()) == {"A": [1, 2, 3], "B": [4], "C": [1, 2], "D": []}


def test_a_partition_without_a_policy_has_the_tasks():
    view = View.of(Partition((0, 1)), "background", ignores=True)
    assert seen(view, annotated()) == {"A": [1, 2], "C": [1, 2]}


def test_difficult_objects_are_ignored_and_left_out_where_a_model_cannot_ignore():
    split = annotated(difficult=[[True, False, False], [True], [False, False], []])
    assert seen(View(), split)["A"] == [-1, 2, 3]
    assert seen(View(), split)["B"] == [-1]
    without = View(ignores=False)
    assert seen(without, split) == {"A": [2, 3], "B": [], "C": [1, 2], "D": []}


def test_boxes_stay_beside_their_labels():
    split = annotated()
    target = View((2, 3), True, "background").target(
        split.boxes[0], split.labels[0], split.difficult[0]
    )
    assert target["boxes"].tolist() == [[20, 0, 28, 9]]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("ignore", [2, 4, 1, 1, 0, 0]),
        ("background", [2, 4, 1, 1, 0, 0]),
        ("exclude", [1, 2, 0, 0, 1, 2]),
    ],
)
def test_shares_by_hand(policy, expected):
    """Of classes a and b: A has two boxes of them and one other, C two."""
    found = shares(annotated(), View((0, 1), True, policy))
    assert list(found.values()) == expected
    assert list(found) == [
        "pictures", "own_boxes", "shared_pictures", "other_boxes", "lost_pictures", "lost_boxes",
    ]  # fmt: skip


def test_every_own_box_is_taken_or_lost():
    torch.manual_seed(0)
    shown = [tuple(torch.randint(0, 5, (n,)).tolist()) for n in torch.randint(0, 4, (40,)).tolist()]
    split = annotated(shown)
    whole = sum(len(labels) for labels in split.labels)
    for policy in ("ignore", "background", "exclude"):
        total = 0
        for classes in ((0, 1), (2, 3, 4)):
            counts = shares(split, View(classes, True, policy))
            total += counts["own_boxes"] + counts["lost_boxes"]
        assert total == whole
