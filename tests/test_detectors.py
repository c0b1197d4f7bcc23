"""Detectors: boxes to be ignored, losses, heads, and their costs."""

import copy
import importlib
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

    truth = {"boxes": boxes(5), "labels": torch.tensor([IGNORED, 1, 3, IGNORED, 2])}
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
    small.backbone.dropout.train()
    small.backbone.norm3.train()
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
        ({"widths": []}, "widths is empty; it is a list of one number or more"),
        ({"hidden": 10**15}, "cannot be built with the options {'hidden': 1000000000000000}: "),
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


# ---- VGG16 and ResNet-18


def weights_of(model, *beginnings):
    total = 0
    for name, parameter in model.named_parameters():
        if name.startswith(beginnings) and name.endswith("weight"):
            total += parameter.numel()
    return total


def test_vgg16_has_the_weights_counted_by_hand_layer_by_layer():
    with torch.device("meta"):  # 550 MB of weights otherwise
        model = models.faster_rcnn_vgg16(20)
    # 9 * (3*64 + 64*64 + 64*128 + 128*128 + 128*256 + 2*256*256 + 256*512 + 5*512*512)
    assert weights_of(model, "backbone.") == 14_710_464
    # 7*7*512 * 4096 + 4096 * 4096
    assert weights_of(model, "roi_heads.box_head.") == 119_537_664
    # 9*512*512 + 512*9 + 512*36: nine anchors, an objectness and four numbers each
    assert weights_of(model, "rpn.") == 2_382_336
    # 4096 * 21 + 4096 * 84
    assert weights_of(model, "roi_heads.box_predictor.") == 430_080
    assert sum(p.numel() for p in model.parameters()) == 137_073_622
    assert not any(isinstance(m, nn.Dropout | nn.BatchNorm2d) for m in model.modules())


def test_resnet18_trains_all_its_layers_with_the_norm_that_is_asked_for():
    with torch.device("meta"):
        batch = models.faster_rcnn_resnet18(20)
        group = models.faster_rcnn_resnet18(20, norm="group")
        frozen = models.faster_rcnn_resnet18(20, norm="frozen")
    # 11,176,512 of ResNet-18 without its head; the pyramid; both stages: see each by its layers.
    pyramid = 256 * (64 + 128 + 256 + 512) + 4 * 256 + 4 * (9 * 256 * 256 + 256)
    first = 9 * 256 * 256 + 256 + 257 * 3 + 257 * 12
    second = 49 * 256 * 1024 + 1024 + 1025 * 1024 + 1025 * 21 + 1025 * 84
    total = 11_176_512 + pyramid + first + second
    assert sum(p.numel() for p in batch.parameters()) == total == 28_380_856
    assert sum(p.numel() for p in group.parameters()) == total
    # 20 norms of 4,800 channels, whose scales and shifts are buffers.
    assert sum(p.numel() for p in frozen.parameters()) == total - 2 * 4_800
    for model in (batch, group, frozen):
        assert all(parameter.requires_grad for parameter in model.parameters())
    kinds = [
        sum(isinstance(m, nn.BatchNorm2d) for m in model.modules()) for model in (batch, group)
    ]
    assert kinds == [20, 0]


def test_resnet18_takes_a_step():
    options = {"size": 64, "norm": "group"}
    model = build_detector("faster_rcnn_resnet18", 2, options=options, seed=0)
    parts = losses(model, pictures(2, 64), [target([4, 4, 40, 50, 2]), target()])
    sum(parts.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name


@pytest.fixture
def narrow_vgg16(monkeypatch):
    """VGG16 with 32 instead of 4096 hidden neurons."""
    monkeypatch.setattr(importlib.import_module("tombola.models._faster_rcnn_vgg16"), "_HIDDEN", 32)

    def make(**options):
        return build_detector("faster_rcnn_vgg16", 2, options={"size": 72}, seed=0, **options)

    return make


def test_vgg16_takes_a_step_and_detects(narrow_vgg16):
    model = narrow_vgg16(init="default")
    parts = losses(model, pictures(2, 64), [target([4, 4, 60, 60, 2]), target()])
    sum(parts.values()).backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())
    with torch.no_grad():
        (found,) = model.eval()(pictures(1, 64))
    assert found.keys() == {"boxes", "labels", "scores"}
    # Not 96, the next multiple of torchvision's 32: nothing is added around a picture.
    images, _ = model.transform(pictures(1, 64))
    assert images.tensors.shape == (1, 3, 72, 72)


def test_regions_of_one_map_are_pooled_by_the_maximum():
    from tombola.models.regions import OneLevelPool

    features = torch.arange(16.0).reshape(1, 1, 4, 4)
    # In a picture of 64 x 64, the left upper quarter and the whole.
    boxes = torch.tensor([[0.0, 0, 31, 31], [0, 0, 63, 63]])
    pooled = OneLevelPool(2, 16)({"any": features}, [boxes], [(64, 64)])
    assert pooled[0].flatten().tolist() == [5, 6, 9, 10]
    assert pooled[1].flatten().tolist() == [10, 11, 14, 15]


# ---- weights of a file


def save(state, path):
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def resnet18_file(tmp_path_factory):
    from torchvision.models import resnet18

    with seeds.seeded(9, "classifier"):
        state = resnet18(weights=None, num_classes=7).state_dict()
    return save(state, tmp_path_factory.mktemp("weights") / "resnet18.pth")


@pytest.mark.parametrize("norm", ["batch", "frozen"])
def test_a_classifiers_resnet18_becomes_the_backbone(resnet18_file, norm):
    options = {"size": 64, "norm": norm}
    model = build_detector(
        "faster_rcnn_resnet18", 2, options=options, seed=0, weights=resnet18_file
    )
    classifier = torch.load(resnet18_file, weights_only=True)
    body = model.backbone.body.state_dict()
    for name, value in body.items():
        assert torch.equal(value, classifier[name]), name
    assert model.begins == (
        "backbone from resnet18.pth; drawn: backbone, rpn, fc6, fc7, box_predictor"
    )
    loaded = model.loaded
    assert set(loaded.taken) == {f"backbone.body.{name}" for name in body}
    assert {"fc.weight", "fc.bias"} <= set(loaded.unused)
    assert "backbone.fpn.inner_blocks.0.0.weight" in loaded.drawn
    assert set(loaded.taken) | set(loaded.drawn) == set(model.state_dict())
    again = build_detector(
        "faster_rcnn_resnet18", 2, options=options, seed=0, weights=resnet18_file, anew=True
    )
    assert again.begins == "drawn, from scratch"
    assert not torch.equal(again.state_dict()[loaded.taken[0]], model.state_dict()[loaded.taken[0]])
    for name in loaded.drawn:
        assert torch.equal(again.state_dict()[name], model.state_dict()[name]), name


def vgg16_classifier(hidden):
    from torchvision.models.vgg import cfgs, make_layers

    with seeds.seeded(9, "classifier"):
        features = make_layers(cfgs["D"])
        layers = [nn.Linear(512 * 49, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, hidden),
                  nn.ReLU(), nn.Dropout(), nn.Linear(hidden, 10)]  # fmt: skip
    state = nn.ModuleDict({"features": features, "classifier": nn.Sequential(*layers)})
    return state.state_dict()


def test_a_classifiers_vgg16_becomes_backbone_fc6_and_fc7(narrow_vgg16, tmp_path):
    classifier = vgg16_classifier(32)
    model = narrow_vgg16(weights=save(classifier, tmp_path / "vgg16.pth"))
    assert model.begins == "backbone, fc6, fc7 from vgg16.pth; drawn: rpn, box_predictor"
    assert model.loaded.unused == ("classifier.6.weight", "classifier.6.bias")
    assert torch.equal(model.backbone[28].weight, classifier["features.28.weight"])
    assert torch.equal(model.roi_heads.box_head.fc7.bias, classifier["classifier.3.bias"])
    convolutions = {k: v for k, v in classifier.items() if k.startswith("features.")}
    alone = narrow_vgg16(weights=save(convolutions, tmp_path / "convolutions.pth"))
    assert alone.begins == ("backbone from convolutions.pth; drawn: rpn, fc6, fc7, box_predictor")


def test_a_whole_detector_is_taken_but_for_a_head_of_other_classes(drawn, tmp_path):
    file = save({"model": drawn.state_dict()}, tmp_path / "detector.pth")

    def loaded(classes):
        return build_detector(
            "faster_rcnn_small", classes, options={"size": 48}, seed=5, weights=file
        )

    same, other = loaded(CLASSES), loaded(2)
    assert all(torch.equal(v, drawn.state_dict()[k]) for k, v in same.state_dict().items())
    assert same.begins == "backbone, rpn, fc6, fc7, box_predictor from detector.pth"
    assert other.begins == "backbone, rpn, fc6, fc7 from detector.pth; drawn: box_predictor"
    assert other.loaded.drawn == tuple(
        f"roi_heads.box_predictor.{name}"
        for name in ("cls_score.weight", "cls_score.bias", "bbox_pred.weight", "bbox_pred.bias")
    )


def test_torchvisions_old_names_of_the_first_stage_are_read(drawn, tmp_path):
    old = {}
    for name, value in drawn.state_dict().items():
        old[name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")] = value
    file = save(old, tmp_path / "old.pth")
    model = build_detector("faster_rcnn_small", CLASSES, options={"size": 48}, seed=5, weights=file)
    assert all(torch.equal(v, drawn.state_dict()[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("layer4.1.conv2.weight"), "has nothing for 'backbone.body.layer4.1.conv2"),
        (lambda s: s.update({"conv1.weight": torch.zeros(64, 1, 7, 7)}), r"has the shape \[64, 1,"),
        (lambda s: s["conv1.weight"].fill_(float("nan")), "holds NaN or infinite values"),
        (lambda s: [s.pop(name) for name in list(s) if name != "fc.weight"], "is no checkpoint fo"),
    ],
    ids=["missing", "shape", "NaN", "another"],
)
def test_a_file_that_does_not_fit_is_refused(resnet18_file, tmp_path, change, said):
    state = torch.load(resnet18_file, weights_only=True)
    change(state)
    file = save(state, tmp_path / "broken.pth")
    with pytest.raises(ConfigError, match=said):
        build_detector("faster_rcnn_resnet18", 2, options={"size": 64}, seed=0, weights=file)


def test_frozen_norms_need_weights():
    with pytest.raises(ConfigError, match="frozen batch norm and no weights; from scratch it wou"):
        build_detector("faster_rcnn_resnet18", 2, options={"norm": "frozen"}, seed=0)


# ---- torchvision's own detectors


@pytest.mark.parametrize(
    ("name", "options", "head"),
    [
        ("fasterrcnn_mobilenet_v3_large_320_fpn", {"min_size": 64}, "roi_heads.box_predictor"),
        ("retinanet_resnet50_fpn", {"min_size": 64}, "head.classification_head.cls_logits"),
        ("ssdlite320_mobilenet_v3_large", {}, "head.classification_head"),
    ],
)
def test_torchvisions_detectors_train_detect_and_get_heads_of_partitions(name, options, head):
    model = build_detector(f"torchvision:{name}", 4, options=options, seed=0)
    assert (model.head, model.classes) == (head, 4)
    assert model.knows_ignored == name.startswith("fasterrcnn")
    redraw_box_predictor_(model, 2, 0, (1, 3))
    images, truths = pictures(2, 64), [target([4, 4, 40, 50, 2]), target([9, 9, 60, 60, 1])]
    parts = losses(model, images, truths)
    sum(parts.values()).backward()
    head_gradients = [p.grad for p in model.network.get_submodule(head).parameters()]
    assert all(gradient is not None for gradient in head_gradients)
    assert all(bool(torch.isfinite(part)) for part in parts.values())
    with torch.inference_mode():
        assert losses_in_evaluation(model, images, truths).keys() == parts.keys()
        (found,) = model.eval()(images[:1])
    assert bool((found["labels"] <= 2).all())
    # Nothing of the head goes uncounted.
    weights = {name.rpartition(".")[0] for name, _ in model.named_parameters() if head in name}
    norms = {name for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert weights - norms <= flops_of(model).keys()


def test_a_focal_loss_begins_with_a_probability_of_one_percent_in_redrawn_heads_too():
    model = build_detector("torchvision:retinanet_resnet50_fpn", 4, seed=0)
    for classes in (4, 2, 3):
        if classes != model.classes:
            redraw_box_predictor_(model, classes, 0)
        bias = model.network.get_parameter(f"{model.head}.bias")
        assert bias.shape == (9 * (classes + 1),)
        assert torch.allclose(bias.sigmoid(), torch.tensor(0.01))


@pytest.mark.parametrize(
    ("name", "head", "size"),
    [
        ("fcos_resnet50_fpn", "head.classification_head.cls_logits", 800),
        ("ssd300_vgg16", "head.classification_head", 300),
        ("fasterrcnn_resnet50_fpn", "roi_heads.box_predictor", 800),
    ],
)
def test_of_torchvisions_detectors_those_of_two_stages_know_ignored_boxes(name, head, size):
    with torch.device("meta"):
        model = build_detector(f"torchvision:{name}", 4, seed=0)
        redraw_box_predictor_(model, 2, 0)
    assert (model.head, model.size) == (head, size)
    assert model.knows_ignored == name.startswith("fasterrcnn")
    shapes = [
        len(p) for n, p in model.network.get_submodule(head).named_parameters() if "bias" in n
    ]
    assert all(outputs % 3 == 0 for outputs in shapes)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("fasterrcnn_resnet51_fpn", {}, "Did you mean 'fasterrcnn_resnet50_fpn'"),
        ("maskrcnn_resnet50_fpn", {}, "no detector 'maskrcnn_resnet50_fpn' among those of torchv"),
        ("resnet18", {}, "no detector 'resnet18'"),
        ("ssd300_vgg16", {"weights": "DEFAULT"}, "no option 'weights': tombola gives it"),
        ("ssd300_vgg16", {"size": "large"}, "cannot be built with the options"),
    ],
)
def test_other_models_and_options_of_torchvision_are_refused(name, options, said):
    with pytest.raises(ConfigError, match=said):
        build_detector(f"torchvision:{name}", 4, options=options, seed=0)


def test_a_function_of_the_users_gives_a_detector_or_one_of_torchvisions(monkeypatch, tmp_path):
    (tmp_path / "users_detectors.py").write_text(
        "from torchvision.models import get_model\n"
        "from torch import nn\n"
        "def good(num_classes, size=64):\n"
        "    return get_model('fasterrcnn_mobilenet_v3_large_320_fpn', weights=None,\n"
        "        weights_backbone=None, num_classes=num_classes + 1, min_size=size)\n"
        "def without_background(num_classes): return good(num_classes - 1)\n"
        "def layer(num_classes): return nn.Linear(1, 1)\n"
        "def broken(num_classes): raise OSError('disk')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    model = build_detector("users_detectors:good", 2, options={"size": 48}, seed=0)
    assert (model.size, model.knows_ignored) == (48, True)
    for name, said in {
        "without_background": "gives a detector of 2 outputs for 2 classes; it has 3",
        "layer": "gives a Linear; it must give a Detector of tombola.models.detectors, or a Fast",
        "broken": "failed: OSError: disk",
    }.items():
        with pytest.raises(ConfigError, match=said):
            build_detector(f"users_detectors:{name}", 2, seed=0)
