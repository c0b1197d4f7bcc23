"""Detectors: boxes to be ignored, losses, heads, and their costs."""

import copy
import pickle

import pytest
import torch
from torch import nn

from tombola import models
from tombola.ground import seeds
from tombola.ground.errors import ConfigError
from tombola.masks.masks import ones
from tombola.masks.states import state_of
from tombola.models.building import build
from tombola.models.detectors import (
    IGNORED,
    build_detector,
    flops_of,
    losses_in_evaluation,
    redraw_box_predictor_,
    uncounted_of,
)

CLASSES = 4


def target(*boxes):
    """A target of (x1, y1, x2, y2, label) each."""
    rows = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 5)
    return {"boxes": rows[:, :4].contiguous(), "labels": rows[:, 4].long()}


def pictures(number, size=48):
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(3, size, size, generator=generator) for _ in range(number)]


def losses(model, images, targets, seed=0):
    with seeds.seeded(seed, "losses"):
        return model(images, targets)


@pytest.fixture(scope="module")
def drawn():
    return build_detector("faster_rcnn_small", CLASSES, options={"size": 48}, seed=0)


@pytest.fixture
def small(drawn):
    return copy.deepcopy(drawn)


# ---- boxes to be ignored


def anchors_of(model, boxes):
    return [torch.tensor(boxes, dtype=torch.float32)]


def test_an_anchor_on_an_ignored_box_is_left_out_and_no_other(small):
    on_object, on_ignored, elsewhere = [0, 0, 10, 10], [20, 20, 30, 30], [35, 0, 45, 10]
    anchors = anchors_of(small, [on_object, on_ignored, elsewhere, [20, 20, 30, 26]])
    truth = target([0, 0, 10, 10, 2], [20, 20, 30, 30, IGNORED])
    labels, _ = small.rpn.assign_targets_to_anchors(anchors, [truth])
    # The last one, with an IoU of 0.6, is neither by torchvision's thresholds.
    assert labels[0].tolist() == [1, IGNORED, 0, IGNORED]
    truth["labels"][1] = 1
    labels, _ = small.rpn.assign_targets_to_anchors(anchors, [truth])
    assert labels[0].tolist() == [1, 1, 0, IGNORED]


def labels_by_loops(anchors, truth):
    """Torchvision's rule and ours anew: thresholds 0.3 and 0.7, and the best anchor of each box."""

    def iou(a, b):
        width = min(a[2], b[2]) - max(a[0], b[0])
        height = min(a[3], b[3]) - max(a[1], b[1])
        if width <= 0 or height <= 0:
            return 0.0
        area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
        return width * height / (area - width * height)

    boxes, kinds = truth["boxes"].tolist(), truth["labels"].tolist()
    best = [max(iou(box, anchor) for anchor in anchors) for box in boxes]
    labels = []
    for anchor in anchors:
        shares = [iou(box, anchor) for box in boxes]
        nearest = shares.index(max(shares))
        is_best = any(abs(a - b) < 1e-9 for a, b in zip(shares, best, strict=True))
        if shares[nearest] >= 0.7 or is_best:
            labels.append(IGNORED if kinds[nearest] == IGNORED else 1)
        else:
            labels.append(0 if shares[nearest] < 0.3 else -1)
    return labels


@pytest.mark.parametrize("seed", range(5))
def test_labels_of_anchors_by_plain_loops(small, seed):
    generator = torch.Generator().manual_seed(seed)

    def boxes(number):
        # Sides in quarters of a power of two, so that both ways of the IoU give the same floats.
        corners = torch.randint(0, 24, (number, 2), generator=generator).double()
        sides = torch.randint(6, 20, (number, 2), generator=generator).double()
        return torch.cat([corners, corners + sides], dim=1)

    truth = {"boxes": boxes(5), "labels": torch.tensor([1, IGNORED, 3, IGNORED, 2])}
    anchors = torch.cat([boxes(200), truth["boxes"]])
    labels, _ = small.rpn.assign_targets_to_anchors([anchors], [truth])
    expected = labels_by_loops(anchors.tolist(), truth)
    assert labels[0].tolist() == expected
    assert {-1, 0, 1} <= set(expected)


def test_what_stands_in_an_ignored_box_changes_no_gradient_of_the_heads(small):
    # All proposals lie on the ignored box, which covers the picture.
    covering = target([0, 0, 48, 48, IGNORED])
    features = {"0": torch.rand(1, 64, 12, 12, requires_grad=True)}
    proposals = [torch.tensor([[0.0, 0, 48, 48], [1, 1, 48, 48], [0, 0, 47, 46]])]
    _, parts = small.roi_heads(features, proposals, [(48, 48)], [covering])
    assert {name: loss.item() for name, loss in parts.items()} == {
        "loss_classifier": 0.0,
        "loss_box_reg": 0.0,
    }
    sum(parts.values()).backward()
    # Zeros, not None: an optimiser with momentum goes on with them as with any gradient.
    for parameter in small.roi_heads.parameters():
        assert parameter.grad is not None
        assert not parameter.grad.any()
    assert not features["0"].grad.any()


def test_where_every_anchor_is_left_out_the_losses_of_the_first_stage_are_0(small):
    objectness = torch.rand(6, 1, requires_grad=True)
    deltas = torch.rand(6, 4, requires_grad=True)
    parts = small.rpn.compute_loss(
        objectness, deltas, [torch.full((6,), -1.0)], [torch.zeros(6, 4)]
    )
    assert [part.item() for part in parts] == [0, 0]
    sum(parts).backward()
    assert not objectness.grad.any()
    assert not deltas.grad.any()


@pytest.mark.parametrize(
    "truth",
    [target(), target([5, 5, 20, 20, IGNORED]), target([0, 0, 48, 48, IGNORED])],
    ids=["no boxes", "an ignored box", "the whole picture ignored"],
)
def test_pictures_without_an_object_train(small, truth):
    parts = losses(small, pictures(2), [truth, truth])
    assert all(bool(torch.isfinite(part)) for part in parts.values())
    assert parts["loss_box_reg"].item() == parts["loss_rpn_box_reg"].item() == 0
    sum(parts.values()).backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in small.parameters())


def test_without_ignored_boxes_losses_and_gradients_are_torchvisions_bit_for_bit(small):
    from torchvision.models.detection.roi_heads import RoIHeads
    from torchvision.models.detection.rpn import RegionProposalNetwork

    plain = copy.deepcopy(small).network
    plain.rpn.__class__, plain.roi_heads.__class__ = RegionProposalNetwork, RoIHeads
    images = pictures(3)
    truths = [target([4, 4, 20, 22, 1], [25, 20, 40, 44, 4]), target(), target([9, 9, 30, 30, 2])]
    ours, theirs = losses(small, images, truths), losses(plain, images, truths)
    assert list(ours) == list(theirs)
    for name, loss in ours.items():
        assert torch.equal(loss, theirs[name]), name
    sum(ours.values()).backward()
    sum(theirs.values()).backward()
    gradients = {name: parameter.grad for name, parameter in plain.named_parameters()}
    for name, parameter in small.named_parameters():
        assert torch.equal(parameter.grad, gradients[name]), name


# ---- the detector as a module


def test_detections_are_lists_of_boxes_labels_and_scores(small):
    small.eval()
    with torch.no_grad():
        stacked = small(torch.stack(pictures(2)))
        one_by_one = small(pictures(2))
    for a, b in zip(stacked, one_by_one, strict=True):
        assert a.keys() == b.keys() == {"boxes", "labels", "scores"}
        assert all(torch.equal(a[name], b[name]) for name in a)
        assert bool((a["labels"] >= 1).all())


def test_copies_and_pickled_detectors_hold_their_parts_once(small):
    for other in (copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        assert other.network.roi_heads is other.roi_heads is not small.roi_heads
        assert state_of(other).keys() == state_of(small).keys() == small.network.state_dict().keys()
        other.roi_heads.box_predictor = nn.Identity()
        assert isinstance(other.network.roi_heads.box_predictor, nn.Identity)
        assert not other.eval().network.training
        assert other.train().network.training


def test_a_detector_is_the_same_for_a_seed_and_leaves_torchs_generator_as_it_was(drawn):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = build_detector("faster_rcnn_small", CLASSES, options={"size": 48}, seed=0)
    other = build_detector("faster_rcnn_small", CLASSES, options={"size": 48}, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in drawn.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    weight = "rpn.head.conv.0.0.weight"
    assert not torch.equal(other.state_dict()[weight], drawn.state_dict()[weight])


def test_xavier_draws_the_output_layers_too_and_default_keeps_torchvisions(drawn):
    default = build_detector("faster_rcnn_small", CLASSES, init="default", seed=0)
    name = "rpn.head.cls_logits.weight"
    # Torchvision: 0.01. Xavier: sqrt(2 / (64 + 3)) = 0.173; 192 values each.
    assert default.state_dict()[name].std() == pytest.approx(0.01, rel=0.25)
    assert drawn.state_dict()[name].std() == pytest.approx(0.173, rel=0.25)


def test_the_head_holds_two_layers_which_no_mask_names(drawn):
    mask = ones(drawn, head=drawn.head)
    assert set(mask) == {
        "backbone.conv1.weight", "backbone.conv2.weight", "backbone.conv3.weight",
        "rpn.head.conv.0.0.weight", "rpn.head.cls_logits.weight", "rpn.head.bbox_pred.weight",
        "roi_heads.box_head.fc6.weight", "roi_heads.box_head.fc7.weight",
    }  # fmt: skip


def test_a_redrawn_box_predictor_depends_on_seed_and_address_alone(small, drawn):
    other = copy.deepcopy(small)
    nn.init.ones_(other.roi_heads.box_predictor.cls_score.weight)
    for model in (small, other):
        redraw_box_predictor_(model, 2, 7, (0, 3))
    predictor = small.roi_heads.box_predictor
    assert predictor.cls_score.weight.shape == (3, 128)
    assert predictor.bbox_pred.weight.shape == (12, 128)
    for name, value in predictor.state_dict().items():
        assert torch.equal(other.roi_heads.box_predictor.state_dict()[name], value)
    redraw_box_predictor_(other, 2, 7, (1, 2))
    changed = other.roi_heads.box_predictor.cls_score.weight
    assert not torch.equal(changed, predictor.cls_score.weight)
    parts = losses(small, pictures(1), [target([4, 4, 20, 22, 2])])
    assert bool(torch.isfinite(sum(parts.values())))


def test_losses_in_evaluation_are_without_dropout_and_leave_the_modes(small):
    small.backbone.add_module("dropout", nn.Dropout(0.5))
    small.backbone.norm3 = nn.BatchNorm2d(64)
    small.eval()
    small.backbone.relu1.train()
    modes = {name: module.training for name, module in small.named_modules()}
    before = {name: value.clone() for name, value in small.state_dict().items()}
    images, truths = pictures(2), [target([4, 4, 20, 22, 1]), target()]
    with torch.inference_mode(), seeds.seeded(0, "one"):
        parts = losses_in_evaluation(small, images, truths)
    assert {name: module.training for name, module in small.named_modules()} == modes
    assert not small.network.training
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())
    # The second way: everything in training mode, but for these two layers.
    small.train()
    small.backbone.dropout.eval()
    small.backbone.norm3.eval()
    with seeds.seeded(0, "one"):
        expected = small(images, truths)
    assert {name: part.item() for name, part in parts.items()} == {
        name: part.item() for name, part in expected.items()
    }
    assert all(part.item() > 0 for part in parts.values())


# ---- what a picture costs


def test_the_flops_of_a_picture_by_hand(drawn):
    flops = flops_of(drawn, 48, proposals=10)
    # Feature maps of 24, 12 and 12; regions of 5 x 5 x 64; 5 classes and 4 numbers for each.
    forward = {
        "backbone.conv1": 2 * 24 * 24 * 16 * 27,
        "backbone.conv2": 2 * 12 * 12 * 32 * 16 * 9,
        "backbone.conv3": 2 * 12 * 12 * 64 * 32 * 9,
        "rpn.head.conv.0.0": 2 * 12 * 12 * 64 * 64 * 9,
        "rpn.head.cls_logits": 2 * 12 * 12 * 3 * 64,
        "rpn.head.bbox_pred": 2 * 12 * 12 * 12 * 64,
        "roi_heads.box_head.fc6": 2 * 10 * 1600 * 128,
        "roi_heads.box_head.fc7": 2 * 10 * 128 * 128,
        "roi_heads.box_predictor.cls_score": 2 * 10 * 128 * 5,
        "roi_heads.box_predictor.bbox_pred": 2 * 10 * 128 * 20,
    }
    assert {name: layer.forward for name, layer in flops.items()} == forward
    for name, layer in flops.items():
        assert layer.backward == forward[name] * (1 if name == "backbone.conv1" else 2)
    assert uncounted_of(drawn) == []


def test_flops_are_of_the_models_own_size_and_samples(drawn):
    assert flops_of(drawn) == flops_of(drawn, 48, proposals=32)


# ---- what is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": 4}, "size is 4; it is a whole number, at least 16"),
        ({"widths": [16, 20, 64]}, "widths is 20; it is a multiple of 8"),
        ({"anchors": [0]}, "anchors is 0; it is a whole number"),
        ({"width": 3}, "'faster_rcnn_small' has no option 'width'"),
        ({"proposals": 0}, "proposals is 0"),
    ],
)
def test_options_that_will_not_do_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        build_detector("faster_rcnn_small", CLASSES, options=options, seed=0)


@pytest.mark.parametrize("classes", [0, -1, 2.5, True])
def test_a_detector_needs_a_class(classes):
    with pytest.raises(ConfigError, match="a detector needs a whole number of at least 1"):
        build_detector("faster_rcnn_small", classes, seed=0)


def test_each_task_refuses_the_models_of_the_other_and_names_its_own():
    with pytest.raises(ConfigError, match=r"'lenet5' is for .* detection; it takes: faster_rcnn_"):
        build_detector("lenet5", CLASSES, seed=0)
    with pytest.raises(ConfigError, match=r"'faster_rcnn_small' is for .* it takes: conv2, conv3"):
        build("faster_rcnn_small", 10, (3, 32, 32), seed=0)


def test_a_detector_can_be_made_without_the_builder():
    assert models.faster_rcnn_small(1).head == "roi_heads.box_predictor"
