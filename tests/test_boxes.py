"""Annotated pictures: what is refused, how they are split, and how boxes move with their picture."""

import pytest
import torch
from tests.annotated import coco_folder, voc_folder
from tests.test_data import refused

from tombola.data import moving
from tombola.data.boxes import (
    BoxData,
    Boxes,
    ChosenPictures,
    HeldPictures,
    PictureList,
    fingerprint_of,
    split_boxes,
    wrong_with,
)
from tombola.data.loading import check_repeats, load
from tombola.ground import catalogue
from tombola.ground.errors import ConfigError, DataError

HAND = torch.tensor([[10.0, 20.0, 30.0, 50.0]])  # in a picture 100 wide and 80 high


def part(count=4, **changed):
    """Pictures of 6 x 8 pixels with one box each; the first of some columns may be replaced."""
    columns = {
        "pictures": [torch.full((3, 6, 8), row, dtype=torch.uint8) for row in range(count)],
        "boxes": [torch.tensor([[0.0, 0.0, 8.0, 6.0]]) for _ in range(count)],
        "labels": [torch.tensor([row % 2]) for row in range(count)],
        "difficult": [torch.tensor([False]) for _ in range(count)],
    }
    for name, value in changed.items():
        columns[name][0] = value
    pictures = HeldPictures(columns.pop("pictures"))
    return Boxes(pictures, *map(tuple, columns.values()), tuple(f"p{n}" for n in range(count)))


def data_of(train=None, **more):
    return BoxData(part() if train is None else train, part(2), ("a", "b"), "0" * 64, **more)


# the contract that every entry keeps


@pytest.fixture(params=catalogue.entries_for("tombola.data", "detection"))
def entry(request, tmp_path):
    """An entry's data: two classes at least, and a picture without boxes where there may be one."""
    options = {"shapes": {"train": 9, "test": 3}}
    if request.param == "voc":
        voc_folder(tmp_path)
        options["voc"] = {"year": 2012, "download": False, "verify": False}
    if request.param == "coco_folder":
        file = coco_folder(tmp_path).name
        options["coco_folder"] = {
            "annotations": file,
            "images": "pictures",
            "test_annotations": file,
        }
    return lambda: load(request.param, root=tmp_path, options=options[request.param], kind=BoxData)


def test_every_entry_gives_pictures_with_boxes_inside_of_them_and_the_same_each_time(entry):
    found = entry()
    assert entry().fingerprint == found.fingerprint
    assert len(found.fingerprint) == 64
    for part_of_it in (found.train, found.test):
        assert isinstance(part_of_it.pictures, PictureList)
        rows = list(range(len(part_of_it)))
        (read,) = part_of_it.pictures.read([rows])
        for row in rows:
            picture, boxes = part_of_it.pictures[row], part_of_it.boxes[row]
            assert torch.equal(read[row], picture)
            assert (picture.dtype, picture.shape[0]) == (torch.uint8, 3)
            height, width = picture.shape[1:]
            assert all(not wrong_with(box, width, height) for box in boxes.tolist())
            assert part_of_it.labels[row].lt(len(found.class_names)).all()
        assert len(part_of_it.take([0])) == 1


# what is refused


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"boxes": torch.tensor([[0.0, 0.0, 9.0, 6.0]])}, r"'p0'.* out of the picture \(8 x 6"),
        ({"boxes": torch.tensor([[-1.0, 0.0, 8.0, 6.0]])}, "'p0'.* left of or above"),
        ({"boxes": torch.tensor([[2.0, 3.0, 2.0, 6.0]])}, "'p0'.* has no area"),
        ({"boxes": torch.tensor([[0.0, 0.0, float("nan"), 6.0]])}, "'p0'.* finite"),
        ({"boxes": torch.zeros(0)}, r"'p0' has 1 labels, boxes of shape \[0\]"),
        ({"boxes": torch.tensor([[0, 0, 8, 6]])}, "boxes of .*'p0' are int64; .* float32"),
        ({"labels": torch.tensor([2])}, r"'p0' has the labels \[2\]; with 2 classes .* 0 to 1"),
        ({"labels": torch.tensor([0], dtype=torch.int32)}, "labels of .* int32; .* int64"),
        ({"difficult": torch.tensor([False, True])}, "'p0' .*2 difficult flags"),
        ({"difficult": torch.tensor([0])}, "difficult flags of .* int64; .* bool"),
        ({"pictures": torch.zeros(3, 6, 8)}, "'p0' is float32 .* uint8"),
        ({"pictures": torch.zeros(1, 6, 8, dtype=torch.uint8)}, r"'p0' is .*\[1, 6, 8\]"),
    ],
)
def test_what_would_train_on_nonsense_is_refused_with_the_picture_named(changed, said):
    refused(said, lambda: data_of(part(**changed)))


def test_a_picture_without_boxes_is_no_error():
    empty = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "difficult": torch.zeros(0, dtype=torch.bool),
    }
    assert data_of(part(**empty)).train.count == 3


def test_a_data_set_without_pictures_or_with_two_classes_of_one_name_is_refused():
    refused("no training pictures", lambda: data_of(part().take([])))
    refused("two classes have one name", BoxData, part(), part(), ("a", "a"), "")
    refused("names no class", BoxData, part(), part(), (), "")
    columns = part()
    fewer = Boxes(columns.pictures, columns.boxes[1:], *[columns.labels] * 2, columns.names)
    refused("4 training pictures are named, and there are boxes of 3", lambda: data_of(fewer))


# entries and their tasks


def test_an_entry_for_another_task_is_refused_with_the_right_ones_named():
    assert "shapes" in catalogue.entries_for("tombola.data", "detection")
    said = "'digits' is for the task classification, .* detection; it takes: .*shapes"
    refused(said, load, "digits", kind=BoxData, error=ConfigError)
    said = "'shapes' is for the task detection, .* classification; it takes: .*digits"
    refused(said, load, "shapes", error=ConfigError)


def test_a_users_own_function_gives_boxes_or_is_refused(monkeypatch):
    made = data_of()
    monkeypatch.setattr(catalogue, "own", lambda _: lambda: made)
    assert load("mine:boxes", kind=BoxData) is made
    again = load("mine:boxes", kind=BoxData)
    check_repeats("mine:boxes", made.fingerprint, again.fingerprint)
    refused("'mine:boxes' gives BoxData; it must give a Dataset", load, "mine:boxes")
    monkeypatch.setattr(catalogue, "own", lambda _: lambda: [1, 2])
    refused("gives 2 values; .*must give a BoxData", load, "mine:boxes", kind=BoxData)


# choosing and splitting


def test_chosen_pictures_are_those_of_the_list_below_in_their_own_order():
    pictures = part(6).pictures
    chosen = ChosenPictures(pictures, [5, 1, 3])
    assert [int(chosen[row][0, 0, 0]) for row in range(len(chosen))] == [5, 1, 3]
    again = chosen.of([2, 0])
    pieces = [[int(picture[0, 0, 0]) for picture in piece] for piece in again.read([[1], [0, 1]])]
    assert pieces == [[5], [3, 5]]


def test_taken_pictures_keep_their_annotations():
    whole = part(4, labels=torch.tensor([1]))
    taken = whole.take(torch.tensor([2, 0]))
    assert (taken.names, [int(row) for row in taken.labels]) == (("p2", "p0"), [0, 1])
    assert int(taken.pictures[0][0, 0, 0]) == 2
    assert taken.nbytes == 2 * 3 * 6 * 8
    assert whole.take(torch.tensor([False, True, False, True])).names == ("p1", "p3")


def test_a_split_is_exact_disjoint_and_keeps_the_published_order():
    splits = split_boxes(data_of(part(40)), valid=0.25, subset=20, seed=3)
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (20, 5, 2)
    assert not {*splits.train.names} & {*splits.valid.names}
    assert splits.indices.tolist() == sorted(splits.indices.tolist())
    assert splits.train.names == tuple(f"p{row}" for row in splits.indices)
    assert (splits.published, splits.has_valid, splits.leaks) == (40, True, False)


def test_validation_pictures_do_not_depend_on_the_subset_and_subsets_nest():
    published = data_of(part(40))
    few, many, other = (
        split_boxes(published, valid=6, subset=subset, seed=seed)
        for subset, seed in ((8, 0), (16, 0), (16, 1))
    )
    assert few.valid.names == many.valid.names != other.valid.names
    assert {*few.train.names} < {*many.train.names}


def test_validation_may_be_published_or_the_test_split_or_none():
    published = data_of(valid=part(3))
    assert split_boxes(published, valid="published").valid is published.valid
    assert split_boxes(published, valid="test").leaks
    whole = split_boxes(published, valid=0)
    assert not whole.has_valid
    assert whole.train is published.train
    assert whole.indices.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"valid": "published"}, ConfigError, "no published validation pictures"),
        ({"valid": "val"}, ConfigError, "'val'; it is a number of pictures.*'published' or 'test'"),
        ({"valid": 1.5}, ConfigError, "a fraction is below 1"),
        ({"valid": -1}, ConfigError, "it is a number of pictures"),
        ({"valid": 4}, DataError, "4 pictures to validate on and at least one .* 4 training"),
        ({"valid": 0, "subset": 5}, DataError, "and 5 to train on are more than the 4"),
        ({"subset": 0}, ConfigError, "subset is 0"),
    ],
)
def test_a_split_that_cannot_be_is_refused(options, error, said):
    refused(said, split_boxes, data_of(), error=error, **options)


def test_a_fingerprint_sees_a_pixel_a_box_a_flag_a_name_and_a_class():
    parts = [
        part(),
        part(pictures=torch.full((3, 6, 8), 9, dtype=torch.uint8)),
        part(boxes=torch.tensor([[0.0, 0.0, 8.0, 5.0]])),
        part(difficult=torch.tensor([True])),
        part(labels=torch.tensor([1])),
        part(5).take([0, 1, 2, 4]),
    ]
    found = {fingerprint_of([one], ("a", "b")) for one in parts}
    found |= {fingerprint_of([parts[0]], ("a", "c")), fingerprint_of([parts[0]], ("a", "b"), ["x"])}
    assert len(found) == len(parts) + 2
    assert fingerprint_of([part()], ("a", "b")) in found


# moving


def picture_with_a_mark():
    """A picture that is white exactly where the box by hand is."""
    picture = torch.zeros(3, 80, 100)
    picture[:, 20:50, 10:30] = 1
    return picture


def seen(picture):
    """The box around what is more white than black."""
    rows, columns = torch.nonzero(picture[0] > 0.5).unbind(1)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize(
    ("move", "box", "shape"),
    [
        (moving.flip, [70, 20, 90, 50], (80, 100)),
        # About the centre, which is at 50 and 40: what leaves on the left is cut off.
        (lambda *both: moving.zoom(*both, 2.0)[:2], [0, 0, 10, 60], (80, 100)),
        (lambda *both: moving.zoom(*both, 0.5)[:2], [30, 30, 40, 45], (80, 100)),
        (lambda *both: moving.zoom(*both, 1.0)[:2], [10, 20, 30, 50], (80, 100)),
        (lambda *both: moving.warp(*both, (160, 100)), [10, 40, 30, 100], (160, 100)),
        (lambda *both: moving.letterbox(*both, 200), [20, 60, 60, 120], (200, 200)),
        (lambda *both: moving.letterbox(*both, (80, 300)), [110, 20, 130, 50], (80, 300)),
    ],
)
def test_a_box_moves_with_its_picture(move, box, shape):
    original = picture_with_a_mark()
    boxes = HAND.clone()
    picture, moved = move(original, boxes)
    assert moved.tolist() == [list(map(float, box))]
    assert tuple(picture.shape) == (3, *shape)
    picture[picture == 0.5] = 0  # the margins
    assert seen(picture) == box
    # Neither is changed in place.
    assert torch.equal(original, picture_with_a_mark())
    assert torch.equal(boxes, HAND)


def test_how_much_of_a_box_is_left_by_hand():
    boxes = torch.tensor([[10.0, 20, 30, 50], [40, 30, 60, 50], [0, 0, 10, 10]])
    _, _, left = moving.zoom(torch.zeros(3, 80, 100), boxes, 2.0)
    assert left.tolist() == [0.25, 1.0, 0.0]
    _, _, left = moving.zoom(torch.zeros(3, 80, 100), boxes, 0.5)
    assert left.tolist() == [1.0, 1.0, 1.0]


def test_flipping_twice_changes_nothing():
    picture = torch.rand(3, 7, 9)
    twice = moving.flip(*moving.flip(picture, HAND))
    assert torch.equal(twice[0], picture)
    assert torch.equal(twice[1], HAND)


@pytest.mark.parametrize("size", [(33, 57), (57, 33), 64])
def test_boxes_found_in_a_resized_picture_come_back(size):
    for there, back in (
        (moving.warp, moving.unwarp),
        (moving.letterbox, moving.unletterbox),
    ):
        _, boxes = there(picture_with_a_mark(), HAND, size)
        torch.testing.assert_close(back(boxes, size, (80, 100)), HAND)


def test_a_picture_without_boxes_moves():
    none = torch.zeros(0, 4)
    for moved in (
        moving.flip(torch.rand(3, 4, 6), none),
        moving.letterbox(torch.rand(3, 4, 6), none, 8),
    ):
        assert moved[1].shape == (0, 4)


@pytest.mark.parametrize("shape", [(3, 1, 400), (3, 400, 1)])
def test_a_very_long_picture_keeps_at_least_a_pixel(shape):
    picture, _ = moving.letterbox(torch.ones(shape), torch.zeros(0, 4), 10)
    assert picture.shape == (3, 10, 10)
    assert (picture > 0.9).any()
