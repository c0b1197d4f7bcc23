import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tombola.data.dataset import from_tensors
from tombola.data.loading import load
from tombola.data.splits import Split, moments, split
from tombola.data.stratified import quotas
from tombola.ground.errors import ConfigError, DataError


def of_classes(*sizes: int):
    """A data set whose class k has sizes[k] training examples; the pixel of an example is its
    position.
    """
    labels = torch.cat([torch.full((size,), label) for label, size in enumerate(sizes)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]
    images = torch.arange(len(labels)).float().view(-1, 1, 1, 1)
    return from_tensors(images, labels, images[:3], labels[:3], len(sizes))


def test_quotas_round_the_largest_remainders_up():
    assert quotas([50, 30, 20], 10) == [5, 3, 2]
    assert quotas([7, 7, 6], 10) == [4, 3, 3]  # 3.5, 3.5, 3.0: a tie goes to the first class
    assert quotas([5, 3, 2], 1) == [1, 0, 0]
    assert quotas([4, 0], 4) == [4, 0]
    assert quotas([0, 0], 0) == [0, 0]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(sum), st.data())
def test_quotas_are_exact_and_within_one_of_the_share(sizes, data):
    count = data.draw(st.integers(0, sum(sizes)))
    given_out = quotas(sizes, count)
    assert sum(given_out) == count
    for size, quota in zip(sizes, given_out, strict=True):
        assert 0 <= quota <= size
        assert abs(quota - count * size / sum(sizes)) < 1


def test_validation_and_training_examples_keep_the_shares_of_the_classes():
    splits = split(of_classes(50, 30, 20), valid=10)
    assert torch.bincount(splits.valid.labels).tolist() == [5, 3, 2]
    assert torch.bincount(splits.train.labels).tolist() == [45, 27, 18]


def test_a_subset_is_drawn_from_what_validation_leaves_and_keeps_the_shares():
    splits = split(of_classes(50, 30, 20), valid=10, subset=20)
    assert torch.bincount(splits.valid.labels).tolist() == [5, 3, 2]
    assert torch.bincount(splits.train.labels).tolist() == [10, 6, 4]
    assert not set(splits.train.indices.tolist()) & set(splits.valid.indices.tolist())


def test_a_fraction_is_of_the_subset_if_there_is_one_else_of_the_training_data():
    data = of_classes(50, 50)
    assert [len(s) for s in (split(data, valid=0.2).train, split(data, valid=0.2).valid)] == [
        80,
        20,
    ]
    both = split(data, valid=0.2, subset=50)
    assert (len(both.train), len(both.valid)) == (50, 10)


@given(st.integers(0, 40), st.none() | st.integers(6, 20), st.integers(0, 3))
def test_every_example_is_in_one_split_at_its_published_position(valid, subset, seed):
    data = of_classes(30, 20, 10)
    splits = split(data, valid=valid, subset=subset, seed=seed)
    assert len(splits.valid) == valid
    assert len(splits.train) == (60 - valid if subset is None else subset)
    for part in (splits.train, splits.valid):
        assert part.indices.tolist() == sorted(set(part.indices.tolist()))
        assert part.images.flatten().tolist() == part.indices.tolist()
        assert torch.equal(part.labels, data.train_labels[part.indices])
    assert not set(splits.train.indices.tolist()) & set(splits.valid.indices.tolist())


def test_the_draw_hangs_on_the_seed_alone():
    data = of_classes(60, 40)
    first, again, other = (split(data, valid=20, subset=40, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.train.indices, again.train.indices)
    assert torch.equal(first.valid.indices, again.valid.indices)
    assert not torch.equal(first.train.indices, other.train.indices)
    assert not torch.equal(first.valid.indices, other.valid.indices)


def test_a_subset_does_not_change_the_validation_examples():
    data = of_classes(60, 40)
    assert torch.equal(
        split(data, valid=20).valid.indices, split(data, valid=20, subset=40).valid.indices
    )


def test_without_validation_all_examples_are_trained_on():
    splits = split(of_classes(5, 5), valid=0)
    assert (len(splits.train), len(splits.valid), splits.has_valid) == (10, 0, False)
    assert splits.valid.images.shape == (0, 1, 1, 1)
    assert splits.train.indices.tolist() == list(range(10))


def test_the_test_split_is_the_published_one_and_the_facts_are_passed_on():
    data = of_classes(5, 5)
    splits = split(data, valid=2)
    assert torch.equal(splits.test.images, data.test_images)
    assert splits.test.indices.tolist() == [0, 1, 2]
    assert (splits.num_classes, splits.image_shape, splits.published) == (2, (1, 1, 1), 10)
    assert (splits.fingerprint, splits.verified, splits.has_valid) == (data.fingerprint, True, True)


def test_take_keeps_images_labels_and_indices_together():
    train = split(of_classes(5, 5), valid=0).train.take(torch.tensor([7, 2]))
    assert len(train) == 2
    assert train.indices.tolist() == train.images.flatten().tolist() == [7, 2]


def test_mean_and_std_are_of_the_pixels_that_are_trained_on():
    images = torch.tensor([[0, 2], [4, 6]]).float().view(4, 1, 1, 1)
    splits = split(from_tensors(images, [0, 0, 0, 0], images[:1] + 100, [0]), valid=0)
    assert splits.mean.tolist() == [3.0]
    assert splits.std.tolist() == [pytest.approx(5**0.5)]


def whole(images) -> Split:
    return Split(images, torch.zeros(len(images), dtype=torch.int64), torch.arange(len(images)))


def test_moments_equal_those_of_numpy():
    images = torch.randint(
        0, 256, (2500, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    mean, std = moments(whole(images))
    np.testing.assert_allclose(mean, images.numpy().mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(std, images.numpy().std((0, 2, 3)), rtol=1e-6)


def test_a_channel_that_is_constant_has_a_std_of_one():
    images = torch.full((3000, 2, 3, 3), 0.1)
    images[0, 1] = 7
    mean, std = moments(whole(images))
    assert std[0] == 1
    assert std[1] != 1
    assert mean[0].item() == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"valid": 10},
            "10 examples to validate on and at least one to train on are more than the 10 training "
            "examples",
        ),
        (
            {"valid": 4, "subset": 7},
            "4 examples to validate on and 7 to train on are more than the 10 training",
        ),
        ({"valid": 0, "subset": 1}, "class 1 is left without an example to train on"),
    ],
)
def test_too_few_examples_are_told_with_the_numbers(options, said):
    with pytest.raises(DataError, match=said) as raised:
        split(of_classes(6, 4), **options)
    assert "\n" not in str(raised.value)


def test_a_class_that_validation_takes_whole_is_named():
    with pytest.raises(DataError, match="class 0 is left without an example to train on"):
        split(of_classes(1, 1), valid=1)  # a tie of remainders: class 0 gives its only example


@pytest.mark.parametrize("valid", [-1, 1.0, 1.5, -0.1, float("nan"), True, "0.1", None])
def test_a_validation_size_that_is_none_is_refused(valid):
    with pytest.raises(ConfigError, match="valid is"):
        split(of_classes(5, 5), valid=valid)


@pytest.mark.parametrize("subset", [0, -1, 2.5, True])
def test_a_subset_that_is_no_number_of_examples_is_refused(subset):
    with pytest.raises(ConfigError, match="subset is"):
        split(of_classes(5, 5), subset=subset)


def test_digits_are_split_exactly():
    splits = split(load("digits"), valid=0.1, seed=5)
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (1293, 144, 360)
    whole = torch.bincount(load("digits").train_labels)
    assert (torch.bincount(splits.valid.labels) - whole * 144 / 1437).abs().max() < 1


def test_some_classes_are_taken_in_all_splits_with_labels_from_zero_at_published_positions():
    data = of_classes(30, 20, 10, 40)
    splits = split(data, classes=3, valid=6, seed=1)
    assert splits.num_classes == len(splits.classes) == 3
    for part, published in ((splits.train, data.train_labels), (splits.valid, data.train_labels),
                            (splits.test, data.test_labels)):  # fmt: skip
        assert [splits.classes[label] for label in part.labels.tolist()] == published[
            part.indices
        ].tolist()
    there = sum(int((data.train_labels == number).sum()) for number in splits.classes)
    assert (len(splits.train), len(splits.valid), splits.published) == (there - 6, 6, 100)
    assert set(splits.train.labels.tolist()) == {0, 1, 2}


def test_few_classes_are_among_many():
    data = of_classes(*[4] * 20)
    taken = [set(split(data, classes=number, valid=0, seed=3).classes) for number in (2, 5, 12, 20)]
    assert taken[0] < taken[1] < taken[2] < taken[3] == set(range(20))
    assert taken[1] != set(split(data, classes=5, valid=0, seed=4).classes)


def test_a_subset_counts_examples_of_the_classes_that_are_taken():
    data = of_classes(*[30] * 20)
    sizes = [len(split(data, classes=number, valid=10, subset=60).train) for number in (3, 10, 20)]
    assert sizes == [60, 60, 60]
    assert torch.bincount(split(data, classes=3, valid=0, subset=60).train.labels).tolist() == [
        20,
        20,
        20,
    ]
    assert len(split(data, classes=3, valid=0.1).valid) == 9
    with pytest.raises(DataError, match="91 to train on are more than the 90 training examples"):
        split(data, classes=3, valid=0, subset=91)


def test_all_classes_taken_are_the_data_as_they_are():
    one, other = split(of_classes(9, 6), classes=2, valid=3), split(of_classes(9, 6), valid=3)
    for which in ("train", "valid", "test"):
        assert torch.equal(getattr(one, which).indices, getattr(other, which).indices)
        assert torch.equal(getattr(one, which).labels, getattr(other, which).labels)
    assert (one.classes, other.classes) == ((0, 1), None)


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (3, "classes is 3; the data has 2"),
        (1, "classes is 1; it is a number of classes, at least 2, or none for all"),
        (0, "classes is 0; it is"),
        (2.0, "classes is 2.0; it is"),
        (True, "classes is True; it is"),
    ],
)
def test_a_number_of_classes_that_cannot_be_taken_is_refused(classes, said):
    with pytest.raises(ConfigError, match=said):
        split(of_classes(5, 5), classes=classes)


@pytest.mark.parametrize("seed", range(4))
def test_bytes_have_the_moments_that_the_same_numbers_have_as_floats(seed):
    """Bytes are counted by their value; other numbers are added up in two passes."""
    draw = torch.Generator().manual_seed(seed)
    images = (torch.randn(700, 3, 9, 7, generator=draw) * 60 + 100).clamp(0, 255).to(torch.uint8)
    images[:, 2] = 17  # a channel that is constant
    positions = torch.randperm(700, generator=draw)[:611]
    counted = moments(Split(images, torch.zeros(611), positions))
    added = moments(Split(images.float(), torch.zeros(611), positions))
    assert all(torch.equal(one, other) for one, other in zip(counted, added, strict=True))
    assert counted[1][2] == 1.0


def test_bytes_are_looked_at_once_for_their_moments():
    class Counted(Split):
        looks = 0

        def read(self, pieces):
            Counted.looks += 1
            return super().read(pieces)

    moments(Counted(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.zeros(4), torch.arange(4)))
    assert Counted.looks == 1
