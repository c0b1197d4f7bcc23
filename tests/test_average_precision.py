"""Average precision: cases worked out by hand, laws, VOC's rule told box by box, and pycocotools."""

import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import coco, cocoeval

from tombola.tasks.average_precision import Found, Truth, average_precisions, coco_map, mean

# Truths far from each other, and boxes beside all of them.
G1, G2, G3, G4 = [0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]
X, Y = [0, 50, 10, 60], [20, 50, 30, 60]


def found_boxes(boxes, scores=None, labels=None):
    falling = np.linspace(0.9, 0.1, len(boxes))
    return Found(
        np.array(boxes, dtype=float).reshape(-1, 4),
        np.array(labels if labels is not None else [0] * len(boxes), dtype=int),
        np.array(falling if scores is None else scores, dtype=float),
    )


def true_boxes(boxes, difficult=(), labels=None):
    return Truth(
        np.array(boxes, dtype=float).reshape(-1, 4),
        np.array(labels if labels is not None else [0] * len(boxes), dtype=int),
        np.array([position in difficult for position in range(len(boxes))], dtype=bool),
    )


def both_forms(found, truth):
    """The area form, then the one of 11 points, of the only class of a picture."""
    return [average_precisions([found], [truth], 1, points=points)[0] for points in ("area", "11")]


# By hand. In the first, precision is 1 at recall 1/3 and 2/3 at recall 2/3: (1 + 2/3) / 3 is the
# area; at the recalls 0 to 0.3 it is 1, at 0.4 to 0.6 2/3, above 0: 6 / 11.
@pytest.mark.parametrize(
    ("boxes", "truths", "area", "eleven"),
    [
        ([G1, X, G2], [G1, G2, G3], Fraction(5, 9), Fraction(6, 11)),
        ([G1, X, G2, Y, G3], [G1, G2, G3, G4], Fraction(17, 30), Fraction(31, 55)),
        ([G1, G1, G2], [G1, G2], Fraction(5, 6), Fraction(28, 33)),
        ([X, G1], [G1], Fraction(1, 2), Fraction(1, 2)),
        # The second is nearest to the truth that is taken (9/11), not to the free one (7/13).
        ([G1, [0, 1, 10, 11]], [G1, [0, 4, 10, 14]], Fraction(1, 2), Fraction(6, 11)),
        # An overlap of exactly 0.5 counts.
        ([[0, 0, 10, 5]], [G1], 1, 1),
        ([[0, 0, 10, 4.999]], [G1], 0, 0),
        ([], [G1], 0, 0),
        ([X, Y], [G1], 0, 0),
    ],
)
def test_the_cases_worked_out_by_hand(boxes, truths, area, eleven):
    values = both_forms(found_boxes(boxes), true_boxes(truths))
    assert values == pytest.approx([float(area), float(eleven)], abs=1e-15)


def test_boxes_of_one_score_keep_their_order():
    assert both_forms(found_boxes([X, G1], [0.5, 0.5]), true_boxes([G1])) == [0.5, 0.5]
    assert both_forms(found_boxes([G1, X], [0.5, 0.5]), true_boxes([G1])) == [1, 1]


def test_a_difficult_truth_is_neither_found_nor_missed():
    found, truth = found_boxes([G2, G2, G1]), true_boxes([G1, G2], difficult=[1])
    assert both_forms(found, truth) == [1, 1]
    assert both_forms(found_boxes([]), truth) == [0, 0]


def test_a_class_without_a_truth_that_counts_has_no_value():
    found = found_boxes([G1, X])
    assert both_forms(found, true_boxes([])) == [None, None]
    assert both_forms(found, true_boxes([G1], difficult=[0])) == [None, None]
    assert coco_map([found], [true_boxes([])], 1) is None
    assert coco_map([found], [true_boxes([G1], difficult=[0])], 1) is None
    assert average_precisions([], [], 2) == [None, None]
    assert mean([None, 0.5, None, 0.25]) == 0.375
    assert mean([]) is None


def test_a_box_finds_nothing_in_another_picture_or_of_another_class():
    pictures = [true_boxes([G1]), true_boxes([])]
    assert average_precisions([found_boxes([]), found_boxes([G1])], pictures, 1) == [0]
    found = found_boxes([G1, G2], labels=[1, 0])
    truth = true_boxes([G1, G2], labels=[0, 1])
    assert average_precisions([found], [truth], 3) == [0, 0, None]


# Three of ten truths: 4 of the 11 recalls are reached, as 0.3 is. The third step of np.linspace
# lies above 0.3; so do those for 0.6 and 0.7.
@pytest.mark.parametrize("number", range(1, 11))
def test_a_recall_of_so_many_tenths_is_reached(number):
    places = [[100 * place, 0, 100 * place + 10, 10] for place in range(10)]
    values = both_forms(found_boxes(places[:number]), true_boxes(places))
    assert values == pytest.approx([number / 10, (number + 1) / 11], abs=1e-15)


@pytest.mark.parametrize(
    ("found", "truth", "told"),
    [
        (found_boxes([G1], labels=[2]), true_boxes([G1]), r"found\[0\]\.labels has 2; .* 0 to 1"),
        (found_boxes([G1]), true_boxes([G1], labels=[-1]), r"truths\[0\]\.labels has -1"),
        (found_boxes([G1], [float("nan")]), true_boxes([G1]), r"found\[0\]\.scores"),
        (found_boxes([[0, 0, np.inf, 1]]), true_boxes([G1]), r"found\[0\]\.boxes"),
        (found_boxes([G1], [1, 2]), true_boxes([G1]), r"found\[0\]\.scores has shape \(2,\)"),
        (found_boxes([G1], labels=[0, 0]), true_boxes([G1]), r"boxes has shape \(1, 4\)"),
    ],
)
def test_what_is_not_as_described_is_refused(found, truth, told):
    for measure in (average_precisions, coco_map):
        with pytest.raises(ValueError, match=told):
            measure([found], [truth], 2)


def test_found_and_true_boxes_are_of_the_same_pictures():
    with pytest.raises(ValueError, match="found has 1 pictures and truths 2"):
        average_precisions([found_boxes([])], [true_boxes([])] * 2, 1)


def told_box_by_box(found, truths, label, iou, points):
    """VOC's rule as a program that takes one box after the other."""
    judged = [
        (-score, picture, box)
        for picture, each in enumerate(found)
        for box, number, score in zip(each.boxes, each.labels, each.scores, strict=True)
        if number == label
    ]
    judged.sort(key=lambda entry: entry[0])
    number = sum(np.sum((each.labels == label) & ~each.difficult) for each in truths)
    if not number:
        return None
    taken, right, precision, recall = set(), [], [], []
    for _, picture, box in judged:
        best, nearest = 0.0, None
        truth = truths[picture]
        for index, other in enumerate(truth.boxes):
            if truth.labels[index] != label:
                continue
            width = min(box[2], other[2]) - max(box[0], other[0])
            height = min(box[3], other[3]) - max(box[1], other[1])
            if width <= 0 or height <= 0:
                continue
            areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
            overlap = width * height / (sum(areas) - width * height)
            if overlap > best:
                best, nearest = overlap, index
        if best >= iou and truth.difficult[nearest]:
            continue
        right.append(best >= iou and (picture, nearest) not in taken)
        if best >= iou:
            taken.add((picture, nearest))
        precision.append(Fraction(sum(right), len(right)))
        recall.append(Fraction(sum(right), int(number)))
    reached = [Fraction(step, 10) for step in range(11)]
    if points == "area":
        reached = [Fraction(step + 1, int(number)) for step in range(number)]
    best_at = [
        max([p for p, r in zip(precision, recall, strict=True) if r >= at], default=0)
        for at in reached
    ]
    return float(sum(best_at) / len(reached))


def crowded(rng, pictures, *, scores=None):
    """Pictures full of boxes that overlap, difficult ones among them."""
    found, truths = [], []
    for _ in range(pictures):
        number = rng.integers(0, 6)
        corners = rng.integers(0, 12, (number, 2))
        boxes = np.concatenate([corners, corners + rng.integers(4, 12, (number, 2))], axis=1)
        truths.append(
            Truth(boxes.astype(float), rng.integers(0, 2, number), rng.random(number) < 0.25)
        )
        near = boxes.repeat(3, axis=0) + rng.integers(-1, 2, (3 * number, 4))
        stray = np.tile([1, 1, 9, 9], (rng.integers(0, 3), 1))
        all_boxes = np.concatenate([near, stray]).astype(float)
        drawn = rng.integers(0, scores, len(all_boxes)) if scores else rng.random(len(all_boxes))
        found.append(Found(all_boxes, rng.integers(0, 2, len(all_boxes)), drawn.astype(float)))
    return found, truths


@pytest.mark.parametrize("points", ["11", "area"])
@pytest.mark.parametrize("iou", [0.3, 0.5, 0.75])
def test_it_is_vocs_rule_with_difficult_boxes_duplicates_and_equal_scores(points, iou):
    for seed in range(15):
        found, truths = crowded(np.random.default_rng(seed), 5, scores=6)
        values = average_precisions(found, truths, 2, iou=iou, points=points)
        for label, value in enumerate(values):
            expected = told_box_by_box(found, truths, label, iou, points)
            assert value == pytest.approx(expected, abs=1e-14)


def apart(rng, pictures=6, classes=3):
    """Pictures whose truths are apart, none difficult: here VOC's rule and COCO's agree."""
    found, truths = [], []
    for _ in range(pictures):
        cells = rng.permutation(16)[: rng.integers(0, 9)]
        corners = 20.0 * np.stack([cells % 4, cells // 4], axis=1) + rng.uniform(
            0, 4, (len(cells), 2)
        )
        boxes = np.concatenate([corners, corners + rng.uniform(6, 14, (len(cells), 2))], axis=1)
        labels = rng.integers(0, classes, len(cells))
        truths.append(Truth(boxes, labels, np.zeros(len(cells), bool)))
        near = boxes.repeat(2, axis=0) + rng.normal(0, 1.2, (2 * len(cells), 4))
        wrong = rng.random(2 * len(cells)) < 0.2
        near_labels = np.where(wrong, rng.integers(0, classes, len(near)), labels.repeat(2))
        found.append(Found(near, near_labels, rng.random(len(near))))
    return found, truths


def by_pycocotools(found, truths, classes, recalls, capsys, ious=(0.5,)):
    """Each class's average precision, read at recalls of one's own."""
    sides = []
    for side in (truths, found):
        api = coco.COCO()
        rows = [
            {
                "image_id": image,
                "category_id": int(label),
                "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                "area": (box[2] - box[0]) * (box[3] - box[1]),
                "iscrowd": int(side is truths and each.difficult[index]),
                "score": 0 if side is truths else each.scores[index],
            }
            for image, each in enumerate(side)
            for index, (box, label) in enumerate(zip(each.boxes, each.labels, strict=True))
        ]
        for number, row in enumerate(rows):
            row["id"] = number + 1
        api.dataset = {
            "images": [{"id": image} for image in range(len(truths))],
            "categories": [{"id": label} for label in range(classes)],
            "annotations": rows,
        }
        api.createIndex()
        sides.append(api)
    evaluation = cocoeval.COCOeval(*sides, iouType="bbox")
    evaluation.params.recThrs = recalls
    evaluation.params.iouThrs = np.array(ious)
    evaluation.evaluate()
    evaluation.accumulate()
    capsys.readouterr()
    # Overlaps, recalls, classes, then all areas and 100 boxes a picture.
    return evaluation.eval["precision"][:, :, :, 0, 2]


# Between two of 20,001 recalls the curve may fall once for every truth.
@pytest.mark.parametrize(
    ("points", "recalls", "within"),
    [("11", np.arange(11) / 10, 2.3e-16), ("area", np.linspace(0, 1, 20_001), 4e-5)],
)
def test_pycocotools_agrees_where_no_box_is_difficult(points, recalls, within, capsys):
    compared = 0
    for seed in range(24):
        found, truths = apart(np.random.default_rng(seed))
        values = average_precisions(found, truths, 3, points=points)
        others = by_pycocotools(found, truths, 3, recalls, capsys)[0].mean(axis=0)
        for value, other in zip(values, others, strict=True):
            assert abs(other - (-1 if value is None else value)) <= within
            compared += value is not None and 0 < value < 1
    assert compared > 36  # of 72


def test_cocos_mean_is_that_of_ten_overlaps_and_101_recalls(capsys):
    ious, recalls = np.linspace(0.5, 0.95, 10), np.linspace(0, 1, 101)
    for found, truths in (
        apart(np.random.default_rng(0)),
        crowded(np.random.default_rng(1), 8, scores=50),
    ):
        everything = by_pycocotools(found, truths, 3, recalls, capsys, ious)
        expected = everything[everything > -1].mean()
        assert 0 < expected < 1
        assert coco_map(found, truths, 3) == pytest.approx(expected, abs=1e-15)
        assert capsys.readouterr().out == ""
    assert "print" not in vars(coco) | vars(cocoeval)


def test_coco_takes_a_free_truth_where_voc_does_not():
    # At overlaps to 0.5 and no further the second finds the free truth.
    found = found_boxes([G1, [0, 1, 10, 11]])
    truth = true_boxes([G1, [0, 4, 10, 14]])
    # 51 of 101 recalls are reached without the second; with it, at the overlap of 0.5 alone, all.
    assert coco_map([found], [truth], 1) == pytest.approx((1 + 9 * 51 / 101) / 10)


def test_coco_finds_nothing_where_nothing_is_found():
    assert coco_map([found_boxes([])], [true_boxes([G1])], 1) == 0


SEEDS = st.integers(0, 2**32 - 1)
FORMS = st.sampled_from(["11", "area"])


@given(SEEDS, FORMS)
def test_it_is_a_fraction_and_the_order_of_pictures_does_not_matter(seed, points):
    rng = np.random.default_rng(seed)
    found, truths = crowded(rng, 4)
    values = average_precisions(found, truths, 2, points=points)
    assert all(value is None or 0 <= value <= 1 for value in values)
    order = rng.permutation(4)
    moved = [found[place] for place in order], [truths[place] for place in order]
    assert average_precisions(*moved, 2, points=points) == values


@given(SEEDS, FORMS)
def test_only_the_order_of_scores_counts(seed, points):
    found, truths = crowded(np.random.default_rng(seed), 4, scores=8)
    scaled = [Found(each.boxes, each.labels, 3 * each.scores**3 - 7) for each in found]
    values = average_precisions(found, truths, 2, points=points)
    assert average_precisions(scaled, truths, 2, points=points) == values


@given(SEEDS, FORMS)
def test_a_wrong_box_of_the_lowest_score_changes_nothing(seed, points):
    found, truths = crowded(np.random.default_rng(seed), 4)
    first = found[0]
    longer = Found(
        np.concatenate([first.boxes, [[90.0, 90.0, 95.0, 95.0]] * 2]),
        np.concatenate([first.labels, [0, 1]]),
        np.concatenate([first.scores, [-1.0, -1.0]]),
    )
    values = average_precisions(found, truths, 2, points=points)
    assert average_precisions([longer, *found[1:]], truths, 2, points=points) == values


def test_a_test_split_as_large_as_vocs_takes_seconds():
    rng = np.random.default_rng(0)
    found, truths = [], []
    for _ in range(5000):
        corners = rng.uniform(0, 400, (103, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(20, 100, (103, 2))], axis=1)
        truths.append(Truth(boxes[:3], rng.integers(0, 20, 3), np.zeros(3, bool)))
        found.append(Found(boxes[3:], rng.integers(0, 20, 100), rng.random(100)))
    start = time.process_time()
    average_precisions(found, truths, 20)
    assert time.process_time() - start < 5
