"""Shapes drawn by seed: boxes are tight, shapes stay visible, and the bits are what they were."""

import pytest
import torch
from tests.test_data import refused

from tombola.data._shapes import _NAMES, _form, shapes
from tombola.data.boxes import BoxData
from tombola.data.loading import load
from tombola.ground.errors import ConfigError


@pytest.fixture(scope="module")
def clear():
    """Pictures without noise."""
    return shapes(train=120, test=1, noise=0)


def test_a_shape_is_where_its_box_is_and_nowhere_else(clear):
    for row in range(len(clear.train)):
        picture = clear.train.pictures[row]
        # The smallest side is below a third of the picture's, so most pixels are background.
        background = picture.flatten(1).mode().values
        drawn = (picture != background[:, None, None]).any(0)
        inside = torch.zeros_like(drawn)
        for x1, y1, x2, y2 in clear.train.boxes[row].int().tolist():
            inside[y1:y2, x1:x2] = True
            box = drawn[y1:y2, x1:x2]
            # Tight: something is drawn along each of its sides.
            assert all(side.any() for side in (box[0], box[-1], box[:, 0], box[:, -1]))
        assert not (drawn & ~inside).any()


def test_pictures_have_one_to_six_shapes_of_all_kinds_and_sizes(clear):
    counts = {len(labels) for labels in clear.train.labels}
    assert counts == {1, 2, 3, 4, 5, 6}
    assert set(torch.cat(clear.train.labels).tolist()) == set(range(6))
    boxes = torch.cat(clear.train.boxes)
    sides = (boxes[:, 2:] - boxes[:, :2]).amax(1)
    # Of each shape at least three quarters are visible, so that a box may be a little smaller.
    assert 7 <= int(sides.min()) <= 9
    assert int(sides.max()) == 30


def test_shapes_differ_from_the_background_by_the_contrast_asked_for():
    for picture in (
        shapes(train=9, test=1, noise=0, contrast=20).train.pictures[n] for n in range(9)
    ):
        background = picture.flatten(1).mode().values.int()
        steps = (picture.int() - background[:, None, None]).abs()
        assert set(steps.unique().tolist()) <= {0, *range(10, 21)}


def test_noise_has_the_standard_deviation_asked_for():
    noisy, clear = (shapes(train=2, test=1, contrast=1, noise=noise) for noise in (24, 0))
    difference = noisy.train.pictures[0].float() - clear.train.pictures[0].float()
    assert abs(float(difference.mean())) < 1
    assert abs(float(difference.std()) - 24) < 0.5


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize("side", range(5, 31))
def test_a_form_touches_all_sides_and_is_symmetrical(name, side):
    form = _form(name, side)
    assert form.shape == (side, side)
    assert all(edge.any() for edge in (form[0], form[-1], form[:, 0], form[:, -1]))
    assert (form == form[:, ::-1]).all()


def test_the_forms_of_a_size_are_different():
    forms = [_form(name, 9) for name in _NAMES]
    differing = [(a != b).sum() for n, a in enumerate(forms) for b in forms[:n]]
    assert min(differing) >= 5


def test_a_picture_depends_on_its_number_alone_and_bits_do_not_change():
    few, many = shapes(train=3, test=2), shapes(train=5, test=4)
    for row in range(2):
        assert torch.equal(few.test.pictures[row], many.test.pictures[row])
        assert torch.equal(few.test.boxes[row], many.test.boxes[row])
    assert not torch.equal(few.train.pictures[0], few.test.pictures[0])
    assert not torch.equal(few.train.pictures[0], shapes(train=1, test=1, seed=1).train.pictures[0])
    assert few.fingerprint[:16] == "b958264938c5b7fa"


def test_the_number_of_kinds_is_an_option():
    data = load("shapes", options={"train": 30, "test": 1, "kinds": 2}, kind=BoxData)
    assert data.class_names == ("disc", "square")
    assert set(torch.cat(data.train.labels).tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"train": 0}, "0 training"),
        ({"kinds": 7}, "kinds is 7"),
        ({"smallest": 4}, "sides from 4 to 30"),
        ({"largest": 97}, "sides from 9 to 97 in pictures of 96"),
        ({"contrast": 0}, "contrast is 0"),
        ({"noise": -1}, "noise is -1"),
        ({"train": 10**12}, "GiB of memory are free"),
    ],
)
def test_options_out_of_range_are_refused(options, said):
    refused(said, shapes, error=ConfigError, **options)
