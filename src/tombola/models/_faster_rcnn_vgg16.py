"""Faster R-CNN with VGG16: the detector of the COLT paper's tables VII and VIII."""

from __future__ import annotations

from torch import nn

from tombola.models.checks import check_whole
from tombola.models.detectors import Detector, check_number_of_classes

_STRIDE = 16  # of the backbone
_POOLED = 7  # height and width of what is pooled from a region
_HIDDEN = 4096


def faster_rcnn_vgg16(num_classes: int, *, size: int = 600, proposals: int = 300) -> Detector:
    """Build Faster R-CNN on the 13 convolutions of VGG16: ``backbone``, ``rpn``, ``roi_heads``.

    The backbone ends before VGG16's last pooling, which each region has its own of: 7 x 7, then fc6
    and fc7 without dropout. There is no norm. Nine anchors stand at each place: 128, 256 and 512
    pixels, in three proportions.

    Args:
        num_classes: Number of classes, background not counted; Pascal VOC has 20.
        size: Pictures are scaled until their longer side has this many pixels.
        proposals: How many regions of a test picture go from the first stage to the second. With
            torchvision's 1000, fc6 and fc7 cost more than all convolutions.

    Raises:
        ConfigError: An option will not do.

    Source:
        Ren et al. 2015, arXiv:1506.01497, section 3, built of torchvision's parts. COLT,
        arXiv:2212.12770, section IV-G, gives 136 M parameters and pictures of 600 x 600.
        Weights of torchvision's VGG16 fit: ``features`` for the backbone, the first two layers of
        ``classifier`` for fc6 and fc7.

    >>> import torch
    >>> with torch.device("meta"):  # without memory for 137 million weights
    ...     model = faster_rcnn_vgg16(20)
    >>> sum(p.numel() for p in model.parameters())
    137073622
    """
    from tombola.ground.extras import torchvision
    from tombola.models.regions import OneLevelPool, know_ignored_

    check_number_of_classes(num_classes)
    check_whole("size", size, least=32)
    check_whole("proposals", proposals)
    detection = torchvision.models.detection
    vgg = torchvision.models.vgg
    backbone = vgg.make_layers(vgg.cfgs["D"])[:-1]
    backbone.out_channels = 512
    # As torchvision draws its VGGs: with torch's own way the signal would fade over 13 layers.
    for layer in backbone:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    anchors = detection.anchor_utils.AnchorGenerator(((128, 256, 512),), ((0.5, 1.0, 2.0),))
    network = detection.FasterRCNN(
        backbone,
        min_size=size,
        max_size=size,
        size_divisible=1,  # no borders around a picture
        rpn_anchor_generator=anchors,
        rpn_post_nms_top_n_test=proposals,
        box_head=detection.faster_rcnn.TwoMLPHead(512 * _POOLED**2, _HIDDEN),
        box_predictor=detection.faster_rcnn.FastRCNNPredictor(_HIDDEN, num_classes + 1),
    )
    # Afterwards, as torchvision's constructor takes only its own pooling of several levels.
    network.roi_heads.box_roi_pool = OneLevelPool(_POOLED, _STRIDE)
    know_ignored_(network)
    pretrained = {
        "features.": "backbone.",
        "classifier.0.": "roi_heads.box_head.fc6.",
        "classifier.3.": "roi_heads.box_head.fc7.",
    }
    return Detector(network, classes=num_classes, size=size, pretrained=pretrained)
