import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tombola.data.batches import PLAIN, Augment, Batches, augment, move, ordered, turn
from tombola.data.splits import Split
from tombola.ground.errors import ConfigError, InputError

NINE = torch.tensor([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]], dtype=torch.uint8)
EVERYTHING = Augment(crop=2, flip=True, rotate=15)


def pictures(count: int, *, shape=(3, 6, 5), dtype=torch.uint8) -> Split:
    images = torch.randint(
        0, 256, (count, *shape), generator=torch.Generator().manual_seed(count)
    ).to(dtype)
    return Split(images, torch.arange(count) % 3, torch.arange(count))


def batches(split: Split, **options) -> Batches:
    channels = split.images.shape[1]
    defaults = {"batch_size": 4, "seed": 0, "published": 100}
    mean, std = torch.linspace(100, 130, channels), torch.linspace(50, 60, channels)
    return Batches(split, mean=mean, std=std, **(defaults | options))


def moved(down: int, right: int, mirrored: bool) -> list:
    return move(NINE, torch.tensor([down]), torch.tensor([right]), torch.tensor([mirrored]))[
        0, 0
    ].tolist()


# move and turn: by hand


def test_a_moved_picture_keeps_its_pixels_and_zeros_come_in():
    assert moved(1, 0, False) == [[0, 0, 0], [1, 2, 3], [4, 5, 6]]
    assert moved(-1, 1, False) == [[0, 4, 5], [0, 7, 8], [0, 0, 0]]
    assert moved(0, -2, False) == [[3, 0, 0], [6, 0, 0], [9, 0, 0]]
    assert moved(3, 0, False) == [[0, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_a_mirrored_picture_is_moved_first_and_mirrored_then():
    assert moved(0, 0, True) == [[3, 2, 1], [6, 5, 4], [9, 8, 7]]
    assert moved(0, 1, True) == [[2, 1, 0], [5, 4, 0], [8, 7, 0]]


def test_each_picture_of_a_batch_has_a_move_of_its_own_and_all_channels_share_it():
    both = torch.cat([NINE, NINE + 10]).repeat(1, 2, 1, 1)
    got = move(both, torch.tensor([0, 1]), torch.tensor([0, 0]), torch.tensor([True, False]))
    assert got[0, 0].tolist() == got[0, 1].tolist() == [[3, 2, 1], [6, 5, 4], [9, 8, 7]]
    assert got[1, 0].tolist() == got[1, 1].tolist() == [[0, 0, 0], [11, 12, 13], [14, 15, 16]]


def test_a_quarter_turn_is_numpys_rot90():
    image = torch.rand(2, 3, 5, 5)
    for quarter in (1, 2, 3):
        got = turn(image, torch.tensor([90.0, 90.0]) * quarter)
        torch.testing.assert_close(got, image.rot90(quarter, (2, 3)), atol=1e-5, rtol=0)


def test_half_a_turn_of_a_picture_that_is_not_square_mirrors_it_twice():
    image = torch.rand(1, 1, 3, 6)
    torch.testing.assert_close(
        turn(image, torch.tensor([180.0])), image.flip(2, 3), atol=1e-5, rtol=0
    )


def test_a_turn_by_nothing_changes_nothing_and_corners_turn_out_of_sight():
    image = torch.full((1, 1, 9, 9), 5.0)
    torch.testing.assert_close(turn(image, torch.tensor([0.0])), image)
    turned = turn(image, torch.tensor([45.0]))[0, 0]
    assert turned[0, 0] == 0
    assert turned[4, 4].item() == pytest.approx(5, abs=1e-4)


# augment: which picture sees what


def test_no_augmentation_gives_the_same_pictures():
    split = pictures(5)
    images = split.images
    assert augment(images, split.indices, PLAIN, 0, 0, 100) is images


def test_crop_and_flip_give_only_windows_of_the_padded_picture_and_all_of_them():
    padded = torch.nn.functional.pad(NINE[0, 0], (1, 1, 1, 1))
    windows = [padded[y : y + 3, x : x + 3] for y in range(3) for x in range(3)]
    possible = {str(w.tolist()) for window in windows for w in (window, window.flip(1))}
    many = NINE.expand(2000, -1, -1, -1)
    seen = augment(many, torch.arange(2000), Augment(crop=1, flip=True), 0, 0, 2000)
    assert seen.dtype is torch.uint8
    assert {str(image[0].tolist()) for image in seen} == possible
    # neither moved, in one of nine; the centre survives the mirror
    still = (seen[:, 0, 1, 1] == 5).float().mean()
    assert abs(still - 1 / 9) < 0.03


def test_half_of_the_pictures_are_mirrored():
    many = NINE.expand(2000, -1, -1, -1)
    seen = augment(many, torch.arange(2000), Augment(flip=True), 0, 0, 2000)
    assert abs((seen[:, 0, 0, 0] == 3).float().mean() - 0.5) < 0.04
    assert ((seen[:, 0, 0, 0] == 3) | (seen[:, 0, 0, 0] == 1)).all()


def test_a_kind_of_augmentation_does_not_change_another():
    split = pictures(50)
    cropped = augment(split.images, split.indices, Augment(crop=2), 0, 0, 100)
    both = augment(split.images, split.indices, Augment(crop=2, flip=True), 0, 0, 100)
    assert ((both == cropped).flatten(1).all(1) | (both == cropped.flip(3)).flatten(1).all(1)).all()


@given(st.permutations(range(12)), st.integers(1, 12))
def test_a_picture_is_augmented_by_its_published_index_alone(order, size):
    split = pictures(12)
    whole = augment(split.images, split.indices, EVERYTHING, 7, 3, 100)
    part = split.take(torch.tensor(order[:size]))
    assert torch.equal(
        augment(part.images, part.indices, EVERYTHING, 7, 3, 100), whole[order[:size]]
    )


def test_another_epoch_or_seed_gives_another_picture():
    split = pictures(12)
    first, *others = (
        augment(split.images, split.indices, EVERYTHING, seed, epoch, 100)
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    )
    assert not any(torch.equal(first, other) for other in others)


def test_augmentation_leaves_the_given_pictures_as_they_are():
    split = pictures(12)
    before = split.images.clone()
    augment(split.images, split.indices, EVERYTHING, 0, 0, 100)
    assert torch.equal(split.images, before)


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop": -1},
        {"crop": 1.5},
        {"crop": True},
        {"flip": 1},
        {"rotate": -1},
        {"rotate": 181},
        {"rotate": float("nan")},
    ],
)
def test_an_augmentation_that_is_none_is_refused(wrong):
    with pytest.raises(ConfigError, match=f"augment.{next(iter(wrong))} is"):
        Augment(**wrong)


# Batches


@given(st.integers(0, 30), st.integers(1, 9))
def test_an_epoch_has_every_example_once_except_a_single_last_one(count, size):
    made = batches(pictures(count, shape=(1, 2, 2)), batch_size=size)
    sizes = [len(labels) for _, labels in made.epoch(0)]
    assert len(made) == len(sizes)
    dropped = 1 if size > 1 and count > size and count % size == 1 else 0
    assert sum(sizes) == count - dropped
    assert all(one == size for one in sizes[:-1])
    if dropped:
        assert sizes[-1] == size


@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 20), st.integers(0, 20))
def test_examples_of_some_steps_are_counted(count, size, first, more):
    made = batches(pictures(count, shape=(1, 2, 2)), batch_size=size)
    epochs = (first + more) // len(made) + 1
    sizes = [len(labels) for epoch in range(epochs) for _, labels in made.epoch(epoch)]
    assert made.examples(first, first + more) == sum(sizes[first : first + more])


def test_a_split_of_one_example_is_one_batch():
    assert [len(labels) for _, labels in batches(pictures(1)).epoch(0)] == [1]


def test_the_order_is_addressed_by_seed_and_epoch():
    split = Split(torch.zeros(20, 1, 1, 1), torch.arange(20), torch.arange(20))

    def labels(epoch: int, **options) -> list[int]:
        return torch.cat([found for _, found in batches(split, **options).epoch(epoch)]).tolist()

    assert labels(0) == labels(0)
    assert sorted(labels(0)) == list(range(20))
    assert labels(0) != labels(1)
    assert labels(0) != labels(0, seed=1)
    assert labels(0, batch_size=7) == labels(0)
    assert labels(0, seed=5, order_seed=0) == labels(0)


def test_an_order_seed_of_zero_is_a_seed():
    assert batches(pictures(4), seed=3, order_seed=0).order_seed == 0
    assert batches(pictures(4), seed=3).order_seed == 3


def test_an_order_seed_leaves_the_augmentation_as_it_is():
    split = Split(pictures(8).images, torch.arange(8), torch.arange(8))

    def by_label(order_seed):
        seen = {}
        for images, labels in batches(split, augment=EVERYTHING, order_seed=order_seed).epoch(2):
            seen |= zip(labels.tolist(), images, strict=True)
        return seen

    first, second = by_label(1), by_label(2)
    assert all(torch.equal(first[label], second[label]) for label in range(8))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_batches_are_normalised_and_a_held_split_has_the_same_bits(dtype, monkeypatch):
    split = pictures(11, dtype=dtype)
    held = batches(split)
    monkeypatch.setattr("tombola.data.batches._MOST_NORMALISED", 0)
    streamed = batches(split)
    assert held._normalised is not None
    assert streamed._normalised is None
    mean, std = (
        values.view(1, 3, 1, 1)
        for values in (torch.linspace(100, 130, 3), torch.linspace(50, 60, 3))
    )
    order = torch.cat(
        [
            labels
            for _, labels in batches(Split(split.images, split.indices, split.indices)).epoch(1)
        ]
    )
    for one, other, chosen in zip(held.epoch(1), streamed.epoch(1), order.split(4), strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[0], (split.images[chosen].float() - mean) / std)
        assert one[0].dtype is torch.float32
        assert torch.equal(one[1], other[1])


def test_a_part_of_a_split_sees_the_pictures_that_the_whole_sees():
    whole = pictures(20)
    part = whole.take(torch.tensor([17, 3, 8]))
    seen = {}
    for split in (whole, part):
        # a label says which picture it is
        numbered = Split(split.source, split.indices, split.indices)
        inputs, labels = zip(*batches(numbered, augment=EVERYTHING).epoch(2), strict=True)
        seen[len(split)] = dict(zip(torch.cat(labels).tolist(), torch.cat(inputs), strict=True))
    assert set(seen[3]) == {17, 3, 8}
    assert all(torch.equal(picture, seen[20][index]) for index, picture in seen[3].items())


def test_a_changed_batch_does_not_change_the_split():
    made = batches(pictures(8))
    before = [images.clone() for images, _ in made.epoch(0)]
    for images, _ in made.epoch(0):
        images.zero_()
    assert all(torch.equal(a, b) for a, (b, _) in zip(before, made.epoch(0), strict=True))


def test_an_augmented_batch_is_augmented_in_raw_units_and_normalised_then():
    split = Split(torch.full((6, 1, 4, 4), 200.0), torch.arange(6), torch.arange(6))
    made = Batches(
        split,
        batch_size=6,
        seed=0,
        mean=torch.tensor([200.0]),
        std=torch.tensor([50.0]),
        published=6,
        augment=Augment(2),
    )
    (images, _), *_ = made.epoch(0)
    assert set(images.unique().tolist()) == {0.0, -4.0}  # a padded pixel is black: (0 - 200) / 50


@pytest.mark.parametrize("size", [0, -3, 2.5, True])
def test_a_batch_size_below_one_is_refused(size):
    with pytest.raises(ConfigError, match="batch_size is"):
        batches(pictures(4), batch_size=size)
    with pytest.raises(ConfigError, match="batch_size is"):
        ordered(pictures(4), batch_size=size, mean=torch.zeros(3), std=torch.ones(3))


def test_a_crop_that_could_move_a_picture_out_of_sight_is_refused():
    with pytest.raises(ConfigError, match=r"augment\.crop is 5; pictures of 6 x 5 pixels"):
        batches(pictures(4), augment=Augment(crop=5))


def test_an_index_that_was_not_published_is_refused():
    with pytest.raises(InputError, match="index 7, but 7 examples"):
        batches(pictures(8), published=7)
    assert len(batches(pictures(8), published=8)) == 2


def test_ordered_gives_every_example_in_order_and_as_it_is():
    split = pictures(9)
    found = list(ordered(split, batch_size=4, mean=torch.zeros(3), std=torch.ones(3)))
    assert [len(labels) for _, labels in found] == [4, 4, 1]
    assert torch.equal(torch.cat([images for images, _ in found]), split.images.float())
    assert torch.equal(torch.cat([labels for _, labels in found]), split.labels)
    assert list(ordered(pictures(0), batch_size=4, mean=torch.zeros(3), std=torch.ones(3))) == []
