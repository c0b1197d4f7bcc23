"""Faster R-CNN, small: for pictures of 96 x 96 pixels such as ``shapes``, learnt in minutes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from tombola.ground.errors import ConfigError
from tombola.models.checks import check_whole
from tombola.models.detectors import Detector, check_number_of_classes

_GROUPS = 8  # of channels, in group norm
_POOLED = 5  # height and width of what is pooled from a region


def faster_rcnn_small(
    num_classes: int,
    *,
    size: int = 96,
    widths: Sequence[int] = (16, 32, 64),
    hidden: int = 128,
    anchors: Sequence[int] = (12, 18, 27),
    proposals: int = 64,
    sampled: int = 32,
) -> Detector:
    """Build a Faster R-CNN of three convolutions: ``backbone``, ``rpn`` and ``roi_heads``.

    The backbone has a stride of 4 and group norm, which needs no large batches. A step of eight
    pictures takes a fifteenth of a second on one core.

    Args:
        num_classes: Number of classes, background not counted.
        size: Pictures are scaled until their longer side has this many pixels.
        widths: Channels of the convolutions of the backbone, multiples of 8; the first two have a
            stride of 2.
        hidden: Width of the two hidden layers behind the pooled regions.
        anchors: Side of each square anchor, in pixels.
        proposals: How many regions of a picture go from the first stage to the second.
        sampled: How many of them a training step learns from.

    Raises:
        ConfigError: An option will not do.

    Source:
        Ren et al. 2015, arXiv:1506.01497, by torchvision; the sizes are our own.

    >>> model = faster_rcnn_small(6)
    >>> sum(p.numel() for p in model.parameters())
    287554
    """
    from tombola.ground.extras import torchvision
    from tombola.models.regions import know_ignored_

    check_number_of_classes(num_classes)
    for option, value in (("hidden", hidden), ("proposals", proposals), ("sampled", sampled)):
        check_whole(option, value)
    check_whole("size", size, least=16)
    for option, values in (("widths", widths), ("anchors", anchors)):
        if not values:
            raise ConfigError(f"{option} is empty; it is a list of one number or more")
    for width in widths:
        check_whole("widths", width, multiple=_GROUPS)
    for side in anchors:
        check_whole("anchors", side)

    detection = torchvision.models.detection
    backbone = _backbone(widths)
    network = detection.FasterRCNN(
        backbone,
        min_size=size,
        max_size=size,
        size_divisible=1,  # no borders around a picture
        rpn_anchor_generator=detection.anchor_utils.AnchorGenerator((tuple(anchors),), ((1.0,),)),
        rpn_pre_nms_top_n_train=300,
        rpn_pre_nms_top_n_test=300,
        rpn_post_nms_top_n_train=proposals,
        rpn_post_nms_top_n_test=proposals,
        rpn_batch_size_per_image=64,
        box_batch_size_per_image=sampled,
        # One sample a cell: regions are a few cells of the feature map wide, and the backward pass
        # of four samples alone took two fifths of a step.
        box_roi_pool=torchvision.ops.MultiScaleRoIAlign(["0"], _POOLED, sampling_ratio=1),
        box_head=detection.faster_rcnn.TwoMLPHead(widths[-1] * _POOLED**2, hidden),
        box_predictor=detection.faster_rcnn.FastRCNNPredictor(hidden, num_classes + 1),
    )
    know_ignored_(network)
    return Detector(network, classes=num_classes, size=size)


def _backbone(widths: Sequence[int]) -> nn.Sequential:
    layers = OrderedDict[str, nn.Module]()
    channels = 3
    for index, width in enumerate(widths, 1):
        stride = 2 if index <= 2 else 1
        layers[f"conv{index}"] = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        layers[f"norm{index}"] = nn.GroupNorm(_GROUPS, width)
        layers[f"relu{index}"] = nn.ReLU()
        channels = width
    backbone = nn.Sequential(layers)
    backbone.out_channels = channels  # type: ignore[assignment]  # torchvision asks for it
    return backbone
