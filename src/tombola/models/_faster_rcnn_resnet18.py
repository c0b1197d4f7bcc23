"""Faster R-CNN with ResNet-18: a feature pyramid on the smallest residual network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import nn

from tombola.models.checks import check_choice, check_whole
from tombola.models.detectors import Detector, check_number_of_classes


def faster_rcnn_resnet18(
    num_classes: int,
    *,
    size: int = 600,
    proposals: int = 300,
    norm: Literal["batch", "group", "frozen"] = "batch",
) -> Detector:
    """Build Faster R-CNN with a feature pyramid on ResNet-18: ``backbone``, ``rpn``, ``roi_heads``.

    A pyramid and not the last stage run on each region (C4): the heads are two linear layers as in
    VGG16's, small objects get maps of stride 4, and a step costs a fraction. All stages are
    trained.

    Args:
        num_classes: Number of classes, background not counted.
        size: Pictures are scaled until their longer side has this many pixels.
        proposals: How many regions of a test picture go from the first stage to the second.
        norm: ``batch`` learns its statistics, and wants batches of several pictures; ``group`` does
            not depend on the batch; ``frozen`` is batch norm that stays as it was in the file of
            the weights.

    Raises:
        ConfigError: An option will not do.

    Source:
        Lin et al. 2017, arXiv:1612.03144, by torchvision. Group norm from scratch: He et al. 2018,
        arXiv:1811.08883. Weights of torchvision's ResNet-18 fit the backbone.

    >>> import torch
    >>> with torch.device("meta"):
    ...     model = faster_rcnn_resnet18(20)
    >>> sum(p.numel() for p in model.parameters())
    28380856
    """
    from tombola.ground.extras import torchvision
    from tombola.models.regions import know_ignored_

    check_number_of_classes(num_classes)
    check_whole("size", size, least=32)
    check_whole("proposals", proposals)
    norms: dict[str, Callable[[int], nn.Module]] = {
        "batch": nn.BatchNorm2d,
        "group": partial(nn.GroupNorm, 32),
        "frozen": torchvision.ops.FrozenBatchNorm2d,
    }
    check_choice("norm", norm, norms)
    detection = torchvision.models.detection
    backbone = detection.backbone_utils.resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=norms[norm], trainable_layers=5
    )
    network = detection.FasterRCNN(
        backbone,
        num_classes + 1,
        min_size=size,
        max_size=size,
        size_divisible=1,  # no borders around a picture
        rpn_post_nms_top_n_test=proposals,
    )
    know_ignored_(network)
    return Detector(network, classes=num_classes, size=size, pretrained={"": "backbone.body."})
